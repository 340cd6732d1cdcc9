/**
 * The dashboard in servers of all kinds: under a path that is known or not, on several databases, and while the database
 * is away.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import { serve } from "@hono/node-server"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import express from "express"
import { H3, toNodeHandler } from "h3"
import { Hono } from "hono"
import { createServer, type RequestListener, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import { type Access, Dashboard } from "../../src/dashboard/index.ts"
import * as Job from "../../src/Job.ts"
import { Queues } from "../../src/Queues.ts"
import * as Shigoto from "../../src/Shigoto.ts"
import * as ShigotoConfig from "../../src/ShigotoConfig.ts"
import { eventually } from "../setup/eventually.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"
import { everyone, type Init, Send, TestLive } from "./support.ts"

const portOf = (server: Pick<Server, "address">): number => (server.address() as AddressInfo).port // it listens on TCP

const close = (server: Server) =>
  Effect.promise(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })

const listening = (start: (ready: () => void) => Server) =>
  Effect.acquireRelease(
    Effect.promise(
      () =>
        new Promise<Server>((resolve) => {
          const server = start(() => resolve(server))
        })
    ),
    close
  )

const node = (listener: RequestListener) => (ready: () => void) => createServer(listener).listen(0, "127.0.0.1", ready)

const handlerFor = Effect.fnUntraced(function* (options: Dashboard.Options) {
  const services = yield* Effect.context<Dashboard.Services>()
  return yield* Effect.acquireRelease(
    Effect.sync(() => Dashboard.handler(Layer.succeedContext(services), options)),
    (made) => Effect.promise(() => made.dispose())
  )
})

const access = () => Effect.succeed(everyone)

/** Each server, mounting the dashboard at /admin/jobs behind what signs people in. */
const servers: Readonly<
  Record<string, (handle: (path: Dashboard.Options["path"]) => Dashboard.Handler) => (ready: () => void) => Server>
> = {
  express: (make) => {
    const app = express()
    app.use("/admin/jobs", (request, response, next) =>
      request.headers.authorization === "open sesame" ? next() : void response.status(401).send("Who are you?")
    )
    app.use("/admin/jobs", Dashboard.node(make(undefined)))
    return node(app)
  },
  "express, after a parser of bodies": (make) => {
    const app = express()
    app.use(express.json())
    app.use("/admin/jobs", (request, response, next) =>
      request.headers.authorization === "open sesame" ? next() : void response.status(401).send("Who are you?")
    )
    app.use("/admin/jobs", Dashboard.node(make(undefined)))
    return node(app)
  },
  hono: (make) => {
    const handle = make("/admin/jobs")
    const app = new Hono()
    app.use("/admin/jobs/*", (context, next) =>
      context.req.header("authorization") === "open sesame" ? next() : Promise.resolve(context.text("Who?", 401))
    )
    app.all("/admin/jobs/*", (context) => handle(context.req.raw))
    return (ready) => serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }, ready) as Server
  },
  h3: (make) => {
    const handle = make("/admin/jobs")
    const app = new H3()
    app.all("/admin/jobs/**", (event) =>
      event.req.headers.get("authorization") === "open sesame"
        ? handle(event.req)
        : new Response("Who?", { status: 401 })
    )
    return node(toNodeHandler(app))
  },
  "node:http": (make) => {
    const handle = Dashboard.node(make("/admin/jobs"))
    return node((request, response) => {
      if (request.headers.authorization === "open sesame") handle(request, response)
      else response.writeHead(401).end()
    })
  }
}

/** What the API answers, as JSON; each test asserts what it reads of it. */
const jsonOf = (response: Response): Promise<ReturnType<typeof JSON.parse>> => response.json()

const read = (base: string, path: string) =>
  Effect.promise(async () => jsonOf(await fetch(`${base}${path}`, { headers: { authorization: "open sesame" } })))

layer(TestLive)("the dashboard", (it) => {
  for (const [name, mount] of Object.entries(servers)) {
    it.effect(`serves page, reads, writes and streams under ${name}`, () =>
      Effect.gen(function* () {
        const queues = yield* Queues
        const made = new Map<string, Dashboard.Handler>()
        for (const path of [undefined, "/admin/jobs"] as const) {
          made.set(path ?? "", yield* handlerFor({ ...(path === undefined ? {} : { path }), access }))
        }
        const server = yield* listening(mount((path) => made.get(path ?? "") as Dashboard.Handler)) // made above
        const base = `http://127.0.0.1:${portOf(server)}/admin/jobs`
        const ask = (path: string, init: Init = {}) =>
          Effect.promise(() =>
            fetch(`${base}${path}`, {
              ...init,
              redirect: "manual",
              headers: { authorization: "open sesame", "x-shigoto": "1", accept: "text/html", ...init.headers }
            })
          )
        assert.strictEqual((yield* ask("/", { headers: { authorization: "" } })).status, 401)
        assert.strictEqual((yield* ask("/api/me", { headers: { authorization: "" } })).status, 401)
        const bare = yield* ask("")
        const page = yield* ask("/")
        assert.strictEqual(page.status, 200)
        const [, script = ""] = /src="\.(\/assets\/[^"]+\.js)"/.exec(yield* Effect.promise(() => page.text())) ?? []
        const code = yield* ask(script)
        assert.strictEqual(code.status, 200)
        assert.match(code.headers.get("cache-control") ?? "", /immutable/)
        yield* Effect.promise(() => code.arrayBuffer())
        assert.include(page.headers.get("content-security-policy") ?? "", "default-src 'none'")
        // Hono and h3 take the bare path for one below it, and so does the dashboard.
        assert.include([200, 302], bare.status)
        if (bare.status === 302)
          assert.strictEqual(new URL(bare.headers.get("location") ?? "", base).pathname, "/admin/jobs/")
        assert.deepInclude(yield* read(base, "/api/me"), { user: "root" })
        const { id } = yield* Send.enqueue({ text: "a+b c%20d" }, { delay: "1 hour" })
        const detail = yield* read(base, `/api/jobs/${id}`)
        assert.deepStrictEqual(detail.args, { text: "a+b c%20d" })
        const scaled = yield* ask("/api/queues/mails/scale", {
          method: "POST",
          body: JSON.stringify({ concurrency: 7 }),
          headers: { "content-type": "application/json" }
        })
        assert.strictEqual(scaled.status, 200)
        const overview = yield* queues.overview
        assert.strictEqual(overview.find(({ name: one }) => one === "mails")?.wishes[0]?.concurrency, 7)
        const stream = yield* ask("/api/events?topics=queues")
        const reader = stream.body?.getReader()
        const first = yield* Effect.promise(async () => new TextDecoder().decode((await reader?.read())?.value))
        assert.include(first, "hello")
        yield* Effect.promise(async () => reader?.cancel())
      }).pipe(Effect.scoped)
    )
  }
})

const Own = Job.make("own", { args: {} })

layer(TestDatabase.layerDatabase())("a dashboard of several databases", (it) => {
  it.effect("serves each below its name, to those for whom it exists", () =>
    Effect.gen(function* () {
      const first = yield* TestDatabase
      const second = yield* Layer.build(TestDatabase.layerDatabase())
      const servicesOf = (client: PgClient.PgPoolConfig) =>
        Shigoto.layerProducer.pipe(Layer.provide(ShigotoConfig.layer({})), Layer.provide(PgClient.layer(client)))
      const main = servicesOf(first.clientConfig)
      const handle = yield* Effect.acquireRelease(
        Effect.sync(() =>
          Dashboard.handler(
            {
              main,
              billing: Layer.unwrap(
                Effect.provide(
                  Effect.map(TestDatabase, (one) => servicesOf(one.clientConfig)),
                  second
                )
              )
            },
            {
              path: "/jobs",
              access: ({ headers }, instance): Effect.Effect<Access.Access | undefined> =>
                Effect.succeed(
                  headers["x-user"] === "ada" || instance === "billing" ? { user: "x", can: "all" } : undefined
                )
            }
          )
        ),
        (made) => Effect.promise(() => made.dispose())
      )
      const ask = (path: string, user: string) =>
        Effect.promise(() => handle(new Request(`http://jobs.test${path}`, { headers: { "x-user": user } })))
      const json = (path: string, user: string) =>
        Effect.flatMap(ask(path, user), (answer) => Effect.promise(() => jsonOf(answer)))
      yield* Own.enqueue({}).pipe(Effect.provide(main))
      assert.strictEqual((yield* json("/jobs/main/api/jobs", "ada")).jobs.length, 1)
      assert.strictEqual((yield* json("/jobs/billing/api/jobs", "ada")).jobs.length, 0)
      assert.deepInclude(yield* json("/jobs/billing/api/me", "ada"), {
        instance: "billing",
        instances: ["main", "billing"]
      })
      assert.deepInclude(yield* json("/jobs/billing/api/me", "bob"), { instance: "billing", instances: ["billing"] })
      assert.strictEqual((yield* ask("/jobs/main/api/jobs", "bob")).status, 401)
      assert.strictEqual((yield* ask("/jobs/", "ada")).headers.get("location"), "main/")
      assert.strictEqual((yield* ask("/jobs/", "bob")).headers.get("location"), "billing/")
      assert.strictEqual((yield* ask("/jobs/other/api/me", "ada")).status, 404)
      assert.throws(() => Dashboard.handler({ "a b": main }), /An instance cannot be called/)
    }).pipe(Effect.scoped)
  )

  it.effect("says that its database is away, and heals once that is back", () =>
    Effect.gen(function* () {
      const { clientConfig } = yield* TestDatabase
      let client: PgClient.PgPoolConfig = { host: "127.0.0.1", port: 1, connectTimeout: "1 second" }
      const services = Shigoto.layerProducer.pipe(
        Layer.provide(ShigotoConfig.layer({})),
        Layer.provide(Layer.unwrap(Effect.sync(() => PgClient.layer(client))))
      )
      const handle = yield* Effect.acquireRelease(
        Effect.sync(() => Dashboard.handler(services, { access })),
        (made) => Effect.promise(() => made.dispose())
      )
      const ask = (path: string) => Effect.promise(() => handle(new Request(`http://jobs.test${path}`)))
      const page = yield* ask("/")
      assert.strictEqual(page.status, 503)
      assert.include(page.headers.get("content-security-policy") ?? "", "default-src 'none'")
      assert.include(yield* Effect.promise(() => page.text()), `http-equiv="refresh"`)
      assert.strictEqual((yield* ask("/api/me")).status, 503)
      client = clientConfig
      yield* eventually(ask("/api/me"), ({ status }) => status === 200)
    }).pipe(Effect.scoped)
  )
})
