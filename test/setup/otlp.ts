/** A collector of OTLP over HTTP with JSON that takes nothing but what the protocol allows. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Http from "node:http"
import type { AddressInfo } from "node:net"

const Value = Schema.Union([
  Schema.Struct({ stringValue: Schema.String }),
  Schema.Struct({ boolValue: Schema.Boolean }),
  Schema.Struct({ intValue: Schema.Union([Schema.Int, Schema.String.check(Schema.isPattern(/^-?\d+$/))]) }),
  Schema.Struct({ doubleValue: Schema.Finite })
])
const Attributes = Schema.Array(Schema.Struct({ key: Schema.NonEmptyString, value: Value }))
const Nanos = Schema.String.check(Schema.isPattern(/^\d{19}$/))
const TraceId = Schema.String.check(Schema.isPattern(/^(?!0{32})[0-9a-f]{32}$/))
const SpanId = Schema.String.check(Schema.isPattern(/^(?!0{16})[0-9a-f]{16}$/))
const Count = Schema.Union([Schema.Int, Schema.String.check(Schema.isPattern(/^\d+$/))])

const Span = Schema.Struct({
  traceId: TraceId,
  spanId: SpanId,
  parentSpanId: Schema.optional(SpanId),
  name: Schema.NonEmptyString,
  kind: Schema.Literals([1, 2, 3, 4, 5]),
  startTimeUnixNano: Nanos,
  endTimeUnixNano: Nanos,
  attributes: Attributes,
  links: Schema.Array(Schema.Struct({ traceId: TraceId, spanId: SpanId })),
  status: Schema.Struct({ code: Schema.Literals([0, 1, 2]), message: Schema.optional(Schema.String) })
})
const Traces = Schema.Struct({
  resourceSpans: Schema.Array(Schema.Struct({ scopeSpans: Schema.Array(Schema.Struct({ spans: Schema.Array(Span) })) }))
})

const Point = { attributes: Attributes, timeUnixNano: Nanos }
const NumberPoint = Schema.Struct({
  ...Point,
  asDouble: Schema.optional(Schema.Finite),
  asInt: Schema.optional(Count)
})
const HistogramPoint = Schema.Struct({
  ...Point,
  count: Count,
  sum: Schema.Finite,
  explicitBounds: Schema.Array(Schema.Finite),
  bucketCounts: Schema.Array(Count)
})
const Metric = Schema.Struct({
  name: Schema.NonEmptyString,
  unit: Schema.optional(Schema.String),
  gauge: Schema.optional(Schema.Struct({ dataPoints: Schema.Array(NumberPoint) })),
  sum: Schema.optional(
    Schema.Struct({
      aggregationTemporality: Schema.Literals([1, 2]),
      isMonotonic: Schema.Boolean,
      dataPoints: Schema.Array(NumberPoint)
    })
  ),
  histogram: Schema.optional(
    Schema.Struct({ aggregationTemporality: Schema.Literals([1, 2]), dataPoints: Schema.Array(HistogramPoint) })
  )
})
const Metrics = Schema.Struct({
  resourceMetrics: Schema.Array(
    Schema.Struct({ scopeMetrics: Schema.Array(Schema.Struct({ metrics: Schema.Array(Metric) })) })
  )
})

const Logs = Schema.Struct({
  resourceLogs: Schema.Array(
    Schema.Struct({
      scopeLogs: Schema.Array(
        Schema.Struct({
          logRecords: Schema.Array(
            Schema.Struct({
              timeUnixNano: Nanos,
              severityText: Schema.String,
              body: Value,
              attributes: Attributes,
              traceId: Schema.optional(TraceId),
              spanId: Schema.optional(SpanId)
            })
          )
        })
      )
    })
  )
})

export type OtlpSpan = typeof Span.Type
export type OtlpMetric = typeof Metric.Type

/** Starts a collector; it ends with the scope. */
export const makeCollector = Effect.acquireRelease(
  Effect.callback<Collector & { readonly server: Http.Server }>((resume) => {
    const spans: Array<OtlpSpan> = []
    const logs: Array<(typeof Logs.Type)["resourceLogs"][number]["scopeLogs"][number]["logRecords"][number]> = []
    const problems: Array<string> = []
    let metrics: ReadonlyArray<OtlpMetric> = []
    const take = (url: string | undefined, body: unknown): void => {
      if (url === "/v1/traces") {
        for (const { scopeSpans } of Schema.decodeUnknownSync(Traces)(body).resourceSpans) {
          for (const scope of scopeSpans) for (const span of scope.spans) spans.push(checkedSpan(span))
        }
      } else if (url === "/v1/metrics") {
        const read = Schema.decodeUnknownSync(Metrics)(body).resourceMetrics
        metrics = read.flatMap(({ scopeMetrics }) => scopeMetrics.flatMap((scope) => scope.metrics))
        for (const metric of metrics) checkMetric(metric)
      } else if (url === "/v1/logs") {
        for (const { scopeLogs } of Schema.decodeUnknownSync(Logs)(body).resourceLogs) {
          for (const scope of scopeLogs) logs.push(...scope.logRecords)
        }
      } else throw new Error(`nothing is at ${url}`)
    }
    const server = Http.createServer((request, response) => {
      const chunks: Array<Buffer> = []
      request.on("data", (chunk: Buffer) => chunks.push(chunk))
      request.on("end", () => {
        try {
          take(request.url, JSON.parse(Buffer.concat(chunks).toString("utf8")))
        } catch (problem) {
          problems.push(`${request.url}: ${String(problem)}`)
        }
        response.writeHead(200, { "content-type": "application/json" }).end("{}")
      })
    })
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo // it listens on TCP
      resume(Effect.succeed({ server, url: `http://127.0.0.1:${port}`, spans, logs, problems, metrics: () => metrics }))
    })
  }),
  ({ server }) => Effect.sync(() => server.close())
)

export interface Collector {
  readonly url: string
  readonly spans: ReadonlyArray<OtlpSpan>
  readonly logs: ReadonlyArray<{ readonly attributes: OtlpSpan["attributes"]; readonly traceId?: string | undefined }>
  /** As last exported. */
  readonly metrics: () => ReadonlyArray<OtlpMetric>
  /** What was not by the protocol. */
  readonly problems: ReadonlyArray<string>
}

/** The attributes as a record; one that is there twice throws. */
export const attributesOf = (attributes: OtlpSpan["attributes"]): Record<string, unknown> => {
  const record: Record<string, unknown> = {}
  for (const { key, value } of attributes) {
    if (Object.hasOwn(record, key)) throw new Error(`the attribute ${key} is there twice`)
    record[key] = Object.values(value)[0]
  }
  return record
}

const checkedSpan = (span: OtlpSpan): OtlpSpan => {
  if (BigInt(span.startTimeUnixNano) > BigInt(span.endTimeUnixNano))
    throw new Error(`${span.name} ends before it starts`)
  attributesOf(span.attributes)
  return span
}

const checkMetric = (metric: OtlpMetric): void => {
  const kinds = [metric.gauge, metric.sum, metric.histogram].filter((kind) => kind !== undefined)
  if (kinds.length !== 1) throw new Error(`${metric.name} is of ${kinds.length} kinds`)
  for (const point of metric.histogram?.dataPoints ?? []) {
    const total = point.bucketCounts.reduce((sum: number, count) => sum + Number(count), 0)
    if (point.bucketCounts.length !== point.explicitBounds.length + 1 || total !== Number(point.count)) {
      throw new Error(`${metric.name} has buckets that do not add up to its count`)
    }
  }
}
