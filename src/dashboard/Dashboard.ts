/**
 * The dashboard in a server that is there already: an Effect `HttpRouter`, any fetch-style server, or node:http.
 *
 * Nothing is shown to anybody until `access` says who asks. All answers, the refusals too, carry a strict content
 * security policy; writes are taken only from the dashboard's own page or from what is no browser.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import type { IncomingMessage, ServerResponse } from "node:http"
import type { Audit } from "../Audit.ts"
import type { Batches } from "../Batches.ts"
import type { CronJobs } from "../CronJobs.ts"
import type { Flows } from "../Flows.ts"
import type { History } from "../History.ts"
import type { JobRow } from "../JobRow.ts"
import type { Jobs } from "../Jobs.ts"
import type { Limits } from "../Limits.ts"
import type { Queues } from "../Queues.ts"
import { InvalidConfig } from "../ShigotoError.ts"
import { type Authorize, type Environment, Instance, Viewer } from "./Access.ts"
import { DashboardApi } from "./DashboardApi.ts"
import { type Asset, isView, readAssets, withBase } from "./internal/assets.ts"
import { embed, look } from "./internal/firstScreen.ts"
import { crossSite, headers } from "./internal/guard.ts"
import { handlers } from "./internal/handlers.ts"
import { healing } from "./internal/healing.ts"
import { respondTo } from "./internal/nodeBridge.ts"
import { type Carried, defaultRedactKeys } from "../Redaction.ts"

/**
 * How the dashboard is mounted, and for whom.
 *
 * @category models
 */
export interface Options {
  /** Where it lives, such as `/admin/jobs`. Defaults to the root. */
  readonly path?: `/${string}` | undefined
  /** Says who asks and what they may do. Defaults to nobody: everybody is turned away. */
  readonly access?: Authorize | undefined
  /** Names whose values are hidden, besides the usual ones. Defaults to none. */
  readonly redactKeys?: ReadonlyArray<string> | undefined
  /** Hides more of what a job carries; searches in args and meta then need `args:reveal`. Defaults to nothing more. */
  readonly redact?: ((job: JobRow) => Carried) | undefined
  /** The most jobs that one bulk operation may change, up to 10,000. Defaults to no limit. */
  readonly bulkLimit?: number | undefined
  /**
   * Shown beside the name on every page, so that nobody takes one system for another; `tone` colours it. Defaults to
   * nothing.
   */
  readonly environment?: Environment | undefined
  /** Origins besides its own from which writes are taken, where a proxy changes the host. Defaults to none. */
  readonly allowedOrigins?: ReadonlyArray<string> | undefined
}

/**
 * What the dashboard looks at: all of it is in `ShigotoLive`, and in `Shigoto.layerProducer`.
 *
 * @category models
 */
export type Services = Jobs | Queues | CronJobs | Batches | Flows | Limits | Audit | History

/**
 * A dashboard as a function from `Request` to `Response`.
 *
 * @category models
 */
export interface Handler {
  (request: Request): Promise<Response>
  /** Ends the dashboard and what it was built on. */
  readonly dispose: () => Promise<void>
}

/**
 * Several databases, or schemas of one, in one dashboard: the services of each under a name of letters, digits, `-` and
 * `_`, by which it is also found below the path.
 *
 * @category models
 */
export type Instances<E = never> = Readonly<Record<string, Layer.Layer<Services, E>>>

/**
 * Adds the dashboard to the router.
 *
 * @category layers
 */
export const layer = (options: Options = {}): Layer.Layer<never, never, Services | HttpRouter.HttpRouter> =>
  mount(options, undefined)

/**
 * Adds a dashboard of several instances to the router; one page switches between them.
 *
 * @category layers
 */
export const layerInstances = <E>(
  instances: Instances<E>,
  options: Options = {}
): Layer.Layer<never, E, HttpRouter.HttpRouter> => {
  const mounts = mountsOf(Object.keys(instances), options)
  return mounts.reduce(
    (all, { name, ...mounted }) =>
      Layer.merge(
        all,
        // Fresh: a layer that the services of two instances are made of would be one, on one database.
        Layer.provide(
          mount(mounted.options, mounted.siblings),
          Layer.fresh(instances[name] as Layer.Layer<Services, E>) // a key of it
        ) // its own key
      ),
    layerIndex(Object.keys(instances), options) as Layer.Layer<never, E, HttpRouter.HttpRouter> // a router alone
  )
}

/**
 * Builds the dashboard for any fetch-style server: Hono, Bun, Deno, Next.
 *
 * **Details**
 *
 * Services that cannot be built, as while the database is away, are tried again: until then it answers 503, with a page
 * that asks again by itself.
 *
 * @category constructors
 */
export const handler = <E>(services: Layer.Layer<Services, E> | Instances<E>, options: Options = {}): Handler => {
  if (isOne(services)) return healing(services, (context) => Layer.provide(layer(options), context))
  const names = Object.keys(services)
  const index = HttpRouter.toWebHandler(layerIndex(names, options), { disableLogger: true })
  const hosts = mountsOf(names, options).map(({ name, ...mounted }) => ({
    path: mounted.options.path,
    handle: healing(services[name] as Layer.Layer<Services, E>, (context) =>
      // a key of it
      // its own key
      Layer.provide(mount(mounted.options, mounted.siblings), context)
    )
  }))
  return Object.assign(
    (request: Request) => {
      const { pathname } = new URL(request.url)
      const host = hosts.find(({ path }) => `${pathname}/`.startsWith(`${path}/`))
      return (host?.handle ?? index.handler)(request)
    },
    {
      dispose: async () => {
        await Promise.all([index.dispose(), ...hosts.map(({ handle }) => handle.dispose())])
      }
    }
  )
}

/**
 * Bridges to node:http, Express, Fastify and their kin; Express strips the mount path, so `path` stays empty there.
 *
 * @category constructors
 */
export const node =
  (handle: (request: Request) => Promise<Response>) =>
  (incoming: IncomingMessage, outgoing: ServerResponse): void => {
    respondTo(handle, incoming, outgoing).catch(() => {
      if (!outgoing.headersSent) outgoing.writeHead(500)
      outgoing.end()
    })
  }

// internal

const mount = (
  options: Options,
  siblings: { readonly current: string; readonly all: ReadonlyArray<string> } | undefined
): Layer.Layer<never, never, Services | HttpRouter.HttpRouter> =>
  HttpRouter.use((router) =>
    Effect.gen(function* () {
      const path = (options.path ?? "").replace(/\/+$/, "")
      const { assets, page } = yield* Effect.sync(readAssets)
      const scope = yield* Effect.scope
      const api = yield* HttpRouter.toHttpEffect(
        HttpApiBuilder.layer(DashboardApi).pipe(
          Layer.provide(
            handlers({
              keys: [...defaultRedactKeys, ...(options.redactKeys ?? [])],
              redact: options.redact,
              bulkLimit: options.bulkLimit,
              environment: options.environment
            })
          ),
          Layer.provide(HttpServer.layerServices)
        )
      ).pipe(
        // A router of its own: with the host's memo map, the host's router would get the routes too, beside the guard.
        Effect.provideServiceEffect(Layer.CurrentMemoMap, Layer.makeMemoMap)
      )
      const respond = Effect.gen(function* () {
        const request = yield* HttpServerRequest
        const url = new URL(request.url, "http://localhost")
        const inside = url.pathname.slice(path.length)
        const authorize = options.access
        if (authorize === undefined) return plain(403, closed)
        const refusal = crossSite(request, options.allowedOrigins ?? [])
        if (refusal !== undefined) return plain(403, refusal)
        const access = yield* authorize(request, siblings?.current)
        if (access === undefined) return plain(401, notSignedIn)
        // Relative, so that it holds behind a proxy that strips the path as well.
        if (inside === "") return HttpServerResponse.redirect(`${path.split("/").at(-1)}/`)
        const ask = Effect.fnUntraced(function* (asked: string) {
          const all = /^\/api\/me\b/.test(asked) ? yield* visible(siblings?.all ?? [], authorize, request) : []
          return yield* api.pipe(
            Effect.provideService(HttpServerRequest, request.modify({ url: asked })),
            Effect.provideService(Viewer, access),
            Effect.provideService(Instance, siblings && { ...siblings, all })
          )
        })
        if (inside.startsWith("/api/")) {
          return yield* ask(`${inside}${url.search}`).pipe(
            Effect.catchReason("HttpServerError", "RouteNotFound", () =>
              Effect.succeed(plain(404, "There is nothing here."))
            ),
            Effect.map((response) => HttpServerResponse.setHeaders(response, isStream(response) ? streamed : unstored))
          )
        }
        const asset = assets.get(inside)
        if (asset !== undefined) return assetResponse(asset)
        if (inside !== "/" && !isView(request, inside)) return plain(404, "There is nothing here.")
        if (page === undefined) return plain(503, withoutPage)
        const answers = request.method === "GET" ? yield* look(scope, (path) => Effect.scoped(ask(`/api/${path}`))) : {}
        return HttpServerResponse.text(embed(inside === "/" ? page : withBase(page, inside), answers), {
          contentType: "text/html; charset=utf-8",
          headers: unstored
        })
      })
      // The pattern takes in the bare path as well.
      yield* router.add("*", `${path as `/${string}`}/*`, guarded(respond))
    })
  )

const isOne = <E>(services: Layer.Layer<Services, E> | Instances<E>): services is Layer.Layer<Services, E> =>
  Layer.isLayer(services)

/** Where each instance is mounted. */
const mountsOf = (names: ReadonlyArray<string>, options: Options) =>
  names.map((name) => {
    if (!/^[\w-]+$/.test(name)) {
      throw new InvalidConfig({
        field: "instances",
        value: JSON.stringify(name),
        message: `An instance cannot be called ${JSON.stringify(name)}: a name is of letters, digits, "-" and "_".`
      })
    }
    const path = `${(options.path ?? "").replace(/\/+$/, "")}/${name}` as const
    return { name, options: { ...options, path: path as `/${string}` }, siblings: { current: name, all: names } }
  })

/** Leads from the path to the first instance that exists for who asks. */
const layerIndex = (names: ReadonlyArray<string>, options: Options): Layer.Layer<never, never, HttpRouter.HttpRouter> =>
  HttpRouter.use((router) => {
    const path = (options.path ?? "").replace(/\/+$/, "")
    const respond = Effect.gen(function* () {
      const request = yield* HttpServerRequest
      const inside = new URL(request.url, "http://localhost").pathname.slice(path.length)
      if (options.access === undefined) return plain(403, closed)
      const [first] = yield* visible(names, options.access, request)
      if (first === undefined) return plain(401, notSignedIn)
      if (inside !== "" && inside !== "/") return plain(404, "There is nothing here.")
      return HttpServerResponse.redirect(`${inside === "" ? `${path.split("/").at(-1)}/` : ""}${first}/`)
    })
    return router.add("*", `${path as `/${string}`}/*`, guarded(respond))
  })

/** The instances that exist for who asks. */
const visible = (names: ReadonlyArray<string>, access: Authorize, request: HttpServerRequest) =>
  Effect.filter(names, (name) => Effect.map(access(request, name), (found) => found !== undefined))

/** Answers whatever happens, under the policy. */
const guarded = <R>(respond: Effect.Effect<HttpServerResponse.HttpServerResponse, unknown, R>) =>
  respond.pipe(
    // Who leaves before the answer is no failure.
    Effect.tapCause((cause) =>
      Cause.hasInterruptsOnly(cause) ? Effect.void : Effect.logError("The dashboard failed", cause)
    ),
    Effect.catchCause(() => Effect.succeed(plain(500, "The dashboard failed; its log tells why."))),
    Effect.map(HttpServerResponse.setHeaders(headers))
  )

const closed = `This dashboard is closed: it has been told nothing about who may see it.

Give Dashboard.layer or Dashboard.handler an access function, such as

  access: (request) => Effect.succeed({ user: "ops", can: "all" })

behind whatever authenticates requests to your server.
`

const withoutPage = `The files of this page are not there: they lie beside the code of effect-shigoto, and a bundler has left them out.

Keep effect-shigoto external to the bundle. The API under api/ works without them.
`

const notSignedIn = "You are not signed in, or may not see this."

const unstored = { "cache-control": "no-store" }

/** Proxies hold back what they would compress or buffer. */
const streamed = { "cache-control": "no-store, no-transform", "x-accel-buffering": "no" }

const isStream = ({ headers: { "content-type": type } }: HttpServerResponse.HttpServerResponse): boolean =>
  type?.startsWith("text/event-stream") === true

const plain = (status: number, text: string) => HttpServerResponse.text(text, { status, headers: unstored })

const assetResponse = (asset: Asset) =>
  HttpServerResponse.uint8Array(asset.body, {
    contentType: asset.type,
    headers: { "cache-control": asset.immutable ? "public, max-age=31536000, immutable" : "no-cache" }
  })
