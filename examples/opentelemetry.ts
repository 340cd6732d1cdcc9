/**
 * Spans, metrics and logs through the OpenTelemetry SDK, by `@effect/opentelemetry` as it is: nothing here is Shigoto's.
 *
 *     node --conditions=source examples/opentelemetry.ts
 *
 * It prints what its exporters got; put those of `@opentelemetry/exporter-*-otlp-http` in their place.
 */
import * as NodeSdk from "@effect/opentelemetry/NodeSdk"
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { SpanKind } from "@opentelemetry/api"
import { InMemoryLogRecordExporter, SimpleLogRecordProcessor } from "@opentelemetry/sdk-logs"
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  PeriodicExportingMetricReader
} from "@opentelemetry/sdk-metrics"
import { InMemorySpanExporter, SimpleSpanProcessor } from "@opentelemetry/sdk-trace-base"
import { Console, Effect, Layer, Redacted, Schema } from "effect"
import { Job, Jobs, ShigotoConfig, ShigotoLive } from "effect-shigoto"
import { EmbeddedPostgres } from "effect-shigoto/embedded"

const Resize = Job.make("resize", { args: { image: Schema.String }, queue: "images" })

const ResizeLive = Resize.toLayer(({ image }) => Effect.withSpan(Effect.log(`resizes ${image}`), "sharp"))

const spans = new InMemorySpanExporter()
const metrics = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE)
const logs = new InMemoryLogRecordExporter()
const reader = new PeriodicExportingMetricReader({ exporter: metrics, exportIntervalMillis: 60_000 })
const Telemetry = NodeSdk.layer(() => ({
  resource: { serviceName: "gallery" },
  spanProcessor: new SimpleSpanProcessor(spans),
  metricReader: reader,
  logRecordProcessor: new SimpleLogRecordProcessor({ exporter: logs })
}))

const url = process.env["DATABASE_URL"]
const AppLive = ResizeLive.pipe(
  Layer.provideMerge(ShigotoLive),
  Layer.provide(ShigotoConfig.layer({ queues: { images: 2 }, metrics: true })),
  Layer.provide(url === undefined ? EmbeddedPostgres.layer() : PgClient.layer({ url: Redacted.make(url) })),
  Layer.provideMerge(Telemetry)
)

const main = Effect.gen(function* () {
  const jobs = yield* Jobs
  const { id } = yield* Effect.withSpan(Resize.enqueue({ image: "a.png" }), "POST /images")
  yield* jobs.get(id).pipe(Effect.delay("20 millis"), Effect.repeat({ until: (row) => row.finishedAt !== undefined }))
  const named = (name: string) => spans.getFinishedSpans().find((span) => span.name === name)
  // A span ends, and a metric counts, a moment after the database has the outcome.
  yield* Effect.sync(() => named("process images")).pipe(
    Effect.delay("20 millis"),
    Effect.repeat({ until: (span) => span !== undefined })
  )
  const [request, sent, attempt] = ["POST /images", "enqueue images", "process images"].map(named)
  for (const span of [request, sent, attempt, named("sharp")]) {
    yield* Console.log(
      `${span?.name} (${SpanKind[span?.kind ?? 0]}) of ${JSON.stringify(span?.resource.attributes["service.name"])}`
    )
  }
  const linked = attempt?.links.some(({ context }) => context.spanId === sent?.spanContext().spanId)
  yield* Console.log(
    `The attempt is linked to the enqueue: ${linked}; of its trace: ${attempt?.spanContext().traceId === sent?.spanContext().traceId}`
  )
  const counted = Effect.promise(async () => {
    metrics.reset()
    await reader.forceFlush()
    return metrics.getMetrics().flatMap(({ scopeMetrics }) => scopeMetrics.flatMap((scope) => scope.metrics))
  })
  const found = yield* counted.pipe(
    Effect.delay("20 millis"),
    Effect.repeat({ until: (all) => all.some(({ descriptor }) => descriptor.name === "shigoto_attempt_run_seconds") })
  )
  for (const { dataPoints, descriptor } of found) {
    if (!/^shigoto_(attempts_total|attempt_run_seconds)$/.test(descriptor.name)) continue
    for (const { attributes } of dataPoints) {
      yield* Console.log(`${descriptor.name} in "${descriptor.unit}": ${JSON.stringify(attributes)}`)
    }
  }
  const line = logs.getFinishedLogRecords().find(({ body }) => JSON.stringify(body).includes("resizes"))
  yield* Console.log(`Logged: ${JSON.stringify(line?.body)} with ${JSON.stringify(line?.attributes)}`)
})

NodeRuntime.runMain(Effect.provide(main, AppLive))
