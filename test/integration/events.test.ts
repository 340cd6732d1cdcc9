import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Otlp from "effect/observability/Otlp"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Batch from "../../src/Batch.ts"
import { Gate } from "../../src/Claimer.ts"
import { CronJobs } from "../../src/CronJobs.ts"
import * as Job from "../../src/Job.ts"
import type { JobEvent } from "../../src/JobEvent.ts"
import type { JobId } from "../../src/JobRow.ts"
import { eventually } from "../setup/eventually.ts"
import { attributesOf, makeCollector } from "../setup/otlp.ts"
import { parse, valueOf } from "../setup/prometheus.ts"
import { makeProxy } from "../setup/proxy.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"
import { clientOf, onDatabase, reaches, startNode } from "./support.ts"

const Work = Job.make("work", {
  args: { how: Schema.Literals(["succeed", "fail", "snooze", "discard", "wait"]) },
  error: Schema.String,
  maxAttempts: 2
})
const Rated = Job.make("rated")
const Single = Job.make("single")
const Flaky = Job.make("flaky", { error: Schema.String, maxAttempts: 1 })

const root = Path.join(import.meta.dirname, "..", "..")
const read = (file: string): string => Fs.readFileSync(Path.join(root, file), "utf8")

/** Words that only the statement of a settle holds. */
const settleStatement = "WITH outcome AS ("

/** What the ancestor told of, by what tells it here. */
const ancestor: Readonly<Record<string, JobEvent["_tag"]>> = {
  "job inserted": "Inserted",
  "job claimed": "Started",
  "job completed": "Completed",
  "job failed": "Failed",
  "job snoozed": "Snoozed",
  "job discarded": "Discarded",
  "job cancelled": "Cancelled",
  "job progress": "Progress",
  "queue polled": "QueuePolled",
  "queue paused": "QueuePaused",
  "queue resumed": "QueueResumed",
  "rate limited": "RateLimited",
  "circuit open": "CircuitOpened",
  "bulkhead full": "BulkheadFull",
  "load shed": "LoadShed",
  "batch completed": "BatchFinished",
  "cron scheduled": "CronTicked",
  "test mode armed": "TestModeArmed"
}

describe("events and metrics", () => {
  onDatabase("tell of everything that the ancestor told of, and of trouble, in Prometheus text and in OTLP", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { url } = yield* TestDatabase
      const proxy = yield* makeProxy(Redacted.value(url))
      const collector = yield* makeCollector
      const exporter = Otlp.layerJson({
        baseUrl: collector.url,
        resource: { serviceName: "test" },
        metricsExportInterval: "100 millis"
      }).pipe(Layer.provide(FetchHttpClient.layer))
      yield* Effect.gen(function* () {
        const gate = yield* Deferred.make<void>()
        const node = yield* startNode({
          workers: Layer.mergeAll(
            Work.toLayer(({ how }) =>
              Effect.gen(function* () {
                yield* Job.progress(50)
                switch (how) {
                  case "fail":
                    return yield* Effect.fail("no")
                  case "snooze":
                    return yield* Job.snooze("1 hour")
                  case "discard":
                    return yield* Job.discard("hopeless")
                  case "wait":
                    return yield* Deferred.await(gate)
                  default:
                    return undefined
                }
              })
            ),
            Rated.toLayer(() => Effect.void, { rateLimit: { limit: 1, window: "31 days" } }),
            Single.toLayer(() => Deferred.await(gate), { globalConcurrency: 1 }),
            Flaky.toLayer(() => Effect.fail("down"), {
              circuitBreaker: { window: 2, failureRate: 1, openFor: "1 hour" }
            })
          ),
          client: clientOf(proxy.url),
          config: {
            metrics: true,
            metricsInterval: "200 millis",
            queues: { default: 20 },
            shedding: { maxInFlight: 4, levels: [{ below: 0, share: 0.5 }] },
            listen: false
          }
        })
        const page = Effect.map(PrometheusMetrics.format(), parse)
        const metric = (name: string, labels: Readonly<Record<string, string>>, least = 1) =>
          eventually(page, (found) => (valueOf(found, name, labels) ?? 0) >= least)
        const add = (how: (typeof Work.args.Type)["how"]) => Effect.map(node.run(Work.enqueue({ how })), ({ id }) => id)

        yield* node.event("Completed", yield* add("succeed"))
        yield* node.event("Failed", yield* add("fail"))
        yield* node.event("Discarded", yield* add("discard"))
        const snoozed = yield* add("snooze")
        yield* node.event("Snoozed", snoozed)
        yield* node.jobs.cancel(snoozed)
        yield* node.event("Cancelled", snoozed)
        const progress = yield* node.event("Progress")
        assert.deepInclude(progress, { worker: "work", queue: "default", percent: 50 })
        yield* node.queues.pause("default")
        yield* node.queues.resume("default")

        const [rated] = yield* node.run(Rated.enqueueAll([{}, {}]))
        yield* reaches(node, rated?.id as JobId, "completed") // two were enqueued
        assert.deepInclude(yield* node.event("RateLimited"), { worker: "rated" })
        yield* node.run(Flaky.enqueueAll([{}, {}]))
        yield* node.event("CircuitOpened")

        const batch = Batch.make("batch")
        yield* node.run(batch.enqueue([Work.prepare({ how: "succeed" })]))
        yield* node.event("BatchFinished")
        yield* node.run(
          Effect.flatMap(CronJobs, (crons) =>
            crons.upsert({ name: "often", cron: "* * * * * *", job: Work, args: { how: "succeed" } })
          )
        )
        yield* node.event("CronTicked")
        yield* node.run(Effect.flatMap(CronJobs, (crons) => crons.remove("often")))

        // A settle whose reply is lost is sent again.
        const retried = Effect.sync(() => node.events.some(({ _tag }) => _tag === "SettleRetried"))
        proxy.dropReplyOf(settleStatement)
        yield* add("succeed")
        yield* eventually(retried, (seen) => seen)

        // Somebody dead held a job; another one had to start in time.
        const lost = yield* sql<{ readonly id: JobId }>`
            INSERT INTO shigoto.jobs (state, worker, queue, args, claimed_by, claimed_at, attempt, run_at, inserted_at)
            VALUES ('executing', 'work', 'default', '{"how": "succeed"}', 999999, now(), 1, now(), now())
            RETURNING id::integer AS id`
        yield* node.event("Rescued", lost[0]?.id)
        const late = yield* node.run(Work.enqueue({ how: "succeed" }, { queue: "nobody", expiresIn: "1 hour" }))
        yield* sql`UPDATE shigoto.jobs SET start_before = inserted_at WHERE id = ${late.id}::bigint`
        yield* node.event("Expired", late.id)

        // Half of the places are taken, so what is less urgent waits; then all, with more to come.
        yield* node.run(Single.enqueueAll([{}, {}]))
        yield* node.event("ConcurrencyLimited")
        yield* reaches(node, yield* add("wait"), "executing")
        yield* node.run(Work.enqueue({ how: "succeed" }, { priority: -100 }))
        yield* node.event("LoadShed")
        yield* node.run(Work.enqueueAll(Array.from({ length: 8 }, () => ({ how: "wait" as const }))))
        yield* node.event("BulkheadFull")
        yield* Deferred.succeed(gate, undefined)

        // Its lease ran out: it begins anew under another number.
        yield* sql`UPDATE shigoto.nodes SET expires_at = now() - interval '1 second'`
        yield* node.event("NodeLeaseLost")
        yield* node.event("NodeStarted")

        let open = true
        const armed = yield* startNode({ config: { queues: { other: 1 } } }).pipe(
          Effect.provideService(Gate, { isOpen: () => open, onOpen: () => {} })
        )
        // Told once, as a claim finds it closed.
        open = false
        yield* armed.run(Work.enqueue({ how: "succeed" }, { queue: "other" }))
        yield* armed.event("TestModeArmed")
        const seen = new Set([...node.events, ...armed.events].map(({ _tag }) => _tag))
        for (const [what, tag] of Object.entries(ancestor)) assert.isTrue(seen.has(tag), `${what}: ${tag}`)

        const of = { worker: "work", queue: "default" }
        const limited = (worker: string, limit: string) => ({ worker, queue: "default", limit })
        yield* metric("shigoto_jobs_inserted_total", of)
        for (const outcome of ["completed", "retryable", "discarded", "snoozed"]) {
          yield* metric("shigoto_attempts_total", { ...of, outcome })
        }
        yield* metric("shigoto_attempt_run_seconds_count", of, 4)
        yield* metric("shigoto_job_wait_seconds_count", of, 4)
        yield* metric("shigoto_jobs_rescued_total", of)
        yield* metric("shigoto_jobs_expired_total", { worker: "work", queue: "nobody" })
        yield* metric("shigoto_limited_total", limited("rated", "rate"))
        yield* metric("shigoto_limited_total", limited("single", "concurrency"))
        yield* metric("shigoto_circuits_opened_total", { worker: "flaky" })
        yield* metric("shigoto_bulkhead_full_total", {})
        yield* metric("shigoto_load_shed_total", { by: "attempts" })
        yield* metric("shigoto_lease_lost_total", {})
        yield* metric("shigoto_settle_retries_total", {})
        yield* metric("shigoto_queue_concurrency", { queue: "default" })
        const found = yield* eventually(page, (families) => families.has("shigoto_oldest_available_seconds"))

        const exported = yield* eventually(
          Effect.sync(() => collector.metrics()),
          (metrics) => [...found.keys()].every((name) => metrics.some((one) => one.name === name))
        )
        for (const { gauge, histogram, name, sum, unit } of exported) {
          if (!name.startsWith("shigoto_")) continue
          assert.strictEqual(unit === "s", name.endsWith("_seconds"), name)
          assert.strictEqual(sum?.isMonotonic === true, name.endsWith("_total"), name)
          const points = [gauge, histogram, sum].flatMap((kind): ReadonlyArray<Point> => kind?.dataPoints ?? [])
          for (const { attributes } of points) {
            for (const label of Object.keys(attributesOf(attributes))) assert.include(labels, label, name)
          }
        }
        for (const [name, { help, samples, type }] of found) {
          assert.isNotEmpty(help, name)
          assert.strictEqual(type === "counter", name.endsWith("_total"), name)
          for (const sample of samples) {
            for (const label of Object.keys(sample.labels)) assert.include([...labels, "le"], label, name)
          }
        }
      }).pipe(Effect.scoped, Effect.provide(exporter))
      assert.deepStrictEqual(collector.problems, [])
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))
  )

  it("are all in the guide, with their labels", () => {
    const guide = read("docs/telemetry.md")
    const union = read("src/JobEvent.ts")
    const tags = new Set([...union.matchAll(/readonly _tag: "(\w+)"/g)].map(([, tag]) => tag ?? ""))
    assert.isAbove(tags.size, 30)
    for (const tag of tags) assert.include(guide, `\`${tag}\``)
    const code = read("src/ShigotoMetrics.ts")
    const names = new Set([...code.matchAll(/"(shigoto_\w+)"/g)].map(([, name]) => name ?? ""))
    assert.isAbove(names.size, 15)
    for (const name of names) {
      const row = (text: string) => text.split("\n").find((line) => line.includes(`| \`${name}\` |`)) ?? ""
      const [, , kind = "", labelled = ""] = row(guide).split("|")
      assert.match(kind, /counter|gauge|histogram/, `${name} in the guide`)
      assert.include(row(code), labelled.trim(), `${name} in the file's table`)
    }
  })
})

// internal

interface Point {
  readonly attributes: Parameters<typeof attributesOf>[0]
}

/** The labels that any series may have; the values of the last ones are the library's own. */
const labels = ["worker", "queue", "outcome", "limit", "by", "unit"]
