/**
 * The dashboard in a server that is there already: an Effect `HttpRouter`, any fetch-style server, or node:http.
 *
 * Nothing is shown to anybody until `access` says who asks. All answers, the refusals too, carry a strict content
 * security policy; writes are taken only from the dashboard's own page or from what is no browser.
 */
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import type { IncomingMessage, ServerResponse } from "node:http"
import { Readable } from "node:stream"
import { pipeline } from "node:stream/promises"
import type { Audit } from "../Audit.ts"
import type { Batches } from "../Batches.ts"
import type { CronJobs } from "../CronJobs.ts"
import type { Flows } from "../Flows.ts"
import type { History } from "../History.ts"
import type { JobRow } from "../JobRow.ts"
import type { Jobs } from "../Jobs.ts"
import type { Limits } from "../Limits.ts"
import type { Queues } from "../Queues.ts"
import { type Authorize, Viewer } from "./Access.ts"
import { DashboardApi } from "./DashboardApi.ts"
import { type Asset, isView, readAssets, withBase } from "./internal/assets.ts"
import { crossSite, headers } from "./internal/guard.ts"
import { handlers } from "./internal/handlers.ts"
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
 * Adds the dashboard to the router.
 *
 * @category layers
 */
export const layer = (options: Options = {}): Layer.Layer<never, never, Services | HttpRouter.HttpRouter> =>
  HttpRouter.use((router) =>
    Effect.gen(function* () {
      const path = (options.path ?? "").replace(/\/+$/, "")
      const assets = yield* Effect.sync(readAssets)
      const api = yield* HttpRouter.toHttpEffect(
        HttpApiBuilder.layer(DashboardApi).pipe(
          Layer.provide(
            handlers({
              keys: [...defaultRedactKeys, ...(options.redactKeys ?? [])],
              redact: options.redact,
              bulkLimit: options.bulkLimit
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
        if (options.access === undefined) return plain(403, closed)
        const refusal = crossSite(request, options.allowedOrigins ?? [])
        if (refusal !== undefined) return plain(403, refusal)
        const access = yield* options.access(request)
        if (access === undefined) return plain(401, "You are not signed in, or may not see this.")
        // Relative, so that it holds behind a proxy that strips the path as well.
        if (inside === "") return HttpServerResponse.redirect(`${path.split("/").at(-1)}/`)
        if (inside.startsWith("/api/")) {
          return yield* api.pipe(
            Effect.provideService(HttpServerRequest, request.modify({ url: `${inside}${url.search}` })),
            Effect.provideService(Viewer, access),
            Effect.catchReason("HttpServerError", "RouteNotFound", () =>
              Effect.succeed(plain(404, "There is nothing here."))
            ),
            Effect.map((response) => HttpServerResponse.setHeaders(response, isStream(response) ? streamed : unstored))
          )
        }
        if (assets.size === 0 && (inside === "/" || isView(request, inside))) return plain(503, withoutPage)
        const asset = assets.get(inside === "/" ? "/index.html" : inside)
        if (asset !== undefined) return assetResponse(asset)
        const page = isView(request, inside) ? assets.get("/index.html") : undefined
        return page === undefined ? plain(404, "There is nothing here.") : viewResponse(page, inside)
      }).pipe(
        Effect.tapCause((cause) => Effect.logError("The dashboard failed", cause)),
        Effect.catchCause(() => Effect.succeed(plain(500, "The dashboard failed; its log tells why."))),
        Effect.map(HttpServerResponse.setHeaders(headers))
      )
      // The pattern takes in the bare path as well.
      yield* router.add("*", `${path as `/${string}`}/*`, respond)
    })
  )

/**
 * Builds the dashboard for any fetch-style server: Hono, Bun, Deno, Next.
 *
 * @category constructors
 */
export const handler = <E>(services: Layer.Layer<Services, E>, options: Options = {}): Handler => {
  const web = HttpRouter.toWebHandler(Layer.provide(layer(options), services), { disableLogger: true })
  return Object.assign((request: Request) => web.handler(request), { dispose: web.dispose })
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

const withoutPage = `The files of this page are not there: they lie beside the code of effect-shigoto, and a bundler has left them out.

Keep effect-shigoto external to the bundle. The API under api/ works without them.
`

const closed = `This dashboard is closed: it has been told nothing about who may see it.

Give Dashboard.layer or Dashboard.handler an access function, such as

  access: (request) => Effect.succeed({ user: "ops", can: "all" })

behind whatever authenticates requests to your server.
`

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

const viewResponse = (page: Asset, inside: string) =>
  HttpServerResponse.text(withBase(new TextDecoder().decode(page.body), inside), {
    contentType: page.type,
    headers: { "cache-control": "no-cache" }
  })

const respondTo = async (
  handle: (request: Request) => Promise<Response>,
  incoming: IncomingMessage & { readonly originalUrl?: string },
  outgoing: ServerResponse
): Promise<void> => {
  const original = (incoming.originalUrl ?? incoming.url ?? "/").split("?")[0] ?? "/"
  if (incoming.originalUrl !== undefined && incoming.url === "/" && !original.endsWith("/")) {
    outgoing.writeHead(302, { location: `${original.split("/").at(-1) ?? ""}/` }).end()
    return
  }
  const entries = Object.entries(incoming.headers).flatMap(([name, value]) =>
    value === undefined ? [] : [value].flat().map((one): [string, string] => [name, one])
  )
  const method = incoming.method ?? "GET"
  const hasBody = method !== "GET" && method !== "HEAD"
  const request = new Request(new URL(incoming.url ?? "/", `http://${incoming.headers.host ?? "localhost"}`), {
    method,
    headers: entries,
    ...(hasBody ? { body: Readable.toWeb(incoming) as ReadableStream, duplex: "half" } : {})
  })
  const response = await handle(request)
  outgoing.writeHead(response.status, Object.fromEntries(response.headers))
  if (response.body === null) {
    outgoing.end()
    return
  }
  // Waits for a slow reader, and ends the stream where the reader has left.
  await pipeline(Readable.fromWeb(response.body), outgoing)
}
