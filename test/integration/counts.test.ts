/** Counts of live jobs: the same by both ways of counting, and at least so many where there are too many to count. */
import { layer as PgClientLayer, PgClient } from "@effect/sql-pg/PgClient"
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as count from "../../src/internal/sql/count.ts"
import * as database from "../../src/internal/sql/db.ts"
import * as search from "../../src/internal/sql/search.ts"
import { check } from "../../src/Filter.ts"
import * as Events from "../../src/internal/events.ts"
import { JobStore, layer as storeLayer } from "../../src/JobStore.ts"
import * as Notifier from "../../src/Notifier.ts"
import * as Queues from "../../src/Queues.ts"
import * as ShigotoConfig from "../../src/ShigotoConfig.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"
import { onDatabase } from "./support.ts"

const config = ShigotoConfig.layer({})

const db = Effect.gen(function* () {
  const day = 86_400_000
  return yield* database.make(yield* PgClient, yield* ShigotoConfig.ShigotoConfig, {
    completed: day,
    discarded: day,
    cancelled: day
  })
}).pipe(Effect.provide(config))

/** The server keeps the plans of each connection. */
const oneConnection = Layer.unwrap(
  Effect.map(TestDatabase, ({ clientConfig }) => PgClientLayer({ ...clientConfig, maxConnections: 1 }))
)

/** Queues as they are where the table of jobs is too large to be read. */
const ask = <A, E>(look: (queues: Queues.Queues["Service"]) => Effect.Effect<A, E>) =>
  Effect.gen(function* () {
    const bounded = count.bounded(yield* db)
    const large = Layer.effect(
      JobStore,
      Effect.map(JobStore, (store) => JobStore.of({ ...store, counts: Effect.orDie(bounded) }))
    ).pipe(Layer.provide(storeLayer))
    return yield* Effect.flatMap(Queues.Queues, look).pipe(
      Effect.provide(
        Queues.layer.pipe(
          Layer.provide(Notifier.layer),
          Layer.provide(large),
          Layer.provide(Events.layer),
          Layer.provide(config)
        )
      )
    )
  })

const overview = ask((queues) => queues.overview)

const fill = (jobs: number, state: string, queue: string) =>
  Effect.flatMap(
    PgClient,
    (sql) => sql`
      INSERT INTO shigoto.jobs (state, worker, queue, args, run_at, inserted_at, claimed_by, claimed_at, attempt, epoch)
      SELECT ${state}, 'note', ${queue}, '{}', now() + n * interval '1 second', now(),
        CASE WHEN ${state} = 'executing' THEN 1 END, CASE WHEN ${state} = 'executing' THEN now() END, 1, 1
      FROM generate_series(1, ${jobs}::integer) AS n`
  )

describe("counts of live jobs", () => {
  onDatabase("are the same whether the table is read or its indexes", () =>
    Effect.gen(function* () {
      for (const [jobs, state, queue] of [
        [3, "available", "a"],
        [4, "available", "b"],
        [2, "scheduled", "a"],
        [5, "retryable", "c"],
        [1, "executing", "b"],
        [6, "blocked", "d"]
      ] as const) {
        yield* fill(jobs, state, queue)
      }
      const found = yield* Effect.flatMap(db, count.bounded)
      assert.sameDeepMembers([...found], [...(yield* Effect.flatMap(db, count.counts))])
      assert.isTrue(found.every(({ isExact }) => isExact))
      assert.isTrue((yield* overview).every(({ atLeast }) => atLeast.length === 0))
    })
  )

  onDatabase("stop at their limits, and say of which states there may be more", () =>
    Effect.gen(function* () {
      yield* fill(10_000, "available", "full")
      yield* fill(10_001, "available", "over")
      // All of these are due before any of the other queue.
      yield* fill(50_000, "scheduled", "soon")
      const sql = yield* PgClient
      yield* fill(1, "retryable", "late")
      yield* sql`UPDATE shigoto.jobs SET run_at = now() + interval '1 year' WHERE queue = 'late'`
      const queues = new Map((yield* overview).map((queue) => [queue.name, queue]))
      assert.deepInclude(queues.get("full"), { counts: { available: 10_000 }, atLeast: ["scheduled", "retryable"] })
      assert.deepInclude(queues.get("over"), {
        counts: { available: 10_000 },
        atLeast: ["scheduled", "available", "retryable"]
      })
      assert.deepInclude(queues.get("soon"), { counts: { scheduled: 50_000 } })
      assert.isUndefined(queues.get("late"))
      // The table itself is small enough to be read.
      const exact = yield* Effect.flatMap(db, count.counts)
      assert.deepInclude(exact, { queue: "over", state: "available", count: 10_001, isExact: true })
      assert.deepInclude(exact, { queue: "late", state: "retryable", count: 1, isExact: true })
    })
  )

  onDatabase("of a state are planned for it the tenth time too", () =>
    Effect.gen(function* () {
      yield* fill(20_000, "available", "now")
      yield* fill(20_000, "scheduled", "later")
      const one = yield* db
      yield* one.sql`
        INSERT INTO shigoto.jobs_archive (id, state, queue, worker, args, run_at, inserted_at, claimed_at, finished_at,
          attempt, max_attempts, priority, epoch)
        SELECT 100000 + n, state, 'default', 'note', '{}', now(), now(), now(), now(), 1, 20, 0, 1
        FROM unnest(ARRAY['completed', 'discarded', 'cancelled']) AS state
        CROSS JOIN generate_series(1, 20000) AS n`
      yield* one.sql`ANALYZE`
      const scheduled = yield* Effect.fromResult(check({ state: "scheduled" }))
      for (let i = 0; i < 10; i++) assert.strictEqual(yield* search.count(one, scheduled), 10_001)
      const [plans] = yield* one.sql<{ readonly generic: number; readonly custom: number }>`
        SELECT sum(generic_plans)::integer AS generic, sum(custom_plans)::integer AS custom
        FROM pg_prepared_statements
        WHERE statement LIKE '%AS matching%'
          AND statement NOT LIKE '%pg_prepared_statements%'`
      // After five plans for values, the server takes one for any where that seems as good: it reads all jobs.
      assert.deepStrictEqual(plans, { generic: 0, custom: 10 })
    }).pipe(Effect.provide(oneConnection))
  )

  onDatabase("of partition keys are those with the most jobs, after the paused ones", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient
      assert.deepStrictEqual(yield* ask((queues) => queues.partitions("shared")), { partitions: [], isComplete: true })
      yield* sql`
        INSERT INTO shigoto.jobs (state, worker, queue, partition_key, args, run_at, inserted_at)
        SELECT 'available', 'note', 'shared', 'key-' || key, '{}', now() - n * interval '1 second', now()
        FROM generate_series(1, 25) AS key
        CROSS JOIN LATERAL generate_series(1, CASE key WHEN 25 THEN 1001 ELSE key END) AS n`
      yield* sql`
        INSERT INTO shigoto.jobs
          (state, worker, queue, partition_key, args, run_at, inserted_at, claimed_by, claimed_at, attempt, epoch)
        SELECT 'executing', 'note', 'shared', 'busy', '{}', now(), now(), 1, now(), 1, 1
        FROM generate_series(1, 3)`
      yield* fill(5, "available", "shared")
      yield* ask((queues) => queues.pause("shared", { partitionKey: "held" }))
      const most = yield* ask((queues) => queues.partitions("shared"))
      assert.isFalse(most.isComplete)
      assert.deepStrictEqual(
        most.partitions.map(({ available, isExact, key, paused }) => [key, available, isExact, paused]),
        [
          ["held", 0, true, true],
          ["key-25", 1000, false, false],
          ...Array.from({ length: 18 }, (_, i) => [`key-${24 - i}`, 24 - i, true, false])
        ]
      )
      assert.isAtLeast(most.partitions[2]?.oldestMillis ?? 0, 24_000)
      yield* sql`DELETE FROM shigoto.jobs WHERE partition_key LIKE 'key-2%'`
      const { isComplete, partitions } = yield* ask((queues) => queues.partitions("shared"))
      assert.isTrue(isComplete)
      assert.deepInclude(
        partitions.find(({ key }) => key === "busy"),
        { available: 0, executing: 3, oldestMillis: undefined }
      )
    })
  )
})
