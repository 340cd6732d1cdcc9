import { assert, describe } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as Otlp from "effect/observability/Otlp"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import * as Tracer from "effect/Tracer"
import { readFileSync } from "node:fs"
import * as Cipher from "../src/Cipher.ts"
import { layer as eventsLayer, Events } from "../src/internal/events.ts"
import * as Job from "../src/Job.ts"
import type { JobId } from "../src/JobRow.ts"
import { onDatabase, reaches, startNode } from "./integration/support.ts"
import { eventually } from "./setup/eventually.ts"
import { attributesOf, makeCollector } from "./setup/otlp.ts"
import { TestDatabase } from "./setup/TestDatabase.ts"
import { parse, valueOf } from "./setup/prometheus.ts"

const Work = Job.make("work", {
  args: { how: Schema.Literals(["succeed", "fail", "snooze"]) },
  error: Schema.String,
  maxAttempts: 1
})
const workLive = Work.toLayer(({ how }, job) =>
  how === "succeed"
    ? Effect.void
    : how === "fail"
      ? Effect.fail("no")
      : job.snoozes === 0
        ? Job.snooze("1 hour")
        : Effect.void
)

/** The attributes of OpenTelemetry's conventions, without those that it has given up. */
const currentNames = new Set(
  ["stable", "experimental"].flatMap((kind) => {
    const file = `../node_modules/@opentelemetry/semantic-conventions/dist/${kind}_attributes.d.mts`
    const text = readFileSync(new URL(file, import.meta.url), "utf8")
    return [...text.matchAll(/\/\*\*((?:(?!\*\/)[^])*)\*\/\s*declare const ATTR_\w+: "([^"]+)";/g)]
      .filter(([, comment = ""]) => !comment.includes("@deprecated"))
      .map(([, , name = ""]) => name)
  })
)

/** A tracer that keeps its spans. */
const makeTracer = () => {
  const spans: Array<Tracer.NativeSpan> = []
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      spans.push(span)
      return span
    }
  })
  const named = (name: string) =>
    eventually(
      Effect.sync(() => spans.filter((span) => span.name === name && span.status._tag === "Ended")),
      (found) => found.length > 0
    )
  return { layer: Layer.succeed(Tracer.Tracer, tracer), spans, named }
}

describe("events", () => {
  onDatabase("are told of a job's whole way, with its wait and its run, and of the queues", () =>
    Effect.gen(function* () {
      const node = yield* startNode({ workers: workLive })
      const { id } = yield* node.run(Work.enqueue({ how: "succeed" }))
      const started = yield* node.event("Started", id)
      assert.isAtLeast(started.waitMillis, 0)
      assert.isAtLeast((yield* node.event("Completed", id)).runMillis ?? -1, 0)
      const failed = yield* node.run(Work.enqueue({ how: "fail" }))
      assert.isNumber((yield* node.event("Discarded", failed.id)).runMillis)
      const snoozed = yield* node.run(Work.enqueue({ how: "snooze" }))
      assert.strictEqual((yield* node.event("Snoozed", snoozed.id)).delayMillis, 3_600_000)
      yield* node.jobs.cancel(snoozed.id)
      assert.isUndefined((yield* node.event("Cancelled", snoozed.id)).runMillis)
      const polled = yield* node.event("QueuePolled")
      assert.strictEqual(polled.queue, "default")
      yield* node.queues.pause("default")
      yield* node.queues.resume("default")
      yield* node.event("QueuePaused")
      yield* node.event("QueueResumed")
    })
  )

  onDatabase("are heard only while somebody listens", () =>
    Effect.gen(function* () {
      const events = Context.get(yield* Layer.build(eventsLayer), Events)
      assert.isFalse(events.isHeard())
      const seen: Array<string> = []
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* events.observe((event) => seen.push(event._tag))
          assert.isTrue(events.isHeard())
          events.publish({ _tag: "QueuePaused", queue: "a" })
        })
      )
      assert.isFalse(events.isHeard())
      const first = yield* events.stream.pipe(Stream.runHead, Effect.forkChild({ startImmediately: true }))
      assert.isTrue(events.isHeard())
      events.publish({ _tag: "QueueResumed", queue: "a" })
      const exit = yield* eventually(
        Effect.sync(() => first.pollUnsafe()),
        (polled) => polled !== undefined
      )
      assert.isTrue(exit !== undefined && Exit.isSuccess(exit) && Option.isSome(exit.value))
      assert.isFalse(events.isHeard())
      assert.deepStrictEqual(seen, ["QueuePaused"])
    })
  )
})

describe("metrics", () => {
  onDatabase("are Prometheus text that a strict parser reads, with what happened", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      const Odd = Job.make('odd "name" \\ here', { queue: "held" })
      const node = yield* startNode({
        workers: Layer.mergeAll(
          workLive,
          Odd.toLayer(() => Deferred.await(gate))
        ),
        config: { metrics: true, metricsInterval: "200 millis", queues: { default: 5, held: 1 } }
      })
      const page = Effect.map(PrometheusMetrics.format(), parse)
      yield* node.run(Work.enqueueAll([{ how: "succeed" }, { how: "succeed" }, { how: "fail" }, { how: "snooze" }]))
      yield* node.run(Odd.enqueueAll([{}, {}]))
      const labels = { worker: "work", queue: "default" }
      const odd = { worker: Odd.name, queue: "held" }
      const held = yield* eventually(
        page,
        (found) =>
          valueOf(found, "shigoto_attempts_total", { ...labels, outcome: "completed" }) === 2 &&
          valueOf(found, "shigoto_jobs_executing", { queue: "held" }) === 1 &&
          (valueOf(found, "shigoto_oldest_available_seconds", { queue: "held" }) ?? 0) > 0
      )
      assert.strictEqual(valueOf(held, "shigoto_jobs_inserted_total", labels), 4)
      assert.strictEqual(valueOf(held, "shigoto_jobs_inserted_total", odd), 2)
      assert.strictEqual(valueOf(held, "shigoto_attempts_total", { ...labels, outcome: "discarded" }), 1)
      assert.strictEqual(valueOf(held, "shigoto_attempts_total", { ...labels, outcome: "snoozed" }), 1)
      assert.strictEqual(valueOf(held, "shigoto_attempt_run_seconds_count", labels), 4)
      assert.strictEqual(valueOf(held, "shigoto_job_wait_seconds_count", labels), 4)
      assert.strictEqual(valueOf(held, "shigoto_queue_concurrency", { queue: "held" }), 1)
      assert.isAtLeast(valueOf(held, "shigoto_dead_rows") ?? -1, 0)
      assert.isAtLeast(valueOf(held, "shigoto_oldest_transaction_seconds") ?? -1, 0)
      yield* Deferred.succeed(gate, undefined)
      yield* eventually(
        page,
        (found) =>
          valueOf(found, "shigoto_jobs_executing", { queue: "held" }) === 0 &&
          valueOf(found, "shigoto_oldest_available_seconds", { queue: "held" }) === 0
      )
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))
  )

  onDatabase("bound their labels, and are not there unless asked for", () =>
    Effect.gen(function* () {
      const quiet = yield* startNode({ workers: workLive })
      yield* reaches(quiet, (yield* quiet.run(Work.enqueue({ how: "succeed" }))).id, "completed")
      assert.strictEqual(yield* PrometheusMetrics.format(), "")
      const node = yield* startNode({ config: { metrics: true } })
      yield* node.run(
        Work.enqueueAll(
          Array.from({ length: 250 }, () => ({ how: "succeed" as const })),
          (_, i) => ({ queue: `tenant-${i}` })
        )
      )
      const found = yield* Effect.map(PrometheusMetrics.format(), parse)
      const inserted = found.get("shigoto_jobs_inserted_total")?.samples ?? []
      assert.strictEqual(inserted.length, 201)
      assert.strictEqual(valueOf(found, "shigoto_jobs_inserted_total", { worker: "other", queue: "other" }), 50)
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))
  )
})

describe("OTLP", () => {
  onDatabase("carries spans, metrics and logs that a strict collector takes", () =>
    Effect.gen(function* () {
      const collector = yield* makeCollector
      const every = "100 millis"
      const exporter = Otlp.layerJson({
        baseUrl: collector.url,
        resource: { serviceName: "test" },
        loggerExportInterval: every,
        metricsExportInterval: every,
        tracerExportInterval: every
      }).pipe(Layer.provide(FetchHttpClient.layer))
      yield* Effect.gen(function* () {
        const Talk = Job.make("talk")
        const node = yield* startNode({
          workers: Talk.toLayer(() => Effect.withSpan(Effect.log("hello"), "inner")),
          config: { metrics: true }
        })
        const { id } = yield* node.run(Talk.enqueue({}))
        const named = (name: string) =>
          Effect.map(
            eventually(
              Effect.sync(() => collector.spans.find((span) => span.name === name)),
              (found) => found !== undefined
            ),
            (found) => found as NonNullable<typeof found> // it was found
          )
        const sent = yield* named("enqueue default")
        const attempt = yield* named("process default")
        const inner = yield* named("inner")
        assert.deepStrictEqual([sent.kind, attempt.kind], [4, 5])
        assert.deepInclude(attributesOf(sent.attributes), {
          "messaging.system.name": "shigoto",
          "messaging.operation.type": "send",
          "messaging.destination.name": "default",
          "messaging.message.id": String(id)
        })
        assert.deepInclude(attributesOf(attempt.attributes), { "messaging.operation.type": "process" })
        assert.deepInclude(attempt.links[0], { traceId: sent.traceId, spanId: sent.spanId })
        assert.notStrictEqual(attempt.traceId, sent.traceId)
        assert.strictEqual(inner.parentSpanId, attempt.spanId)
        const log = yield* eventually(
          Effect.sync(() => collector.logs.find((one) => one.traceId === attempt.traceId)),
          (found) => found !== undefined
        )
        assert.deepInclude(attributesOf(log?.attributes ?? []), { worker: "talk", queue: "default" })
        const run = yield* eventually(
          Effect.sync(() => collector.metrics().find((metric) => metric.name === "shigoto_attempt_run_seconds")),
          (found) => found !== undefined
        )
        assert.strictEqual(run?.unit, "s")
      }).pipe(Effect.scoped, Effect.provide(exporter))
      assert.deepStrictEqual(collector.problems, [])
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))
  )
})

describe("traces", () => {
  onDatabase("lead from the enqueuing process to the attempt in another, as its child where that is asked for", () =>
    Effect.gen(function* () {
      const here = makeTracer()
      const there = makeTracer()
      const producer = yield* startNode({ config: { queues: { other: 1 } } })
      const worker = yield* startNode({ workers: workLive, config: { tracing: "child" } }).pipe(
        Effect.provide(there.layer)
      )
      const enqueued = yield* producer.run(
        Work.enqueueAll([{ how: "succeed" }, { how: "fail" }, { how: "snooze" }]).pipe(
          Effect.withSpan("request"),
          Effect.provide(here.layer)
        )
      )
      const [request] = yield* here.named("request")
      const [sent] = yield* here.named("enqueue default")
      assert.strictEqual(sent?.attributes.get("messaging.batch.message_count"), 3)
      assert.strictEqual(Option.getOrUndefined(sent?.parent ?? Option.none())?.spanId, request?.spanId)
      const attempts = yield* eventually(there.named("process default"), (found) => found.length === 3)
      for (const attempt of attempts) {
        assert.strictEqual(attempt.traceId, sent?.traceId)
        assert.strictEqual(Option.getOrUndefined(attempt.parent)?.spanId, sent?.spanId)
      }
      const endOf = (index: number) => {
        const id = String(enqueued[index]?.id)
        const status = attempts.find((one) => one.attributes.get("messaging.message.id") === id)?.status
        return status?._tag === "Ended" && Exit.isSuccess(status.exit)
      }
      // A snooze is no failure.
      assert.deepStrictEqual([endOf(0), endOf(1), endOf(2)], [true, false, true])
      const failed = attempts.filter((one) => one.attributes.has("error.type"))
      assert.deepStrictEqual(
        failed.map((one) => one.attributes.get("messaging.message.id")),
        [String(enqueued[1]?.id)]
      )
      const ours = [...here.spans, ...there.spans].filter(({ name }) => /^(enqueue|process) /.test(name))
      const names = ours.flatMap((span) => [...span.attributes.keys()])
      const conventional = names.filter((name) => !name.startsWith("shigoto."))
      assert.isAtLeast(new Set(conventional).size, 6)
      for (const name of conventional) assert.isTrue(currentNames.has(name), name)
      const row = yield* reaches(worker, enqueued[0]?.id as JobId, "completed") // there are three
      assert.strictEqual(row.trace, `00-${sent?.traceId}-${sent?.spanId}-01`)
    })
  )

  onDatabase("lead from the attempt that fans out to those of its children, and call the wait no failure", () =>
    Effect.gen(function* () {
      const { layer, named } = makeTracer()
      const Leaf = Job.make("leaf", { success: Schema.Int, queue: "leaves" })
      const Tree = Job.make("tree", { success: Schema.Int })
      const node = yield* startNode({
        workers: Layer.mergeAll(
          Leaf.toLayer(() => Effect.succeed(1)),
          Tree.toLayer(() => Effect.map(Job.fanOut("leaves", Leaf, [{}, {}]), (leaves) => leaves.length))
        ),
        config: { tracing: "child", queues: { default: 1, leaves: 2 } }
      }).pipe(Effect.provide(layer))
      assert.strictEqual(yield* node.run(Tree.execute({})), 2)
      const [forked, resumed] = yield* eventually(named("process default"), (found) => found.length === 2)
      const leaves = yield* eventually(named("process leaves"), (found) => found.length === 2)
      assert.strictEqual(forked?.attributes.get("shigoto.signal"), "fork")
      assert.isTrue(forked?.status._tag === "Ended" && Exit.isSuccess(forked.status.exit))
      assert.isUndefined(resumed?.attributes.get("shigoto.signal"))
      for (const leaf of leaves) assert.strictEqual(Option.getOrUndefined(leaf.parent)?.spanId, forked?.spanId)
    })
  )

  onDatabase("start anew where the row holds no trace, or garbage; and none is made without a tracer", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { layer, named, spans } = makeTracer()
      const silent = yield* startNode({ config: { queues: { other: 1 } } })
      const { id } = yield* silent.run(Work.enqueue({ how: "succeed" }))
      assert.isUndefined((yield* silent.jobs.get(id)).trace)
      yield* silent.run(Work.enqueue({ how: "succeed" }))
      yield* sql`UPDATE shigoto.jobs SET trace = 'garbage' WHERE id > ${id}`
      assert.deepStrictEqual(spans, [])
      yield* startNode({ workers: workLive }).pipe(Effect.provide(layer))
      const attempts = yield* eventually(named("process default"), (found) => found.length === 2)
      for (const attempt of attempts) {
        assert.isTrue(Option.isNone(attempt.parent))
        assert.deepStrictEqual(attempt.links, [])
      }
    })
  )
})

describe("logs", () => {
  onDatabase("of a handler say which attempt it is, and are kept where the worker asks for it", () =>
    Effect.gen(function* () {
      const annotations: Array<unknown> = []
      const spy = Logger.make(({ fiber, message }) => {
        if (String(message).startsWith("line")) annotations.push(fiber.getRef(References.CurrentLogAnnotations))
      })
      const Talk = Job.make("talk", { args: { lines: Schema.Int }, error: Schema.String })
      const talk = (captureLogs: boolean | { readonly maxLines: number }) =>
        Talk.toLayer(
          ({ lines }, job) =>
            Effect.gen(function* () {
              for (let i = 1; i <= lines; i++) yield* Effect.logWarning(`line ${i}`, { of: lines })
              if (job.attempt === 1) return yield* Effect.fail("again")
            }),
          { captureLogs }
        )
      const node = yield* startNode({ workers: talk({ maxLines: 3 }) }).pipe(Effect.provide(Logger.layer([spy])))
      const { id } = yield* node.run(Talk.enqueue({ lines: 2 }))
      yield* node.event("Failed", id)
      const kept = yield* eventually(node.jobs.logs(id), (lines) => lines.length >= 2)
      assert.deepStrictEqual(
        kept.map(({ attempt, level, line, message }) => [attempt, line, level, message]),
        [
          [1, 1, "Warn", 'line 1 {"of":2}'],
          [1, 2, "Warn", 'line 2 {"of":2}']
        ]
      )
      assert.deepStrictEqual(annotations[0], { jobId: id, worker: "talk", queue: "default", attempt: 1 })
      const many = yield* node.run(Talk.enqueue({ lines: 50 }))
      const bounded = yield* eventually(node.jobs.logs(many.id), (lines) => lines.length >= 4)
      assert.strictEqual(bounded.length, 4)
      assert.match(bounded[3]?.message ?? "", /^Nothing more of this attempt is kept: the limit is 3 lines/)
      assert.strictEqual((yield* node.jobs.logs(many.id, { after: { epoch: 1, line: 2 }, limit: 1 }))[0]?.line, 3)
      assert.strictEqual((yield* Effect.flip(node.jobs.logs(many.id, { limit: 0 })))._tag, "InvalidFilter")
    })
  )

  onDatabase("are kept by no one's wish but the configuration's or the worker's, and forgotten in time", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const Talk = Job.make("talk")
      const Quiet = Job.make("quiet")
      const node = yield* startNode({
        workers: Layer.mergeAll(
          Talk.toLayer(() => Effect.log("talk")),
          Quiet.toLayer(() => Effect.log("quiet"), { captureLogs: false })
        ),
        config: { captureLogs: true, logRetention: "1 hour", pruneInterval: "100 millis" }
      })
      const quiet = yield* node.run(Quiet.enqueue({}))
      yield* reaches(node, quiet.id, "completed")
      const { id } = yield* node.run(Talk.enqueue({}))
      yield* eventually(node.jobs.logs(id), (lines) => lines.length === 1)
      assert.deepStrictEqual(yield* node.jobs.logs(quiet.id), [])
      yield* sql`UPDATE shigoto.logs SET stored_at = stored_at - interval '61 minutes'`
      yield* eventually(node.jobs.logs(id), (lines) => lines.length === 0)
    })
  )

  onDatabase("are encrypted where there is a cipher, and keep the order of claims under one attempt's number", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const database = yield* TestDatabase
      const Talk = Job.make("talk")
      const keys = [{ id: "k1", key: Redacted.make(new Uint8Array(32).fill(7)) }] as const
      const node = yield* startNode({
        workers: Talk.toLayer((_, job) =>
          Effect.andThen(
            Effect.log(`canary after ${job.snoozes} snoozes`),
            job.snoozes === 0 ? Job.snooze("10 millis") : Effect.log("canary ends")
          )
        ),
        config: { captureLogs: true },
        client: Layer.mergeAll(database.layerClient({ maxConnections: 12 }), Cipher.layerAesGcm({ keys }))
      })
      const { id } = yield* node.run(Talk.enqueue({}))
      const lines = yield* eventually(node.jobs.logs(id), (found) => found.length === 3)
      assert.deepStrictEqual(
        lines.map(({ attempt, epoch, line, message }) => [attempt, epoch, line, message]),
        [
          [1, 1, 1, "canary after 0 snoozes"],
          [1, 2, 1, "canary after 1 snoozes"],
          [1, 2, 2, "canary ends"]
        ]
      )
      const stored = yield* sql<{ readonly text: string }>`SELECT message::text AS text FROM shigoto.logs`
      assert.isTrue(stored.every(({ text }) => text.includes("$enc") && !text.includes("canary")))
      const without = yield* startNode({ config: { queues: { other: 1 } } })
      const [unread] = yield* without.jobs.logs(id)
      assert.notInclude(unread?.message, "canary")
    })
  )
})
