import { assert, describe } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import * as Batch from "../../src/Batch.ts"
import { CurrentJob } from "../../src/CurrentJob.ts"
import * as Job from "../../src/Job.ts"
import type { BulkProgress } from "../../src/Jobs.ts"
import { eventually } from "../setup/eventually.ts"
import { onDatabase, reaches, startNode, tally } from "./support.ts"

const Row = Job.make("row", { args: { k: Schema.Int }, maxAttempts: 1 })
const hour = { delay: "1 hour" } as const
const idle = { config: { queues: { unused: 1 } } } as const

/** The last progress, which tells the whole. */
const whole = <E>(stream: Stream.Stream<BulkProgress, E>) => Effect.map(Stream.runLast(stream), Option.getOrThrow)
const told = ({ changed, failed, matched, requested, skipped }: BulkProgress) => [
  matched,
  changed,
  requested,
  skipped,
  failed
]

describe("bulk operations", () => {
  onDatabase("change what matches, all of it and nothing else, and tell how far they are", () =>
    Effect.gen(function* () {
      const { jobs, run } = yield* startNode(idle)
      yield* run(
        Row.enqueueAll(
          Array.from({ length: 2400 }, (_, i) => ({ k: i % 2 })),
          hour
        )
      )
      for (const verb of [jobs.cancelBy, jobs.retryBy, jobs.deleteBy]) {
        for (const filter of [{}, { worker: undefined }]) {
          const error = yield* Effect.flip(Stream.runDrain(verb(filter)))
          assert(error._tag === "InvalidFilter")
          assert.include(error.message, "{ all: true }")
        }
        assert.strictEqual(
          (yield* Effect.flip(Stream.runDrain(verb({ wroker: "row" } as never))))._tag,
          "InvalidFilter"
        )
      }
      const steps = yield* Stream.runCollect(jobs.cancelBy({ args: { k: 1 } }, { reason: "too many" }))
      assert.deepStrictEqual(
        [...steps].map(({ changed }) => changed),
        [500, 1000, 1200]
      )
      assert.deepStrictEqual(yield* tally, { scheduled: 1200, cancelled: 1200 })
      const [one] = yield* jobs.list({ state: "cancelled", limit: 1 })
      assert.deepStrictEqual([one?.args, one?.cancelReason], [{ k: 1 }, "too many"])
      // Without a state it retries what has failed, which no cancelled job has.
      assert.deepStrictEqual(told(yield* whole(jobs.retryBy({ worker: "row" }))), [0, 0, 0, 0, 0])
      assert.deepStrictEqual(
        told(yield* whole(jobs.retryBy({ state: "cancelled", args: { k: 1 } }))),
        [1200, 1200, 0, 0, 0]
      )
      assert.deepStrictEqual(yield* tally, { scheduled: 1200, available: 1200 })
      assert.deepStrictEqual(told(yield* whole(jobs.deleteBy({ state: "available" }))), [1200, 1200, 0, 0, 0])
      assert.deepStrictEqual(told(yield* whole(jobs.deleteBy({}, { all: true }))), [1200, 1200, 0, 0, 0])
      assert.deepStrictEqual(yield* tally, {})
      assert.deepStrictEqual(told(yield* whole(jobs.deleteBy({ worker: "row" }))), [0, 0, 0, 0, 0])
    })
  )

  onDatabase("find in windows, however few match", () =>
    Effect.gen(function* () {
      const { jobs } = yield* startNode(idle)
      const sql = yield* SqlClient.SqlClient
      yield* sql`
        INSERT INTO shigoto.jobs (state, worker, queue, args, run_at, inserted_at)
        SELECT 'scheduled', 'row', 'default', jsonb_build_object('k', n), now() + interval '1 day', now()
        FROM generate_series(1, 45000) AS n`
      assert.deepStrictEqual(told(yield* whole(jobs.cancelBy({ args: { k: 1 } }))), [1, 1, 0, 0, 0])
      assert.deepStrictEqual(told(yield* whole(jobs.deleteBy({ state: "cancelled" }))), [1, 1, 0, 0, 0])
    })
  )

  onDatabase("ask running jobs to stop, and leave alone what has moved on", () =>
    Effect.gen(function* () {
      const started = yield* Deferred.make<void>()
      const node = yield* startNode({
        workers: Row.toLayer(() => Effect.andThen(Deferred.succeed(started, undefined), Effect.never)),
        config: { shutdownGrace: "100 millis" }
      })
      const other = yield* startNode(idle)
      const { id } = yield* node.run(Row.enqueue({ k: 1 }))
      yield* Deferred.await(started)
      yield* eventually(other.jobs.get(id), (job) => job.state === "executing")
      assert.deepStrictEqual(yield* other.jobs.delete(id), { _tag: "Executing" })
      assert.deepStrictEqual(told(yield* whole(other.jobs.deleteBy({ worker: "row" }))), [0, 0, 0, 0, 0])
      assert.deepStrictEqual(told(yield* whole(other.jobs.cancelBy({ state: "available" }))), [0, 0, 0, 0, 0])
      assert.deepStrictEqual(told(yield* whole(other.jobs.cancelBy({ worker: "row" }))), [1, 0, 1, 0, 0])
      yield* reaches(node, id, "cancelled")
      assert.deepStrictEqual(yield* other.jobs.delete(id), { _tag: "Deleted" })
      assert.strictEqual((yield* Effect.flip(other.jobs.delete(id)))._tag, "JobNotFound")
    })
  )

  onDatabase("one row that cannot be changed never stops the others; a taken key is skipped", () =>
    Effect.gen(function* () {
      const Once = Job.make("once", { args: { k: Schema.Int }, maxAttempts: 1, unique: { keys: ["worker", "args"] } })
      const { jobs, run } = yield* startNode(idle)
      const sql = yield* SqlClient.SqlClient
      const rows = yield* run(
        Row.enqueueAll(
          Array.from({ length: 600 }, (_, k) => ({ k })),
          hour
        )
      )
      const keyed = yield* run(Once.enqueueAll([{ k: 1 }, { k: 2 }], hour))
      yield* whole(jobs.cancelBy({ state: "scheduled" }))
      // There is no attempt after the last number that the column holds.
      yield* sql`UPDATE shigoto.jobs_archive SET attempt = 32767 WHERE id = ${rows[300]?.id}`
      const holder = yield* run(Once.enqueue({ k: 1 }, hour))
      const progress = yield* whole(jobs.retryBy({ state: "cancelled" }))
      assert.deepStrictEqual(told(progress), [602, 600, 0, 1, 1])
      assert.deepStrictEqual(
        progress.problems.map(({ id }) => id),
        [rows[300]?.id]
      )
      assert.include(progress.problems[0]?.message, "smallint")
      const left = yield* jobs.list({ state: "cancelled" })
      assert.deepStrictEqual(
        left.map(({ id }) => id),
        [keyed[0]?.id, rows[300]?.id]
      )
      assert.strictEqual((yield* jobs.get(holder.id)).state, "scheduled")
    })
  )

  onDatabase("run twice at once, on two nodes, change each job once", () =>
    Effect.gen(function* () {
      const nodes = [yield* startNode(idle), yield* startNode(idle), yield* startNode(idle)] as const
      yield* nodes[0].run(
        Row.enqueueAll(
          Array.from({ length: 3000 }, (_, k) => ({ k })),
          hour
        )
      )
      const both = Effect.fnUntraced(function* (
        verb: "cancelBy" | "retryBy" | "deleteBy",
        state: "scheduled" | "cancelled" | "available"
      ) {
        const done = yield* Effect.forEach(nodes, ({ jobs }) => whole(jobs[verb]({ state })), { concurrency: 3 })
        return done.reduce((sum, { changed }) => sum + changed, 0)
      })
      assert.strictEqual(yield* both("cancelBy", "scheduled"), 3000)
      assert.deepStrictEqual(yield* tally, { cancelled: 3000 })
      assert.strictEqual(yield* both("retryBy", "cancelled"), 3000)
      assert.deepStrictEqual(yield* tally, { available: 3000 })
      assert.strictEqual(yield* both("deleteBy", "available"), 3000)
      assert.deepStrictEqual(yield* tally, {})
      for (const tag of ["Cancelled", "Retried", "Deleted"]) {
        const ids = nodes.flatMap(({ events }) =>
          events.flatMap((event) => (event._tag === tag && "id" in event ? [event.id] : []))
        )
        assert.strictEqual(ids.length, 3000)
        assert.strictEqual(new Set(ids).size, 3000)
      }
    })
  )

  onDatabase("keep dependents, batches, keys and waiters right", () =>
    Effect.gen(function* () {
      const Sum = Job.make("sum", { args: { n: Schema.Int }, success: Schema.Int })
      const Once = Job.make("once", {
        unique: { keys: ["worker"], states: ["scheduled", "available", "executing", "completed"] }
      })
      const results: Array<unknown> = []
      const node = yield* startNode({
        workers: Sum.toLayer(
          Effect.fn("sum")(function* ({ n }) {
            const { dependencies } = yield* CurrentJob
            for (const { result } of dependencies.values()) results.push(result)
            return n
          })
        )
      })
      yield* node.add(Once.toLayer(() => Effect.void))
      // A parent that has finished is deleted before its child runs.
      const parent = yield* node.run(Sum.enqueue({ n: 7 }))
      const blocker = yield* node.run(Sum.enqueue({ n: 1 }, hour))
      yield* reaches(node, parent.id, "completed")
      // It has ended before anybody waited for it, so that no mark on its row tells of the child.
      const child = yield* node.run(Sum.enqueue({ n: 2 }, { dependsOn: [parent.id, blocker.id] }))
      assert.strictEqual((yield* whole(node.jobs.deleteBy({ id: parent.id }))).changed, 1)
      yield* node.jobs.retry(blocker.id)
      yield* reaches(node, child.id, "completed")
      assert.sameMembers(results, [7, 1])
      // Parents that wait: their children are cancelled, and theirs, and the waiter hears of it.
      const root = yield* node.run(Sum.enqueue({ n: 1 }, hour))
      const leaf = yield* node.run(Sum.enqueue({ n: 2 }, { dependsOn: [root.id] }))
      const end = yield* Effect.forkScoped(Effect.flip(node.run(Sum.execute({ n: 3 }, { dependsOn: [leaf.id] }))))
      yield* eventually(node.jobs.count({ state: "blocked" }), ({ count }) => count === 2)
      assert.strictEqual((yield* whole(node.jobs.deleteBy({ id: root.id }))).changed, 1)
      yield* reaches(node, leaf.id, "cancelled")
      assert.strictEqual((yield* Fiber.join(end))._tag, "JobCancelled")
      // The members of a batch, half of them deleted and half cancelled: its callback comes once.
      const Done = Job.make("done")
      const batch = yield* node.run(
        Batch.make("halves", { onFinished: Done.prepare({}) }).enqueue(
          [1, 2, 3, 4].map((n) => Sum.prepare({ n }, { ...hour, tags: [n > 2 ? "cancel" : "delete"] }))
        )
      )
      assert.strictEqual((yield* whole(node.jobs.deleteBy({ batch: batch.id, tag: "delete" }))).changed, 2)
      assert.strictEqual((yield* node.jobs.count({ worker: "done" })).count, 0)
      assert.strictEqual((yield* whole(node.jobs.cancelBy({ batch: batch.id }))).changed, 2)
      const [callback] = yield* node.jobs.list({ worker: "done" })
      assert.deepInclude(callback?.meta["batch"], { cancelled: 4, pending: 0, total: 4 })
      // A key that a finished job holds is free once the job is deleted.
      const first = yield* node.run(Once.enqueue({}))
      yield* reaches(node, first.id, "completed")
      assert.strictEqual((yield* node.run(Once.enqueue({})))._tag, "Existing")
      assert.strictEqual((yield* whole(node.jobs.deleteBy({ worker: "once" }))).changed, 1)
      assert.strictEqual((yield* node.run(Once.enqueue({})))._tag, "Inserted")
    })
  )
})
