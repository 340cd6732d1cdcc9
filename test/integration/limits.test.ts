import { PgClient } from "@effect/sql-pg/PgClient"
import { assert, describe } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import * as Job from "../../src/Job.ts"
import * as JobStore from "../../src/JobStore.ts"
import * as Limit from "../../src/Limit.ts"
import { Limits } from "../../src/Limits.ts"
import type { Governed } from "../../src/internal/sql/limit.ts"
import * as ShigotoConfig from "../../src/ShigotoConfig.ts"
import { eventually } from "../setup/eventually.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"
import { Work } from "./fixtures/jobs.ts"
import { diary, makeDiary, onDatabase, reaches, startNode, startProcess, tally } from "./support.ts"

const Other = Job.make("other")
const Api = Job.make("api")
const concurrent = (concurrency: number, worker = "work"): Governed => ({ worker, concurrency, rate: undefined })
const rated = (options: Limit.Options, worker = "work", name = "api"): Governed => ({
  worker,
  concurrency: undefined,
  rate: Limit.make(name, options)
})

/** A store on a connection of its own, with a lease, for claims without anybody who runs them. */
const bareStore = Effect.gen(function* () {
  const database = yield* TestDatabase
  const client = yield* database.makeClient({ maxConnections: 1 })
  const store = yield* JobStore.make.pipe(
    Effect.provideService(PgClient, client),
    Effect.provide(ShigotoConfig.layer({ queryTimeout: "30 seconds" }))
  )
  const node = yield* store.register({ name: "bare", ttlMillis: 600_000 })
  const [row] = yield* client<{ readonly pid: number }>`SELECT pg_backend_pid() AS pid`
  const claim = (governed: ReadonlyArray<Governed>, limit = 100, names = governed.map(({ worker }) => worker)) =>
    store.limits.claim(
      { node, nodeName: "bare", queue: "default", limit, workers: names.map((name) => ({ name, room: limit })) },
      governed
    )
  return { client, store, claim, pid: row?.pid ?? 0 }
})

const enqueue = Effect.fnUntraced(function* (worker: string, count: number) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`SELECT shigoto.enqueue(${worker}, '{"does": "succeed"}') FROM generate_series(1, ${count}::integer)`
})

describe("a claim under limits", () => {
  for (const isolation of [undefined, "repeatable read", "serializable"] as const) {
    onDatabase(
      `sees what the one before it did, where the database's default is ${isolation ?? "read committed"}`,
      () =>
        Effect.gen(function* () {
          for (const governed of [concurrent(5), rated({ limit: 5, window: "1 hour" })]) {
            const sql = yield* SqlClient.SqlClient
            yield* sql`DELETE FROM shigoto.jobs`
            yield* enqueue("work", 20)
            const [a, b] = [yield* bareStore, yield* bareStore]
            // The limit's row is there: else the second would wait for its insert, lock or no lock.
            yield* a.claim([governed], 0)
            const claimed = Latch.makeUnsafe(false)
            const commit = Latch.makeUnsafe(false)
            const first = yield* a.client
              .withTransaction(
                Effect.gen(function* () {
                  const { jobs } = yield* a.claim([governed], 3)
                  claimed.openUnsafe()
                  yield* commit.await
                  return jobs.length
                })
              )
              .pipe(Effect.forkScoped)
            yield* claimed.await
            const second = yield* Effect.forkScoped(b.claim([governed]), { startImmediately: true })
            yield* eventually(
              sql<{ readonly waits: boolean }>`SELECT cardinality(pg_blocking_pids(${b.pid}::integer)) > 0 AS waits`,
              ([seen]) => seen?.waits === true
            )
            commit.openUnsafe()
            assert.strictEqual(yield* Fiber.join(first), 3)
            const { held, jobs } = yield* Fiber.join(second)
            assert.strictEqual(jobs.length, 2)
            assert.strictEqual(held[0]?.why, governed.rate === undefined ? "concurrency" : "rate")
            assert.strictEqual((yield* a.claim([governed])).jobs.length, 0)
          }
        }),
      { ...(isolation !== undefined && { isolation }) }
    )
  }

  onDatabase("hides nothing behind a limit, and costs what it holds back neither attempt nor place", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* enqueue("work", 300)
      yield* enqueue("other", 2)
      const { claim } = yield* bareStore
      const governed = [concurrent(1)]
      const first = yield* claim(governed, 10, ["work", "other"])
      assert.deepStrictEqual(
        first.jobs.map((job) => job.worker),
        ["work"]
      )
      const { held, jobs } = yield* claim(governed, 10, ["work", "other"])
      assert.deepStrictEqual(
        jobs.map((job) => job.worker),
        ["other", "other"]
      )
      assert.deepStrictEqual(held, [{ worker: "work", why: "concurrency", limit: "work", freesInMillis: undefined }])
      const rows = yield* sql`SELECT FROM shigoto.jobs WHERE state = 'available' AND attempt = 0 AND epoch = 0`
      assert.strictEqual(rows.length, 299)
    })
  )

  onDatabase("shares units among workers, each at its own cost, in the order of the queue", () =>
    Effect.gen(function* () {
      const { claim } = yield* bareStore
      const rate = { limit: 10, window: "1 hour" } as const
      const governed = [rated({ ...rate, cost: 4 }, "big"), rated({ ...rate, cost: 1 }, "small")]
      yield* enqueue("small", 1)
      yield* enqueue("big", 3)
      yield* enqueue("small", 5)
      const { held, jobs } = yield* claim(governed)
      assert.deepStrictEqual(
        jobs.map((job) => job.worker),
        ["small", "big", "big"]
      )
      assert.deepStrictEqual(
        held.map(({ limit, worker }) => [worker, limit]),
        [["big", "api"]]
      )
      const next = yield* claim([governed[1] as Governed])
      assert.strictEqual(next.jobs.length, 1)
    })
  )

  onDatabase("forgets accounts that say nothing any more, and no others", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { claim, store } = yield* bareStore
      yield* enqueue("work", 2)
      yield* enqueue("other", 2)
      yield* claim([
        rated({ limit: 5, window: "1 hour" }, "work", "long"),
        rated({ limit: 5, window: 10 }, "other", "short")
      ])
      yield* sql`UPDATE shigoto.limits SET idle_at = idle_at - interval '2 minutes'`
      yield* store.limits.prune
      const rows = yield* sql<{ readonly name: string }>`SELECT name FROM shigoto.limits`
      assert.deepStrictEqual(
        rows.map(({ name }) => name),
        ["rate:long"]
      )
    })
  )
})

describe("over processes", () => {
  onDatabase(
    "a rate is kept in every sliding window of the database's clock",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* makeDiary
        const producer = yield* startNode()
        yield* producer.run(Work.enqueueAll(Array.from({ length: 250 }, () => ({ does: "succeed" as const }))))
        const limits = { rateLimit: { limit: 50, window: "1 second" } } as const
        yield* Effect.forEach([1, 2, 3, 4], () => startProcess({ limits }), { concurrency: 4 })
        yield* eventually(tally, (counts) => counts.completed === 250)
        const [most] = yield* sql<{ readonly most: number }>`
          SELECT max(inside)::integer AS most
          FROM (
            SELECT count(*) OVER (
              ORDER BY claimed_at RANGE BETWEEN CURRENT ROW AND interval '999 milliseconds' FOLLOWING
            ) AS inside
            FROM shigoto.all_jobs
          ) AS windows`
        assert.isAtMost(most?.most ?? Infinity, 50)
        const [times] = yield* sql<{ readonly rate: number }>`
          SELECT (200 / extract(epoch FROM max(claimed_at) - min(claimed_at)))::float8 AS rate FROM shigoto.all_jobs`
        if (process.env["MEASURE"] !== undefined) yield* Effect.log(`${times?.rate} per second of 50`)
      }),
    { timeout: 120_000 }
  )

  onDatabase(
    "a concurrency is never exceeded, and reached again after a kill",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* makeDiary
        const producer = yield* startNode()
        const limits = { globalConcurrency: 3 }
        const processes = yield* Effect.forEach([1, 2, 3, 4, 5, 6], () => startProcess({ limits }), { concurrency: 6 })
        yield* producer.run(
          Work.enqueueAll(Array.from({ length: 600 }, () => ({ does: "linger" as const, millis: 10 })))
        )
        yield* eventually(tally, (counts) => counts.completed === 600)
        let running = 0
        let most = 0
        for (const { what } of yield* diary) {
          running += what === "start" ? 1 : -1
          most = Math.max(most, running)
        }
        assert.strictEqual(most, 3)
        const [times] = yield* sql<{ readonly millis: number }>`
          SELECT (extract(epoch FROM max(at) - min(at)) * 1000)::float8 AS millis FROM diary`
        if (process.env["MEASURE"] !== undefined) yield* Effect.log(`600 jobs of 10 ms, 3 at once: ${times?.millis} ms`)

        yield* producer.run(
          Work.enqueueAll(Array.from({ length: 6 }, () => ({ does: "linger" as const, millis: 600_000 })))
        )
        const holders = sql<{ readonly pid: number }>`
          SELECT DISTINCT pid FROM diary WHERE what = 'start' AND seq > 1200`
        yield* eventually(tally, (counts) => counts.executing === 3)
        const [killed] = yield* eventually(holders, (rows) => rows.length > 0)
        processes.find(({ pid }) => pid === killed?.pid)?.child.kill("SIGKILL")
        yield* eventually(
          sql`SELECT FROM diary WHERE what = 'start' AND seq > 1200 AND pid <> ${killed?.pid ?? 0}`,
          (rows) => rows.length === 3
        )
        assert.strictEqual((yield* tally).executing, 3)
      }),
    { timeout: 120_000 }
  )
})

describe("a node", () => {
  onDatabase("tells once that a limit holds, starts again when it frees, and stops when a handler says so", () =>
    Effect.gen(function* () {
      const limit = Limit.make("api", { limit: 1000, window: "1 second" })
      const asked = yield* Deferred.make<void>()
      const ApiLive = Api.toLayer(
        () =>
          Effect.gen(function* () {
            const limits = yield* Limits
            yield* limits.backOff(limit, "1 hour")
            yield* Deferred.succeed(asked, undefined)
          }).pipe(Effect.orDie),
        { rateLimit: limit }
      )
      const OtherLive = Other.toLayer(() => Effect.void, { rateLimit: limit })
      const node = yield* startNode({ workers: Layer.mergeAll(ApiLive, OtherLive) })
      const first = yield* node.run(Other.enqueue({}))
      yield* reaches(node, first.id, "completed")
      yield* node.run(Api.enqueue({}))
      yield* Deferred.await(asked)
      const held = yield* node.run(Other.enqueue({}))
      const event = yield* node.event("RateLimited")
      assert.deepInclude(event, { worker: event.worker, limit: "api" })
      assert.isAbove(event.freesInMillis, 3_000_000)
      assert.strictEqual((yield* node.jobs.get(held.id)).state, "available")
    })
  )
})
