/**
 * Batches and unique keys where transactions meet, in every order: the first has written and not yet committed, the
 * others come in between, then the first commits. What producers do runs in transactions of every isolation level,
 * what nodes do in their own.
 */
import { PgClient } from "@effect/sql-pg/PgClient"
import { assert, describe } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Batch from "../../src/Batch.ts"
import { Batches } from "../../src/Batches.ts"
import * as Job from "../../src/Job.ts"
import type { BatchId, JobId } from "../../src/JobRow.ts"
import { Jobs } from "../../src/Jobs.ts"
import { JobStore, layer as storeLayer } from "../../src/JobStore.ts"
import * as Shigoto from "../../src/Shigoto.ts"
import * as ShigotoConfig from "../../src/ShigotoConfig.ts"
import { eventually } from "../setup/eventually.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"
import { onDatabase } from "./support.ts"

const Part = Job.make("part", { args: { n: Schema.Int } })
const Done = Job.make("done", { queue: "callbacks" })
const Bad = Job.make("bad", { queue: "callbacks" })
const Mail = Job.make("mail", {
  args: { n: Schema.Int },
  unique: { keys: ["worker"], replace: ["args"] }
})
const Parts = Batch.make("parts", { onFinished: Done.prepare({}), onFirstFailure: Bad.prepare({}) })

interface Scene {
  readonly node: number
  readonly batch: BatchId
  /** Jobs that were claimed, in their order. */
  readonly jobs: ReadonlyArray<{ readonly id: JobId; readonly epoch: number }>
}

interface Act {
  /** Whether a node does it, in a transaction of its own. */
  readonly own?: boolean
  /** Returns what the caller was told. */
  readonly run: (scene: Scene) => Effect.Effect<unknown, unknown, Batches | Jobs | JobStore>
}

const claim = (node: number) =>
  Effect.flatMap(JobStore, (store) =>
    store.claim({
      node,
      nodeName: "n",
      queue: "default",
      limit: 10,
      workers: ["part", "mail"].map((name) => ({ name, room: 10 }))
    })
  )

/** As the settler does: sends again where the row moved underneath and is still ours. */
const end = (at: number, how: "completed" | "discarded" = "completed"): Act => ({
  own: true,
  run: ({ jobs }) =>
    Effect.flatMap(JobStore, (store) =>
      Effect.map(
        Effect.repeat(
          store.settle([
            {
              ...(jobs[at] as Scene["jobs"][number]), // claimed before
              outcome:
                how === "completed"
                  ? { _tag: "Completed", result: undefined }
                  : { _tag: "Discarded", failure: { attempt: 1, at: "", node: "", tag: "x", message: "x" } }
            }
          ]),
          { until: ({ verdicts: [verdict] }) => verdict?._tag !== "Pending" }
        ),
        ({ verdicts: [verdict] }) => verdict?._tag
      )
    )
})
const claims: Act = { own: true, run: ({ node }) => Effect.map(claim(node), (jobs) => jobs.length) }
const add: Act = {
  run: ({ batch }) =>
    Part.enqueue({ n: 9 }, { batch }).pipe(
      Effect.map(({ _tag }) => _tag),
      Effect.catchTag("BatchClosed", ({ _tag }) => Effect.succeed(_tag))
    )
}
const seal: Act = {
  run: ({ batch }) => Effect.flatMap(Batches, (batches) => Effect.as(batches.seal(batch), "sealed"))
}
const enqueue: Act = { run: () => Effect.map(Mail.enqueue({ n: 2 }), ({ _tag }) => _tag) }
const retry = (at: number): Act => ({
  run: ({ jobs }) =>
    Effect.flatMap(Jobs, (service) => Effect.map(service.retry(jobs[at]?.id as JobId), ({ _tag }) => _tag))
})

/** What was there before, and how many of it are executing. */
interface Start {
  readonly members?: number
  readonly sealed?: boolean
  readonly mail?: "available" | "executing" | "completed"
}

const levels = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] as const

const meet = Effect.fnUntraced(function* (level: (typeof levels)[number], start: Start, acts: ReadonlyArray<Act>) {
  const database = yield* TestDatabase
  const sql = yield* SqlClient.SqlClient
  for (const table of ["jobs", "jobs_archive", "batches", "unique_keys"]) {
    yield* sql`DELETE FROM ${sql(`shigoto.${table}`)}`
  }
  const open = Effect.gen(function* () {
    const client = yield* database.makeClient({ maxConnections: 1 })
    const context = yield* Layer.build(
      Layer.fresh(Shigoto.layerProducer.pipe(Layer.provideMerge(storeLayer))).pipe(
        Layer.provide(ShigotoConfig.layer({ queryTimeout: "30 seconds" })),
        Layer.provide(
          Layer.succeedContext(Context.make(PgClient, client).pipe(Context.add(SqlClient.SqlClient, client)))
        )
      )
    )
    const [row] = yield* client<{ readonly pid: number }>`SELECT pg_backend_pid() AS pid`
    return { client, context, pid: row?.pid ?? 0 }
  })
  const sides = yield* Effect.forEach(acts, () => open)
  const [first] = sides
  if (first === undefined) return yield* Effect.die("nobody acts")

  const scene: Scene = yield* Effect.gen(function* () {
    const store = yield* JobStore
    const batches = yield* Batches
    const node = yield* store.register({ name: "n", ttlMillis: 600_000 })
    const batch = yield* Parts.open()
    const members = Array.from({ length: start.members ?? 0 }, (_, n) => ({ n }))
    if (members.length > 0) yield* Part.enqueueAll(members, { batch })
    if (start.sealed === true) yield* batches.seal(batch)
    if (start.mail !== undefined) yield* Mail.enqueue({ n: 1 })
    const jobs = start.mail === "available" ? [] : yield* claim(node)
    const built = { node, batch, jobs: jobs.toSorted((a, b) => a.id - b.id) }
    if (start.mail === "completed") yield* end(0).run(built)
    return built
  }).pipe(Effect.provideContext(first.context))

  const begin = (own: boolean | undefined) => `BEGIN ISOLATION LEVEL ${own === true ? "READ COMMITTED" : level}`
  /** As an application does whose transaction the database could not put in order with the others. */
  const again = Effect.retry({
    while: (error: unknown) => typeof error === "object" && error !== null && "code" in error && error.code === "40001"
  })
  const written = Latch.makeUnsafe(false)
  const commit = Latch.makeUnsafe(false)
  const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
  for (const [i, act] of acts.entries()) {
    const { client, context, pid } = sides[i] as typeof first // one for each
    const body = act.run(scene).pipe(
      Effect.provideContext(context),
      Effect.tap(() =>
        i === 0
          ? Effect.andThen(
              Effect.sync(() => written.openUnsafe()),
              commit.await
            )
          : Effect.void
      )
    )
    // A node's own act begins its own transaction, unless we are to hold it.
    const whole =
      act.own === true && i > 0
        ? body
        : client.withTransaction(body).pipe(Effect.provideService(SqlClient.BeginTransaction, begin(act.own)), again)
    const fiber = yield* Effect.forkScoped(whole, { startImmediately: true })
    fibers.push(fiber)
    if (i === 0) yield* written.await
    else {
      yield* eventually(
        sql<{ readonly waits: boolean }>`SELECT cardinality(pg_blocking_pids(${pid}::integer)) > 0 AS waits`,
        ([seen]) => seen?.waits === true || fiber.pollUnsafe() !== undefined
      )
    }
  }
  commit.openUnsafe()
  const told = yield* Effect.forEach(fibers, Fiber.join)
  const [batch] = yield* sql<{ total: number; pending: number; finished: boolean; sealed: boolean }>`
    SELECT total, pending, finished_at IS NOT NULL AS finished, sealed_at IS NOT NULL AS sealed FROM shigoto.batches`
  const callbacks = yield* sql<{ worker: string }>`
    SELECT worker FROM shigoto.all_jobs WHERE queue = 'callbacks' ORDER BY worker`
  const mails = yield* sql<{ state: string; n: number }>`
    SELECT state, (args ->> 'n')::integer AS n FROM shigoto.all_jobs WHERE worker = 'mail' ORDER BY id`
  const keys = yield* sql`SELECT FROM shigoto.unique_keys AS u JOIN shigoto.jobs AS j ON j.id = u.job_id`
  return {
    told,
    batch,
    callbacks: callbacks.map(({ worker }) => worker),
    mails: mails.map(({ n, state }) => `${state} ${n}`),
    keys: keys.length
  }
})

describe("where transactions meet", () => {
  for (const level of levels) {
    onDatabase(`a batch is finished once, by whichever came last, at ${level}`, () =>
      Effect.gen(function* () {
        const one: Start = { members: 1 }
        const two: Start = { members: 2, sealed: true }
        const [over, open, shut] = [
          { total: 2, pending: 0, finished: true, sealed: true },
          { total: 2, pending: 1, finished: false, sealed: false },
          { total: 1, pending: 0, finished: true, sealed: true }
        ]
        for (const [name, start, acts, told, batch, callbacks] of [
          ["last, last", two, [end(0), end(1)], ["Accepted", "Accepted"], over, ["done"]],
          ["last, last, turned", two, [end(1), end(0)], ["Accepted", "Accepted"], over, ["done"]],
          ["fails, last", two, [end(0, "discarded"), end(1)], ["Accepted", "Accepted"], over, ["bad", "done"]],
          [
            "fails, fails",
            two,
            [end(0, "discarded"), end(1, "discarded")],
            ["Accepted", "Accepted"],
            over,
            ["bad", "done"]
          ],
          ["the same end twice", { ...one, sealed: true }, [end(0), end(0)], ["Accepted", "Accepted"], shut, ["done"]],
          ["seal, last", one, [seal, end(0)], ["sealed", "Accepted"], shut, ["done"]],
          ["last, seal", one, [end(0), seal], ["Accepted", "sealed"], shut, ["done"]],
          ["seal, seal", { members: 0 }, [seal, seal], ["sealed", "sealed"], { ...shut, total: 0 }, ["done"]],
          ["seal, add", { members: 0 }, [seal, add], ["sealed", "BatchClosed"], { ...shut, total: 0 }, ["done"]],
          [
            "add, seal",
            { members: 0 },
            [add, seal],
            ["Inserted", "sealed"],
            { total: 1, pending: 1, finished: false, sealed: true },
            []
          ],
          ["add, last", one, [add, end(0)], ["Inserted", "Accepted"], open, []],
          ["last, add", one, [end(0), add], ["Accepted", "Inserted"], open, []]
        ] as const) {
          const found = yield* Effect.scoped(meet(level, start, acts))
          assert.deepStrictEqual(
            { told: found.told, batch: found.batch, callbacks: found.callbacks },
            { told: [...told], batch, callbacks: [...callbacks] },
            name
          )
        }
        const three = { add, seal, last: end(0) }
        for (const order of permutations(["add", "seal", "last"] as const)) {
          const { batch, callbacks, told } = yield* Effect.scoped(
            meet(
              level,
              one,
              order.map((name) => three[name])
            )
          )
          const added = told[order.indexOf("add")]
          assert.deepStrictEqual(
            { batch, callbacks },
            added === "Inserted"
              ? { batch: { total: 2, pending: 1, finished: false, sealed: true }, callbacks: [] }
              : { batch: shut, callbacks: ["done"] },
            order.join()
          )
          // Nobody may overtake who has written before.
          if (order[0] !== "last") assert.strictEqual(added, order[0] === "add" ? "Inserted" : "BatchClosed")
        }
      })
    )

    onDatabase(`a key has one holder, and what runs is not replaced, at ${level}`, () =>
      Effect.gen(function* () {
        for (const [name, mail, acts, told, mails] of [
          ["replace, claim", "available", [enqueue, claims], ["Replaced", 0], ["available 2"]],
          ["claim, replace", "available", [claims, enqueue], [1, "ConflictExecuting"], ["executing 1"]],
          ["replace, replace", "available", [enqueue, enqueue], ["Replaced", undefined], ["available 2"]],
          ["end, enqueue", "executing", [end(0), enqueue], ["Accepted", "Inserted"], ["completed 1", "available 2"]],
          ["enqueue, end", "executing", [enqueue, end(0)], ["ConflictExecuting", "Accepted"], ["completed 1"]],
          ["retry, enqueue", "completed", [retry(0), enqueue], ["Retried", undefined], undefined],
          [
            "enqueue, retry",
            "completed",
            [enqueue, retry(0)],
            ["Inserted", "UniqueConflict"],
            ["completed 1", "available 2"]
          ],
          ["retry, retry", "completed", [retry(0), retry(0)], ["Retried", "Unchanged"], ["available 1"]]
        ] as const) {
          const found = yield* Effect.scoped(meet(level, { mail }, acts))
          assert.strictEqual(found.keys, name === "enqueue, end" ? 0 : 1, name)
          // One that waited for the first may have found it gone, or another row; it is never told that it inserted.
          for (const [i, answer] of told.entries()) {
            if (answer === undefined) assert.include(["Replaced", "ConflictExecuting"], found.told[i], name)
            else assert.strictEqual(found.told[i], answer, name)
          }
          if (mails !== undefined) assert.deepStrictEqual(found.mails, [...mails], name)
          else assert.strictEqual(found.mails.length, 1, name)
        }
      })
    )
  }
})

const permutations = <A>(items: ReadonlyArray<A>): ReadonlyArray<ReadonlyArray<A>> =>
  items.length < 2
    ? [items]
    : items.flatMap((item, i) => permutations(items.toSpliced(i, 1)).map((rest) => [item, ...rest]))
