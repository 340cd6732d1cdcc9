/**
 * What happened when: every attempt counted once in minute, hour and day, whoever writes beside, and nothing at all
 * where nobody asked for it.
 */
import { assert, describe, it, layer } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import { type Group, History, type Point, type Span } from "../src/History.ts"
import { bounds, count, empty, percentile } from "../src/internal/buckets.ts"
import * as Job from "../src/Job.ts"
import * as JobStore from "../src/JobStore.ts"
import * as Pruner from "../src/Pruner.ts"
import * as ShigotoConfig from "../src/ShigotoConfig.ts"
import * as ShigotoTest from "../src/testing/ShigotoTest.ts"
import { TestDatabase } from "./setup/TestDatabase.ts"

const Work = Job.make("work", {
  args: { seconds: Schema.Number, fails: Schema.Number },
  error: Schema.String,
  queue: "mails",
  maxAttempts: 2
})
const Other = Job.make("other", { args: {}, queue: "default" })

const workers = Layer.mergeAll(
  Work.toLayer(({ fails, seconds }, job) =>
    Effect.andThen(Effect.sleep(seconds * 1000), job.attempt <= fails ? Effect.fail("no") : Effect.void)
  ),
  Other.toLayer(() => Effect.void)
)

const node = (history: boolean) =>
  workers.pipe(
    Layer.provideMerge(
      Layer.unwrap(
        Effect.map(TestDatabase, (database) =>
          ShigotoTest.layer({ queues: { default: 2, mails: 2 }, client: database.clientConfig, history })
        )
      )
    ),
    Layer.provide(TestDatabase.layer()),
    Layer.orDie
  )

const totals = (points: ReadonlyArray<Point>) => {
  const sum = (name: "completed" | "failed" | "discarded" | "cancelled" | "snoozed") =>
    points.reduce((total, point) => total + point[name], 0)
  return { completed: sum("completed"), failed: sum("failed"), discarded: sum("discarded") }
}

layer(node(true))("a node that records", (it) => {
  it.effect("tells what ended in every span, in total, by queue and by worker, and how long it took", () =>
    Effect.gen(function* () {
      const history = yield* History
      const read = (span: Span, options: { readonly queues?: ReadonlyArray<string>; readonly worker?: string } = {}) =>
        Effect.map(history.read({ span, ...options }), ({ points }) => points)
      assert.deepStrictEqual(totals(yield* read("1h")), { completed: 0, failed: 0, discarded: 0 })
      yield* Work.enqueue({ seconds: 3, fails: 0 })
      yield* Work.enqueue({ seconds: 3, fails: 1 })
      yield* Work.enqueue({ seconds: 3, fails: 2 })
      yield* Other.enqueueAll([{}, {}])
      yield* ShigotoTest.advance("10 minutes")
      const expected = { completed: 4, failed: 2, discarded: 1 }
      for (const span of ["1h", "6h", "24h", "7d", "90d"] as const) {
        assert.deepStrictEqual(totals(yield* read(span)), expected, span)
      }
      const mails = { completed: 2, failed: 2, discarded: 1 }
      assert.deepStrictEqual(totals(yield* read("1h", { queues: ["mails"] })), mails)
      assert.deepStrictEqual(totals(yield* read("7d", { worker: "work" })), mails)
      assert.deepStrictEqual(totals(yield* read("7d", { worker: "work", queues: ["default"] })), {
        completed: 0,
        failed: 0,
        discarded: 0
      })
      const [day] = yield* read("90d", { worker: "work" })
      // Attempts run by a clock that time stands still for; that they are counted is what is known of them.
      assert.isDefined(day?.run)
      assert.isDefined(day?.wait)
    })
  )

  it.effect("tells apart the queues and workers of which most ended, and adds the rest up", () =>
    Effect.gen(function* () {
      const history = yield* History
      const sql = yield* SqlClient.SqlClient
      yield* Work.enqueue({ seconds: 3, fails: 2 })
      yield* Other.enqueueAll([{}, {}])
      yield* ShigotoTest.advance("10 minutes")
      const ends = (groups: ReadonlyArray<Group>) =>
        groups.map(({ name, points }) => [
          name,
          points.reduce((sum, { completed }) => sum + completed, 0),
          points.reduce((sum, { failed }) => sum + failed, 0)
        ])
      const before = yield* history.readBy("queue", { span: "24h" })
      const [, defaults] = ends(before.groups)[0] ?? []
      const mails = ends(before.groups).find(([name]) => name === "mails")
      assert.deepStrictEqual(
        before.groups.map(({ name }) => name),
        ["default", "mails"]
      )
      assert.isAbove(Number(defaults), 1)
      assert.isAbove(Number(mails?.[2]), 1)
      const [worker] = (yield* history.readBy("worker", { span: "7d", queues: ["mails"] })).groups
      assert.strictEqual(worker?.name, "work")
      assert.isDefined(worker?.points[0]?.run)
      // Eight more, each with more ends than the one before.
      yield* sql`
        INSERT INTO shigoto.metrics
          (tier, at, queue, worker, completed, failed, discarded, cancelled, snoozed, run, wait)
        SELECT 'hour', m.at, 'busy-' || n, 'busy', 1000 * n, n, n, 0, 0, m.run, m.wait
        FROM generate_series(1, 8) AS n
        CROSS JOIN (SELECT * FROM shigoto.metrics WHERE tier = 'hour' AND worker = 'work' LIMIT 1) AS m`
      const after = yield* history.readBy("queue", { span: "7d" })
      const rest = ends(after.groups).at(-1)
      assert.deepStrictEqual(
        ends(after.groups).slice(0, -1),
        [3, 4, 5, 6, 7, 8].map((n) => [`busy-${n}`, 1000 * n, 2 * n])
      )
      assert.strictEqual(rest?.[0], undefined)
      assert.strictEqual(rest?.[1], 3000 + Number(defaults) + Number(mails?.[1]))
      yield* sql`DELETE FROM shigoto.metrics WHERE worker = 'busy'`
    })
  )

  it.effect("looks once a minute how much waits, also where it has no worker for it", () =>
    Effect.gen(function* () {
      const history = yield* History
      const { insert } = yield* JobStoreVerbs
      yield* insert("nobody", "lonely", 7)
      yield* ShigotoTest.advance("5 minutes")
      const { points } = yield* history.read({ span: "1h", queues: ["lonely"] })
      const depths = points.flatMap(({ depth }) => (depth === undefined ? [] : [depth]))
      assert.isAtLeast(depths.length, 4)
      assert.strictEqual(depths.at(-1)?.available, 7)
      assert.isAtLeast(depths.at(-1)?.oldestMillis ?? 0, 180_000)
      const all = yield* history.read({ span: "1h" })
      assert.strictEqual(all.points.at(-1)?.depth?.available, 7)
      const sql = yield* SqlClient.SqlClient
      const [doubled] = yield* sql<{ readonly at: Date }>`
        SELECT at FROM shigoto.depths GROUP BY at, queue HAVING count(*) > 1`
      assert.isUndefined(doubled)
    })
  )

  it.effect("refuses a span that there is not", () =>
    Effect.gen(function* () {
      const history = yield* History
      const error = yield* Effect.flip(history.read({ span: "2h" as Span })) // what plain JavaScript may send
      assert.strictEqual(error._tag, "InvalidFilter")
      assert.include(error.message, "24h")
    })
  )
})

/** Jobs that no code knows. */
const JobStoreVerbs = Effect.map(SqlClient.SqlClient, (sql) => ({
  insert: (worker: string, queue: string, jobs: number) =>
    Effect.gen(function* () {
      const now = DateTime.toDateUtc(yield* DateTime.now)
      yield* sql`
        INSERT INTO shigoto.jobs (worker, queue, state, args, max_attempts, run_at, inserted_at)
        SELECT ${worker}, ${queue}, 'available', '{}', 3, ${now}::timestamptz, ${now}::timestamptz
        FROM generate_series(1, ${jobs}::integer)`
    })
}))

layer(node(false))("a node that does not record", (it) => {
  it.effect("writes nothing", () =>
    Effect.gen(function* () {
      yield* Other.enqueueAll([{}, {}])
      yield* ShigotoTest.advance("10 minutes")
      const sql = yield* SqlClient.SqlClient
      const [row] = yield* sql<{ readonly rows: number }>`
        SELECT ((SELECT count(*) FROM shigoto.metrics) + (SELECT count(*) FROM shigoto.depths))::integer AS rows`
      assert.strictEqual(row?.rows, 0)
    })
  )
})

const StoreLive = Layer.mergeAll(JobStore.layer).pipe(
  Layer.provideMerge(ShigotoConfig.layer({ timeSource: "clock" })),
  Layer.provideMerge(TestDatabase.layer()),
  Layer.orDie
)

layer(StoreLive)("rows", (it) => {
  const increment = (queue: string, worker: string) => ({
    queue,
    worker,
    completed: 1,
    failed: 0,
    discarded: 0,
    cancelled: 0,
    snoozed: 0,
    run: [1, 0, 2],
    wait: [0, 1]
  })

  it.effect("add up, whoever writes at the same time and in which order", () =>
    Effect.gen(function* () {
      const { history } = yield* JobStore.JobStore
      const names = Array.from({ length: 20 }, (_, n) => increment(`q${n % 4}`, `w${n}`))
      const orders = [names, names.toReversed()]
      yield* Effect.forEach(
        Array.from({ length: 20 }, (_, n) => n),
        (n) => history.add(orders[n % 2] ?? []),
        { concurrency: 4 }
      )
      const page = { tier: "hour", spanMillis: 86_400_000, stepMillis: 3_600_000, queues: undefined } as const
      const { points } = yield* history.read({ ...page, worker: "w3" })
      assert.strictEqual(points.length, 1)
      assert.deepInclude(points[0], { completed: 20, run: [20, 0, 40], wait: [0, 20, 0] })
      const many = yield* history.read({ ...page, queues: ["q1", "q2"], worker: undefined })
      assert.strictEqual(many.points[0]?.completed, 200)
    })
  )

  it.effect("go by age, those of finer steps first", () =>
    Effect.gen(function* () {
      const { history } = yield* JobStore.JobStore
      const sql = yield* SqlClient.SqlClient
      const kept = Effect.map(
        sql<{ readonly tier: string }>`SELECT DISTINCT tier FROM shigoto.metrics WHERE queue = 'old' ORDER BY tier`,
        (rows) => rows.map((row) => row.tier)
      )
      yield* history.add([increment("old", "w")])
      const age = (days: number) =>
        sql`UPDATE shigoto.metrics SET at = at - ${days}::integer * interval '1 day' WHERE queue = 'old'`
      yield* Pruner.round
      assert.deepStrictEqual(yield* kept, ["day", "hour", "minute"])
      yield* age(8)
      yield* Pruner.round
      assert.deepStrictEqual(yield* kept, ["day", "hour"])
      yield* age(90)
      yield* Pruner.round
      assert.deepStrictEqual(yield* kept, ["day"])
      yield* age(300)
      yield* Pruner.round
      assert.deepStrictEqual(yield* kept, [])
    })
  )
})

describe("percentiles", () => {
  it("lie within the bucket of what they tell", () => {
    assert.isUndefined(percentile(empty(), 0.5))
    const buckets = empty()
    for (let millis = 1; millis <= 1000; millis++) count(buckets, millis)
    for (const share of [0.01, 0.5, 0.95, 0.99, 1]) {
      const told = percentile(buckets, share) ?? 0
      const true_ = share * 1000
      const upper = bounds.find((bound) => true_ <= bound) ?? Infinity
      const lower = bounds.findLast((bound) => bound < true_) ?? 0
      assert.isAtLeast(told, lower)
      assert.isAtMost(told, upper)
    }
    count(buckets, 1e9)
    assert.strictEqual(percentile(buckets, 1), bounds.at(-1))
  })
})
