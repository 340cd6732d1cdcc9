import { PgClient } from "@effect/sql-pg/PgClient"
import { assert, describe } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Job from "../../src/Job.ts"
import * as JobStore from "../../src/JobStore.ts"
import * as Limit from "../../src/Limit.ts"
import { Limits } from "../../src/Limits.ts"
import { algorithms } from "../../src/internal/rate.ts"
import type { Governed } from "../../src/internal/sql/limit.ts"
import * as Shigoto from "../../src/Shigoto.ts"
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

/** Integers below a bound, the same ones each time. */
const pseudo = (seed: number) => {
  let state = seed
  return (below: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

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
  const claim = (
    governed: ReadonlyArray<Governed>,
    limit = 100,
    names = governed.map(({ worker }) => worker),
    queueRate?: Limit.Limit
  ) =>
    store.limits.claim(
      { node, nodeName: "bare", queue: "default", limit, workers: names.map((name) => ({ name, room: limit })) },
      governed,
      undefined,
      queueRate
    )
  return { client, store, node, claim, pid: row?.pid ?? 0 }
})

const enqueue = Effect.fnUntraced(function* (worker: string, count: number, key: string | null = null) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    SELECT shigoto.enqueue(${worker}, '{"does": "succeed"}', partition_key => ${key})
    FROM generate_series(1, ${count}::integer)`
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
      const places = { running: 1, limit: 1 }
      assert.deepStrictEqual(held, [
        { worker: "work", why: "concurrency", limit: "work", freesInMillis: undefined, places }
      ])
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
      // One unit is left, which the next big one needs: the small ones behind it do not take it away.
      assert.deepStrictEqual(
        held.map(({ limit, worker }) => [worker, limit]),
        [
          ["big", "api"],
          ["small", "api"]
        ]
      )
      const next = yield* claim([governed[1] as Governed])
      assert.strictEqual(next.jobs.length, 1)
    })
  )

  onDatabase("keeps an account for each partition key, and hides no key behind another", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { claim, store } = yield* bareStore
      const governed = rated({ limit: 3, window: "1 hour", perKey: true })
      yield* enqueue("work", 1000, "a")
      yield* enqueue("work", 2, "b")
      yield* enqueue("work", 5)
      yield* enqueue("other", 1)
      const starts = (limit: number) =>
        Effect.map(claim([governed], limit, ["work", "other"]), ({ jobs }) =>
          jobs.map((job) => job.partitionKey ?? job.worker)
        )
      // Also where its first candidates are all of one key.
      assert.deepStrictEqual(yield* starts(5), ["a", "a", "a", "b", "b"])
      assert.deepStrictEqual(yield* starts(100), ["work", "work", "work", "other"])
      assert.deepStrictEqual(yield* starts(100), [])
      yield* enqueue("work", 2, "b")
      const { held, jobs } = yield* claim([governed])
      assert.deepStrictEqual(
        jobs.map((job) => job.partitionKey),
        ["b"]
      )
      assert.strictEqual(held[0]?.limit, "api")
      assert.isDefined(held[0]?.only)
      const rows = yield* sql`SELECT FROM shigoto.jobs WHERE partition_key = 'a' AND attempt = 0 AND epoch = 0`
      assert.strictEqual(rows.length, 997)
      // What is given back or held is that of the key alone.
      const rate = governed.rate as Limit.Limit
      yield* store.limits.charge(rate, -2, "a")
      assert.deepStrictEqual(yield* starts(100), ["a", "a"])
      yield* store.limits.charge(rate, -3, "a")
      yield* store.limits.backOff(rate, 3_600_000, "a")
      yield* store.limits.charge(rate, -3, "b")
      assert.deepStrictEqual(yield* starts(100), ["b"])
      yield* enqueue("work", 2, "b")
      yield* store.limits.backOff(rate, 3_600_000)
      assert.deepStrictEqual(yield* starts(100), [])
    })
  )

  onDatabase("keeps the rate of a queue beside those of its workers, and both", () =>
    Effect.gen(function* () {
      const { claim } = yield* bareStore
      const ofQueue = Limit.make("queue default", { limit: 4, window: "1 hour" })
      const governed = rated({ limit: 2, window: "1 hour" })
      yield* enqueue("work", 10)
      yield* enqueue("other", 10)
      const first = yield* claim([governed], 100, ["work", "other"], ofQueue)
      assert.deepStrictEqual(
        first.jobs.map((job) => job.worker),
        ["work", "work", "other", "other"]
      )
      const { held, jobs } = yield* claim([governed], 100, ["work", "other"], ofQueue)
      assert.strictEqual(jobs.length, 0)
      assert.deepStrictEqual(
        held.map(({ limit, only, worker }) => [worker, limit, only]),
        [
          ["work", "api", undefined],
          ["other", "queue default", "queue"]
        ]
      )
    })
  )

  onDatabase("takes what each job costs by its args, in order, and hides nothing behind one that has to wait", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { claim } = yield* bareStore
      const governed: Governed = {
        ...rated({ limit: 10, window: "1 hour", cost: () => 1 }),
        costOf: (args) => Effect.succeed((args as { readonly pages: number }).pages)
      }
      const pages = [4, 5, 2, 1, 1]
      yield* sql`
        SELECT shigoto.enqueue('work', jsonb_build_object('pages', pages))
        FROM unnest(${pages}::integer[]) WITH ORDINALITY AS given (pages, place)
        ORDER BY place`
      yield* enqueue("other", 1)
      const first = yield* claim([governed], 3, ["work", "other"])
      assert.deepStrictEqual(
        first.jobs.map((job) => (job.worker === "other" ? "other" : (job.args as { pages: number }).pages)),
        [4, 5, "other"]
      )
      assert.deepStrictEqual(
        first.held.map(({ limit, why }) => [limit, why]),
        [["api", "rate"]]
      )
      // One unit is left, and the job of two is first.
      assert.deepStrictEqual((yield* claim([governed])).jobs, [])
    })
  )

  onDatabase("holds what is set at run time in place of what the code says, and what was spent counts on", () =>
    Effect.gen(function* () {
      const { claim, store } = yield* bareStore
      for (const perKey of [false, true]) {
        const name = perKey ? "keyed" : "whole"
        const key = perKey ? "a" : null
        const governed = rated({ limit: 2, window: "1 hour", perKey }, name, name)
        const rate = governed.rate as Limit.Limit
        const to = (limit: number) => Limit.make(name, { limit, window: "1 hour" }).rule
        yield* enqueue(name, 100, key)
        const starts = Effect.map(claim([governed]), ({ jobs }) => jobs.length)
        assert.strictEqual(yield* starts, 2)
        yield* store.limits.change(rate, "", to(5))
        assert.strictEqual(yield* starts, 3)
        yield* store.limits.change(
          rate,
          "",
          Limit.make(name, { limit: 6, window: "1 hour", algorithm: "gcra", burst: 6 }).rule
        )
        assert.strictEqual(yield* starts, 1)
        if (perKey) {
          yield* store.limits.change(rate, "a", to(10))
          assert.strictEqual(yield* starts, 4)
          yield* store.limits.change(rate, "a", undefined)
        }
        yield* store.limits.change(rate, "", undefined)
        assert.strictEqual(yield* starts, 0)
        yield* store.limits.charge(rate, perKey ? -9 : -5, key ?? "")
        assert.strictEqual(yield* starts, 1)
      }
      yield* enqueue("work", 20)
      const places = Effect.map(claim([concurrent(2)]), ({ jobs }) => jobs.length)
      assert.strictEqual(yield* places, 2)
      yield* store.limits.setPlaces("work", 5)
      assert.strictEqual(yield* places, 3)
      yield* store.limits.setPlaces("work", undefined)
      assert.strictEqual(yield* places, 0)
    })
  )

  onDatabase("keeps a local rate for each node, by itself, under what is set for all at run time", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const [a, b] = [yield* bareStore, yield* bareStore]
      for (const perKey of [false, true]) {
        const name = perKey ? "keyed" : "whole"
        const key = perKey ? "a" : null
        const governed = rated({ limit: 2, window: "1 hour", local: true, perKey }, name, name)
        const rate = governed.rate as Limit.Limit
        yield* enqueue(name, 100, key)
        const starts = (of: typeof a) => Effect.map(of.claim([governed]), ({ jobs }) => jobs.length)
        assert.deepStrictEqual([yield* starts(a), yield* starts(b), yield* starts(a)], [2, 2, 0])
        yield* a.store.limits.change(
          rate,
          "",
          Limit.make(name, { limit: 5, window: "1 hour", algorithm: "gcra", burst: 5 }).rule
        )
        assert.deepStrictEqual([yield* starts(a), yield* starts(b), yield* starts(b)], [3, 3, 0])
        const late = yield* bareStore
        assert.strictEqual(yield* starts(late), 5)
        yield* b.store.limits.charge(rate, -2, key ?? "")
        assert.deepStrictEqual([yield* starts(a), yield* starts(b)], [0, 2])
        yield* a.store.limits.charge(rate, -2, key ?? "")
        yield* a.store.limits.backOff(rate, 3_600_000, key ?? "")
        yield* b.store.limits.charge(rate, -1, key ?? "")
        assert.deepStrictEqual([yield* starts(a), yield* starts(b)], [0, 1])
        yield* a.store.limits.change(rate, "", undefined)
        yield* b.store.limits.charge(rate, -5, key ?? "")
        assert.deepStrictEqual([yield* starts(a), yield* starts(b)], [0, 2])
      }
      const shared = rated({ limit: 2, window: "1 hour" }, "whole", "whole")
      assert.strictEqual((yield* a.claim([shared])).jobs.length, 2)
      // Those of nodes that are gone say nothing any more, after their window.
      yield* sql`UPDATE shigoto.limits SET idle_at = idle_at - interval '2 hours', held_until = NULL`
      yield* a.store.limits.prune
      assert.deepStrictEqual(yield* sql`SELECT FROM shigoto.limits`, [])
    })
  )

  onDatabase("is left aside up to the first job that it is about", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { node, store } = yield* bareStore
      const scout = Effect.fnUntraced(function* (limit: number, room = limit) {
        const { jobs, stopped } = yield* store.limits.scout(
          {
            node,
            nodeName: "bare",
            queue: "default",
            limit,
            workers: [
              { name: "work", room },
              { name: "other", room }
            ]
          },
          ["work"]
        )
        return [jobs.map((job) => job.worker).join(), stopped]
      })
      assert.deepStrictEqual(yield* scout(10), ["", false])
      yield* enqueue("other", 4)
      yield* enqueue("work", 2)
      yield* enqueue("other", 1)
      assert.deepStrictEqual(yield* scout(1), ["other", false])
      assert.deepStrictEqual(yield* scout(10, 1), ["other", true])
      assert.deepStrictEqual(yield* scout(10), ["other,other", true])
      assert.deepStrictEqual(yield* scout(10), ["", true])
      assert.strictEqual((yield* sql`SELECT FROM shigoto.jobs WHERE worker = 'work' AND epoch = 0`).length, 2)
      assert.strictEqual((yield* sql`SELECT FROM shigoto.limits`).length, 0)
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

/** A rate said plainly, from what was granted when; the account of one partition key. */
const plainRate = ({ algorithm, burst, limit, windowMillis }: Limit.Limit["rule"]) => {
  const granted: Array<{ readonly at: number; readonly amount: number }> = []
  let tokens = burst
  let filledAt = 0
  const counts = (at: number, now: number): boolean => {
    if (algorithm === "fixed-window") return Math.floor(at / windowMillis) === Math.floor(now / windowMillis)
    const slot = windowMillis / 64
    return (Math.floor(at / slot) + 1) * slot + slot + windowMillis > now
  }
  return (now: number, amount: number): boolean => {
    if (algorithm === "sliding-window" || algorithm === "fixed-window") {
      const spent = granted.filter(({ at }) => counts(at, now)).reduce((sum, one) => sum + one.amount, 0)
      if (spent + amount > limit) return false
      granted.push({ at: now, amount })
      return true
    }
    tokens = Math.min(burst, tokens + ((now - filledAt) * limit) / windowMillis)
    filledAt = now
    if (tokens + 1e-6 < amount) return false
    tokens -= amount
    return true
  }
}

describe("in virtual time", () => {
  for (const algorithm of algorithms) {
    onDatabase(`${algorithm} starts the jobs of each key when the plain rate does`, () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        let now = Date.now() + 3_600_000
        const clock = yield* Clock.Clock
        // Only what time it is changes: methods of the clock live on its prototype.
        const virtual: Clock.Clock = Object.assign(Object.create(clock) as Clock.Clock, {
          currentTimeMillis: Effect.sync(() => now),
          currentTimeMillisUnsafe: () => now
        })
        const store = yield* Effect.provide(JobStore.make, ShigotoConfig.layer({ timeSource: "clock" }))
        const then = Effect.provideService(Clock.Clock, virtual)
        const node = yield* then(store.register({ name: "bare", ttlMillis: 86_400_000 }))
        const limit = Limit.make("api", {
          limit: 12,
          window: "64 seconds",
          algorithm,
          perKey: true,
          ...(algorithm === "gcra" && { burst: 4 })
        })
        const most = limit.rule.burst
        const governed: Governed = {
          ...rated({ limit: 1, window: 10 }),
          rate: limit,
          costOf: (args) => Effect.succeed((args as { readonly cost: number }).cost)
        }
        const keys = ["a", "b"]
        const models = new Map(keys.map((key) => [key, plainRate(limit.rule)]))
        const waiting = new Map(keys.map((key) => [key, [] as Array<number>]))
        const random = pseudo(algorithm.length)
        for (let step = 0; step < 40; step++) {
          now += random(20_000)
          const news = Array.from({ length: random(4) }, () => ({
            key: keys[random(2)] ?? "a",
            cost: Math.min(1 + random(3), most)
          }))
          yield* sql`
            SELECT shigoto.enqueue('work', jsonb_build_object('cost', cost), partition_key => key)
            FROM unnest(
              ${news.map(({ key }) => key)}::text[],
              ${news.map(({ cost }) => cost)}::integer[]
            ) WITH ORDINALITY AS given (key, cost, place)
            ORDER BY place`
          for (const { cost, key } of news) waiting.get(key)?.push(cost)
          const { jobs } = yield* then(
            store.limits.claim(
              { node, nodeName: "bare", queue: "default", limit: 100, workers: [{ name: "work", room: 100 }] },
              [governed]
            )
          )
          for (const key of keys) {
            const queue = waiting.get(key) ?? []
            const model = models.get(key)
            const expected: Array<number> = []
            while (queue[0] !== undefined && model?.(now, queue[0]) === true) expected.push(queue.shift() ?? 0)
            const started = jobs.filter((job) => job.partitionKey === key)
            assert.deepStrictEqual(
              started.map((job) => (job.args as { readonly cost: number }).cost),
              expected,
              `${key} at step ${step}`
            )
          }
        }
      })
    )
  }
})

describe("over processes", () => {
  onDatabase("a rate by key is kept for each, and a change at run time reaches all of them", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* makeDiary
      const operator = yield* startNode()
      const options: Limit.Options = { limit: 1, window: "1 hour", perKey: true }
      yield* Effect.forEach([1, 2, 3, 4], () => startProcess({ limits: { rateLimit: options } }), { concurrency: 4 })
      const keys = ["a", "b", "c"]
      yield* operator.run(
        Work.enqueueAll(
          Array.from({ length: 120 }, () => ({ does: "succeed" as const })),
          (_, i) => ({ partitionKey: keys[i % 3] })
        )
      )
      yield* eventually(tally, (counts) => counts.completed === 3)
      const change = (of: Limit.Options) =>
        operator.run(Effect.flatMap(Limits, (limits) => limits.change(Limit.make("work", options), of)))
      yield* change({ limit: 20, window: "1 second" })
      yield* eventually(tally, (counts) => counts.completed === 120)
      const [seen] = yield* sql<{ readonly most: number; readonly keys: number }>`
          SELECT max(inside)::integer AS most, count(DISTINCT partition_key)::integer AS keys
          FROM (
            SELECT partition_key, count(*) OVER (
              PARTITION BY partition_key
              ORDER BY claimed_at RANGE BETWEEN CURRENT ROW AND interval '999 milliseconds' FOLLOWING
            ) AS inside
            FROM shigoto.all_jobs
          ) AS windows`
      assert.isAtMost(seen?.most ?? Infinity, 20)
      assert.strictEqual(seen?.keys, 3)
      const attempts = yield* sql`SELECT FROM shigoto.all_jobs WHERE attempt <> 1`
      assert.strictEqual(attempts.length, 0)
    })
  )

  onDatabase("a rate is kept in every sliding window of the database's clock", () =>
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
    })
  )

  onDatabase("a concurrency is never exceeded, and reached again after a kill", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* makeDiary
      const producer = yield* startNode()
      // Nodes without a place ask as rarely as they do by default, and not at each other's cost.
      const settings = { limits: { globalConcurrency: 3 }, config: { pollInterval: "1 second" } } as const
      const processes = yield* Effect.forEach([1, 2, 3, 4, 5, 6], () => startProcess(settings), { concurrency: 6 })
      yield* producer.run(Work.enqueueAll(Array.from({ length: 600 }, () => ({ does: "linger" as const, millis: 10 }))))
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
    })
  )
})

describe("a node", () => {
  for (const [what, concurrency, config] of [
    ["a concurrency over all nodes", { globalConcurrency: 2 }, {}],
    ["a key's concurrency", {}, { queues: { default: { concurrency: 10, partitionConcurrency: 2 } } }]
  ] as const) {
    onDatabase(`claims again as soon as a place of ${what} is free, whatever was under way as it became so`, () =>
      Effect.gen(function* () {
        // Nothing else would wake it before the test is over.
        const slow = { pollInterval: "10 minutes", idlePollInterval: "10 minutes", leaseTtl: "1 hour" } as const
        const node = yield* startNode({
          workers: Other.toLayer(() => Effect.void, concurrency),
          config: { ...slow, ...config }
        })
        yield* node.run(
          Other.enqueueAll(
            Array.from({ length: 300 }, () => ({})),
            { partitionKey: "one" }
          )
        )
        yield* eventually(tally, (counts) => counts.completed === 300)
      })
    )
  }

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

  onDatabase("keeps rates by the key and the cost that a definition and its worker compute from the args", () =>
    Effect.gen(function* () {
      const Page = Job.make("page", {
        args: { site: Schema.String, weight: Schema.Int },
        partitionKey: ({ site }) => (site === "" ? undefined : site)
      })
      const limit = Limit.make("sites", {
        limit: 4,
        window: "1 hour",
        perKey: true,
        cost: ({ weight }: { readonly weight: number }) => weight
      })
      const held = yield* Deferred.make<void>()
      const PageLive = Page.toLayer(
        Effect.fnUntraced(function* ({ site }) {
          if (site !== "asks") return
          // Of the key of the job in hand.
          yield* Effect.orDie(Effect.flatMap(Limits, (limits) => limits.backOff(limit, "1 hour")))
          yield* Deferred.succeed(held, undefined)
        }),
        { rateLimit: limit }
      )
      const node = yield* startNode({ workers: PageLive })
      const stored = yield* node.run(
        Page.enqueueAll([
          { site: "a", weight: 3 },
          { site: "a", weight: 2 },
          { site: "", weight: 4 },
          { site: "b", weight: 4 },
          { site: "asks", weight: 1 }
        ])
      )
      yield* Effect.forEach([0, 2, 3, 4], (i) => reaches(node, stored[i]?.id as never, "completed"))
      yield* Deferred.await(held)
      const waits = stored[1]?.id as never
      const again = yield* node.run(Page.enqueue({ site: "asks", weight: 1 }))
      const last = yield* node.run(Page.enqueue({ site: "c", weight: 1 }))
      yield* reaches(node, last.id, "completed")
      assert.strictEqual((yield* node.jobs.get(again.id)).state, "available")
      const { reasons } = yield* node.jobs.explain(again.id)
      assert.deepInclude(reasons[0], { _tag: "RateLimited", limit: "sites", partitionKey: "asks" })
      const [standing] = yield* node.run(Effect.flatMap(Limits, ({ list }) => list))
      assert.deepStrictEqual(standing?.rate?.keys.map(({ partitionKey, room }) => [partitionKey, room]).toSorted(), [
        ["a", 1],
        ["asks", 3],
        ["b", 0],
        ["c", 3]
      ])
      // The one of two units is let through by a change, for its key alone.
      yield* node.run(
        Effect.flatMap(Limits, (limits) => limits.change(limit, { limit: 5, window: "1 hour" }, { partitionKey: "a" }))
      )
      yield* reaches(node, waits, "completed")
      assert.strictEqual((yield* node.jobs.get(again.id)).state, "available")
      const clash = yield* Effect.flip(node.run(Page.enqueue({ site: "\u0000", weight: 1 })))
      assert.strictEqual(clash._tag, "InvalidPartitionKey")
    })
  )

  onDatabase("has a rate of its own beside others, which is told, explained and charged as its own", () =>
    Effect.gen(function* () {
      const limit = Limit.make("each", { limit: 1, window: "1 hour", local: true })
      const workers = Api.toLayer(() => Effect.void, { rateLimit: limit })
      const nodes = [yield* startNode({ workers }), yield* startNode({ workers })] as const
      const jobs = yield* nodes[0].run(Api.enqueueAll([{}, {}, {}]))
      yield* eventually(tally, (counts) => counts.completed === 2)
      const waits = yield* eventually(
        Effect.forEach(jobs, ({ id }) => nodes[0].jobs.explain(id)),
        (all) => all.some(({ reasons }) => reasons.some(({ _tag }) => _tag === "RateLimited"))
      )
      const { message, status } = waits.find((one) => one.status !== "finished") ?? {}
      assert.strictEqual(status, "waiting")
      assert.match(message ?? "", /the rate "each" is spent, frees in/)
      const [standing] = yield* nodes[0].run(Effect.flatMap(Limits, ({ list }) => list))
      assert.deepInclude(standing?.rate, { name: "each", local: true, limit: 1, room: 0 })
      yield* nodes[1].run(Effect.flatMap(Limits, (limits) => limits.charge(limit, -1)))
      yield* eventually(tally, (counts) => counts.completed === 3)
      const database = yield* TestDatabase
      const producer = Shigoto.layerProducer.pipe(
        Layer.provide(ShigotoConfig.layer({})),
        Layer.provide(database.layerClient({ maxConnections: 2 }))
      )
      const refused = yield* Effect.flatMap(Limits, (limits) => limits.backOff(limit, "1 second")).pipe(
        Effect.provide(producer),
        Effect.flip
      )
      assert.strictEqual(refused._tag === "InvalidConfig" ? refused.field : refused._tag, "limit")
    })
  )

  onDatabase("takes over what another one changes at run time: rates of workers and queues, and concurrencies", () =>
    Effect.gen(function* () {
      const limit = Limit.make("api", { limit: 1, window: "1 hour" })
      const ofQueue = Limit.make("other queue", { limit: 1, window: "1 hour" })
      const go = Latch.makeUnsafe(false)
      const Places = Job.make("places")
      const workers = Layer.mergeAll(
        Api.toLayer(() => Effect.void, { rateLimit: limit }),
        Other.toLayer(() => Effect.void),
        Places.toLayer(() => go.await, { globalConcurrency: 1 })
      )
      const node = yield* startNode({
        workers,
        config: { queues: { default: 10, slow: { concurrency: 10, rateLimit: ofQueue } } }
      })
      const operator = yield* startNode({ config: { queues: { elsewhere: 1 } } })
      const limits = <A, E>(use: (limits: Limits["Service"]) => Effect.Effect<A, E>) =>
        operator.run(Effect.flatMap(Limits, use))
      const three = { args: [{}, {}, {}] }
      yield* operator.run(Api.enqueueAll(three.args))
      yield* operator.run(Other.enqueueAll(three.args, { queue: "slow" }))
      yield* operator.run(Places.enqueueAll(three.args))
      yield* eventually(tally, (counts) => counts.completed === 2 && counts.executing === 1)
      const heard = (tag: "RateLimited" | "ConcurrencyLimited", worker: string) =>
        eventually(
          Effect.sync(() => node.events),
          (events) => events.some((event) => event._tag === tag && event.worker === worker)
        )
      yield* heard("RateLimited", "api")
      yield* heard("RateLimited", "other")
      yield* heard("ConcurrencyLimited", "places")
      yield* limits(({ change }) => change(limit, { limit: 3, window: "1 hour" }))
      yield* eventually(tally, (counts) => counts.completed === 4)
      yield* limits(({ change }) => change(ofQueue, { limit: 3, window: "1 hour" }))
      yield* eventually(tally, (counts) => counts.completed === 6)
      yield* limits(({ changeConcurrency }) => changeConcurrency("places", 3))
      yield* eventually(tally, (counts) => counts.executing === 3)
      const list = yield* limits(({ list }) => list)
      assert.deepStrictEqual(
        list.map(({ concurrency, queue, rate, worker }) => [worker, queue, concurrency, rate?.limit, rate?.changed]),
        [
          ["", "slow", undefined, 3, true],
          ["api", undefined, undefined, 3, true],
          ["places", undefined, 3, undefined, undefined]
        ]
      )
      go.openUnsafe()
      yield* eventually(tally, (counts) => counts.completed === 9)
      for (const [field, refused] of [
        ["rateLimit.limit", limits(({ change }) => change(limit, { limit: 0, window: "1 hour" }))],
        ["partitionKey", limits(({ change }) => change(limit, undefined, { partitionKey: "a" }))],
        ["partitionKey", limits(({ charge }) => charge(limit, 1, { partitionKey: "a" }))],
        ["concurrency", limits(({ changeConcurrency }) => changeConcurrency("places", 0))]
      ] as const) {
        const error = yield* Effect.flip(refused)
        assert.strictEqual(error._tag === "InvalidConfig" ? error.field : error._tag, field)
      }
    })
  )

  onDatabase("leaves the locks of limits alone for queues that have nothing of limited workers", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const workers = Layer.mergeAll(
        Api.toLayer(() => Effect.void, { rateLimit: { limit: 1000, window: "1 second" } }),
        Other.toLayer(() => Effect.void)
      )
      const node = yield* startNode({ workers, config: { queues: { default: 5, slow: 5 } } })
      const first = yield* node.run(Api.enqueue({}))
      yield* reaches(node, first.id, "completed")
      const { waits } = yield* sql.withTransaction(
        Effect.gen(function* () {
          const rows = yield* sql`SELECT FROM shigoto.limits WHERE name = 'rate:api' FOR UPDATE`
          assert.strictEqual(rows.length, 1)
          const waits = yield* node.run(Api.enqueue({}))
          const others = yield* node.run(Other.enqueueAll([{}, {}, {}], { queue: "slow" }))
          yield* Effect.forEach(others, ({ id }) => reaches(node, id, "completed"))
          assert.strictEqual((yield* node.jobs.get(waits.id)).state, "available")
          return { waits }
        })
      )
      yield* reaches(node, waits.id, "completed")
    })
  )
})
