/**
 * Metrics for Prometheus, and probes, from one HTTP server: `/metrics`, `/health`, `/health/live`, `/health/ready`.
 *
 *     node --conditions=source examples/prometheus.ts
 */
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Console, Effect, Layer, Redacted, Schema } from "effect"
import { FetchHttpClient, HttpClient, HttpRouter, HttpServer } from "effect/http"
import { PrometheusMetrics } from "effect/observability"
import { HealthHttp, Job, Jobs, ShigotoConfig, ShigotoLive } from "effect-shigoto"
import { EmbeddedPostgres } from "effect-shigoto/embedded"
import { createServer } from "node:http"

const Thumbnail = Job.make("thumbnail", { args: { image: Schema.String } })

const url = process.env["DATABASE_URL"]
const JobsLive = Thumbnail.toLayer(() => Effect.sleep("20 millis")).pipe(
  Layer.provideMerge(ShigotoLive),
  // Metrics are off by default: then nothing is counted and nothing is asked.
  Layer.provide(ShigotoConfig.layer({ metrics: true, metricsInterval: "5 seconds" })),
  Layer.provide(url === undefined ? EmbeddedPostgres.layer() : PgClient.layer({ url: Redacted.make(url) }))
)

const AppLive = HttpRouter.serve(Layer.mergeAll(PrometheusMetrics.layerHttp(), HealthHttp.layer()), {
  disableLogger: true
}).pipe(
  Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" })),
  Layer.provideMerge(JobsLive),
  Layer.provideMerge(FetchHttpClient.layer)
)

const main = Effect.gen(function* () {
  const jobs = yield* Jobs
  const { address } = yield* HttpServer.HttpServer
  const port = "port" in address ? address.port : 80
  const get = (path: string) =>
    Effect.flatMap(HttpClient.get(`http://127.0.0.1:${port}${path}`), (response) => response.text)
  const enqueued = yield* Thumbnail.enqueueAll(["a.png", "b.png", "c.png"].map((image) => ({ image })))
  for (const { id } of enqueued) {
    yield* jobs.get(id).pipe(Effect.delay("20 millis"), Effect.repeat({ until: (row) => row.finishedAt !== undefined }))
  }
  const page = yield* get("/metrics").pipe(
    Effect.delay("20 millis"),
    Effect.repeat({ until: (text) => /^shigoto_attempts_total.* 3$/m.test(text) })
  )
  for (const line of page.split("\n")) {
    if (/^shigoto_(jobs_inserted_total|attempts_total|attempt_run_seconds_count)/.test(line)) yield* Console.log(line)
  }
  yield* Console.log(`/health/ready: ${yield* get("/health/ready")}`)
})

NodeRuntime.runMain(Effect.provide(main, AppLive))
