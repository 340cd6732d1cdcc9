/**
 * The database's clock jumps, as where an operator or a fail-over sets it: functions that stand before the server's own
 * in the search path tell another time, to the library's statements and to its functions in the database.
 */
import { assert, describe } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as CronJob from "../../src/CronJob.ts"
import { CronJobs } from "../../src/CronJobs.ts"
import * as Job from "../../src/Job.ts"
import { eventually } from "../setup/eventually.ts"
import { onDatabase, reaches, startNode } from "./support.ts"

const Work = Job.make("work", { args: { n: Schema.Int } })
const Long = Job.make("long", { args: {} })
const Tick = Job.make("tick", { args: {}, queue: "ticks" })

const everyFiveSeconds = Effect.flatMap(CronJobs, (cron) =>
  cron.upsert({
    name: "every five seconds",
    cron: "*/5 * * * * *",
    job: Tick,
    args: {},
    catchUp: CronJob.all({ max: 1000, window: "2 hours" })
  })
)

/** From now on new connections see a clock that is wrong by what `jump` says. */
const install = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`CREATE SCHEMA shift`
  yield* sql`CREATE TABLE shift.clock AS SELECT interval '0' AS by`
  for (const name of ["now", "statement_timestamp", "clock_timestamp"]) {
    yield* sql.unsafe(`CREATE FUNCTION shift.${name}() RETURNS timestamptz LANGUAGE sql STABLE
      AS 'SELECT pg_catalog.${name}() + by FROM shift.clock'`)
  }
  yield* sql.unsafe(`DO $$ DECLARE name text; BEGIN
    EXECUTE format('ALTER DATABASE %I SET search_path = shift, pg_catalog, public', current_database());
    FOR name IN SELECT p.oid::regprocedure::text FROM pg_proc AS p WHERE p.pronamespace = 'shigoto'::regnamespace LOOP
      EXECUTE 'ALTER FUNCTION ' || name || ' SET search_path = shift, pg_catalog, pg_temp';
    END LOOP;
  END $$`)
})

const jump = (by: string) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) => sql`UPDATE shift.clock SET by = ${by}::interval`)

/** How many ticks there are, and how many are missing between the first and the last or there twice. */
const ticks = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{ readonly count: number; readonly wrong: number }>`
    SELECT count(*)::integer AS count, (
        (extract(epoch FROM max(scheduled_for) - min(scheduled_for)) / 5 + 1)::integer - count(DISTINCT scheduled_for)
          + count(*) - count(DISTINCT scheduled_for)
      )::integer AS wrong
    FROM shigoto.all_jobs
    WHERE worker = 'tick'`
  return row ?? { count: 0, wrong: 0 }
})

/** A node whose long job waits until it is let go where it starts for the first time, and ends at once after that. */
const start = Effect.gen(function* () {
  const started: Array<number> = []
  const go = yield* Deferred.make<void>()
  const node = yield* startNode({
    workers: Layer.mergeAll(
      Work.toLayer(() => Effect.void),
      Long.toLayer((_, job) => (started.push(job.epoch) === 1 ? Deferred.await(go) : Effect.void))
    )
  })
  yield* node.run(everyFiveSeconds)
  return { node, go, started }
})

describe("a jump of the database's clock", () => {
  onDatabase("ahead ends leases, which are taken anew; what became due runs, each tick of the schedule once", () =>
    Effect.gen(function* () {
      yield* install
      const { node, started } = yield* start
      const { id: long } = yield* node.run(Long.enqueue({}))
      yield* node.event("Started", long)
      const { id: later } = yield* node.run(Work.enqueue({ n: 1 }, { delay: "30 minutes" }))
      const before = yield* eventually(ticks, ({ count }) => count > 0)
      yield* jump("1 hour")
      yield* node.event("NodeLeaseLost")
      yield* reaches(node, long, "completed")
      assert.lengthOf(started, 2)
      yield* reaches(node, later, "completed")
      const after = yield* eventually(ticks, ({ count }) => count >= before.count + 720)
      assert.strictEqual(after.wrong, 0)
    })
  )

  onDatabase("back ends nothing, starts nothing twice, and holds up no new job", () =>
    Effect.gen(function* () {
      yield* install
      const { go, node, started } = yield* start
      const { id: long } = yield* node.run(Long.enqueue({}))
      yield* node.event("Started", long)
      yield* eventually(ticks, ({ count }) => count > 0)
      yield* jump("-1 hour")
      const before = yield* ticks
      // Time enough for a tick, were it not that all of that hour have been.
      const { id: delayed } = yield* node.run(Work.enqueue({ n: 1 }, { delay: "6 seconds" }))
      yield* reaches(node, delayed, "completed")
      assert.deepStrictEqual(yield* ticks, before)
      yield* Deferred.succeed(go, undefined)
      yield* reaches(node, long, "completed")
      assert.lengthOf(started, 1)
      assert.isFalse(node.events.some(({ _tag }) => _tag === "NodeLeaseLost" || _tag === "Rescued"))
      yield* jump("0")
      const after = yield* eventually(ticks, ({ count }) => count > before.count + 1)
      assert.strictEqual(after.wrong, 0)
    })
  )
})
