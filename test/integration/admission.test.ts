import { PgClient } from "@effect/sql-pg/PgClient"
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as CircuitBreaker from "../../src/CircuitBreaker.ts"
import type { Governed } from "../../src/internal/sql/limit.ts"
import * as Job from "../../src/Job.ts"
import * as JobStore from "../../src/JobStore.ts"
import * as Limit from "../../src/Limit.ts"
import * as ShigotoConfig from "../../src/ShigotoConfig.ts"
import { eventually } from "../setup/eventually.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"
import { onDatabase, startNode } from "./support.ts"

const Call = Job.make("call")

/** A store on a connection of its own, so that the last statement of it can be seen. */
const bareStore = Effect.gen(function* () {
  const database = yield* TestDatabase
  const client = yield* database.makeClient({ maxConnections: 1 })
  const store = yield* JobStore.make.pipe(
    Effect.provideService(PgClient, client),
    Effect.provide(ShigotoConfig.layer({ queryTimeout: "30 seconds" }))
  )
  const [row] = yield* client<{ readonly pid: number }>`SELECT pg_backend_pid() AS pid`
  return { client, store, pid: row?.pid ?? 0 }
})

describe("the order of admission", () => {
  onDatabase("is that of the guide: of all that refuse a job, the first is named, by explain and by the claim", () =>
    Effect.gen(function* () {
      const { client: sql, store } = yield* bareStore
      const node = yield* startNode({ config: { queues: {}, nodeName: "asks" } })
      const rate = Limit.make("api", { limit: 5, window: "1 hour", algorithm: "fixed-window" })
      const circuit = Result.getOrThrow(CircuitBreaker.check({ state: "shared", window: 1, openFor: "1 hour" }))
      const governed: Governed = { worker: "call", concurrency: 1, rate, circuit }
      const id = yield* store.register({ name: "runs", ttlMillis: 600_000 })
      const renew = (shedBelow: number | undefined) =>
        store.renew({
          id,
          workers: ["call"],
          queues: [{ name: "default", concurrency: 5 }],
          limits: [governed],
          broken: [],
          lagMillis: 0,
          listening: false,
          shedBelow
        })
      yield* sql`
        INSERT INTO shigoto.jobs (state, worker, queue, args, claimed_by, claimed_at, attempt, run_at, inserted_at)
        VALUES ('executing', 'call', 'default', '{}', ${id}::integer, now() - interval '1 minute', 1, now(), now())`
      const job = yield* node.run(Call.enqueue({}, { priority: -5 }))
      const first = Effect.map(node.jobs.explain(job.id), ({ reasons }) => reasons[0]?._tag)
      const claim = (floor?: number) =>
        Effect.map(
          store.limits.claim(
            { node: id, nodeName: "runs", queue: "default", limit: 5, floor, workers: [{ name: "call", room: 5 }] },
            [governed]
          ),
          ({ held, jobs }) => [jobs.length, held.map(({ why }) => why)]
        )
      // All refuse.
      yield* node.queues.pause("default")
      yield* renew(0)
      yield* store.limits.charge(rate, 5)
      yield* store.circuits.note({ worker: "call", rule: circuit }, { generation: 0, failed: true, slow: false })
      assert.strictEqual(yield* first, "Paused")
      // One after the other admits.
      yield* node.queues.resume("default")
      assert.strictEqual(yield* first, "LoadShed")
      yield* renew(undefined)
      assert.strictEqual(yield* first, "RateLimited")
      assert.deepStrictEqual(yield* claim(), [0, ["rate"]])
      yield* store.limits.charge(rate, -5)
      assert.strictEqual(yield* first, "ConcurrencyLimited")
      assert.deepStrictEqual(yield* claim(), [0, ["concurrency"]])
      yield* sql`DELETE FROM shigoto.jobs WHERE state = 'executing'`
      assert.strictEqual(yield* first, "CircuitOpen")
      assert.deepStrictEqual(yield* claim(), [0, ["circuit"]])
      // What a later one refuses takes nothing from those before.
      yield* store.circuits.close("call")
      assert.strictEqual(yield* first, undefined)
      assert.deepStrictEqual(yield* claim(0), [0, []])
      const [untouched] = yield* sql`SELECT attempt, epoch, state FROM shigoto.jobs`
      assert.deepStrictEqual(untouched, { attempt: 0, epoch: 0, state: "available" })
      assert.strictEqual((yield* claim())[0], 1)
      const [account] = yield* sql<{ readonly spent: number }>`
        SELECT (account -> 0 ->> 1)::float8 AS spent FROM shigoto.limits WHERE name = 'rate:api'`
      assert.strictEqual(account?.spent, 1)
    })
  )

  onDatabase("costs nothing where none of it is used: a claim and a settle are one statement each, as ever", () =>
    Effect.gen(function* () {
      const { client: sql, pid, store } = yield* bareStore
      const node = yield* startNode({ config: { queues: {} } })
      yield* node.run(Call.enqueue({}))
      const id = yield* store.register({ name: "runs", ttlMillis: 600_000 })
      const other = yield* (yield* TestDatabase).makeClient({ maxConnections: 1 })
      const last = Effect.map(
        other<{ readonly query: string }>`SELECT query FROM pg_stat_activity WHERE pid = ${pid}::integer`,
        ([row]) => row?.query ?? ""
      )
      const [claimed] = yield* store.claim({
        node: id,
        nodeName: "runs",
        queue: "default",
        limit: 5,
        workers: [{ name: "call", room: Infinity }]
      })
      const claim = yield* eventually(last, (query) => query.includes("candidate"))
      // A transaction would have ended with its COMMIT.
      assert.match(claim, /^\s*WITH candidate AS MATERIALIZED/)
      assert.notMatch(claim, /rank <=|cells|limits/)
      assert.isDefined(claimed)
      assert.isUndefined(claimed.passage)
      yield* store.settle([{ id: claimed.id, epoch: claimed.epoch, outcome: { _tag: "Completed", result: undefined } }])
      const settle = yield* eventually(last, (query) => query.includes("outcome"))
      assert.match(settle, /^\s*WITH outcome AS \(/)
      const touched = yield* sql`SELECT FROM shigoto.cells UNION ALL SELECT FROM shigoto.limits`
      assert.strictEqual(touched.length, 0)
    })
  )
})
