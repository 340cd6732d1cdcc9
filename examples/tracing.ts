/**
 * One trace from the request that enqueues a job to the query in its handler, exported by OTLP to a collector.
 *
 *     OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 node --conditions=source examples/tracing.ts
 *
 * Without an endpoint it prints the spans that it would send.
 */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Console, Effect, Exit, Layer, Option, Redacted, Schema, Tracer } from "effect"
import { FetchHttpClient } from "effect/http"
import { Otlp } from "effect/observability"
import { Job, Jobs, ShigotoConfig, ShigotoLive } from "effect-shigoto"
import { EmbeddedPostgres } from "effect-shigoto/embedded"

const SendEmail = Job.make("send-email", { args: { to: Schema.String }, queue: "emails" })

const SendEmailLive = SendEmail.toLayer(({ to }) =>
  // A span of the handler's own is a child of the attempt's, and the log line carries the job and the trace.
  Effect.withSpan(Effect.log(`to ${to}`), "smtp")
)

const endpoint = process.env["OTEL_EXPORTER_OTLP_ENDPOINT"]
const printed: Array<string> = []
const Printing = Layer.succeed(
  Tracer.Tracer,
  Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      const end = span.end.bind(span)
      span.end = (at, exit) => {
        end(at, exit)
        const parent = Option.match(span.parent, { onNone: () => "a trace of its own", onSome: nameOf })
        const links = span.links.length === 0 ? "" : `, linked to ${span.links.length} span`
        printed.push(`${span.name} (${span.kind}): under ${parent}${links}${Exit.isSuccess(exit) ? "" : ", failed"}`)
      }
      return span
    }
  })
)
const nameOf = (span: Tracer.AnySpan): string => (span._tag === "Span" ? span.name : `span ${span.spanId}`)

const Telemetry =
  endpoint === undefined
    ? Printing
    : Otlp.layerJson({ baseUrl: endpoint, resource: { serviceName: "mailer" } }).pipe(
        Layer.provide(FetchHttpClient.layer)
      )

const url = process.env["DATABASE_URL"]
const AppLive = SendEmailLive.pipe(
  Layer.provideMerge(ShigotoLive),
  // `link` is the default: a job may run hours later, and belongs to a trace of its own. `child` joins the two.
  Layer.provide(ShigotoConfig.layer({ queues: { emails: 5 }, tracing: "link" })),
  Layer.provide(url === undefined ? EmbeddedPostgres.layer() : PgClient.layer({ url: Redacted.make(url) })),
  // Below everything: spans are made only where a tracer listens.
  Layer.provideMerge(Telemetry)
)

const main = Effect.gen(function* () {
  const jobs = yield* Jobs
  const { id } = yield* Effect.withSpan(SendEmail.enqueue({ to: "ada@example.com" }), "POST /signup")
  yield* jobs.get(id).pipe(Effect.delay("50 millis"), Effect.repeat({ until: (row) => row.finishedAt !== undefined }))
  for (const line of printed.filter((one) => /^(enqueue|process|smtp|POST)/.test(one))) yield* Console.log(line)
})

NodeRuntime.runMain(Effect.provide(main, AppLive))
