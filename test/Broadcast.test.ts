/** Queues whose jobs every node runs, on one node in virtual time. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Job from "../src/Job.ts"
import type { JobId } from "../src/JobRow.ts"
import { Jobs } from "../src/Jobs.ts"
import { Queues } from "../src/Queues.ts"
import * as ShigotoConfig from "../src/ShigotoConfig.ts"
import { ShigotoTest } from "../src/testing/index.ts"
import { TestDatabase } from "./setup/TestDatabase.ts"

const ran: Array<string> = []

const Forget = Job.make("forget", { args: { key: Schema.String }, queue: "caches", maxAttempts: 3 })
/** Nobody runs it. */
const Unknown = Job.make("unknown", { queue: "caches" })
const After = Job.make("after")

const ForgetLive = Forget.toLayer(({ key }, job) =>
  Effect.suspend(() => {
    ran.push(`${key} ${job.attempt}`)
    return key === "flaky" && job.attempt < 2 ? Effect.die(new Error("not yet")) : Effect.void
  })
)
const AfterLive = After.toLayer(() => Effect.sync(() => ran.push("after")))

const world = (options: ShigotoTest.Options = {}) =>
  Layer.mergeAll(ForgetLive, AfterLive, Layer.effectDiscard(Effect.sync(() => ran.splice(0)))).pipe(
    Layer.provideMerge(
      Layer.unwrap(
        Effect.map(TestDatabase, (database) =>
          ShigotoTest.layer({
            queues: { default: 2, caches: { concurrency: 2, broadcast: { window: "1 hour" } } },
            client: database.clientConfig,
            ...options
          })
        )
      )
    ),
    Layer.provideMerge(TestDatabase.layerDatabase())
  )

const get = (id: JobId) => Effect.flatMap(Jobs, (jobs) => jobs.get(id))
const copies = (id: JobId) => Effect.flatMap(Jobs, (jobs) => jobs.copies(id))

describe("a broadcast queue", () => {
  it.effect("runs a copy of each job, once, and completes the job at its window's end", () =>
    Effect.gen(function* () {
      const jobs = yield* Jobs
      const { id } = yield* Forget.enqueue({ key: "a" }, { tags: ["t"], meta: { by: "me" }, priority: 3 })
      yield* After.enqueue({}, { dependsOn: [id] })
      yield* ShigotoTest.drain
      assert.deepStrictEqual(ran, ["a 1"])
      const [copy, ...others] = yield* copies(id)
      assert.deepStrictEqual(others, [])
      assert.deepInclude(copy, { state: "completed", attempt: 1, live: true })
      const of = yield* get(copy?.id as JobId)
      assert.deepInclude(of, { worker: "forget", queue: "caches", priority: 3, args: { key: "a" }, meta: { by: "me" } })
      assert.deepStrictEqual(of.tags, ["t"])
      assert.strictEqual((yield* get(id)).state, "scheduled")
      const { message, reasons, status } = yield* jobs.explain(id)
      assert.strictEqual(status, "waiting")
      assert.deepInclude(reasons[0], { _tag: "Broadcast", copies: 1 })
      assert.match(message, /each node runs a copy of it, 1 so far, and so does one that starts within 1h/)

      yield* ShigotoTest.advance("59 minutes")
      assert.strictEqual((yield* get(id)).state, "scheduled")
      yield* ShigotoTest.advance("1 minute")
      assert.deepInclude(yield* get(id), { state: "completed", attempt: 0 })
      assert.deepStrictEqual(ran, ["a 1", "after"])
      assert.strictEqual((yield* copies(id)).length, 1)
      const completed = (yield* ShigotoTest.events).filter(({ event }) => event._tag === "Completed" && event.id === id)
      assert.strictEqual(completed.length, 1)
    }).pipe(Effect.provide(world()))
  )

  it.effect("retries a copy by itself, and runs a job again everywhere that is retried", () =>
    Effect.gen(function* () {
      const jobs = yield* Jobs
      const { id } = yield* Forget.enqueue({ key: "flaky" })
      yield* ShigotoTest.advance("2 hours")
      assert.deepStrictEqual(ran, ["flaky 1", "flaky 2"])
      const first = yield* copies(id)
      assert.deepStrictEqual(
        first.map(({ attempt, state }) => [state, attempt]),
        [["completed", 2]]
      )
      assert.deepStrictEqual(yield* jobs.retry(id), { _tag: "Retried" })
      yield* ShigotoTest.drain
      const second = yield* copies(id)
      assert.strictEqual(second.length, 1)
      assert.notStrictEqual(second[0]?.id, first[0]?.id)
      // Within its window, too.
      yield* jobs.retry(id)
      yield* ShigotoTest.advance("2 hours")
      assert.notStrictEqual((yield* copies(id))[0]?.id, second[0]?.id)
      assert.strictEqual((yield* get(id)).state, "completed")
    }).pipe(Effect.provide(world()))
  )

  it.effect("waits for a job's time, leaves cancelled and unknown ones alone, and stops where it is paused", () =>
    Effect.gen(function* () {
      const jobs = yield* Jobs
      const queues = yield* Queues
      const late = yield* Forget.enqueue({ key: "late" }, { delay: "1 hour" })
      const gone = yield* Forget.enqueue({ key: "gone" }, { delay: "1 hour" })
      const unknown = yield* Unknown.enqueue({})
      yield* jobs.cancel(gone.id)
      yield* ShigotoTest.advance("59 minutes")
      assert.deepStrictEqual(ran, [])
      assert.deepStrictEqual(yield* copies(late.id), [])
      yield* queues.pause("caches")
      yield* ShigotoTest.advance("1 minute")
      const [copy] = yield* copies(late.id)
      assert.strictEqual(copy?.state, "available")
      const { reasons } = yield* jobs.explain(copy?.id as JobId)
      assert.strictEqual(reasons[0]?._tag, "Paused")
      assert.deepStrictEqual(ran, [])
      yield* queues.resume("caches")
      yield* ShigotoTest.drain
      assert.deepStrictEqual(ran, ["late 1"])
      assert.strictEqual((yield* get(unknown.id)).state, "available")
      assert.strictEqual((yield* Effect.flip(copies(999_999 as JobId)))._tag, "JobNotFound")
      assert.deepStrictEqual(yield* copies(gone.id), [])
    }).pipe(Effect.provide(world()))
  )

  it.effect("gives up copies whose node is gone, and forgets which there were", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { id } = yield* Forget.enqueue({ key: "a" })
      yield* ShigotoTest.drain
      // As a node leaves one that stopped before it ran its copy.
      yield* sql`
        INSERT INTO shigoto.jobs (state, queue, worker, args, run_at, inserted_at, partition_key)
        SELECT 'available', queue, worker, args, run_at, inserted_at, ' node 99' FROM shigoto.jobs WHERE id = ${id}`
      yield* Forget.enqueue({ key: "b" })
      yield* ShigotoTest.drain
      const rows = yield* sql<{ readonly state: string; readonly cancel_reason: string }>`
        SELECT state, cancel_reason FROM shigoto.all_jobs WHERE partition_key = ' node 99'`
      assert.deepStrictEqual(rows, [{ state: "cancelled", cancel_reason: "its node is gone" }])
      assert.deepStrictEqual(ran, ["a 1", "b 1"])
      yield* ShigotoTest.advance("16 days")
      assert.deepStrictEqual(yield* sql`SELECT FROM shigoto.broadcasts`, [])
    }).pipe(Effect.provide(world({ pruneInterval: "1 day" })))
  )

  it.effect("refuses a rule that cannot be kept", () =>
    Effect.gen(function* () {
      const refused = (broadcast: unknown, more: object = {}) =>
        Effect.map(
          Effect.flip(
            ShigotoConfig.make({ queues: { caches: { concurrency: 1, broadcast: broadcast as boolean, ...more } } })
          ),
          (error) => (error._tag === "InvalidConfig" ? error.field : error._tag)
        )
      assert.strictEqual(yield* refused("yes"), "queues.caches.broadcast")
      assert.strictEqual(yield* refused(true, { fair: true }), "queues.caches.broadcast")
      assert.strictEqual(yield* refused(true, { partitionConcurrency: 2 }), "queues.caches.broadcast")
      assert.strictEqual(yield* refused({ window: "8 days" }), "queues.caches.broadcast.window")
      assert.strictEqual(yield* refused({ window: Number.NaN }), "queues.caches.broadcast.window")
      assert.strictEqual(yield* refused({}), "queues.caches.broadcast.window")
      // A misspelt option would make it an ordinary queue.
      assert.strictEqual(yield* refused(undefined, { broadcasts: true }), "queues.caches")
    })
  )
})
