/**
 * Pairs of transitions that meet on one row, in both orders: the first has written and not yet committed, the second
 * comes in between, then the first commits.
 */
import { PgClient } from "@effect/sql-pg/PgClient"
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as SqlClient from "effect/sql/SqlClient"
import type { JobId } from "../../src/JobRow.ts"
import * as JobStore from "../../src/JobStore.ts"
import * as Migrations from "../../src/Migrations.ts"
import type { Outcome } from "../../src/Outcome.ts"
import * as ShigotoConfig from "../../src/ShigotoConfig.ts"
import { eventually } from "../setup/eventually.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"
import { onDatabase } from "./support.ts"

type Store = JobStore.JobStore["Service"]

const claim = (store: Store, node: number) =>
  store.claim({ node, nodeName: "n", queue: "default", limit: 10, workers: [{ name: "work", room: 10 }] })

const completed: Outcome = { _tag: "Completed", result: undefined }

/** As the settler does: sends again where the row moved underneath and is still ours. */
const settle =
  (outcome: Outcome): Act =>
  (store, { id }) =>
    Effect.map(
      Effect.repeat(store.settle([{ id, epoch: 1, outcome }]), {
        until: ({ verdicts: [verdict] }) => verdict?._tag !== "Pending"
      }),
      ({ verdicts: [verdict] }) => verdict?._tag
    )

const retryable: Outcome = {
  _tag: "Retryable",
  delayMillis: 0,
  failure: { attempt: 1, at: "2026-01-01T00:00:00.000Z", node: "n", tag: "E", message: "m" }
}

interface Scene {
  readonly id: JobId
  readonly node: number
}

type Act = (store: Store, scene: Scene) => Effect.Effect<unknown, unknown>

/** What may be done to the one job; each returns what the caller was told. */
const acts = {
  claim: (store, { node }) => Effect.map(claim(store, node), (jobs) => jobs.length),
  complete: settle(completed),
  fail: settle(retryable),
  release: settle({ _tag: "Released" }),
  rescue: (store) => Effect.map(store.rescue("n"), ({ rescued }) => rescued.length),
  reconcile: (store, { node }) =>
    Effect.map(store.reconcile({ id: node, known: [], graceMillis: 0 }), ({ given }) => given.length),
  promote: (store, { node }) =>
    Effect.map(store.promote({ id: node, queues: [], workers: [] }), (look) => look.promoted),
  cancel: (store, { id }) =>
    // As Jobs.cancel does: asks again where the row moved underneath.
    Effect.map(Effect.repeat(store.cancel(id, "why"), { until: (told) => told._tag !== "Moved" }), (told) => told._tag),
  retry: (store, { id }) => Effect.map(store.retry(id), (told) => told._tag),
  pause: (store) => Effect.as(store.changeQueue({ name: "default", node: "", paused: true }), "paused")
} satisfies Record<string, Act>

/** What an application does, maybe in a transaction of its own; the others are a node's, in transactions of theirs. */
const ofCallers: ReadonlySet<keyof typeof acts> = new Set(["cancel", "retry", "pause"] as const)

/** A level that a caller's transaction may have; undefined for a caller without one. */
type Level = "READ COMMITTED" | "REPEATABLE READ" | "SERIALIZABLE" | undefined

/**
 * Runs the first act in a transaction that stays open, the second on another connection until it has either ended or
 * waits for a lock, then commits. Returns what both were told and what became of the job.
 */
const meet = Effect.fnUntraced(function* (
  start: "available" | "scheduled" | "executing" | "orphaned",
  first: keyof typeof acts,
  second: keyof typeof acts,
  level: Level
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

  yield* sql`DELETE FROM shigoto.jobs`
  yield* sql`DELETE FROM shigoto.jobs_archive`
  yield* sql`DELETE FROM shigoto.queues`
  const node = yield* a.store.register({ name: "n", ttlMillis: 600_000 })
  const [row] = yield* sql<{ readonly id: bigint }>`SELECT shigoto.enqueue('work', max_attempts => 5) AS id`
  const scene: Scene = { id: Number(row?.id) as JobId, node }
  if (start === "scheduled") yield* sql`UPDATE shigoto.jobs SET state = 'scheduled'`
  if (start === "executing" || start === "orphaned") yield* claim(a.store, node)
  if (start === "orphaned") yield* sql`UPDATE shigoto.nodes SET expires_at = statement_timestamp()`

  const written = Latch.makeUnsafe(false)
  const commit = Latch.makeUnsafe(false)
  const one = yield* a.client
    .withTransaction(
      Effect.gen(function* () {
        const told = yield* acts[first](a.store, scene)
        written.openUnsafe()
        yield* commit.await
        return told
      })
    )
    .pipe(
      // The transaction of a node's act stands for the library's own, which names its level.
      Effect.provideService(SqlClient.BeginTransaction, begin(ofCallers.has(first) ? level : undefined)),
      Effect.forkScoped
    )
  yield* written.await
  const bare = acts[second](b.store, scene)
  const two = yield* (
    level === undefined || !ofCallers.has(second)
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
  const job = yield* b.store.get(scene.id)
  const rows = yield* sql`SELECT FROM shigoto.all_jobs`
  assert.strictEqual(rows.length, 1, "the job is there, once")
  return { told, state: job?.state, attempt: job?.attempt, epoch: job?.epoch }
})

const begin = (level: Level): string => `BEGIN ISOLATION LEVEL ${level ?? "READ COMMITTED"}`

/** What an application tries again: the database could not put its transaction in order with the others. */
const isOutOfOrder = (error: unknown): boolean =>
  typeof error === "object" && error !== null && "code" in error && error.code === "40001"

describe("interleavings", () => {
  const cases: ReadonlyArray<
    readonly [
      Parameters<typeof meet>[0],
      keyof typeof acts,
      keyof typeof acts,
      ReadonlyArray<unknown>,
      string,
      number,
      number
    ]
  > = [
    // start, first, second, what both were told, then: state, attempt, epoch
    ["available", "claim", "claim", [1, 0], "executing", 1, 1],
    ["available", "pause", "claim", ["paused", 1], "executing", 1, 1],
    ["available", "claim", "pause", [1, "paused"], "executing", 1, 1],
    ["available", "claim", "cancel", [1, "Requested"], "executing", 1, 1],
    ["available", "cancel", "claim", ["Cancelled", 0], "cancelled", 0, 0],
    ["scheduled", "promote", "cancel", [1, "Cancelled"], "cancelled", 0, 0],
    ["scheduled", "cancel", "promote", ["Cancelled", 0], "cancelled", 0, 0],
    ["scheduled", "promote", "promote", [1, 0], "available", 0, 0],
    ["executing", "complete", "cancel", ["Accepted", "Finished"], "completed", 1, 1],
    ["executing", "cancel", "complete", ["Requested", "Accepted"], "completed", 1, 1],
    ["executing", "fail", "cancel", ["Accepted", "Cancelled"], "cancelled", 1, 1],
    ["executing", "cancel", "release", ["Requested", "Accepted"], "cancelled", 1, 1],
    ["executing", "fail", "retry", ["Accepted", "Unchanged"], "retryable", 1, 1],
    ["executing", "retry", "fail", ["Unchanged", "Accepted"], "retryable", 1, 1],
    ["executing", "complete", "retry", ["Accepted", "Unchanged"], "completed", 1, 1],
    ["executing", "retry", "complete", ["Unchanged", "Accepted"], "completed", 1, 1],
    ["executing", "complete", "complete", ["Accepted", "Accepted"], "completed", 1, 1],
    ["executing", "reconcile", "complete", [1, "Lost"], "available", 0, 2],
    ["executing", "complete", "reconcile", ["Accepted", 0], "completed", 1, 1],
    ["executing", "reconcile", "cancel", [1, "Cancelled"], "cancelled", 0, 2],
    ["executing", "cancel", "reconcile", ["Requested", 0], "executing", 1, 1],
    ["orphaned", "rescue", "rescue", [1, 0], "retryable", 1, 2],
    ["orphaned", "rescue", "complete", [1, "Lost"], "retryable", 1, 2],
    ["orphaned", "complete", "rescue", ["Accepted", 0], "completed", 1, 1],
    ["orphaned", "rescue", "release", [1, "Lost"], "retryable", 1, 2],
    ["orphaned", "release", "rescue", ["Accepted", 0], "available", 0, 1],
    ["orphaned", "rescue", "cancel", [1, "Cancelled"], "cancelled", 1, 2],
    ["orphaned", "cancel", "rescue", ["Requested", 0], "executing", 1, 1]
  ]
  const levels = [undefined, "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] as const
  for (const isolation of [undefined, "repeatable read", "serializable"] as const) {
    onDatabase(
      `end as their order says, where the database's default is ${isolation ?? "read committed"}`,
      () =>
        Effect.gen(function* () {
          for (const [start, first, second, told, state, attempt, epoch] of cases) {
            for (const level of ofCallers.has(first) || ofCallers.has(second) ? levels : [undefined]) {
              const found = yield* Effect.scoped(meet(start, first, second, level))
              assert.deepStrictEqual(
                found,
                { told, state, attempt, epoch } as typeof found,
                `${start}: ${first}, ${second}, the caller ${level ?? "without a transaction"}`
              )
            }
          }
        }),
      { ...(isolation !== undefined && { isolation }) }
    )
  }

  onDatabase("two outcomes of one job in one batch: that of its last claim counts, and the other is refused", () =>
    Effect.gen(function* () {
      const database = yield* TestDatabase
      const client = yield* database.makeClient({ maxConnections: 2 })
      const store = yield* JobStore.make.pipe(
        Effect.provideService(PgClient, client),
        Effect.provide(ShigotoConfig.layer())
      )
      // Plain ones, and ones that others wait for: they settle on different paths.
      for (const links of [0, 1]) {
        const late = yield* store.register({ name: "n", ttlMillis: 600_000 })
        const [row] = yield* client<{ readonly id: bigint }>`SELECT shigoto.enqueue('work', max_attempts => 5) AS id`
        const id = Number(row?.id) as JobId
        yield* client`UPDATE shigoto.jobs SET links = ${links}::smallint`
        yield* claim(store, late)
        yield* client`UPDATE shigoto.nodes SET expires_at = statement_timestamp()`
        yield* store.rescue("n")
        yield* client`UPDATE shigoto.jobs SET state = 'available'`
        yield* claim(store, yield* store.register({ name: "n", ttlMillis: 600_000 }))
        const stale = { id, epoch: 1, outcome: { _tag: "Completed", result: '"stale"' } as const }
        const last = { id, epoch: 3, outcome: { _tag: "Completed", result: '"last"' } as const }
        for (const batch of [
          [stale, last],
          [last, stale]
        ]) {
          const { verdicts } = yield* store.settle(batch)
          assert.deepStrictEqual(
            verdicts.map((verdict) => verdict._tag),
            batch.map((settlement) => (settlement === last ? "Accepted" : "Lost"))
          )
        }
        assert.strictEqual((yield* store.get(id))?.result, "last")
      }
    })
  )

  for (const isolation of [undefined, "repeatable read", "serializable"] as const) {
    onDatabase(
      `two that look at one due entry of the schedule: one deals with its tick, where the default is ${isolation ?? "read committed"}`,
      () =>
        Effect.gen(function* () {
          const database = yield* TestDatabase
          const config = yield* ShigotoConfig.make({ queryTimeout: "30 seconds" })
          const open = Effect.gen(function* () {
            const client = yield* database.makeClient({ maxConnections: 1 })
            const store = yield* JobStore.make.pipe(
              Effect.provideService(PgClient, client),
              Effect.provideService(ShigotoConfig.ShigotoConfig, config)
            )
            return { client, store }
          })
          const [a, b] = [yield* open, yield* open]
          yield* a.store.cron.upsert({
            name: "hourly",
            source: "database",
            expression: "0 * * * *",
            timezone: "UTC",
            onGap: undefined,
            onOverlap: undefined,
            job: {
              worker: "work",
              queue: "default",
              args: "{}",
              priority: 0,
              maxAttempts: 5,
              due: { delayMillis: 0 },
              tags: undefined,
              meta: undefined,
              partitionKey: undefined
            },
            catchUp: { _tag: "latest" },
            overlap: "allow",
            jitterMillis: 0,
            nextAfter: (millis) => millis
          })
          const tick = Date.now() - 1000
          const evaluate = (store: Store) =>
            Effect.map(
              store.cron.evaluate("hourly", () => ({ ticks: [tick], next: tick + 7_200_000 })),
              (evaluated) => evaluated?.ticks.length
            )
          const told = yield* a.client
            .withTransaction(
              // The other finds the entry's row locked, and leaves it alone.
              Effect.flatMap(evaluate(a.store), (first) => Effect.map(evaluate(b.store), (second) => [first, second]))
            )
            .pipe(Effect.provideService(SqlClient.BeginTransaction, "BEGIN ISOLATION LEVEL READ COMMITTED"))
          assert.deepStrictEqual(told, [1, undefined])
          assert.isUndefined(yield* evaluate(b.store))
          const rows = yield* a.client`SELECT FROM shigoto.jobs`
          assert.lengthOf(rows, 1)
        }),
      { ...(isolation !== undefined && { isolation }) }
    )
  }

  onDatabase(
    "a migration and an insert, at any level, wait for each other no longer than for a commit, in either order",
    () =>
      Effect.gen(function* () {
        const database = yield* TestDatabase
        const [a, b] = [
          yield* database.makeClient({ maxConnections: 1 }),
          yield* database.makeClient({ maxConnections: 1 })
        ]
        const migrate = (client: PgClient): Effect.Effect<void, unknown> =>
          Effect.asVoid(
            Migrations.run.pipe(Effect.provideService(PgClient, client), Effect.provide(ShigotoConfig.layer()))
          )
        const insert =
          (level: string) =>
          (client: PgClient): Effect.Effect<void, unknown> =>
            Effect.andThen(
              client`SET TRANSACTION ISOLATION LEVEL ${client.literal(level)}`,
              Effect.asVoid(client`SELECT shigoto.enqueue('work')`)
            )
        /** Takes the last step back. */
        const before = Effect.gen(function* () {
          yield* a`ALTER TABLE shigoto.jobs SET (fillfactor = 85)`
          yield* a`DELETE FROM shigoto.migrations WHERE version = ${Migrations.latest}`
        })
        const levels = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]
        for (const [first, second] of levels.flatMap((level) => [
          [insert(level), migrate] as const,
          [migrate, insert(level)] as const
        ])) {
          yield* before
          const written = Latch.makeUnsafe(false)
          const commit = Latch.makeUnsafe(false)
          const [pid] = yield* b<{ readonly pid: number }>`SELECT pg_backend_pid() AS pid`
          const one = yield* Effect.forkScoped(
            a.withTransaction(
              Effect.gen(function* () {
                yield* first(a)
                written.openUnsafe()
                yield* commit.await
              })
            )
          )
          yield* written.await
          const two = yield* Effect.forkScoped(b.withTransaction(second(b)), { startImmediately: true })
          const sql = yield* SqlClient.SqlClient
          yield* eventually(
            sql<{
              readonly waits: boolean
            }>`SELECT cardinality(pg_blocking_pids(${pid?.pid ?? 0}::integer)) > 0 AS waits`,
            ([seen]) => seen?.waits === true || two.pollUnsafe() !== undefined
          )
          commit.openUnsafe()
          yield* Fiber.join(one)
          yield* Fiber.join(two)
          assert.strictEqual(
            yield* Migrations.installed.pipe(Effect.provideService(PgClient, b), Effect.provide(ShigotoConfig.layer())),
            Migrations.latest
          )
        }
        assert.lengthOf(yield* a`SELECT FROM shigoto.jobs`, 2 * levels.length)
      })
  )

  onDatabase(
    "ten migrators of one empty database: one does the work",
    () =>
      Effect.gen(function* () {
        const database = yield* TestDatabase
        const migrate = Effect.flatMap(database.makeClient({ maxConnections: 1 }), (client) =>
          Migrations.run.pipe(Effect.provideService(PgClient, client), Effect.provide(ShigotoConfig.layer()))
        )
        const ran = yield* Effect.all(
          Array.from({ length: 10 }, () => migrate),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(
          ran.filter((versions) => versions.length > 0),
          [Migrations.migrations.map((migration) => migration.version)]
        )
      }),
    { empty: true }
  )
})
