import type * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import { type Health, type HealthReason, tell, Thresholds } from "../../src/Health.ts"
import * as Job from "../../src/Job.ts"
import { Jobs } from "../../src/Jobs.ts"
import * as JobStore from "../../src/JobStore.ts"
import { latest } from "../../src/Migrations.ts"
import * as Shigoto from "../../src/Shigoto.ts"
import * as ShigotoConfig from "../../src/ShigotoConfig.ts"
import { eventually } from "../setup/eventually.ts"
import { makeProxy } from "../setup/proxy.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"
import { clientOf, onDatabase, startNode } from "./support.ts"

const Note = Job.make("note")

/** The jobs as a process sees them that runs none. */
const watcher = Effect.fnUntraced(function* (client?: Layer.Layer<PgClient.PgClient | SqlClient.SqlClient, unknown>) {
  const database = yield* TestDatabase
  const context = yield* Layer.build(
    Layer.fresh(
      Shigoto.layerProducer.pipe(
        Layer.provide(ShigotoConfig.layer({ migrate: false, queryTimeout: "3 seconds" })),
        Layer.provide(client ?? database.layerClient({ maxConnections: 4 })),
        Layer.orDie
      )
    )
  )
  return Context.get(context, Jobs)
})

const tags = ({ reasons }: Health): ReadonlyArray<HealthReason["_tag"]> => reasons.map(({ _tag }) => _tag)

/** Waits until the health is of a status, for these reasons and no other. */
const becomes = (health: Effect.Effect<Health>, status: Health["status"], ...expected: Array<HealthReason["_tag"]>) =>
  Effect.map(
    eventually(health, (found) => found.status === status && tags(found).join() === expected.join()),
    (found) => {
      for (const reason of found.reasons) assert.match(tell(reason), /^[A-Z\d]/)
      return found
    }
  )

/** A store and a node of it that does nothing by itself. */
const dummy = Effect.gen(function* () {
  const store = yield* JobStore.make.pipe(Effect.provide(ShigotoConfig.layer()))
  const id = yield* store.register({ name: "dummy", ttlMillis: 3_600_000 })
  const renew = (lagMillis = 0) =>
    store.renew({
      id,
      workers: ["note"],
      queues: [{ name: "default", concurrency: 5 }],
      limits: [],
      broken: [],
      lagMillis,
      listening: false
    })
  yield* renew()
  return { store, id, renew }
})

/** Each of these is brought about on a real database, seen, ended, and seen to be gone. */
describe("a reason of health comes and goes:", () => {
  onDatabase("DatabaseUnavailable", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const proxy = yield* makeProxy(Redacted.value(url))
      const { health } = yield* watcher(clientOf(proxy.url))
      yield* becomes(health, "ok")
      proxy.blackhole()
      const down = yield* becomes(health, "down", "DatabaseUnavailable")
      assert.isFalse(down.database.reachable)
      proxy.heal()
      proxy.bury()
      yield* becomes(health, "ok")
    })
  )

  onDatabase("DatabaseReadOnly", () =>
    Effect.gen(function* () {
      const { name } = yield* TestDatabase
      const sql = yield* SqlClient.SqlClient
      const { health } = yield* watcher()
      yield* becomes(health, "ok")
      // Only new sessions take a default.
      const others = sql`
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = ${name} AND application_name = 'watched' AND pid <> pg_backend_pid()`
      const watched = yield* watcher(
        (yield* TestDatabase).layerClient({ maxConnections: 1, applicationName: "watched" })
      )
      yield* sql`ALTER DATABASE ${sql(name)} SET default_transaction_read_only TO on`
      yield* others
      yield* becomes(watched.health, "down", "DatabaseReadOnly")
      assert.isFalse(yield* watched.isReady)
      yield* sql`ALTER DATABASE ${sql(name)} RESET default_transaction_read_only`
      yield* others
      yield* becomes(watched.health, "ok")
      assert.isTrue(yield* watched.isReady)
    })
  )

  onDatabase("SchemaVersion", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { health, isReady } = yield* watcher()
      yield* sql`CREATE TABLE kept AS TABLE shigoto.migrations`
      yield* sql`DELETE FROM shigoto.migrations WHERE version = ${latest}::integer`
      const behind = yield* becomes(health, "down", "SchemaVersion")
      assert.deepStrictEqual(behind.schema, { found: latest - 1, expected: latest })
      assert.isFalse(yield* isReady)
      yield* sql`INSERT INTO shigoto.migrations SELECT * FROM kept WHERE version = ${latest}::integer`
      yield* becomes(health, "ok")
      yield* sql`UPDATE shigoto.migrations SET version = version + 1 WHERE version = ${latest}::integer`
      yield* becomes(health, "degraded", "SchemaVersion")
      assert.isTrue(yield* isReady)
      yield* sql`UPDATE shigoto.migrations SET version = version - 1 WHERE version = ${latest + 1}::integer`
      yield* becomes(health, "ok")
    })
  )

  onDatabase("Unreadable", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { health } = yield* watcher()
      const [locked, release] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const holder = yield* sql
        .withTransaction(
          sql`LOCK TABLE shigoto.jobs IN ACCESS EXCLUSIVE MODE`.pipe(
            Effect.andThen(Deferred.succeed(locked, undefined)),
            Effect.andThen(Deferred.await(release))
          )
        )
        .pipe(Effect.forkChild)
      yield* Deferred.await(locked)
      const found = yield* becomes(health, "degraded", "Unreadable", "Unreadable")
      assert.isTrue(found.database.reachable)
      assert.isUndefined(found.counts)
      yield* Deferred.succeed(release, undefined)
      yield* Fiber.join(holder)
      yield* becomes(health, "ok")
    })
  )

  onDatabase("NoNode and StaleJobs", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { health } = yield* watcher()
      const { id, store } = yield* dummy
      yield* sql`
        INSERT INTO shigoto.jobs (state, worker, queue, args, claimed_by, claimed_at, attempt, run_at, inserted_at)
        VALUES ('executing', 'note', 'default', '{}', ${id}::integer, now(), 1, now(), now())`
      yield* becomes(health, "ok")
      yield* store.retire(id)
      yield* becomes(health, "degraded", "NoNode", "StaleJobs")
      const node = yield* startNode({ workers: Note.toLayer(() => Effect.void), config: { nodeName: "heir" } })
      yield* node.event("Rescued")
      yield* becomes(health, "ok")
    })
  )

  onDatabase("NodeSilent and NodeLagging", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { health } = yield* watcher()
      const { renew } = yield* dummy
      yield* sql`UPDATE shigoto.nodes SET beat_at = beat_at - interval '31 minutes'`
      const found = yield* becomes(health, "degraded", "NodeSilent")
      assert.deepInclude(found.reasons[0], { node: "dummy" })
      assert.isAtLeast(found.nodes[0]?.silentMillis ?? 0, 31 * 60_000)
      yield* renew(900_000)
      const lagging = yield* becomes(health, "degraded", "NodeLagging")
      assert.deepStrictEqual(lagging.reasons, [{ _tag: "NodeLagging", node: "dummy", lagMillis: 900_000 }])
      yield* renew()
      yield* becomes(health, "ok")
    })
  )

  onDatabase("QueueWithoutNode and WorkerWithoutNode", () =>
    Effect.gen(function* () {
      const node = yield* startNode({ config: { listen: false } })
      yield* node.run(Note.enqueue({}, { queue: "emails" }))
      yield* becomes(node.jobs.health, "degraded", "QueueWithoutNode", "WorkerWithoutNode")
      yield* node.queues.add("emails", { concurrency: 1 })
      yield* becomes(node.jobs.health, "degraded", "WorkerWithoutNode")
      yield* node.add(Note.toLayer(() => Effect.void))
      yield* becomes(node.jobs.health, "ok")
    })
  )

  onDatabase("OldJob", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const node = yield* startNode({ workers: Note.toLayer(() => Effect.void), config: { listen: false } })
      yield* node.queues.pause("default")
      const { id } = yield* node.run(Note.enqueue({}))
      yield* becomes(node.jobs.health, "ok")
      yield* sql`UPDATE shigoto.jobs SET run_at = run_at - interval '301 seconds'`
      const found = yield* becomes(node.jobs.health, "degraded", "OldJob")
      assert.deepInclude(found.reasons[0], { queue: "default" })
      yield* node.queues.resume("default")
      yield* node.event("Completed", id)
      yield* becomes(node.jobs.health, "ok")
    })
  )

  onDatabase("DueJobs", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { health } = yield* watcher()
      const { id, store } = yield* dummy
      yield* sql`
        INSERT INTO shigoto.jobs (state, worker, queue, args, run_at, inserted_at)
        SELECT 'scheduled', 'note', 'default', '{}', now() - interval '1 second', now()
        FROM generate_series(1, 10000)`
      const found = yield* becomes(health, "degraded", "DueJobs")
      assert.strictEqual(found.counts?.due, 10_000)
      // Whoever looks makes some of them available.
      yield* store.promote({ id, queues: [{ name: "default", isBusy: false }], workers: [] })
      yield* becomes(health, "ok")
    })
  )

  onDatabase("LongTransaction", () =>
    Effect.gen(function* () {
      const database = yield* TestDatabase
      const { health } = yield* watcher()
      const impatient = Effect.provideService(health, Thresholds, { ...usual, transactionSeconds: 0.05 })
      yield* becomes(impatient, "ok")
      const [open, close] = [yield* Deferred.make<number>(), yield* Deferred.make<void>()]
      const holder = yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql.withTransaction(
          Effect.gen(function* () {
            yield* sql`SET TRANSACTION ISOLATION LEVEL REPEATABLE READ`
            const [row] = yield* sql<{ readonly pid: number }>`SELECT pg_backend_pid() AS pid`
            yield* Deferred.succeed(open, row?.pid ?? 0)
            yield* Deferred.await(close)
          })
        )
      }).pipe(Effect.provide(database.layerClient({ maxConnections: 1, applicationName: "report" })), Effect.forkChild)
      const pid = yield* Deferred.await(open)
      const found = yield* becomes(impatient, "degraded", "LongTransaction")
      assert.deepInclude(found.reasons[0], { pid, what: "report" })
      // Five minutes by default.
      yield* becomes(health, "ok")
      yield* Deferred.succeed(close, undefined)
      yield* Fiber.join(holder)
      yield* becomes(impatient, "ok")
    })
  )

  onDatabase("NotificationQueue", () =>
    Effect.gen(function* () {
      const database = yield* TestDatabase
      const sql = yield* SqlClient.SqlClient
      const { health } = yield* watcher()
      const sensitive = Effect.provideService(health, Thresholds, { ...usual, notificationUsage: 1e-6 })
      const [open, close] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const listener = yield* Effect.gen(function* () {
        const own = yield* SqlClient.SqlClient
        yield* own`LISTEN crowded`
        yield* own.withTransaction(
          own`SELECT 1`.pipe(Effect.andThen(Deferred.succeed(open, undefined)), Effect.andThen(Deferred.await(close)))
        )
        yield* own`UNLISTEN *`
      }).pipe(Effect.provide(database.layerClient({ maxConnections: 1 })), Effect.forkChild)
      yield* Deferred.await(open)
      for (let i = 0; i < 50; i++) yield* sql`SELECT pg_notify('crowded', repeat(${`${i} `}::text, 1900))`
      const found = yield* becomes(sensitive, "degraded", "NotificationQueue")
      assert.isAbove(found.notifications.queueUsage ?? 0, 0)
      yield* Deferred.succeed(close, undefined)
      yield* Fiber.join(listener)
      yield* becomes(sensitive, "ok")
    })
  )

  onDatabase("NotListening", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const proxy = yield* makeProxy(Redacted.value(url))
      const node = yield* startNode({ config: { listenUrl: Redacted.make(proxy.url) } })
      yield* becomes(node.jobs.health, "ok")
      proxy.blackhole()
      const found = yield* becomes(node.jobs.health, "degraded", "NotListening")
      assert.isFalse(found.notifications.listening)
      proxy.heal()
      proxy.bury()
      yield* becomes(node.jobs.health, "ok")
    })
  )
})

// internal

const usual = Context.get(Context.empty(), Thresholds)
