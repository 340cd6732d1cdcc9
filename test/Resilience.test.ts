import { assert, describe } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Job from "../src/Job.ts"
import { Resilience } from "../src/Resilience.ts"
import { onDatabase, reaches, startNode, tally } from "./integration/support.ts"
import { eventually } from "./setup/eventually.ts"
import { parse, valueOf } from "./setup/prometheus.ts"

class Down extends Schema.TaggedError<Down>("Down")("Down", {}) {}

const Own = Job.make("own", { args: { n: Schema.Int }, error: Down, maxAttempts: 1 })
const Shared = Job.make("shared", { args: { n: Schema.Int }, error: Down, maxAttempts: 1 })
const Plain = Job.make("plain", { queue: "other" })

const numbers = (count: number) => Array.from({ length: count }, (_, n) => ({ n }))

const load = Effect.flatMap(Resilience, (resilience) => resilience.load)
const circuits = Effect.flatMap(Resilience, (resilience) => resilience.circuits)
const close = (worker: string) => Effect.flatMap(Resilience, (resilience) => resilience.close(worker))

describe("Resilience", () => {
  onDatabase("tells what runs on the node and may run, and what it sheds", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      const node = yield* startNode({
        workers: Layer.mergeAll(
          Own.toLayer(() => Deferred.await(gate), { concurrency: 2 }),
          Shared.toLayer(() => Effect.void, { concurrency: { initial: 7 } }),
          Plain.toLayer(() => Deferred.await(gate))
        ),
        config: {
          queues: { default: 10, other: { concurrency: { initial: 3, max: 9 } } },
          shedding: { maxInFlight: 50 }
        }
      })
      yield* node.run(Own.enqueueAll(numbers(5)))
      yield* node.run(Plain.enqueue({}))
      const found = yield* eventually(node.run(load), ({ running }) => running === 3)
      assert.deepStrictEqual(found, {
        running: 3,
        maxInFlight: 50,
        shedBelow: undefined,
        queues: [
          { name: "default", running: 2, concurrency: 10, adaptive: false },
          { name: "other", running: 1, concurrency: 3, adaptive: true }
        ],
        workers: [
          { name: "own", running: 2, concurrency: 2, adaptive: false },
          { name: "shared", running: 0, concurrency: 7, adaptive: true },
          { name: "plain", running: 1, concurrency: undefined, adaptive: false }
        ]
      })
      // What bounds the worker is what its jobs wait for.
      const [, , third] = yield* node.jobs.list({ worker: "own", state: "available" })
      assert.isDefined(third)
      const told = yield* eventually(node.jobs.explain(third.id), ({ reasons }) =>
        reasons.some(({ _tag }) => _tag === "WorkerBusy")
      )
      assert.strictEqual(told.status, "runnable")
      assert.match(told.message, /as many attempts of "own" run as may \(2 of 2\)/)
      yield* Deferred.succeed(gate, undefined)
    })
  )

  onDatabase("tells the circuits of the node and of all, and closes them by hand", () =>
    Effect.gen(function* () {
      let down = true
      const handler = () => Effect.suspend(() => (down ? Effect.fail(new Down()) : Effect.void))
      const breaker = { window: 2, openFor: "1 hour" } as const
      const workers = Layer.mergeAll(
        Own.toLayer(handler, { concurrency: 1, circuitBreaker: breaker }),
        Shared.toLayer(handler, { concurrency: 1, circuitBreaker: { ...breaker, state: "shared" } })
      )
      const [a, b] = [
        yield* startNode({ workers, config: { nodeName: "a" } }),
        yield* startNode({ workers, config: { nodeName: "b", queues: {} } })
      ]
      assert.deepStrictEqual(yield* a.run(circuits), [
        { worker: "own", shared: false, state: "closed", since: undefined },
        { worker: "shared", shared: true, state: "closed", since: undefined }
      ])
      yield* a.run(Own.enqueueAll(numbers(5)))
      yield* a.run(Shared.enqueueAll(numbers(5)))
      const open = yield* eventually(a.run(circuits), (all) => all.every(({ state }) => state === "open"))
      assert.isDefined(open.find(({ shared }) => shared)?.since)
      const elsewhere = yield* b.run(circuits)
      assert.deepStrictEqual(
        elsewhere.map(({ state, worker }) => [worker, state]),
        [
          ["own", "closed"],
          ["shared", "open"]
        ]
      )
      const rows = yield* eventually(tally, (states) => states["discarded"] === 4)
      assert.deepStrictEqual(rows, { discarded: 4, available: 6 })
      down = false
      assert.isFalse(yield* a.run(close("nobody")))
      // Whichever node closes it, it is closed for all.
      assert.isTrue(yield* b.run(close("shared")))
      yield* b.event("CircuitClosed")
      yield* eventually(tally, (states) => states["completed"] === 3)
      assert.isTrue(yield* a.run(close("own")))
      yield* a.event("CircuitClosed")
      yield* eventually(tally, (states) => states["completed"] === 6)
      assert.isTrue((yield* a.run(circuits)).every(({ state }) => state === "closed"))
    })
  )

  onDatabase("is counted and measured: circuits, what was turned away, full nodes, numbers that find themselves", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      const node = yield* startNode({
        workers: Layer.mergeAll(
          Own.toLayer(() => Effect.fail(new Down()), { circuitBreaker: { window: 1, openFor: "1 hour" } }),
          Shared.toLayer(() => Deferred.await(gate), { concurrency: { initial: 9, max: 9 } })
        ),
        config: {
          metrics: true,
          queues: { default: 10, other: { concurrency: { initial: 4 } } },
          shedding: { maxInFlight: 6, levels: [{ below: 0, share: 0.5 }] }
        }
      })
      yield* node.run(Own.enqueueAll(numbers(4)))
      yield* eventually(tally, (states) => states["available"] === 3)
      yield* node.run(Shared.enqueueAll(numbers(12)))
      yield* eventually(tally, (states) => states["executing"] === 6)
      const labels = { worker: "own", queue: "default" }
      yield* eventually(
        Effect.map(PrometheusMetrics.format(), parse),
        (found) =>
          valueOf(found, "shigoto_circuits_opened_total", { worker: "own" }) === 1 &&
          valueOf(found, "shigoto_deferred_total", { ...labels, by: "circuit" }) === 2 &&
          (valueOf(found, "shigoto_bulkhead_full_total") ?? 0) >= 1 &&
          (valueOf(found, "shigoto_load_shed_total", { by: "attempts" }) ?? 0) >= 1 &&
          valueOf(found, "shigoto_worker_concurrency", { worker: "shared" }) === 9 &&
          valueOf(found, "shigoto_queue_concurrency", { queue: "other" }) === 4
      )
      yield* Deferred.succeed(gate, undefined)
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))
  )

  onDatabase("turns away what was claimed as its circuit opened: no attempt, no failure, its old place", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      let down = true
      const started: Array<number> = []
      const node = yield* startNode({
        workers: Own.toLayer(
          ({ n }) =>
            Effect.suspend(() => {
              started.push(n)
              return down ? Effect.fail(new Down()) : Effect.void
            }),
          { circuitBreaker: { window: 1, openFor: "1 hour" } }
        ),
        config: { queues: { default: 20 } }
      })
      const before = yield* node.run(Own.enqueueAll(numbers(8), (_, n) => ({ priority: n === 7 ? 3 : 0 })))
      yield* node.event("CircuitOpened")
      yield* eventually(tally, (states) => states["available"] === 7)
      const deferred = node.events.filter(({ _tag }) => _tag === "Deferred")
      assert.strictEqual(deferred.length, 7)
      assert.deepInclude(deferred[0], { worker: "own", queue: "default", by: "circuit" })
      assert.isFalse(node.events.some(({ _tag }) => _tag === "Released"))
      const rows = yield* sql`
        SELECT (attempt, snoozes, errors) IS NOT DISTINCT FROM (0::smallint, NULL::smallint, NULL::jsonb) AS untouched,
          run_at = inserted_at AS in_place, claimed_by
        FROM shigoto.jobs
        WHERE state = 'available'`
      for (const row of rows) assert.deepStrictEqual(row, { untouched: true, in_place: true, claimed_by: null })
      down = false
      yield* node.run(close("own"))
      for (const { id } of before.slice(0, 7)) yield* reaches(node, id, "completed", "discarded")
      // The first was the one of high priority; then the others, in the order that they were put in.
      assert.deepStrictEqual(started, [7, 0, 1, 2, 3, 4, 5, 6])
    })
  )
})
