import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as Job from "../src/Job.ts"
import type { JobId } from "../src/JobRow.ts"
import { Jobs } from "../src/Jobs.ts"
import * as ShigotoConfig from "../src/ShigotoConfig.ts"
import { ShigotoLive } from "../src/ShigotoLive.ts"
import { eventually } from "./setup/eventually.ts"
import { oddNames } from "./setup/oddNames.ts"
import { layerProducer } from "./setup/producer.ts"
import { TestDatabase } from "./setup/TestDatabase.ts"

const Mail = Job.make("mail", { args: { to: Schema.String } })

/** Calls `shigoto.enqueue` with these arguments, written as SQL. */
const call = Effect.fnUntraced(function* (args: string) {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql.unsafe<{ readonly id: bigint }>(`SELECT shigoto.enqueue(${args}) AS id`).unprepared
  return Number(row?.id) as JobId
})

const stateOf = (error: SqlError): unknown => (error.reason.cause as { readonly code?: unknown }).code

const quoted = (text: string): string => `'${text.replaceAll("'", "''")}'`

layer(layerProducer(), { excludeTestServices: true })("SELECT shigoto.enqueue", (it) => {
  it.effect("puts in the same row as Job.enqueue, with the same defaults", () =>
    Effect.gen(function* () {
      const jobs = yield* Jobs
      const { args, id, insertedAt, runAt, scheduledFor, ...row } = yield* jobs.get(yield* call(`'mail'`))
      assert.isAbove(id, 0)
      assert.deepStrictEqual(args, {})
      const own = (yield* Mail.enqueue({ to: "x" })).job
      const { args: _, id: ownId, insertedAt: ownInserted, runAt: ownRun, scheduledFor: __, ...expected } = own
      assert.deepStrictEqual(row, expected)
      assert.isAbove(ownId, id)
      assert.isAtMost(insertedAt.epochMilliseconds, ownInserted.epochMilliseconds)
      assert.isAtMost(runAt.epochMilliseconds, ownRun.epochMilliseconds)
      assert.deepStrictEqual(scheduledFor, insertedAt)
    })
  )

  it.effect("takes everything by name", () =>
    Effect.gen(function* () {
      const jobs = yield* Jobs
      const id = yield* call(
        `'mail', args => '{"to": "ada"}', queue => 'slow', priority => -3, run_at => '2099-01-01T00:00:00Z',
         max_attempts => 2, tags => '{a,b}', meta => '{"k": 1}', partition_key => 'p'`
      )
      const row = yield* jobs.get(id)
      assert.deepStrictEqual(
        [row.state, row.queue, row.priority, row.maxAttempts, row.tags, row.meta, row.partitionKey, row.args],
        ["scheduled", "slow", -3, 2, ["a", "b"], { k: 1 }, "p", { to: "ada" }]
      )
      assert.strictEqual(row.runAt.epochMilliseconds, Date.parse("2099-01-01T00:00:00Z"))
      assert.deepStrictEqual(row.scheduledFor, row.runAt)
      for (const past of ["'1999-01-01'", "'-infinity'", "NULL"]) {
        assert.strictEqual((yield* jobs.get(yield* call(`'mail', run_at => ${past}`))).state, "available")
      }
    })
  )

  it.effect("takes every legal name", () =>
    Effect.gen(function* () {
      const jobs = yield* Jobs
      for (const name of oddNames) {
        const of = quoted(name)
        const row = yield* jobs.get(yield* call(`${of}, queue => ${of}, tags => ARRAY[${of}], partition_key => ${of}`))
        assert.deepStrictEqual([row.worker, row.queue, row.tags, row.partitionKey], [name, name, [name], name])
      }
    })
  )

  const bad: ReadonlyArray<readonly [string, RegExp]> = [
    ["''", /no name/],
    ["NULL", /no name/],
    ["repeat('x', 129)", /no name/],
    ["E'a\\nb'", /no name/],
    ["U&'a\\0085b'", /no name/],
    ["U&'a\\2028b'", /no name/],
    ["' a'", /no name/],
    ["U&'\\3000a'", /no name/],
    ["'w', queue => ''", /no name/],
    ["'w', queue => NULL", /no name/],
    ["'w', queue => E'a\\tb'", /no name/],
    ["'w', args => NULL", /args is null/],
    ["'w', args => to_jsonb(repeat('x', 1048576))", /args has 1048578 bytes, the limit is 1048576/],
    ["'w', priority => 32768", /priority 32768.*32767/],
    ["'w', priority => -32769", /priority -32769/],
    ["'w', priority => NULL", /priority/],
    ["'w', max_attempts => 0", /max_attempts 0.*1 to 32767/],
    ["'w', max_attempts => 32768", /max_attempts 32768/],
    ["'w', max_attempts => NULL", /max_attempts/],
    ["'w', run_at => 'infinity'", /run_at/],
    ["'w', run_at => '10000-01-01'", /run_at/],
    ["'w', tags => ARRAY['a', NULL]", /no name/],
    ["'w', tags => ARRAY['a', '']", /no name/],
    ["'w', tags => ARRAY['a', 'b', 'a']", /twice/],
    ["'w', tags => (SELECT array_agg(n::text) FROM generate_series(1, 101) AS n)", /101 tags, the limit is 100/],
    ["'w', meta => '[]'", /meta is no JSON object/],
    ["'w', meta => 'null'", /meta is no JSON object/],
    ["'w', meta => jsonb_build_object('a', repeat('x', 65536))", /meta has \d+ bytes, the limit is 65536/],
    ["'w', partition_key => ''", /no name/]
  ]

  it.effect.each(bad)("refuses (%s)", ([args, message]) =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const count = sql`SELECT count(*)::integer AS count FROM shigoto.jobs`
      const before = yield* count
      const error = yield* Effect.flip(call(args))
      assert.strictEqual(stateOf(error), "22023")
      assert.match((error.reason.cause as Error).message, message)
      assert.deepStrictEqual(yield* count, before)
    })
  )

  it.effect("does not look at the caller's search_path", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql`CREATE SCHEMA evil`
      yield* sql`CREATE TABLE evil.jobs (id bigint)`
      yield* sql`CREATE FUNCTION evil.octet_length(text) RETURNS integer LANGUAGE sql AS 'SELECT 1 / 0'`
      yield* sql.withTransaction(
        Effect.gen(function* () {
          yield* sql`SELECT set_config('search_path', 'evil, pg_catalog', true)`
          assert.isAbove(yield* call("'safe'"), 0)
        })
      )
    })
  )
})

const handled: Array<{ readonly to: string }> = []
const Node = Mail.toLayer((args) => Effect.sync(() => void handled.push(args))).pipe(
  Layer.provideMerge(ShigotoLive),
  // Without notifications nothing would run before the test gives up.
  Layer.provide(ShigotoConfig.layer({ pollInterval: "10 minutes", idlePollInterval: "10 minutes" })),
  Layer.provideMerge(TestDatabase.layer())
)

layer(Node, { excludeTestServices: true })("SELECT shigoto.enqueue on a running node", (it) => {
  it.effect("wakes the node, at once and when a job is soon due", () =>
    Effect.gen(function* () {
      const jobs = yield* Jobs
      const sql = yield* SqlClient.SqlClient
      yield* eventually(
        sql`SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND state = 'idle'`,
        (rows) => rows.length > 0
      )
      const now = yield* call(`'mail', '{"to": "now"}'`)
      yield* eventually(jobs.get(now), (row) => row.state === "completed")
      const soon = yield* call(`'mail', '{"to": "soon"}', run_at => statement_timestamp() + interval '300 ms'`)
      yield* eventually(jobs.get(soon), (row) => row.state === "completed")
      assert.deepStrictEqual(handled, [{ to: "now" }, { to: "soon" }])
    })
  )

  it.effect("works in a trigger, and lives and dies with its transaction", () =>
    Effect.gen(function* () {
      const jobs = yield* Jobs
      const sql = yield* SqlClient.SqlClient
      yield* sql`CREATE TABLE users (name text)`
      yield* sql`
        CREATE FUNCTION welcome() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          PERFORM shigoto.enqueue('mail', jsonb_build_object('to', NEW.name), tags => ARRAY['trigger']);
          RETURN NEW;
        END $$`
      yield* sql`CREATE TRIGGER welcome AFTER INSERT ON users FOR EACH ROW EXECUTE FUNCTION welcome()`
      yield* Effect.flip(
        sql.withTransaction(Effect.andThen(sql`INSERT INTO users VALUES ('nobody')`, Effect.fail("rolled back")))
      )
      yield* sql`INSERT INTO users VALUES ('ada'), ('grace')`
      const done = yield* eventually(
        jobs.list({ tag: "trigger" }),
        (rows) => rows.length > 0 && rows.every(({ state }) => state === "completed")
      )
      assert.deepStrictEqual(
        done.map(({ args }) => args),
        [{ to: "grace" }, { to: "ada" }]
      )
    })
  )
})
