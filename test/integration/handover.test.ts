/** Places of limited workers that go from one job to the next as it is settled. */
import { PgClient } from "@effect/sql-pg/PgClient"
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import type { Claimed } from "../../src/internal/sql/claimed.ts"
import type { Governed } from "../../src/internal/sql/limit.ts"
import * as Job from "../../src/Job.ts"
import * as JobStore from "../../src/JobStore.ts"
import type { Outcome } from "../../src/Outcome.ts"
import * as ShigotoConfig from "../../src/ShigotoConfig.ts"
import { eventually } from "../setup/eventually.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"
import { onDatabase, reaches, startNode, tally } from "./support.ts"

const three: Governed = { worker: "work", concurrency: 3, rate: undefined }
const completed: Outcome = { _tag: "Completed", result: undefined }

/** A store with a lease, for claims and settles without anybody who runs the jobs. */
const bareStore = Effect.gen(function* () {
  const database = yield* TestDatabase
  const client = yield* database.makeClient({ maxConnections: 1 })
  const store = yield* JobStore.make.pipe(
    Effect.provideService(PgClient, client),
    Effect.provide(ShigotoConfig.layer({ queryTimeout: "30 seconds" }))
  )
  const node = yield* store.register({ name: "bare", ttlMillis: 600_000 })
  const request = { node, nodeName: "bare", queue: "default" }
  const claim = Effect.map(
    store.limits.claim({ ...request, limit: 10, workers: [{ name: "work", room: 10 }] }, [three]),
    ({ jobs }) => jobs
  )
  const handOver = (
    jobs: ReadonlyArray<Pick<Claimed, "id" | "epoch">>,
    outcome: Outcome = completed,
    workers = ["other", "work"]
  ) =>
    store.limits.handOver(
      jobs.map(({ epoch, id }) => ({ id, epoch, outcome })),
      {
        worker: "work",
        concurrency: 3,
        request: { ...request, limit: jobs.length, workers: workers.map((name) => ({ name, room: jobs.length })) }
      }
    )
  return { store, claim, handOver }
})

const enqueue = Effect.fnUntraced(function* (worker: string, count: number, priority = 0) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    SELECT shigoto.enqueue(${worker}, '{}', priority => ${priority}::integer)
    FROM generate_series(1, ${count}::integer)`
})

const executing = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql<{ readonly count: number }>`
    SELECT count(*)::integer AS count FROM shigoto.jobs WHERE state = 'executing'`
).pipe(Effect.map(([row]) => row?.count))

describe("a place that is handed over", () => {
  for (const isolation of [undefined, "repeatable read", "serializable"] as const) {
    onDatabase(
      `goes to as many jobs as were settled, in their order, by default at ${isolation ?? "read committed"}`,
      () =>
        Effect.gen(function* () {
          const { claim, handOver } = yield* bareStore
          yield* enqueue("work", 10)
          const held = yield* claim
          const { jobs, verdicts } = yield* handOver(held.slice(0, 2))
          assert.deepStrictEqual(
            jobs.map(({ attempt, epoch, id, worker }) => [id - (held[2]?.id ?? 0), attempt, epoch, worker]),
            [
              [1, 1, 1, "work"],
              [2, 1, 1, "work"]
            ]
          )
          assert.deepStrictEqual(verdicts, [
            { _tag: "Accepted", state: "completed" },
            { _tag: "Accepted", state: "completed" }
          ])
          assert.strictEqual(yield* executing, 3)
          assert.deepStrictEqual(yield* claim, [])
          // A failed attempt leaves its place as well.
          const failure = {
            attempt: 1,
            at: new Date().toISOString(),
            node: "bare",
            tag: "E",
            message: "",
            fingerprint: ""
          }
          const failed = yield* handOver(jobs.slice(0, 1), { _tag: "Retryable", failure, delayMillis: 60_000 })
          assert.deepStrictEqual(failed.verdicts, [{ _tag: "Accepted", state: "retryable" }])
          assert.strictEqual(failed.jobs.length, 1)
          assert.strictEqual(yield* executing, 3)
        }),
      { ...(isolation !== undefined && { isolation }) }
    )
  }

  onDatabase("goes to nobody for an attempt that somebody else has taken, or that has ended before", () =>
    Effect.gen(function* () {
      const { claim, handOver } = yield* bareStore
      yield* enqueue("work", 10)
      const [first, ...others] = yield* claim
      assert.isDefined(first)
      const stale = yield* handOver([{ id: first?.id ?? (0 as never), epoch: 0 }])
      assert.deepStrictEqual([stale.jobs, stale.verdicts], [[], [{ _tag: "Lost" }]])
      assert.strictEqual((yield* handOver(others)).jobs.length, 2)
      const again = yield* handOver(others)
      assert.deepStrictEqual(again.jobs, [])
      assert.deepStrictEqual(
        again.verdicts.map(({ _tag }) => _tag),
        ["Accepted", "Accepted"]
      )
      assert.strictEqual(yield* executing, 3)
    })
  )

  onDatabase("is given up where the limit was lowered, and kept again once as few run as may", () =>
    Effect.gen(function* () {
      const { claim, handOver, store } = yield* bareStore
      yield* enqueue("work", 10)
      const held = yield* claim
      yield* store.limits.setPlaces("work", 1)
      assert.deepStrictEqual((yield* handOver(held.slice(0, 1))).jobs, [])
      assert.strictEqual(yield* executing, 2)
      // Of two that end together one is within the limit.
      const { jobs } = yield* handOver(held.slice(1))
      assert.strictEqual(jobs.length, 1)
      assert.strictEqual((yield* handOver(jobs)).jobs.length, 1)
      assert.strictEqual(yield* executing, 1)
    })
  )

  onDatabase("is left to a claim where the job of another worker comes first, or the queue is paused", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { claim, handOver, store } = yield* bareStore
      yield* enqueue("work", 10)
      const held = yield* claim
      yield* enqueue("other", 1, 1)
      assert.deepStrictEqual((yield* handOver(held.slice(0, 1))).jobs, [])
      // One that this node could not claim anyway is in nobody's way.
      assert.strictEqual((yield* handOver(held.slice(1, 2), completed, ["work"])).jobs.length, 1)
      yield* sql`DELETE FROM shigoto.jobs WHERE worker = 'other'`
      yield* store.changeQueue({ name: "default", node: "", paused: true })
      assert.deepStrictEqual((yield* handOver(held.slice(2, 3))).jobs, [])
      assert.strictEqual(yield* executing, 1)
    })
  )
})

const Limited = Job.make("limited")
const Other = Job.make("other")

describe("a node that hands places over", () => {
  onDatabase("starts what was enqueued in one queue while another with the same worker has a backlog", () =>
    Effect.gen(function* () {
      const node = yield* startNode({
        workers: Limited.toLayer(() => Effect.sleep("2 millis"), { globalConcurrency: 1 }),
        config: { queues: { default: 5, late: 5 } }
      })
      yield* node.run(Limited.enqueueAll(Array.from({ length: 4000 }, () => ({}))))
      yield* eventually(tally, (counts) => (counts.completed ?? 0) > 20)
      const { id } = yield* node.run(Limited.enqueue({}, { queue: "late" }))
      yield* reaches(node, id, "completed")
      assert.isAbove((yield* tally).available ?? 0, 0)
    })
  )

  onDatabase("lets a job of a higher priority have the slot, whatever its worker", () =>
    Effect.gen(function* () {
      const order: Array<string> = []
      const go = Latch.makeUnsafe(false)
      const node = yield* startNode({
        workers: Layer.mergeAll(
          Limited.toLayer(
            (_, { id }) =>
              Effect.andThen(
                go.await,
                Effect.sync(() => void order.push(`limited ${id}`))
              ),
            {
              globalConcurrency: 1
            }
          ),
          Other.toLayer(() => Effect.sync(() => void order.push("other")))
        ),
        config: { queues: { default: 1 } }
      })
      const limited = yield* node.run(Limited.enqueueAll(Array.from({ length: 5 }, () => ({}))))
      yield* eventually(tally, (counts) => counts.executing === 1)
      yield* node.run(Other.enqueue({}, { priority: 1 }))
      go.openUnsafe()
      yield* eventually(tally, (counts) => counts.completed === 6)
      assert.deepStrictEqual(order.slice(0, 2), [`limited ${limited[0]?.id}`, "other"])
      assert.deepStrictEqual(
        order.slice(2),
        limited.slice(1).map(({ id }) => `limited ${id}`)
      )
    })
  )

  onDatabase("gives back what it has claimed as it stops, and starts no job twice", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const starts = new Map<number, number>()
      const workers = Limited.toLayer(
        (_, { id }) => Effect.sync(() => void starts.set(id, (starts.get(id) ?? 0) + 1)),
        { globalConcurrency: 2 }
      )
      const node = yield* startNode({ workers })
      yield* node.run(Limited.enqueueAll(Array.from({ length: 1000 }, () => ({}))))
      yield* eventually(tally, (counts) => (counts.completed ?? 0) > 50)
      yield* node.stop
      const rows = yield* sql<{ readonly attempt: number; readonly state: string }>`
        SELECT state, attempt FROM shigoto.jobs`
      assert.isAbove(rows.length, 0)
      assert.deepStrictEqual([...new Set(rows.map(({ attempt, state }) => `${state} ${attempt}`))], ["available 0"])
      yield* startNode({ workers })
      yield* eventually(tally, (counts) => counts.completed === 1000)
      assert.deepStrictEqual([...new Set(starts.values())], [1])
    })
  )
})
