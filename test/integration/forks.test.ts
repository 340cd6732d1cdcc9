/**
 * Ends, forks and inserts that meet on jobs which wait for each other, in both orders: the first has written and not yet
 * committed, the second comes in between, then the first commits.
 */
import { PgClient } from "@effect/sql-pg/PgClient"
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as SqlClient from "effect/sql/SqlClient"
import type { NewJob } from "../../src/internal/newJob.ts"
import type { JobId } from "../../src/JobRow.ts"
import * as JobStore from "../../src/JobStore.ts"
import type { Outcome } from "../../src/Outcome.ts"
import * as ShigotoConfig from "../../src/ShigotoConfig.ts"
import { eventually } from "../setup/eventually.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"
import { onDatabase, tally } from "./support.ts"

type Store = JobStore.JobStore["Service"]

interface Scene {
  readonly node: number
  /** Jobs that are executing, each under its first claim, and what was made of them before the two acts. */
  readonly jobs: Array<JobId>
}

interface Act {
  (store: Store, scene: Scene): Effect.Effect<unknown, unknown>
  /** Whether an application does it, maybe in a transaction of its own; else a node does, in a transaction of its own. */
  readonly isCallers?: true
}

const byCaller = (act: (store: Store, scene: Scene) => Effect.Effect<unknown, unknown>): Act =>
  Object.assign(act, { isCallers: true as const })

const newJob = (dependsOn: ReadonlyArray<JobId> = []): NewJob => ({
  worker: "work",
  queue: "default",
  args: "{}",
  priority: 0,
  maxAttempts: 5,
  due: { delayMillis: 0 },
  tags: undefined,
  meta: undefined,
  partitionKey: undefined,
  dependsOn: dependsOn.map((id) => ({ parent: { id }, onFailure: "cancel" }))
})

const claim = (store: Store, node: number) =>
  store.claim({ node, nodeName: "n", queue: "default", limit: 10, workers: [{ name: "work", room: 10 }] })

/** As the settler does: sends again where the row moved underneath and is still ours. */
const settle =
  (outcome: Outcome, ...which: ReadonlyArray<number>): Act =>
  (store, { jobs }) =>
    Effect.map(
      Effect.repeat(store.settle(which.map((at) => ({ id: jobs[at] as JobId, epoch: 1, outcome }))), {
        until: ({ verdicts }) => verdicts.every(({ _tag }) => _tag !== "Pending")
      }),
      ({ verdicts }) => verdicts.map(({ _tag }) => _tag).join()
    )

const completed: Outcome = { _tag: "Completed", result: undefined }
const forked: Outcome = {
  _tag: "Forked",
  name: "children",
  onFailure: "cancel",
  children: [newJob(), newJob()]
}

const cancel = (at: number) =>
  byCaller((store, { jobs }) =>
    Effect.map(
      Effect.repeat(store.cancel(jobs[at] as JobId, undefined), { until: (told) => told._tag !== "Moved" }),
      (told) => told._tag
    )
  )

const insert = (...parents: ReadonlyArray<number>) =>
  byCaller((store, { jobs }) =>
    Effect.map(store.composition.insert([newJob(parents.map((at) => jobs[at] as JobId))]), ({ stored: [one] }) =>
      one?._tag === "Inserted" ? one.inserted.state : one?._tag
    )
  )

const retry = (at: number) =>
  byCaller((store, { jobs }) => Effect.map(store.retry(jobs[at] as JobId), (told) => told._tag))

const rescue: Act = (store) => Effect.map(store.rescue("n"), ({ rescued }) => rescued.length)

/** A level that a caller's transaction may have; undefined for a caller without one. */
type Level = "READ COMMITTED" | "REPEATABLE READ" | "SERIALIZABLE" | undefined

const begin = (level: Level): string => `BEGIN ISOLATION LEVEL ${level ?? "READ COMMITTED"}`

/** What an application tries again: the database could not put its transaction in order with the others. */
const isOutOfOrder = (error: unknown): boolean =>
  typeof error === "object" && error !== null && "code" in error && error.code === "40001"

const meet = Effect.fnUntraced(function* (
  count: number,
  before: (store: Store, scene: Scene, sql: SqlClient.SqlClient) => Effect.Effect<unknown, unknown>,
  first: Act,
  second: Act,
  level?: Level
) {
  const database = yield* TestDatabase
  const config = yield* ShigotoConfig.make({ queryTimeout: "30 seconds" })
  const sql = yield* SqlClient.SqlClient
  const open = Effect.gen(function* () {
    const client = yield* database.makeClient({ maxConnections: 1 })
    const store = yield* JobStore.make.pipe(
      Effect.provideService(PgClient, client),
      Effect.provideService(ShigotoConfig.ShigotoConfig, config)
    )
    const [row] = yield* client<{ readonly pid: number }>`SELECT pg_backend_pid() AS pid`
    return { client, store, pid: row?.pid ?? 0 }
  })
  const [a, b] = [yield* open, yield* open]
  for (const table of ["jobs", "jobs_archive", "dependencies"]) yield* sql`DELETE FROM ${sql(`shigoto.${table}`)}`
  const node = yield* a.store.register({ name: "n", ttlMillis: 600_000 })
  yield* a.store.insert(Array.from({ length: count }, () => newJob()))
  const jobs = (yield* claim(a.store, node)).map(({ id }) => id)
  const scene: Scene = { node, jobs }
  yield* before(a.store, scene, sql)

  const written = Latch.makeUnsafe(false)
  const commit = Latch.makeUnsafe(false)
  const one = yield* a.client
    .withTransaction(
      Effect.gen(function* () {
        const told = yield* first(a.store, scene)
        written.openUnsafe()
        yield* commit.await
        return told
      })
    )
    .pipe(
      // The transaction of a node's act stands for the library's own, which names its level.
      Effect.provideService(SqlClient.BeginTransaction, begin(first.isCallers && level)),
      Effect.forkScoped
    )
  yield* written.await
  const bare = second(b.store, scene)
  const two = yield* (
    level === undefined || !second.isCallers
      ? bare
      : b.client
          .withTransaction(bare)
          .pipe(Effect.provideService(SqlClient.BeginTransaction, begin(level)), Effect.retry({ while: isOutOfOrder }))
  ).pipe(Effect.forkScoped({ startImmediately: true }))
  yield* eventually(
    sql<{ readonly waits: boolean }>`SELECT cardinality(pg_blocking_pids(${b.pid}::integer)) > 0 AS waits`,
    ([seen]) => seen?.waits === true || two.pollUnsafe() !== undefined
  )
  commit.openUnsafe()
  const told = [yield* Fiber.join(one), yield* Fiber.join(two)]
  // What the sweep would make good is an end that was missed.
  const { aftermath } = yield* b.store.composition.sweepBlocked(0)
  const undecided = yield* sql`
    SELECT FROM shigoto.dependencies AS d
    WHERE d.outcome IS NULL AND NOT EXISTS (SELECT FROM shigoto.jobs AS j WHERE j.id = d.parent_id)`
  return { told, states: yield* tally, missed: aftermath.freed.length + aftermath.cancelled.length + undecided.length }
})

const nothing = () => Effect.void
const orphan = (_: Store, __: Scene, sql: SqlClient.SqlClient) =>
  sql`UPDATE shigoto.nodes SET expires_at = statement_timestamp()`
/** One more waits for them; it is the last of the jobs. */
const waits =
  (...parents: ReadonlyArray<number>) =>
  (store: Store, scene: Scene) =>
    Effect.map(
      store.composition.insert([newJob(parents.map((at) => scene.jobs[at] as JobId))]),
      ({ stored: [one] }) => one?._tag === "Inserted" && scene.jobs.push(one.inserted.id)
    )

/** The first job has completed, longer ago than such jobs are kept. */
const isOld = Effect.fnUntraced(function* (store: Store, scene: Scene, sql: SqlClient.SqlClient) {
  yield* settle(completed, 0)(store, scene)
  yield* sql`UPDATE shigoto.jobs_archive SET finished_at = finished_at - interval '400 days'`
})
const prune: Act = (store) => Effect.map(store.prune("completed"), ({ deleted }) => deleted)

/** The first job has forked, and its children are executing as the second and third. */
const isForked = Effect.fnUntraced(function* (store: Store, scene: Scene) {
  yield* settle(forked, 0)(store, scene)
  const children = yield* claim(store, scene.node)
  scene.jobs.push(...children.map(({ id }) => id))
})

describe("jobs that wait for each other", () => {
  const cases: ReadonlyArray<
    readonly [string, number, Parameters<typeof meet>[1], Act, Act, ReadonlyArray<unknown>, Record<string, number>]
  > = [
    // what, how many executing, before, first, second, what both were told, then how many in which state
    [
      "an insert, an end",
      1,
      nothing,
      insert(0),
      settle(completed, 0),
      ["blocked", "Accepted"],
      { completed: 1, available: 1 }
    ],
    [
      "an end, an insert",
      1,
      nothing,
      settle(completed, 0),
      insert(0),
      ["Accepted", "available"],
      { completed: 1, available: 1 }
    ],
    ["an insert, a prune of its parent", 1, isOld, insert(0), prune, ["available", 1], { available: 1 }],
    ["a prune of the parent, an insert", 1, isOld, prune, insert(0), [1, "available"], { available: 1 }],
    [
      "a second insert, an end",
      1,
      waits(0),
      insert(0),
      settle(completed, 0),
      ["blocked", "Accepted"],
      { completed: 1, available: 2 }
    ],
    [
      "an end, a second insert",
      1,
      waits(0),
      settle(completed, 0),
      insert(0),
      ["Accepted", "available"],
      { completed: 1, available: 2 }
    ],
    ["an insert, a cancel", 1, orphan, insert(0), cancel(0), ["blocked", "Requested"], { executing: 1, blocked: 1 }],
    ["two inserts", 1, nothing, insert(0), insert(0), ["blocked", "blocked"], { executing: 1, blocked: 2 }],
    [
      "two ends of parents",
      2,
      waits(0, 1),
      settle(completed, 0),
      settle(completed, 1),
      ["Accepted", "Accepted"],
      { completed: 2, available: 1 }
    ],
    [
      "the same the other way round",
      2,
      waits(0, 1),
      settle(completed, 1),
      settle(completed, 0),
      ["Accepted", "Accepted"],
      { completed: 2, available: 1 }
    ],
    [
      "an end, a cancel of who waits",
      1,
      waits(0),
      settle(completed, 0),
      cancel(1),
      ["Accepted", "Cancelled"],
      { completed: 1, cancelled: 1 }
    ],
    [
      "a cancel of who waits, an end",
      1,
      waits(0),
      cancel(1),
      settle(completed, 0),
      ["Cancelled", "Accepted"],
      { completed: 1, cancelled: 1 }
    ],
    [
      "an end, a retry of who waits",
      1,
      waits(0),
      settle(completed, 0),
      retry(1),
      ["Accepted", "Unchanged"],
      { completed: 1, available: 1 }
    ],
    [
      "a fork, a cancel",
      1,
      nothing,
      settle(forked, 0),
      cancel(0),
      ["Accepted", "Cancelled"],
      { available: 2, cancelled: 1 }
    ],
    ["a cancel, a fork", 1, nothing, cancel(0), settle(forked, 0), ["Requested", "Accepted"], { cancelled: 1 }],
    ["a fork, a rescue", 1, orphan, settle(forked, 0), rescue, ["Accepted", 0], { available: 2, blocked: 1 }],
    ["a rescue, a fork", 1, orphan, rescue, settle(forked, 0), [1, "Lost"], { retryable: 1 }],
    [
      "a fork, the same again",
      1,
      nothing,
      settle(forked, 0),
      settle(forked, 0),
      ["Accepted", "Accepted"],
      { available: 2, blocked: 1 }
    ],
    [
      "two ends of children",
      1,
      isForked,
      settle(completed, 1),
      settle(completed, 2),
      ["Accepted", "Accepted"],
      { completed: 2, available: 1 }
    ],
    [
      "the same the other way round, in one batch",
      1,
      isForked,
      settle(completed, 2),
      settle(completed, 1, 2),
      ["Accepted", "Accepted,Accepted"],
      { completed: 2, available: 1 }
    ],
    [
      "an end of the last child, a cancel of who waits",
      1,
      isForked,
      settle(completed, 1, 2),
      cancel(0),
      ["Accepted,Accepted", "Cancelled"],
      { completed: 2, cancelled: 1 }
    ],
    [
      "a cancel of who waits, an end of the last child",
      1,
      isForked,
      cancel(0),
      settle(completed, 1, 2),
      ["Cancelled", "Accepted,Accepted"],
      { completed: 2, cancelled: 1 }
    ]
  ]
  const levels = [undefined, "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] as const
  for (const isolation of [undefined, "repeatable read", "serializable"] as const) {
    onDatabase(
      `go on as their order says, where the database's default is ${isolation ?? "read committed"}`,
      () =>
        Effect.gen(function* () {
          for (const [what, count, before, first, second, told, states] of cases) {
            for (const level of first.isCallers || second.isCallers ? levels : [undefined]) {
              const found = yield* Effect.scoped(meet(count, before, first, second, level))
              assert.deepStrictEqual(
                found,
                { told, states, missed: 0 },
                `${what}, the caller ${level ?? "without a transaction"}`
              )
            }
          }
        }),
      { ...(isolation !== undefined && { isolation }) }
    )
  }

  onDatabase("keep a sealed batch open for what a running member adds, and closed after its end", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const inBatch = (_: Store, { jobs: [id] }: Scene) =>
        Effect.andThen(
          sql`
            WITH sealed AS (
              INSERT INTO shigoto.batches (name, total, pending, inserted_at, sealed_at)
              VALUES ('b', 1, 1, statement_timestamp(), statement_timestamp())
              RETURNING id
            )
            UPDATE shigoto.jobs SET batch_id = sealed.id, links = 2 FROM sealed WHERE jobs.id = ${id}::bigint`,
          Effect.void
        )
      const add: Act = (store, { jobs: [id] }) =>
        Effect.match(store.composition.insert([newJob()], undefined, { id: id as JobId, epoch: 1 }), {
          onFailure: (error) => error._tag,
          onSuccess: ({ stored }) => stored.length
        })
      const end = settle(completed, 0)
      for (const [first, second, told, states, batch] of [
        [add, end, [1, "Accepted"], { completed: 1, available: 1 }, { total: 2, pending: 1, finished: false }],
        [end, add, ["Accepted", "BatchClosed"], { completed: 1 }, { total: 1, pending: 0, finished: true }],
        [add, add, [1, 1], { executing: 1, available: 2 }, { total: 3, pending: 3, finished: false }]
      ] as const) {
        const found = yield* Effect.scoped(meet(1, inBatch, first, second))
        assert.deepStrictEqual([found.told, found.states], [told, states] as never)
        assert.deepStrictEqual(
          yield* sql`SELECT total, pending, finished_at IS NOT NULL AS finished FROM shigoto.batches ORDER BY id DESC LIMIT 1`,
          [batch]
        )
      }
    })
  )

  onDatabase("do not care whether a parent is pruned before, while or after one waits for it", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const ended = (store: Store, scene: Scene) => settle(completed, 0)(store, scene)
      const prune: Act = () => sql`DELETE FROM shigoto.jobs_archive WHERE worker = 'work'`
      for (const [first, second] of [
        [insert(0), prune],
        [prune, insert(0)]
      ] as const) {
        const { missed, states } = yield* Effect.scoped(meet(1, ended, first, second))
        assert.deepStrictEqual([states, missed], [{ available: 1 }, 0])
      }
    })
  )

  onDatabase("never wait for each other in a circle", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const database = yield* TestDatabase
      const client = yield* database.makeClient({ maxConnections: 8 })
      const store = yield* JobStore.make.pipe(
        Effect.provideService(PgClient, client),
        Effect.provide(ShigotoConfig.layer())
      )
      const node = yield* store.register({ name: "n", ttlMillis: 600_000 })
      for (let round = 0; round < 30; round++) {
        yield* store.insert(Array.from({ length: 8 }, () => newJob()))
        const parents = yield* claim(store, node)
        const ids = parents.map(({ id }) => id)
        // Each child waits for all, in an order of its own; each end frees or counts down all children.
        yield* store.composition.insert([ids, ids.toReversed(), ids.slice(3), ids.slice(0, 5)].map((of) => newJob(of)))
        yield* Effect.forEach(
          [parents.slice(0, 3), parents.slice(3, 6).toReversed(), parents.slice(6)],
          (some) => store.settle(some.map(({ epoch, id }) => ({ id, epoch, outcome: completed }))),
          { concurrency: 3 }
        )
        const freed = yield* claim(store, node)
        assert.strictEqual(freed.length, 4)
        yield* store.settle(freed.map(({ epoch, id }) => ({ id, epoch, outcome: completed })))
      }
      const [row] = yield* sql<{ readonly deadlocks: number }>`
        SELECT deadlocks::integer FROM pg_stat_database WHERE datname = current_database()`
      assert.strictEqual(row?.deadlocks, 0)
    })
  )
})
