/** Batches in virtual time: who joins, what is counted, and which callbacks come, each once. */
import { assert, describe, it } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Batch from "../src/Batch.ts"
import { Batches } from "../src/Batches.ts"
import type { BatchSummary } from "../src/internal/newJob.ts"
import * as Job from "../src/Job.ts"
import type { BatchId, JobId } from "../src/JobRow.ts"
import { Jobs } from "../src/Jobs.ts"
import { ShigotoTest } from "../src/testing/index.ts"
import type { Workers } from "../src/Workers.ts"
import { TestDatabase } from "./setup/TestDatabase.ts"

/** The members that fail for now. */
const failing = new Set<number>()
/** What the callbacks were told, in their order. */
const calls: Array<[string, Partial<BatchSummary> | undefined]> = []

const Part = Job.make("part", { args: { n: Schema.Int }, maxAttempts: 1 })
const Call = Job.make("call", { args: { text: Schema.String } })

const workers = Layer.mergeAll(
  Part.toLayer(({ n }) => Effect.suspend(() => (failing.has(n) ? Job.discard("for now") : Effect.void))),
  Call.toLayer(({ text }) => Effect.map(Batch.summary, (summary) => void calls.push([text, summary])))
)

const world = (more: Layer.Layer<never, never, Workers | Jobs | Batches> = Layer.empty) =>
  Layer.mergeAll(workers, more, Layer.effectDiscard(Effect.sync(() => (failing.clear(), calls.splice(0))))).pipe(
    Layer.provideMerge(
      Layer.unwrap(
        Effect.map(TestDatabase, (database) =>
          ShigotoTest.layer({ queues: { default: 10 }, client: database.clientConfig })
        )
      )
    ),
    Layer.provideMerge(TestDatabase.layerDatabase())
  )

const Parts = Batch.make("parts", {
  onFinished: Call.prepare({ text: "finished" }),
  onSucceeded: Call.prepare({ text: "succeeded" }),
  onFirstFailure: Call.prepare({ text: "failed" })
})
const parts = (...ns: ReadonlyArray<number>) => ns.map((n) => Part.prepare({ n }))
const texts = () => calls.map(([text]) => text).toSorted()
const get = (id: BatchId) => Effect.flatMap(Batches, (batches) => batches.get(id))

describe("a batch", () => {
  it.effect("calls back once all have succeeded, with the counts", () =>
    Effect.gen(function* () {
      const { id, jobs } = yield* Parts.enqueue(parts(1, 2, 3))
      assert.deepStrictEqual(
        jobs.map(({ _tag }) => _tag),
        ["Inserted", "Inserted", "Inserted"]
      )
      assert.deepInclude(yield* get(id), { total: 3, pending: 3, sealed: true, finished: false, callbacks: {} })
      yield* ShigotoTest.drain
      const summary = {
        id,
        name: "parts",
        total: 3,
        pending: 0,
        completed: 3,
        discarded: 0,
        cancelled: 0,
        outcome: "completed" as const
      }
      assert.deepStrictEqual(
        calls.toSorted(([a], [b]) => (a < b ? -1 : 1)),
        [
          ["finished", summary],
          ["succeeded", summary]
        ]
      )
      const status = yield* get(id)
      assert.deepInclude(status, { ...summary, finished: true })
      assert.sameMembers(Object.keys(status.callbacks), ["finished", "succeeded"])
      const told = (yield* ShigotoTest.events).flatMap(({ event }) =>
        event._tag === "BatchFinished" ? [event.batch] : []
      )
      assert.deepStrictEqual(told, [summary])
      // A job that is no callback is told nothing.
      yield* Call.enqueue({ text: "plain" })
      yield* ShigotoTest.drain
      assert.deepStrictEqual(calls.at(-1), ["plain", undefined])
    }).pipe(Effect.provide(world()))
  )

  it.effect("tells the first failure at once, and the worst end at its end", () =>
    Effect.gen(function* () {
      const jobs = yield* Jobs
      failing.add(1).add(2)
      const late = { delay: "1 hour" } as const
      const { id, jobs: members } = yield* Parts.enqueue([
        ...parts(1, 2),
        Part.prepare({ n: 3 }, late),
        Part.prepare({ n: 4 }, late)
      ])
      yield* ShigotoTest.drain
      assert.deepStrictEqual(texts(), ["failed"])
      assert.strictEqual(calls[0]?.[1]?.outcome, "discarded")
      yield* jobs.cancel(members[3]?.id as JobId)
      yield* ShigotoTest.drain
      assert.deepStrictEqual(texts(), ["failed"])
      yield* ShigotoTest.advance("1 hour")
      assert.deepStrictEqual(texts(), ["failed", "finished"])
      assert.deepInclude(yield* get(id), { completed: 1, discarded: 2, cancelled: 1, outcome: "discarded" })
    }).pipe(Effect.provide(world()))
  )

  it.effect("that is empty calls back at once", () =>
    Effect.gen(function* () {
      const { id } = yield* Parts.enqueue([])
      assert.deepInclude(yield* get(id), { total: 0, finished: true, outcome: "completed" })
      const batches = yield* Batches
      const open = yield* Parts.open()
      yield* ShigotoTest.drain
      assert.deepStrictEqual(texts(), ["finished", "succeeded"])
      yield* batches.seal(open)
      yield* batches.seal(open)
      yield* ShigotoTest.drain
      assert.deepStrictEqual(texts(), ["finished", "finished", "succeeded", "succeeded"])
    }).pipe(Effect.provide(world()))
  )

  it.effect("that is open takes members, also from within members, until one of them seals it", () => {
    const Grow = Job.make("grow", { args: { n: Schema.Int, batch: Schema.Int } })
    const GrowLive = Grow.toLayer(({ batch, n }) => {
      const id = batch as BatchId
      return Effect.orDie(
        Effect.gen(function* () {
          if (n > 0) yield* Grow.enqueue({ n: n - 1, batch }, { batch: id, delay: "1 minute" })
          else yield* (yield* Batches).seal(id)
        })
      )
    })
    return Effect.gen(function* () {
      const id = yield* Parts.open()
      yield* Part.enqueueAll([{ n: 1 }, { n: 2 }], { batch: id })
      yield* ShigotoTest.drain
      // All have ended, but more may come.
      assert.deepInclude(yield* get(id), { total: 2, pending: 0, sealed: false, finished: false })
      assert.deepStrictEqual(texts(), [])
      yield* Grow.enqueue({ n: 3, batch: id }, { batch: id })
      yield* ShigotoTest.advance("3 minutes")
      assert.deepInclude(yield* get(id), { total: 6, completed: 6, sealed: true, finished: true })
      assert.deepStrictEqual(texts(), ["finished", "succeeded"])

      const sql = yield* SqlClient.SqlClient
      const before = yield* sql`SELECT FROM shigoto.all_jobs`
      const late = yield* Effect.flip(Part.enqueue({ n: 9 }, { batch: id }))
      assert.deepInclude(late, { _tag: "BatchClosed", batch: String(id) })
      assert.include(late.message, '("parts") was sealed')
      assert.strictEqual((yield* Effect.flip(Parts.open({ parent: id })))._tag, "BatchClosed")
      assert.strictEqual((yield* sql`SELECT FROM shigoto.all_jobs`).length, before.length)
    }).pipe(Effect.provide(world(GrowLive)))
  })

  it.effect("counts a unique job that it did not insert out", () =>
    Effect.gen(function* () {
      const Once = Job.make("once", { unique: {} })
      yield* Once.enqueue({}, { delay: "1 hour" })
      const { id, jobs } = yield* Parts.enqueue([Once.prepare({}), ...parts(1)])
      assert.deepStrictEqual(
        jobs.map(({ _tag }) => _tag),
        ["Existing", "Inserted"]
      )
      yield* ShigotoTest.drain
      assert.deepInclude(yield* get(id), { total: 1, completed: 1, finished: true })
    }).pipe(Effect.provide(world()))
  )

  it.effect("cancels the rest, and retries what has failed, without a second callback of a kind", () =>
    Effect.gen(function* () {
      const batches = yield* Batches
      failing.add(1)
      const later = (n: number) => Part.prepare({ n }, { delay: "1 hour" })
      const { id } = yield* Parts.enqueue([...parts(1, 2), later(3), later(4)])
      yield* ShigotoTest.drain
      assert.strictEqual(yield* batches.cancel(id, "enough"), 2)
      assert.strictEqual(yield* batches.cancel(id), 0)
      yield* ShigotoTest.drain
      assert.deepInclude(yield* get(id), { pending: 0, completed: 1, discarded: 1, cancelled: 2, finished: true })
      assert.deepStrictEqual(texts(), ["failed", "finished"])
      const members = yield* batches.members(id)
      assert.deepStrictEqual(
        members.map(({ state }) => state),
        ["discarded", "completed", "cancelled", "cancelled"]
      )
      const jobs = yield* Jobs
      assert.strictEqual((yield* jobs.get(members[2]?.id as JobId)).cancelReason, "enough")

      failing.clear()
      assert.strictEqual(yield* batches.retryFailed(id), 3)
      assert.deepInclude(yield* get(id), { pending: 3, completed: 1, discarded: 0, cancelled: 0, finished: false })
      yield* ShigotoTest.drain
      assert.deepInclude(yield* get(id), { pending: 0, completed: 4, finished: true, outcome: "completed" })
      // That all have succeeded is news; that all have ended is none.
      assert.deepStrictEqual(texts(), ["failed", "finished", "succeeded"])
      assert.strictEqual(yield* batches.retryFailed(id), 0)
    }).pipe(Effect.provide(world()))
  )

  it.effect("tells how long it takes at the pace of its last ends, where there are any", () =>
    Effect.gen(function* () {
      const batches = yield* Batches
      const { id } = yield* Parts.enqueue([
        Part.prepare({ n: 1 }, { delay: "1 minute" }),
        Part.prepare({ n: 2 }, { delay: "1 minute" }),
        ...[3, 4, 5, 6].map((n) => Part.prepare({ n }, { delay: "1 hour" }))
      ])
      assert.isUndefined(yield* batches.remaining(id))
      yield* ShigotoTest.advance("11 minutes")
      // Two in ten minutes, and four to go.
      assert.strictEqual(yield* batches.remaining(id), 20 * 60_000)
      yield* ShigotoTest.advance("1 hour")
      assert.deepInclude(yield* get(id), { pending: 0, finished: true })
      assert.isUndefined(yield* batches.remaining(id))
      assert.strictEqual((yield* Effect.flip(batches.remaining(999_999 as typeof id)))._tag, "BatchNotFound")
    }).pipe(Effect.provide(world()))
  )

  it.effect("is a member of another, and counts in it as one, through its end and its new life", () =>
    Effect.gen(function* () {
      const batches = yield* Batches
      const outer = yield* Batch.make("outer", { onFinished: Call.prepare({ text: "outer" }) }).open()
      const middle = yield* Batch.make("middle").open({ parent: outer })
      const inner = yield* Parts.enqueue(parts(1, 2), { parent: middle })
      yield* Parts.enqueue([], { parent: outer })
      yield* batches.seal(middle)
      yield* batches.seal(outer)
      failing.add(1)
      yield* ShigotoTest.drain
      assert.deepStrictEqual(texts(), ["failed", "finished", "finished", "outer", "succeeded"])
      for (const [id, counts] of [
        [inner.id, { total: 2, completed: 1, discarded: 1, parent: middle }],
        [middle, { total: 1, completed: 0, discarded: 1, parent: outer }],
        [outer, { total: 2, completed: 1, discarded: 1, parent: undefined }]
      ] as const) {
        assert.deepInclude(yield* get(id), { ...counts, pending: 0, finished: true, outcome: "discarded" })
      }
      failing.clear()
      assert.strictEqual(yield* batches.retryFailed(outer), 1)
      for (const id of [inner.id, middle, outer]) {
        assert.deepInclude(yield* get(id), { pending: 1, discarded: 0, finished: false })
      }
      yield* ShigotoTest.drain
      for (const [id, completed] of [
        [inner.id, 2],
        [middle, 1],
        [outer, 2]
      ] as const) {
        assert.deepInclude(yield* get(id), { pending: 0, completed, discarded: 0, finished: true })
      }
      assert.strictEqual(calls.filter(([text]) => text === "outer").length, 1)

      const again = yield* Batch.make("outer").open()
      const nested = yield* Batch.make("inner").enqueue(
        [Part.prepare({ n: 1 }, { delay: "1 hour" }), Part.prepare({ n: 2 }, { delay: "1 hour" })],
        { parent: again }
      )
      assert.strictEqual(yield* batches.cancel(again), 2)
      assert.deepInclude(yield* get(nested.id), { cancelled: 2, finished: true })
      assert.deepInclude(yield* get(again), { cancelled: 1, pending: 0, finished: false })
    }).pipe(Effect.provide(world()))
  )

  it.effect("counts those that a dependency cancelled, as it ends and as they are enqueued", () =>
    Effect.gen(function* () {
      failing.add(1)
      const bad = yield* Part.enqueue({ n: 1 })
      const { id } = yield* Parts.enqueue([Part.prepare({ n: 2 }, { dependsOn: [bad.id] })])
      yield* ShigotoTest.drain
      assert.deepInclude(yield* get(id), { cancelled: 1, finished: true })
      const late = yield* Parts.enqueue([Part.prepare({ n: 2 }, { dependsOn: [bad.id] })])
      assert.deepInclude(yield* get(late.id), { cancelled: 1, finished: true })
      yield* ShigotoTest.drain
      assert.deepStrictEqual(texts(), ["failed", "failed", "finished", "finished"])
    }).pipe(Effect.provide(world()))
  )

  it.effect("is part of the caller's transaction, and vanishes with it", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const batches = yield* Batches
      const inside = Effect.gen(function* () {
        const { id } = yield* Parts.enqueue(parts(1, 2))
        const open = yield* Parts.open()
        yield* Part.enqueue({ n: 3 }, { batch: open })
        yield* batches.seal(open)
        yield* Parts.enqueue([])
        return [id, open]
      })
      yield* Effect.flip(sql.withTransaction(Effect.andThen(inside, Effect.fail("no" as const))))
      for (const table of ["all_jobs", "batches"]) {
        assert.strictEqual((yield* sql`SELECT FROM ${sql(`shigoto.${table}`)}`).length, 0, table)
      }
      const made = yield* sql.withTransaction(inside)
      yield* ShigotoTest.drain
      for (const id of made) assert.strictEqual((yield* get(id)).finished, true)
      assert.strictEqual(texts().filter((text) => text === "finished").length, 3)
    }).pipe(Effect.provide(world()))
  )

  it.effect("keeps the options of its callbacks", () =>
    Effect.gen(function* () {
      const jobs = yield* Jobs
      const now = (yield* Part.enqueue({ n: 1 })).job.insertedAt
      const at = DateTime.add(now, { hours: 2 })
      const batch = Batch.make("late", {
        onFinished: Call.prepare({ text: "at" }, { runAt: at, tags: ["x"], meta: { mine: 1 }, priority: 7 }),
        onSucceeded: Call.prepare({ text: "after" }, { delay: "1 hour" })
      })
      const { id } = yield* batch.enqueue([])
      const { callbacks } = yield* get(id)
      const finished = yield* jobs.get(callbacks.finished as JobId)
      assert.deepInclude(finished, { state: "scheduled", tags: ["x"], priority: 7 })
      assert.strictEqual(finished.runAt.epochMilliseconds, at.epochMilliseconds)
      assert.strictEqual(finished.meta["mine"], 1)
      yield* ShigotoTest.advance("1 hour")
      assert.deepStrictEqual(texts(), ["after"])
      yield* ShigotoTest.advance("1 hour")
      assert.deepStrictEqual(texts(), ["after", "at"])
    }).pipe(Effect.provide(world()))
  )

  it.effect("counts right, whatever is done to its members in whatever order", () =>
    Effect.gen(function* () {
      const batches = yield* Batches
      const jobs = yield* Jobs
      const sql = yield* SqlClient.SqlClient
      let seed = 7
      const random = (below: number) => (seed = (seed * 48_271) % 2_147_483_647) % below
      const outer = yield* Batch.make("outer").open()
      const inners = [
        (yield* Parts.enqueue(parts(0, 1, 2, 3, 4), { parent: outer })).id,
        (yield* Parts.enqueue(parts(5, 6, 7), { parent: outer })).id
      ]
      yield* batches.seal(outer)
      const members = (yield* Effect.forEach(inners, (id) => batches.members(id))).flat()
      for (let step = 0; step < 120; step++) {
        const id = members[random(members.length)]?.id as JobId
        failing.clear()
        for (let n = 0; n < 8; n++) if (random(3) === 0) failing.add(n)
        switch (random(5)) {
          case 0:
            yield* jobs.cancel(id)
            break
          case 1:
          case 2:
            yield* jobs.retry(id)
            break
          case 3:
            yield* batches.retryFailed(outer)
            break
          case 4:
            yield* ShigotoTest.drain
        }
        const wrong = yield* sql`
          WITH member AS (
            SELECT batch_id, state FROM shigoto.all_jobs WHERE batch_id IS NOT NULL
            UNION ALL
            SELECT parent_id, CASE
              WHEN finished_at IS NULL THEN 'live'
              WHEN discarded > 0 THEN 'discarded'
              WHEN cancelled > 0 THEN 'cancelled'
              ELSE 'completed'
            END
            FROM shigoto.batches
            WHERE parent_id IS NOT NULL
          )
          SELECT b.id
          FROM shigoto.batches AS b
          JOIN member AS m
            ON m.batch_id = b.id
          GROUP BY b.id
          HAVING b.total <> count(*)
            OR b.completed <> count(*) FILTER (WHERE m.state = 'completed')
            OR b.discarded <> count(*) FILTER (WHERE m.state = 'discarded')
            OR b.cancelled <> count(*) FILTER (WHERE m.state = 'cancelled')
            OR b.pending <> count(*) FILTER (WHERE m.state NOT IN ('completed', 'discarded', 'cancelled'))
            OR (b.finished_at IS NOT NULL) <> (b.pending = 0)`
        assert.deepStrictEqual([...wrong], [], `step ${step}`)
      }
      yield* ShigotoTest.drain
      // Each batch has called back once for each occasion at most.
      const twice = yield* sql`
        SELECT FROM shigoto.all_jobs WHERE worker = 'call' GROUP BY meta -> 'batch' ->> 'id', args HAVING count(*) > 1`
      assert.strictEqual(twice.length, 0)
    }).pipe(Effect.provide(world()))
  )

  it.effect("is refused whole, before anything is stored, where anything of it is wrong", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const batches = yield* Batches
      const unknown = 999 as BatchId
      const refusals: ReadonlyArray<
        readonly [string, Effect.Effect<unknown, { readonly _tag: string }, Batches | Jobs>]
      > = [
        ["InvalidBatch", Batch.make("").enqueue(parts(1))],
        ["InvalidBatch", Batch.make("a\u0000b").open()],
        ["InvalidBatch", Batch.make("x".repeat(129)).open()],
        ["InvalidBatch", Batch.make("b", { onFinish: Part.prepare({ n: 1 }) } as never).enqueue(parts(1))],
        ["InvalidArgs", Parts.enqueue([...parts(1), Part.prepare({ n: 1.5 })])],
        ["InvalidArgs", Batch.make("b", { onFinished: Part.prepare({ n: Number.NaN }) }).enqueue(parts(1))],
        ["InvalidPriority", Parts.enqueue([Part.prepare({ n: 1 }, { priority: 1e9 })])],
        ["MissingDependencies", Parts.enqueue([Part.prepare({ n: 1 }, { dependsOn: [900 as JobId] })])],
        ["BatchNotFound", Parts.open({ parent: unknown })],
        ["BatchNotFound", Part.enqueue({ n: 1 }, { batch: unknown })],
        ["BatchNotFound", batches.get(unknown)],
        ["BatchNotFound", batches.get(Number.NaN as BatchId)],
        ["BatchNotFound", batches.seal(-1 as BatchId)],
        ["BatchNotFound", batches.cancel(unknown)],
        ["BatchNotFound", batches.retryFailed(1.5 as BatchId)],
        ["BatchNotFound", batches.members(unknown)],
        ["InvalidFilter", batches.list({ limit: 0 })]
      ]
      for (const [tag, refused] of refusals) assert.strictEqual((yield* Effect.flip(refused))._tag, tag)
      for (const table of ["all_jobs", "batches"]) {
        assert.strictEqual((yield* sql`SELECT FROM ${sql(`shigoto.${table}`)}`).length, 0, table)
      }
    }).pipe(Effect.provide(world()))
  )

  it.effect("is listed, the newest first, page by page", () =>
    Effect.gen(function* () {
      const batches = yield* Batches
      const ids: Array<BatchId> = []
      for (let i = 0; i < 5; i++) ids.push(i % 2 === 0 ? (yield* Parts.enqueue([])).id : yield* Parts.open())
      const page = (options: Parameters<typeof batches.list>[0]) =>
        Effect.map(batches.list(options), (rows) => rows.map(({ id }) => ids.indexOf(id)))
      assert.deepStrictEqual(yield* page({}), [4, 3, 2, 1, 0])
      assert.deepStrictEqual(yield* page({ finished: true }), [4, 2, 0])
      assert.deepStrictEqual(yield* page({ finished: false, limit: 1 }), [3])
      assert.deepStrictEqual(yield* page({ finished: false, limit: 1, after: ids[3] }), [1])
    }).pipe(Effect.provide(world()))
  )
})
