import type * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import * as Batch from "../src/Batch.ts"
import { CronJobs } from "../src/CronJobs.ts"
import * as Doctor from "../src/Doctor.ts"
import { Encryption } from "../src/Encryption.ts"
import * as Job from "../src/Job.ts"
import type { JobId } from "../src/JobRow.ts"
import * as Migrations from "../src/Migrations.ts"
import * as ShigotoConfig from "../src/ShigotoConfig.ts"
import { type Node, onDatabase, reaches, startNode } from "./integration/support.ts"
import * as Run from "./setup/run.ts"
import { TestDatabase } from "./setup/TestDatabase.ts"

const Echo = Job.make("echo", { args: { n: Schema.Finite }, success: Schema.Finite })
const Limited = Job.make("limited", { args: { n: Schema.Finite } })
const Parent = Job.make("parent", { success: Schema.Finite })

const workers = Layer.mergeAll(
  Echo.toLayer(({ n }) => Effect.as(Effect.log("echo"), n), { captureLogs: true }),
  Limited.toLayer(() => Effect.void, {
    globalConcurrency: 1,
    rateLimit: { limit: 1000, window: "1 second" },
    circuitBreaker: { state: "shared" }
  }),
  Parent.toLayer(() => Effect.map(Job.fanOut("children", Echo, [{ n: 1 }, { n: 2 }]), (all) => all.length))
)

/** Goes through every step that has SQL of its own. */
const useAll = Effect.fnUntraced(function* (node: Node, quoted: string) {
  const { jobs, queues, run } = node
  const sql = yield* SqlClient.SqlClient
  const echo = yield* run(Echo.enqueue({ n: 1 }))
  const last = yield* run(Echo.enqueue({ n: 2 }, { dependsOn: [echo.id], unique: { keys: ["args"] } }))
  yield* reaches(node, last.id, "completed")
  const [row] = yield* sql.unsafe<{ readonly id: bigint }>(`SELECT ${quoted}.enqueue('echo', '{"n": 2}') AS id`)
  yield* reaches(node, Number(row?.id) as JobId, "completed")
  yield* reaches(node, (yield* run(Limited.enqueue({ n: 1 }))).id, "completed")
  assert.strictEqual(yield* run(Echo.execute({ n: 5 })), 5)
  assert.strictEqual(yield* run(Parent.execute({})), 2)
  const batch = yield* run(
    Batch.make("batch", { onFinished: Echo.prepare({ n: 9 }) }).enqueue([Echo.prepare({ n: 1 }, { delay: "1 hour" })])
  )
  const member = batch.jobs[0]?.id as JobId
  assert.strictEqual((yield* jobs.explain(member)).reasons[0]?._tag, "NotDue")
  yield* jobs.cancel(member)
  yield* jobs.retry(member)
  yield* reaches(node, member, "completed")
  const ticked = yield* run(
    Effect.gen(function* () {
      const crons = yield* CronJobs
      yield* crons.upsert({ name: "yearly", cron: "0 0 1 1 *", job: Echo, args: { n: 3 } })
      return yield* crons.runNow("yearly")
    })
  )
  yield* reaches(node, ticked, "completed")
  yield* queues.pause("later")
  const waits = yield* run(Echo.enqueue({ n: 1 }, { queue: "later", partitionKey: "p" }))
  assert.strictEqual((yield* jobs.list({ queue: "later" })).length, 1)
  yield* Stream.runDrain(jobs.cancelBy({ queue: "later" }))
  yield* jobs.delete(waits.id)
  assert.strictEqual((yield* jobs.health).database.reachable, true)
  assert.isAtLeast((yield* run(Effect.flatMap(Encryption, ({ keys }) => keys))).length, 1)
  for (const state of ["completed", "discarded", "cancelled"]) {
    yield* sql.unsafe(`SELECT ${quoted}.maintain_archive('${state}', now(), interval '14 days')`)
  }
})

describe("schemas", () => {
  onDatabase(
    "of any name that PostgreSQL takes are made and used by every step",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql`CREATE SCHEMA other`
        for (const [schema, quoted] of [
          [`Jobs "of" O'Brien; DROP SCHEMA other --`, `"Jobs ""of"" O'Brien; DROP SCHEMA other --"`],
          ["select", `"select"`],
          ["仕事 % %I", `"仕事 % %I"`]
        ] as const) {
          const config = { schema }
          const node = yield* startNode({ workers, config })
          yield* useAll(node, quoted)
          const findings = yield* Effect.provide(Doctor.diagnose, ShigotoConfig.layer(config))
          assert.deepInclude(
            findings.find(({ check }) => check === "schema"),
            { status: "ok" }
          )
          for (const part of ["worker", "operator", "viewer"] as const) {
            const script = Migrations.printRoles(schema, { [part]: `${schema.slice(0, 30)} ${part}` })
            for (const statement of script.split(";\n\n").slice(1, -1)) yield* sql.unsafe(statement)
          }
          yield* node.stop
        }
        const kept = yield* sql`SELECT FROM pg_namespace WHERE nspname = 'other'`
        assert.strictEqual(kept.length, 1)
      }),
    { empty: true }
  )

  onDatabase("pin the path of each function, and are used whatever objects stand earlier in the path", () =>
    Effect.gen(function* () {
      const database = yield* TestDatabase
      const sql = yield* SqlClient.SqlClient
      const functions = yield* sql<{ readonly name: string; readonly path: string | null; readonly acl: string }>`
        SELECT p.proname AS name, array_to_string(p.proconfig, ';') AS path, coalesce(p.proacl::text, '{=X}') AS acl
        FROM pg_proc AS p
        WHERE p.pronamespace = 'shigoto'::regnamespace`
      assert.includeMembers(
        functions.map(({ name }) => name),
        ["enqueue", "maintain_archive", "release_unique_key"]
      )
      for (const { acl, name, path } of functions) {
        assert.match(path ?? "", /(^|;)search_path=pg_catalog, pg_temp(;|$)/, name)
        // Nobody may call it to whom that was not granted.
        assert.notMatch(acl, /[{,]=X/, name)
      }
      yield* sql`CREATE SCHEMA hostile`
      yield* sql`CREATE TABLE hostile.touched (what text)`
      const tables = yield* sql<{ readonly name: string }>`
        SELECT tablename AS name FROM pg_tables WHERE schemaname = 'shigoto' AND tablename !~ '_\\d{8}t'`
      for (const { name } of tables) yield* sql`CREATE TABLE ${sql(`hostile.${name}`)} (id bigint)`
      for (const [signature, returns] of [
        ["enqueue(text, jsonb)", "bigint"],
        ["maintain_archive(text, timestamptz, interval)", "bigint"],
        ["statement_timestamp()", "timestamptz"],
        ["now()", "timestamptz"],
        ["pg_notify(text, text)", "void"],
        ["octet_length(text)", "integer"],
        ["jsonb_typeof(jsonb)", "text"],
        ["date_bin(interval, timestamptz, timestamptz)", "timestamptz"],
        ["hashtextextended(text, bigint)", "bigint"],
        ["pg_try_advisory_xact_lock(bigint)", "boolean"],
        ["equal(text, text)", "boolean"],
        ["least_of(timestamptz, timestamptz)", "boolean"]
      ] as const) {
        yield* sql.unsafe(`CREATE FUNCTION hostile.${signature} RETURNS ${returns} LANGUAGE plpgsql AS $$
          BEGIN INSERT INTO hostile.touched VALUES ('${signature}'); RAISE EXCEPTION 'touched ${signature}'; END $$`)
      }
      yield* sql`CREATE OPERATOR hostile.= (LEFTARG = text, RIGHTARG = text, FUNCTION = hostile.equal)`
      yield* sql`CREATE OPERATOR hostile.> (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = hostile.least_of)`
      // A node whose role has the schema in its path: its statements name what is theirs, and PostgreSQL's own come first.
      const role = `${database.name} led astray`
      yield* sql`CREATE ROLE ${sql(role)} LOGIN SUPERUSER PASSWORD 'secret'`
      yield* sql`ALTER ROLE ${sql(role)} SET search_path = hostile, public`
      const url = new URL(Redacted.value(database.url))
      url.username = encodeURIComponent(role)
      url.password = "secret"
      const client: Layer.Layer<PgClient.PgClient | SqlClient.SqlClient, unknown> = Run.layerClient(url.href, {
        maxConnections: 12
      })
      const node = yield* startNode({ workers, client })
      yield* useAll(node, "shigoto")
      yield* node.stop
      // Functions hold even where the caller puts PostgreSQL's own objects last.
      yield* sql.withTransaction(
        Effect.gen(function* () {
          yield* sql`SELECT pg_catalog.set_config('search_path', 'hostile, pg_catalog', true)`
          for (const state of ["completed", "discarded", "cancelled"]) {
            yield* sql.unsafe(`SELECT shigoto.maintain_archive('${state}', pg_catalog.now(), INTERVAL '14 days')`)
          }
          yield* sql.unsafe(`SELECT shigoto.enqueue('echo', '{"n": 1}', tags => ARRAY['a', 'b'], meta => '{}')`)
          yield* sql.unsafe(
            `SELECT shigoto.enqueue('echo', '{}', run_at => pg_catalog.now() OPERATOR(pg_catalog.+) '5 s')`
          )
          // The trigger that gives keys back.
          yield* sql.unsafe(
            `UPDATE shigoto.jobs SET unique_key = '\\x01', unique_states = 31 WHERE state OPERATOR(pg_catalog.=) 'available'`
          )
          yield* sql.unsafe(`DELETE FROM shigoto.jobs WHERE state OPERATOR(pg_catalog.=) 'available'`)
        })
      )
      const [{ rows } = { rows: "none" }] = yield* sql<{ readonly rows: string }>`
        SELECT count(*)::text AS rows FROM hostile.touched`
      assert.strictEqual(rows, "0")
      for (const { name } of tables) {
        assert.strictEqual((yield* sql`SELECT FROM ${sql(`hostile.${name}`)}`).length, 0)
      }
    })
  )
})
