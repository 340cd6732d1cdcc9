import type * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe } from "@effect/vitest"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import { inspect } from "node:util"
import { CronJobs } from "../src/CronJobs.ts"
import * as Cipher from "../src/Cipher.ts"
import * as Job from "../src/Job.ts"
import type { JobId } from "../src/JobRow.ts"
import { Jobs } from "../src/Jobs.ts"
import * as Migrations from "../src/Migrations.ts"
import { Queues } from "../src/Queues.ts"
import * as Shigoto from "../src/Shigoto.ts"
import * as ShigotoConfig from "../src/ShigotoConfig.ts"
import { onDatabase, reaches, startNode } from "./integration/support.ts"
import * as Run from "./setup/run.ts"
import { TestDatabase } from "./setup/TestDatabase.ts"

const Add = Job.make("add", { args: { a: Schema.Finite }, success: Schema.Finite })

const parts = ["owner", "worker", "operator", "producer", "viewer"] as const

/** Makes a role for each part as the migrations do, a login that is a member of it, and clients that use them. */
const logins = Effect.gen(function* () {
  const database = yield* TestDatabase
  const sql = yield* SqlClient.SqlClient
  const nameOf = (part: string) => `${database.name}'"${part}`
  const roles = Object.fromEntries(parts.map((part) => [part, nameOf(part)])) as Record<(typeof parts)[number], string>
  const granting = Layer.build(Layer.fresh(Migrations.layerRoles(roles))).pipe(Effect.provide(ShigotoConfig.layer()))
  yield* granting
  // Again after each upgrade: what is there stays as it is.
  yield* granting
  const client = Effect.fnUntraced(function* (part: (typeof parts)[number]) {
    const login = `${nameOf(part)} login`
    yield* sql`CREATE ROLE ${sql(login)} LOGIN PASSWORD 'secret' IN ROLE ${sql(roles[part])}`
    const url = new URL(Redacted.value(database.url))
    url.username = encodeURIComponent(login)
    url.password = "secret"
    return Run.layerClient(url.href, { maxConnections: 4 })
  })
  return {
    owner: yield* client("owner"),
    worker: yield* client("worker"),
    operator: yield* client("operator"),
    producer: yield* client("producer"),
    viewer: yield* client("viewer")
  }
})

/** The services of a process that runs no jobs, under a login. */
const under = (
  client: Layer.Layer<PgClient.PgClient | SqlClient.SqlClient, unknown>,
  cipher: Layer.Layer<never, unknown> = Layer.empty
) =>
  Shigoto.layerProducer.pipe(
    Layer.provide(ShigotoConfig.layer({ migrate: false })),
    Layer.provide([client, cipher]),
    Layer.orDie,
    Layer.fresh
  )

const isRefused = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.match(effect, {
    // Either no privilege, or not the owner.
    onFailure: (error) => /permission denied|must be owner/.test(inspect(error, { depth: 10 })),
    onSuccess: () => false
  })

const can = Effect.fnUntraced(function* (client: Layer.Layer<SqlClient.SqlClient, unknown>, statement: string) {
  const sql = Context.get(yield* Effect.orDie(Layer.build(Layer.fresh(client))), SqlClient.SqlClient)
  return !(yield* isRefused(sql.unsafe(statement)))
})

describe("roles", () => {
  onDatabase(
    "a worker runs nodes, an operator changes jobs, a producer enqueues, a viewer reads, and none does more",
    () =>
      Effect.gen(function* () {
        const { operator, owner, producer, viewer, worker } = yield* logins
        const node = yield* startNode({
          workers: Add.toLayer(({ a }) => Effect.succeed(a + 1)),
          client: worker,
          config: { migrate: false }
        })
        const enqueued = yield* Add.enqueue({ a: 1 }).pipe(Effect.provide(under(producer)))
        assert.strictEqual((yield* reaches(node, enqueued.id, "completed")).result, 2)
        const unique = yield* node.run(Add.enqueue({ a: 2 }, { unique: { keys: ["args"] } }))
        assert.strictEqual((yield* reaches(node, unique.id, "completed")).result, 3)
        assert.strictEqual(yield* node.run(Add.execute({ a: 3 })), 4)
        const seen = yield* Effect.flatMap(Jobs, (jobs) => jobs.get(enqueued.id)).pipe(Effect.provide(under(viewer)))
        assert.deepStrictEqual(seen.args, { a: 1 })
        yield* Effect.gen(function* () {
          const jobs = yield* Jobs
          const queues = yield* Queues
          const crons = yield* CronJobs
          const waits = yield* node.run(
            Effect.forEach([4, 5, 6], (a) => Add.enqueue({ a }, { delay: "1 hour", unique: { keys: ["args"] } }))
          )
          const [first, second, third] = waits.map(({ id }) => id) as [JobId, JobId, JobId]
          assert.deepStrictEqual(yield* jobs.cancel(first), { _tag: "Cancelled" })
          assert.deepStrictEqual(yield* jobs.retry(first), { _tag: "Retried" })
          yield* reaches(node, first, "completed")
          assert.deepStrictEqual(yield* jobs.delete(second), { _tag: "Deleted" })
          yield* Stream.runDrain(jobs.cancelBy({ id: third }))
          yield* Stream.runDrain(jobs.retryBy({ id: third, state: "cancelled" }))
          yield* reaches(node, third, "completed")
          yield* Stream.runDrain(jobs.deleteBy({ id: third }))
          yield* queues.pause("default")
          yield* queues.scale("default", 3)
          yield* queues.resume("default")
          yield* crons.upsert({ name: "yearly", cron: "0 0 1 1 *", job: Add, args: { a: 7 } })
          yield* crons.pause("yearly")
          yield* reaches(node, yield* crons.runNow("yearly"), "completed")
          yield* crons.remove("yearly")
          assert.strictEqual((yield* jobs.health).database.reachable, true)
          yield* jobs.explain(first)
        }).pipe(Effect.provide(under(operator)))
        const all = [owner, worker, operator, producer, viewer]
        const table: ReadonlyArray<readonly [string, ...ReadonlyArray<boolean>]> = [
          ["SELECT shigoto.maintain_archive('completed', now(), interval '14 days')", true, true, false, false, false],
          ["SELECT shigoto.enqueue('other')", true, true, true, true, false],
          ["SELECT args FROM shigoto.jobs", true, true, true, false, true],
          ["SELECT id, state FROM shigoto.jobs", true, true, true, false, true],
          ["INSERT INTO shigoto.jobs SELECT FROM shigoto.jobs WHERE false", true, true, true, false, false],
          ["SELECT id FROM shigoto.all_jobs", true, true, true, false, true],
          ["DELETE FROM shigoto.jobs WHERE false", true, true, true, false, false],
          ["UPDATE shigoto.queues SET paused_at = now() WHERE false", true, true, true, false, false],
          ["UPDATE shigoto.nodes SET beat_at = now() WHERE false", true, true, false, false, false],
          ["UPDATE shigoto.limits SET updated_at = now() WHERE false", true, true, false, false, false],
          ["DELETE FROM shigoto.migrations WHERE false", true, false, false, false, false],
          ["CREATE TABLE shigoto.mine ()", true, false, false, false, false],
          ["ALTER TABLE shigoto.jobs ADD COLUMN mine text", true, false, false, false, false],
          ["TRUNCATE shigoto.jobs", true, false, false, false, false]
        ]
        for (const [statement, ...expected] of table) {
          const found = yield* Effect.forEach(all, (client) => can(client, statement))
          assert.deepStrictEqual(found, expected, statement)
        }
      })
  )

  onDatabase("a producer's jobs are what they would be if it had written them", () =>
    Effect.gen(function* () {
      const { operator, producer } = yield* logins
      const keys = [{ id: "one", key: Redacted.make(new Uint8Array(32).fill(1)) }]
      const cipher = Cipher.layerAesGcm({ keys, encryptByDefault: false })
      const runAt = new Date("2100-01-01T00:00:00.123Z")
      const options: ReadonlyArray<Omit<Job.EnqueueOptions, "unique">> = [
        {},
        { delay: "1 hour", priority: -5, queue: "other", maxAttempts: 3, tags: ["a", "b"], partitionKey: "p" },
        { runAt, meta: { nested: [{ $enc: "1" }, null] } },
        { encrypted: true }
      ]
      const stored = (client: Parameters<typeof under>[0]) =>
        Effect.gen(function* () {
          const enqueued = yield* Add.enqueueAll(
            options.map((_, a) => ({ a })),
            (_, i) => options[i] ?? {}
          )
          const one = yield* Add.enqueue({ a: 9 })
          return [...enqueued, one].map(({ id, job }) => ({ id, state: job.state, runAt: DateTime.toDate(job.runAt) }))
        }).pipe(Effect.provide(under(client, cipher)))
      const called = yield* stored(producer)
      const written = yield* stored(operator)
      const read = (id: JobId) =>
        Effect.flatMap(Jobs, (jobs) => jobs.get(id)).pipe(Effect.provide(under(operator, cipher)))
      for (const [i, { id, runAt: due, state }] of called.entries()) {
        const theirs = yield* read(id)
        const { id: _, insertedAt: __, runAt: at, ...job } = theirs
        const { id: ___, insertedAt: ____, runAt: _____, ...ours } = yield* read(written[i]?.id as JobId)
        assert.deepStrictEqual({ ...job, scheduledFor: undefined }, { ...ours, scheduledFor: undefined })
        assert.deepStrictEqual([state, due], [job.state, DateTime.toDate(at)])
      }
      assert.deepStrictEqual(called[2]?.runAt, runAt)
      const sql = yield* SqlClient.SqlClient
      const [sealed] = yield* sql<{ readonly args: string }>`
        SELECT args::text AS args FROM shigoto.jobs WHERE id = ${called[3]?.id ?? 0}::bigint`
      assert.include(sealed?.args, "$enc")
      // What decides about other jobs is not for producers, and no id is taken twice or beforehand.
      const unique = Add.enqueue({ a: 1 }, { unique: { keys: ["args"] } }).pipe(Effect.provide(under(producer)))
      assert.isTrue(yield* isRefused(unique))
      for (const id of [called[0]?.id ?? 0, 1_000_000, 0]) {
        const taken = yield* Effect.exit(
          Effect.flatMap(Layer.build(Layer.fresh(producer)), (context) =>
            Context.get(context, SqlClient.SqlClient).unsafe(`SELECT shigoto.enqueue('add', '{}', id => ${id})`)
          )
        )
        assert.isTrue(Exit.isFailure(taken), String(id))
      }
    })
  )

  onDatabase("an owner of nothing else migrates, and what it made works for the others", () =>
    Effect.gen(function* () {
      const database = yield* TestDatabase
      const sql = yield* SqlClient.SqlClient
      const role = `${database.name} migrator`
      yield* sql`CREATE ROLE ${sql(role)} LOGIN PASSWORD 'secret'`
      yield* sql`GRANT CREATE ON DATABASE ${sql(database.name)} TO ${sql(role)}`
      const url = new URL(Redacted.value(database.url))
      url.username = encodeURIComponent(role)
      url.password = "secret"
      const ran = yield* Effect.provide(Migrations.run, [
        Run.layerClient(url.href, { maxConnections: 2 }),
        ShigotoConfig.layer({ schema: "by_the_owner" })
      ])
      assert.strictEqual(ran.length, Migrations.latest)
      const [{ owners } = { owners: [] as ReadonlyArray<string> }] = yield* sql<{ owners: ReadonlyArray<string> }>`
        SELECT array_agg(DISTINCT tableowner::text) AS owners FROM pg_tables WHERE schemaname = 'by_the_owner'`
      assert.deepStrictEqual(owners, [role])
    })
  )

  onDatabase("prints the same for those who run it by hand", () =>
    Effect.gen(function* () {
      const database = yield* TestDatabase
      const sql = yield* SqlClient.SqlClient
      const role = `${database.name}; DROP TABLE "x"; '$$--`
      for (const part of parts) {
        const script = Migrations.printRoles("shigoto", { [part]: role })
        assert.match(script, /^BEGIN;\n\n[\s\S]*COMMIT;\n$/)
        for (const statement of script.split(";\n\n").slice(1, -1)) yield* sql.unsafe(statement)
        assert.include(script, Migrations.printGrants("shigoto", { [part]: role }).split(";\n")[0] ?? "")
      }
      for (const bad of ["", "a\u0000b", "x".repeat(64), 5 as never]) {
        assert.throws(() => Migrations.printGrants("shigoto", { worker: bad }), /worker cannot be the role/)
      }
      assert.throws(() => Migrations.printRoles("shigoto", { admin: "x" } as never), /the parts are/)
    })
  )
})
