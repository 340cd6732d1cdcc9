import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as SqlClient from "effect/sql/SqlClient"
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import * as Job from "../src/Job.ts"
import { Jobs } from "../src/Jobs.ts"
import * as Migrations from "../src/Migrations.ts"
import * as Shigoto from "../src/Shigoto.ts"
import * as ShigotoConfig from "../src/ShigotoConfig.ts"
import { ShigotoLive } from "../src/ShigotoLive.ts"
import { eventually } from "./setup/eventually.ts"
import { TestDatabase } from "./setup/TestDatabase.ts"

const empty = TestDatabase.layer({ empty: true })
const run = (options: ShigotoConfig.Options = {}) => Effect.provide(Migrations.run, ShigotoConfig.layer(options))
const all = Migrations.migrations.map(({ version }) => version)

/** Everything in a schema, but for the partitions, whose names tell when they were made. */
const dump = Effect.fnUntraced(function* (schema: string) {
  const sql = yield* SqlClient.SqlClient
  return yield* sql`
    SELECT 'column' AS kind, table_name || '.' || column_name AS name,
      concat_ws(' ', ordinal_position, data_type, datetime_precision, is_nullable, column_default, is_identity,
        generation_expression) AS what
    FROM information_schema.columns
    WHERE table_schema = ${schema} AND table_name !~ '_\\d{8}t'
    UNION ALL
    SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = ${schema} AND tablename !~ '_\\d{8}t'
    UNION ALL
    SELECT 'constraint', r.relname || '.' || c.conname, pg_get_constraintdef(c.oid)
    FROM pg_constraint c JOIN pg_class r ON r.oid = c.conrelid
    WHERE c.connamespace = ${schema}::regnamespace AND r.relname !~ '_\\d{8}t'
    UNION ALL
    SELECT 'function', p.proname::text, pg_get_functiondef(p.oid) || coalesce(p.proacl::text, '')
    FROM pg_proc p WHERE p.pronamespace = ${schema}::regnamespace
    UNION ALL
    SELECT 'table', c.relname::text, concat_ws(' ', c.relkind, c.reloptions::text, obj_description(c.oid))
    FROM pg_class c WHERE c.relnamespace = ${schema}::regnamespace AND c.relname !~ '_\\d{8}t'
    UNION ALL
    SELECT 'view', viewname::text, definition FROM pg_views WHERE schemaname = ${schema}
    ORDER BY 1, 2, 3`
})

/** Splits a script as psql does: at semicolons that are in no quotes and no comment. */
const split = (script: string): ReadonlyArray<string> => {
  const statements: Array<string> = []
  const token = /--[^\n]*|'(?:[^']|'')*'|"[^"]*"|(\$\w*\$)[\s\S]*?\1|;|[^;]/g
  let current = ""
  for (const [text] of script.matchAll(token)) {
    if (text === ";") {
      statements.push(current.trim())
      current = ""
    } else current += text
  }
  assert.strictEqual(current.trim(), "")
  return statements
}

/** A client that is told another version by the server. */
const pretending = (number: string, description: string) =>
  Layer.effect(
    PgClient.PgClient,
    Effect.map(PgClient.PgClient, (client) => {
      const told = Object.assign((() => Effect.succeed([{ number, description }])) as never, client)
      return Object.assign(told, { withoutTransforms: () => told }) as PgClient.PgClient
    })
  )

const Ping = Job.make("ping", { args: { n: Schema.Int } })

describe("Migrations", () => {
  it.live("are run by one of ten processes that try at once", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const processes = yield* Effect.forEach(
        Array.from({ length: 10 }),
        () =>
          Effect.acquireRelease(
            Effect.callback<{ readonly child: ReturnType<typeof spawn>; readonly output: () => string }>((resume) => {
              let output = ""
              const child = spawn(
                process.execPath,
                ["--conditions=source", fileURLToPath(new URL("./fixtures/migrate.ts", import.meta.url))],
                {
                  stdio: ["pipe", "pipe", "inherit"],
                  env: { ...process.env, DATABASE_URL: Redacted.value(url) }
                }
              )
              child.stdout.on("data", (chunk: Buffer) => {
                output += chunk.toString()
                if (output === "ready\n") resume(Effect.succeed({ child, output: () => output }))
              })
            }),
            ({ child }) => Effect.sync(() => child.kill("SIGKILL"))
          ),
        { concurrency: "unbounded" }
      )
      for (const { child } of processes) child.stdin?.end("go\n")
      yield* eventually(
        Effect.sync(() => processes.map(({ child }) => child.exitCode)),
        (codes) => codes.every((code) => code !== null)
      )
      assert.deepStrictEqual(
        processes.map(({ child }) => child.exitCode),
        Array.from({ length: 10 }, () => 0)
      )
      const outputs = processes.map(({ output }) => output().split("\n")[1])
      assert.strictEqual(outputs.filter((output) => output === "[]").length, 9)
      assert.strictEqual(outputs.filter((output) => output === JSON.stringify(all)).length, 1)
    }).pipe(Effect.scoped, Effect.provide(empty))
  )

  it.live("write nothing where the schema is up to date", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      // Which transactions wrote what is in the catalog and the table: those of other databases do not show.
      const traces = sql`
        SELECT (SELECT md5(string_agg(oid || ':' || xmin, ',' ORDER BY oid)) FROM pg_class) AS catalog,
          (SELECT array_agg(xmin::text ORDER BY version) FROM shigoto.migrations)::text AS rows,
          (
            SELECT count(*)::integer
            FROM pg_locks
            WHERE locktype = 'advisory'
              AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
          ) AS locks`
      const before = yield* traces
      assert.deepStrictEqual(yield* run(), [])
      yield* Effect.provide(Migrations.check, ShigotoConfig.layer())
      assert.deepStrictEqual(yield* traces, before)
    }).pipe(Effect.provide(TestDatabase.layer()))
  )

  it.live("refuse a missing schema where they may only check, and a newer one only if it says so", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const missing = yield* Effect.flip(Effect.provide(Migrations.check, ShigotoConfig.layer({ schema: "other" })))
      assert.deepInclude(missing, { _tag: "SchemaVersionMismatch", found: 0, expected: Migrations.latest })
      assert.include(missing.message, '"other"')
      const started = yield* Effect.flip(
        Layer.build(Layer.provide(Shigoto.layerProducer, ShigotoConfig.layer({ schema: "other", migrate: false })))
      )
      assert.strictEqual(started._tag, "SchemaVersionMismatch")
      yield* sql`INSERT INTO shigoto.migrations (version, name) VALUES (999, 'from the future')`
      // Old code that starts again in the midst of a deployment, or after it was rolled back.
      assert.deepStrictEqual(yield* run(), [])
      yield* Effect.provide(Migrations.check, ShigotoConfig.layer())
      yield* sql`INSERT INTO shigoto.migrations (version, name, needs) VALUES (1000, 'works with us', ${Migrations.latest})`
      assert.deepStrictEqual(yield* run(), [])
      const needs = Migrations.latest + 1
      yield* sql`INSERT INTO shigoto.migrations (version, name, needs) VALUES (1001, 'breaks us', ${needs})`
      for (const effect of [Migrations.run, Migrations.check]) {
        const error = yield* Effect.flip(Effect.provide(effect, ShigotoConfig.layer()))
        assert.deepInclude(error, { _tag: "SchemaVersionMismatch", found: 1001, expected: Migrations.latest })
        assert.include(error.message, `version ${needs}`)
      }
    }).pipe(Effect.scoped, Effect.provide(TestDatabase.layer()))
  )

  it("only add, unless they say what code they need", () => {
    const breaks =
      /^(DROP|TRUNCATE|ALTER TABLE .*(\bDROP\b|\bRENAME\b|\bTYPE\b|SET NOT NULL|ADD COLUMN (?!.*DEFAULT).*NOT NULL))/s
    const breaking = Migrations.migrations.flatMap(({ name, needs, statements }) =>
      needs === undefined
        ? statements("shigoto").flatMap((text) => (breaks.test(text) ? [`${name}: ${text}`] : []))
        : []
    )
    assert.deepStrictEqual(breaking, [])
    for (const text of ["DROP TABLE shigoto.jobs", "ALTER TABLE shigoto.jobs\n  ADD COLUMN x text NOT NULL"]) {
      assert.match(text, breaks)
    }
  })

  it.live("know the version of a schema from before it said what it needs", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql`DELETE FROM shigoto.migrations WHERE version >= 13`
      yield* sql`ALTER TABLE shigoto.migrations DROP COLUMN needs`
      // What the steps after that have made.
      yield* sql`DROP TABLE shigoto.discards`
      yield* sql`ALTER TABLE shigoto.nodes DROP COLUMN retention, DROP COLUMN broadcasts`
      assert.strictEqual(yield* Effect.provide(Migrations.installed, ShigotoConfig.layer()), 12)
      assert.include(yield* run(), 13)
    }).pipe(Effect.provide(TestDatabase.layer()))
  )

  it.live("are one transaction: a step that fails leaves nothing", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql`CREATE SCHEMA shigoto`
      yield* sql`CREATE TABLE shigoto.nodes (mine text)`
      const error = yield* Effect.flip(run())
      assert.deepInclude(error, { _tag: "StorageError", code: "42P07" })
      assert.deepStrictEqual(
        yield* sql`SELECT relname::text AS name FROM pg_class WHERE relnamespace = 'shigoto'::regnamespace AND relkind = 'r'`,
        [{ name: "nodes" }]
      )
      yield* sql`DROP TABLE shigoto.nodes`
      assert.deepStrictEqual(yield* run(), all)
    }).pipe(Effect.provide(empty))
  )

  it.live("wait for another migrator for longer than their lock timeout", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const other = yield* (yield* TestDatabase).makeClient()
      const [held, release] = [Latch.makeUnsafe(false), Latch.makeUnsafe(false)]
      const holder = yield* Effect.forkScoped(
        other.withTransaction(
          Effect.gen(function* () {
            yield* other`SELECT pg_advisory_xact_lock(hashtextextended('shigoto.migrations.shigoto', 0))`
            yield* held.open
            yield* release.await
          })
        )
      )
      yield* held.await
      const migrating = yield* Effect.forkScoped(run())
      const waiting = sql<{
        readonly pid: number
      }>`SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted`
      // It is seen to give up once, and to come back.
      yield* eventually(waiting, (rows) => rows.length > 0)
      yield* eventually(waiting, (rows) => rows.length === 0)
      yield* eventually(waiting, (rows) => rows.length > 0)
      yield* release.open
      yield* Fiber.join(holder)
      assert.deepStrictEqual(yield* Fiber.join(migrating), all)
    }).pipe(Effect.scoped, Effect.provide(empty))
  )

  it.live("print a script that makes the same schema", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const statements = split(Migrations.print("shigoto"))
      assert.strictEqual(statements[0], "BEGIN")
      assert.strictEqual(statements.at(-1), "COMMIT")
      yield* sql.reserve.pipe(
        Effect.flatMap((connection) =>
          Effect.forEach(statements, (statement) => connection.executeUnprepared(statement, [], undefined), {
            discard: true
          })
        ),
        Effect.scoped
      )
      assert.deepStrictEqual(yield* run(), [])
      const printed = yield* dump("shigoto")
      const ran = yield* Effect.provide(dump("shigoto"), Layer.fresh(TestDatabase.layer()))
      assert.isAbove(ran.length, 100)
      assert.deepStrictEqual(printed, ran)
      assert.deepStrictEqual(
        split(Migrations.print("shigoto", Migrations.latest)).filter(
          (text) => text.startsWith("CREATE TABLE") && !text.includes("IF NOT EXISTS")
        ),
        []
      )
    }).pipe(Effect.provide(empty))
  )

  it("print nothing for a schema that cannot be", () => {
    assert.throws(() => Migrations.print("pg_jobs"), /cannot be used/)
  })

  it.live("work in any legal schema, end to end", () =>
    Effect.gen(function* () {
      for (const schema of ["_x", `s${"_0123456789".repeat(4).slice(0, 40)}`]) {
        const node = Ping.toLayer(() => Effect.void).pipe(
          Layer.provideMerge(ShigotoLive),
          Layer.provide(ShigotoConfig.layer({ schema, pollInterval: "50 millis", idlePollInterval: "50 millis" }))
        )
        yield* Effect.gen(function* () {
          const jobs = yield* Jobs
          const sql = yield* SqlClient.SqlClient
          const { id } = yield* Ping.enqueue({ n: 1 })
          const [row] = yield* sql.unsafe<{ readonly id: bigint }>(
            `SELECT "${schema}".enqueue('ping', '{"n": 2}') AS id`
          )
          for (const each of [id, Number(row?.id) as typeof id]) {
            yield* eventually(jobs.get(each), (job) => job.state === "completed")
          }
          const later = yield* Ping.enqueue({ n: 3 }, { delay: "1 hour" })
          assert.deepStrictEqual(yield* jobs.cancel(later.id), { _tag: "Cancelled" })
        }).pipe(Effect.provide(node))
      }
    }).pipe(Effect.provide(empty))
  )

  for (const [number, description] of [
    ["130014", "PostgreSQL 13.14 on x86_64"],
    ["130000", "CockroachDB CCL v24.1.0"],
    ["150000", "CockroachDB CCL v25.1.0"]
  ] as const) {
    it.live(`refuse ${description} and say what they need`, () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(Effect.provide(run(), pretending(number, description)))
        assert.deepInclude(error, { _tag: "UnsupportedServer", version: description })
        assert.include(error.message, "PostgreSQL 14")
      }).pipe(Effect.provide(empty))
    )
  }
})
