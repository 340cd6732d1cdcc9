/** The archive's partitions: made ahead, dropped by retention, and never in the way of a settle. */
import { assert, describe } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as SqlClient from "effect/sql/SqlClient"
import * as Job from "../src/Job.ts"
import type { JobId } from "../src/JobRow.ts"
import * as JobStore from "../src/JobStore.ts"
import * as ShigotoConfig from "../src/ShigotoConfig.ts"
import { onDatabase, startNode } from "./integration/support.ts"
import { eventually } from "./setup/eventually.ts"
import { TestDatabase } from "./setup/TestDatabase.ts"

const hour = 3_600_000
const day = 24 * hour
const start = Date.UTC(2031, 4, 7, 10, 20)

/** Real time for timers, a chosen instant for what reads the clock. */
const at = (millis: number, sleep = Clock.Clock.defaultValue().sleep) => {
  const live = Clock.Clock.defaultValue()
  const clock: Clock.Clock = Object.create(live, {
    currentTimeMillisUnsafe: { value: () => millis },
    currentTimeMillis: { value: Effect.succeed(millis) },
    sleep: { value: sleep }
  })
  return Effect.provideService(Clock.Clock, clock)
}

/** The store of one more node, at the instants that its calls are given. */
const openStore = Effect.fnUntraced(function* (retention: ShigotoConfig.Options["retention"] = {}) {
  const database = yield* TestDatabase
  const context = yield* Layer.build(
    Layer.fresh(JobStore.layer).pipe(
      Layer.provide(ShigotoConfig.layer({ timeSource: "clock", retention })),
      Layer.provide(database.layerClient({ maxConnections: 6 }))
    )
  )
  return Context.get(context, JobStore.JobStore)
})

const partitions = (state: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const rows = yield* sql<{ readonly name: string }>`
      SELECT c.relname AS name
      FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
      WHERE i.inhparent = ${`shigoto.jobs_archive_${state}`}::regclass
      ORDER BY 1`
    return rows.map((row) => row.name.replace(`jobs_archive_${state}_`, "")).filter((name) => name !== "default")
  })

/** Drops what the migration has made for today, so that the instants of a test meet their own partitions only. */
const fromScratch = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`SELECT shigoto.maintain_archive(kind, now(), interval '0')
    FROM unnest(ARRAY['completed', 'discarded', 'cancelled']) AS kind`
})

/** Rows of executing jobs, claimed once. */
const executing = (count: number) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const rows = yield* sql<{ readonly id: bigint }>`
      INSERT INTO shigoto.jobs (state, worker, queue, args, run_at, inserted_at, claimed_by, epoch, attempt)
      SELECT 'executing', 'w', 'default', '{}', now(), now(), 1, 1, 1 FROM generate_series(1, ${count}::integer)
      RETURNING id`
    return rows.map((row) => Number(row.id) as JobId)
  })

const completed = (ids: ReadonlyArray<JobId>) =>
  ids.map((id) => ({ id, epoch: 1, outcome: { _tag: "Completed", result: undefined } }) as const)

/** The archived jobs and the partition that each is in. */
const archived = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql<{ readonly id: bigint; readonly part: string }>`
    SELECT id, tableoid::regclass::text AS part FROM shigoto.jobs_archive ORDER BY id`
  return new Map(rows.map((row) => [Number(row.id), row.part.replace(/^.*jobs_archive_[a-z]+_/, "")]))
})

describe("Pruner", () => {
  onDatabase("makes partitions ahead, an eighth of the retention wide or so, and drops them when all is too old", () =>
    Effect.gen(function* () {
      yield* fromScratch
      const hours = yield* openStore({ completed: "3 hours", cancelled: "14 days", discarded: "90 days" })
      yield* hours.prune("completed").pipe(at(start))
      yield* hours.prune("cancelled").pipe(at(start))
      yield* hours.prune("discarded").pipe(at(start))
      assert.deepStrictEqual(yield* partitions("completed"), ["20310507t1100", "20310507t1200"])
      assert.deepStrictEqual(yield* partitions("cancelled"), ["20310508t0000", "20310509t0000"])
      assert.deepStrictEqual(yield* partitions("discarded"), ["20310512t0000", "20310519t0000"])
      assert.deepStrictEqual(yield* hours.prune("completed").pipe(at(start)), {
        made: 0,
        dropped: 0,
        deleted: 0,
        keptMillis: 3 * hour
      })

      // A job that ends in each of the hours to come, each in a partition of its own.
      const ids = yield* executing(6)
      for (const [i, id] of ids.entries()) {
        const moment = start + i * hour
        yield* hours.prune("completed").pipe(at(moment))
        assert.deepStrictEqual((yield* hours.settle(completed([id])).pipe(at(moment))).verdicts, [
          { _tag: "Accepted", state: "completed" }
        ])
      }
      const kept = yield* archived
      // The last that the cutoff of 12:20 has not passed, and those after it; 10:20 went by the row, from the default.
      assert.deepStrictEqual([...kept.keys()], ids.slice(2))
      assert.deepStrictEqual([...kept.values()], ["20310507t1200", "20310507t1300", "20310507t1400", "20310507t1500"])
      assert.deepStrictEqual(yield* hours.prune("completed").pipe(at(start + 30 * hour)), {
        made: 2,
        dropped: 6,
        deleted: 0,
        keptMillis: 3 * hour
      })
      assert.strictEqual((yield* archived).size, 0)
    })
  )

  onDatabase("moves rows of the default partition into the range that is made, and deletes the old in portions", () =>
    Effect.gen(function* () {
      yield* fromScratch
      const sql = yield* SqlClient.SqlClient
      const store = yield* openStore({ completed: "3 hours" })
      const [early, late] = yield* Effect.all([executing(1), executing(1)])
      yield* store.settle(completed(early)).pipe(at(start))
      yield* store.settle(completed(late)).pipe(at(start + hour))
      assert.deepStrictEqual([...(yield* archived).values()], ["default", "default"])
      yield* store.prune("completed").pipe(at(start))
      assert.deepStrictEqual([...(yield* archived).values()], ["default", "20310507t1100"])

      yield* sql`
        INSERT INTO shigoto.jobs_archive
          (id, run_at, inserted_at, finished_at, epoch, priority, attempt, max_attempts, state, queue, worker, args)
        SELECT 1000000 + i, now(), now(), ${new Date(start)}, 1, 0, 1, 1, 'completed', 'default', 'w', '{}'
        FROM generate_series(1, 20500) AS i`
      const moment = start + 3 * hour + 1
      assert.strictEqual((yield* store.prune("completed").pipe(at(moment))).deleted, 20_000)
      assert.strictEqual((yield* store.prune("completed").pipe(at(moment))).deleted, 501)
      assert.strictEqual((yield* store.prune("completed").pipe(at(moment))).deleted, 0)
      assert.deepStrictEqual([...(yield* archived).keys()], late)
    })
  )

  onDatabase("loses no settle and no job before its time while two nodes prune and time flies", () =>
    Effect.gen(function* () {
      yield* fromScratch
      const retention = 3 * hour
      const nodes = [yield* openStore({ completed: retention }), yield* openStore({ completed: retention })] as const
      const settled = new Map<JobId, number>()
      let now = start
      const settles = (store: JobStore.JobStore["Service"]) =>
        Effect.gen(function* () {
          for (let i = 0; i < 60; i++) {
            const ids = yield* executing(5)
            const moment = now
            const { verdicts } = yield* store.settle(completed(ids)).pipe(at(moment))
            assert.isTrue(verdicts.every((verdict) => verdict._tag === "Accepted"))
            for (const id of ids) settled.set(id, moment)
          }
        })
      const lost = Effect.gen(function* () {
        const due = [...settled].filter(([, moment]) => moment > now - retention).map(([id]) => id)
        const kept = yield* archived
        return due.filter((id) => !kept.has(id))
      })
      let rounds = 0
      const prunes = Effect.gen(function* () {
        while (settled.size < 1200) {
          now += 20 * 60_000
          // A lock that is not to be had is for the next round.
          const round = (store: JobStore.JobStore["Service"]) =>
            Effect.catchTag(store.prune("completed").pipe(at(now)), "StorageUnavailable", () => Effect.void)
          yield* Effect.all(nodes.map(round), { concurrency: "unbounded" })
          assert.deepStrictEqual(yield* lost, [])
          rounds++
        }
      })
      const pruning = yield* Effect.forkScoped(prunes)
      yield* Effect.all([...nodes, ...nodes].map(settles), { concurrency: "unbounded" })
      yield* Fiber.join(pruning)
      assert.isAbove(rounds, 1)
      const last = yield* nodes[0].prune("completed").pipe(at(now + 2 * day))
      assert.isAbove(last.dropped, 0)
      assert.strictEqual((yield* archived).size, 0)
    })
  )

  onDatabase("leaves a partition that somebody reads for the next round, at once and without an error", () =>
    Effect.gen(function* () {
      yield* fromScratch
      const sql = yield* SqlClient.SqlClient
      const store = yield* openStore({ completed: "3 hours" })
      yield* store.prune("completed").pipe(at(start))
      const held = yield* Deferred.make<void>()
      const free = yield* Deferred.make<void>()
      const reader = yield* Effect.forkScoped(
        sql.withTransaction(
          sql`SELECT count(*) FROM ${sql("shigoto.jobs_archive_completed_20310507t1100")}`.pipe(
            Effect.andThen(Deferred.succeed(held, undefined)),
            Effect.andThen(Deferred.await(free))
          )
        )
      )
      yield* Deferred.await(held)
      // No try more, in which settles would wait again: the statement's own limit is the only timer.
      const timers: Array<number> = []
      const sleep: Clock.Clock["sleep"] = (duration) => {
        timers.push(Duration.toMillis(duration))
        return Effect.never
      }
      const refusal = yield* Effect.flip(store.prune("completed").pipe(at(start + day, sleep)))
      assert.deepStrictEqual(timers, [10_000])
      assert.deepInclude(refusal, { _tag: "StorageUnavailable", code: "55P03" })
      assert.include(yield* partitions("completed"), "20310507t1100")
      // Settles go on meanwhile, and so does a node whose pruner meets the lock.
      const [id] = yield* executing(1)
      yield* store.settle(completed([id as JobId])).pipe(at(start + day))
      yield* Deferred.succeed(free, undefined)
      yield* Fiber.join(reader)
      assert.strictEqual((yield* store.prune("completed").pipe(at(start + day))).dropped, 2)
      assert.deepStrictEqual([...(yield* archived).keys()], [id])
    })
  )

  onDatabase("follows a retention that changes between runs, down to nothing", () =>
    Effect.gen(function* () {
      yield* fromScratch
      const long = yield* openStore({ completed: "90 days" })
      const short = yield* openStore({ completed: "8 hours" })
      const none = yield* openStore({ completed: 0 })
      const ids = yield* executing(4)
      const settle = (store: JobStore.JobStore["Service"], i: number, moment: number) =>
        store.settle(completed(ids.slice(i, i + 1))).pipe(at(moment))
      const first = start + 7 * day
      yield* settle(long, 0, start)
      yield* long.prune("completed").pipe(at(start))
      yield* settle(long, 1, first)
      assert.deepStrictEqual([...(yield* archived).values()], ["default", "20310512t0000"])

      // Shorter: rows of the default partition go by their age, a week's partition when the week is too old.
      yield* short.prune("completed").pipe(at(first))
      assert.deepStrictEqual([...(yield* archived).keys()], ids.slice(1, 2))
      yield* short.prune("completed").pipe(at(start + 12 * day))
      yield* settle(short, 2, start + 12 * day)
      assert.deepStrictEqual([...(yield* archived).values()], ["20310519t0000"])
      yield* short.prune("completed").pipe(at(start + 18 * day))
      assert.deepStrictEqual([...(yield* archived).keys()], ids.slice(2, 3))
      yield* short.prune("completed").pipe(at(start + 19 * day))
      assert.deepStrictEqual([...(yield* archived).keys()], [])

      // Longer again: what is still there stays.
      yield* settle(long, 3, start + 20 * day)
      yield* long.prune("completed").pipe(at(start + 21 * day))
      assert.deepStrictEqual([...(yield* archived).keys()], ids.slice(3))

      yield* none.prune("completed").pipe(at(start + 21 * day))
      assert.deepStrictEqual([...(yield* archived).keys()], [])
      assert.deepStrictEqual(yield* partitions("completed"), [])
    })
  )

  onDatabase("with a retention of zero keeps no row, tells every event, and finds no such job", () =>
    Effect.gen(function* () {
      const Fine = Job.make("fine")
      const Lost = Job.make("lost", { maxAttempts: 1 })
      const given: Array<JobId> = []
      const node = yield* startNode({
        config: { retention: { completed: 0, discarded: 0, cancelled: 0 }, pruneInterval: "100 millis" },
        workers: Layer.mergeAll(
          Fine.toLayer(() => Effect.void),
          Lost.toLayer(() => Effect.die("no"), {
            onDiscard: ({ job }) => Effect.sync(() => given.push(job.id))
          })
        )
      })
      const fine = yield* node.run(Fine.enqueue({}))
      const lost = yield* node.run(Lost.enqueue({}))
      const later = yield* node.run(Fine.enqueue({}, { delay: "1 hour" }))
      assert.deepStrictEqual(yield* node.jobs.cancel(later.id, "not any more"), { _tag: "Cancelled" })
      yield* node.event("Completed", fine.id)
      assert.strictEqual((yield* node.event("Discarded", lost.id)).failure.message, "no")
      assert.strictEqual((yield* node.event("Cancelled", later.id)).reason, "not any more")
      for (const { id } of [fine, lost, later]) {
        assert.strictEqual((yield* Effect.flip(node.jobs.get(id)))._tag, "JobNotFound")
      }
      yield* eventually(
        Effect.sync(() => given),
        (ids) => ids.includes(lost.id)
      )
      assert.strictEqual((yield* archived).size, 0)
      assert.isFalse(node.events.some((event) => event._tag === "LeaseLost"))
      yield* eventually(partitions("completed"), (names) => names.length === 0)
    })
  )

  onDatabase("keeps what any node that is up wants kept, and says so where its own configuration wants less", () =>
    Effect.gen(function* () {
      const Fine = Job.make("fine")
      const keeper = yield* startNode({ workers: Fine.toLayer(() => Effect.void) })
      const { id } = yield* keeper.run(Fine.enqueue({}))
      yield* keeper.event("Completed", id)
      const lines: Array<string> = []
      const logger = Logger.layer([Logger.make(({ message }) => void lines.push(String(message)))])
      yield* startNode({
        config: { retention: { completed: 0, cancelled: "1 day" }, pruneInterval: "100 millis" }
      }).pipe(Effect.provideContext(yield* Layer.build(logger)))
      const said = (state: string) => lines.filter((line) => line.includes(`keeps ${state} jobs`))
      yield* eventually(
        Effect.sync(() => said("cancelled")),
        (all) => all.length > 0
      )
      assert.lengthOf(said("completed"), 1)
      assert.include(said("completed")[0], "keeps completed jobs for 14d, as another node is configured, and not for 0")
      assert.lengthOf(said("discarded"), 0)
      assert.strictEqual((yield* keeper.jobs.get(id)).state, "completed")

      // Who wants it kept is gone: what the others say goes.
      yield* keeper.stop
      yield* eventually(archived, (rows) => rows.size === 0)
    })
  )
})
