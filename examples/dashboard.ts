/**
 * The dashboard in your own server, closed to everybody but those whom your own sign-in knows, and its API from code: with
 * the types of `DashboardApi`, and as a stream of what is new.
 *
 *     node --conditions=source examples/dashboard.ts
 */
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Console, Effect, Layer, Redacted, Schema, Stream } from "effect"
import { HttpApiClient } from "effect/http-api"
import { FetchHttpClient, HttpClient, HttpClientRequest, HttpRouter, HttpServer } from "effect/http"
import { Job, ShigotoConfig, ShigotoLive } from "effect-shigoto"
import { Dashboard, DashboardApi } from "effect-shigoto/dashboard"
import { EmbeddedPostgres } from "effect-shigoto/embedded"
import { createServer } from "node:http"

const SendEmail = Job.make("send-email", {
  args: { to: Schema.String, password: Schema.String },
  error: Schema.String,
  maxAttempts: 1
})

const url = process.env["DATABASE_URL"]
const JobsLive = SendEmail.toLayer(() => Effect.fail("The mail server is away")).pipe(
  Layer.provideMerge(ShigotoLive),
  // Charts want a history; without it nothing is recorded.
  Layer.provide(ShigotoConfig.layer({ history: true })),
  Layer.provide(url === undefined ? EmbeddedPostgres.layer() : PgClient.layer({ url: Redacted.make(url) }))
)

const AppLive = HttpRouter.serve(
  Dashboard.layer({
    path: "/admin/jobs",
    // Your own sign-in goes here; whoever it does not know is turned away.
    access: ({ headers }) =>
      Effect.succeed(
        headers["x-user"] === "ada"
          ? { user: "ada", can: "all" as const }
          : headers["x-user"] === "bob"
            ? { user: "bob", can: "readOnly" as const }
            : undefined
      )
  }),
  { disableLogger: true, disableListenLog: true }
).pipe(
  Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" })),
  Layer.provideMerge(JobsLive),
  Layer.provideMerge(FetchHttpClient.layer)
)

const main = Effect.gen(function* () {
  const { address } = yield* HttpServer.HttpServer
  const baseUrl = `http://127.0.0.1:${"port" in address ? address.port : 80}/admin/jobs`
  const as = (user: string) =>
    HttpApiClient.make(DashboardApi.DashboardApi, {
      baseUrl,
      transformClient: HttpClient.mapRequest(HttpClientRequest.setHeaders({ "x-user": user, "x-shigoto": "1" }))
    })
  const stranger = yield* HttpClient.get(`${baseUrl}/api/overview`)
  yield* Console.log(`A stranger gets ${stranger.status}`)

  const ada = yield* as("ada")
  const { id } = yield* SendEmail.enqueue({ to: "ada@example.com", password: "hunter2" })
  const job = yield* ada.jobs
    .job({ params: { id }, query: {} })
    .pipe(Effect.delay("20 millis"), Effect.repeat({ until: ({ state }) => state === "discarded" }))
  yield* Console.log(`Job is ${job.state}: ${job.errors[0]?.message}; args ${JSON.stringify(job.args)}`)

  const events = yield* ada.live.events({ query: { topics: "jobs,queues" } })
  const news = yield* events.pipe(
    Stream.filter(({ event }) => event === "changed"),
    Stream.take(1),
    Stream.runCollect
  )
  yield* Console.log(`New: ${JSON.stringify(news[0]?.data)}`)

  const bob = yield* as("bob")
  const refused = yield* Effect.flip(bob.operations.retryPreview({ payload: { q: "state:discarded" } }))
  yield* Console.log(`Bob: ${refused.message}`)

  const q = "worker:send-email state:discarded"
  const shown = yield* ada.operations.retryPreview({ payload: { q } })
  const begun = yield* ada.operations.retryAll({ payload: { q, token: shown.token } })
  const done = yield* ada.operations
    .operation({ params: { id: begun.id } })
    .pipe(Effect.delay("20 millis"), Effect.repeat({ until: ({ state }) => state !== "running" }))
  yield* Console.log(`Retry of ${shown.count}: ${done.state}, ${done.changed} changed`)
})

NodeRuntime.runMain(Effect.provide(main, AppLive))
