/**
 * Traces, metrics and logs to an OpenTelemetry collector by `effect/observability`, with no other package.
 *
 *     OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 node --conditions=source examples/otlp.ts
 *
 * Without an endpoint it starts one of its own, and prints what came in.
 */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Console, Effect, Layer, Redacted, Schema } from "effect"
import { FetchHttpClient } from "effect/http"
import { Otlp } from "effect/observability"
import { Job, Jobs, ShigotoConfig, ShigotoLive } from "effect-shigoto"
import { EmbeddedPostgres } from "effect-shigoto/embedded"
import * as Http from "node:http"
import type { AddressInfo } from "node:net"

const Thumbnail = Job.make("thumbnail", { args: { image: Schema.String }, queue: "thumbnails" })

const ThumbnailLive = Thumbnail.toLayer(({ image }) => Effect.log(`drew ${image}`))

/** What came in, by signal. */
const received: Record<string, string> = { "/v1/traces": "", "/v1/metrics": "", "/v1/logs": "" }
const collector = Effect.acquireRelease(
  Effect.callback<Http.Server>((resume) => {
    const server = Http.createServer((request, response) => {
      request.on("data", (chunk: Buffer) => {
        received[request.url ?? ""] += chunk.toString()
      })
      request.on("end", () => response.writeHead(200, { "content-type": "application/json" }).end("{}"))
    })
    server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
  }),
  (server) => Effect.sync(() => server.close())
)

const Telemetry = Layer.unwrap(
  Effect.gen(function* () {
    const endpoint = process.env["OTEL_EXPORTER_OTLP_ENDPOINT"]
    const { port } = endpoint === undefined ? ((yield* collector).address() as AddressInfo) : { port: 0 } // it listens on TCP
    return Otlp.layerJson({
      baseUrl: endpoint ?? `http://127.0.0.1:${port}`,
      resource: { serviceName: "gallery" },
      loggerExportInterval: "200 millis",
      metricsExportInterval: "200 millis",
      tracerExportInterval: "200 millis"
    }).pipe(Layer.provide(FetchHttpClient.layer))
  })
)

const url = process.env["DATABASE_URL"]
const AppLive = ThumbnailLive.pipe(
  Layer.provideMerge(ShigotoLive),
  Layer.provide(ShigotoConfig.layer({ queues: { thumbnails: 2 }, metrics: true })),
  Layer.provide(url === undefined ? EmbeddedPostgres.layer() : PgClient.layer({ url: Redacted.make(url) })),
  // Below everything: spans are made only where a tracer listens.
  Layer.provideMerge(Telemetry)
)

const came = (signal: string, ...words: ReadonlyArray<string>) =>
  Effect.sync(() => received[signal] ?? "").pipe(
    Effect.delay("50 millis"),
    Effect.repeat({ until: (text) => words.every((word) => text.includes(word)) })
  )

const main = Effect.gen(function* () {
  const jobs = yield* Jobs
  const { id } = yield* Thumbnail.enqueue({ image: "a.png" })
  yield* jobs.get(id).pipe(Effect.delay("20 millis"), Effect.repeat({ until: (row) => row.finishedAt !== undefined }))
  if (process.env["OTEL_EXPORTER_OTLP_ENDPOINT"] !== undefined) return
  const spans = ["enqueue thumbnails", "process thumbnails"]
  yield* came("/v1/traces", ...spans)
  yield* Console.log(`Traces: ${spans.join(", ")}`)
  const metrics = yield* came("/v1/metrics", "shigoto_attempts_total", "shigoto_jobs_inserted_total")
  yield* Console.log(`Metrics: ${[...new Set(metrics.match(/shigoto_[a-z_]+/g))].toSorted().join(", ")}`)
  yield* came("/v1/logs", "drew a.png")
  yield* Console.log("Logs: drew a.png")
})

NodeRuntime.runMain(Effect.provide(main, AppLive))
