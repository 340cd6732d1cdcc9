/** The plans of the hot statements, under statistics of moments that were quite unlike the one they run in. */
import { assert, describe } from "@effect/vitest"
import { PgClient } from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Statement from "effect/sql/Statement"
import * as JobStore from "../../src/JobStore.ts"
import * as ShigotoConfig from "../../src/ShigotoConfig.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"
import { onDatabase } from "./support.ts"

/** A node of a plan, as EXPLAIN tells it. */
interface Step {
  readonly "Node Type": string
  readonly "Relation Name"?: string
  readonly Plans?: ReadonlyArray<Step>
}

type Explained = readonly [{ readonly Plan: Step }]

const steps = (step: Step): ReadonlyArray<Step> => [step, ...(step.Plans ?? []).flatMap(steps)]

/** The steps of the data path that meet the table of jobs, by how their statements begin. */
const hot = /^\s*WITH (outcome|candidate|due) AS/

/** What costs the product of two sizes, or the size of the whole table: nothing that a batch may cost. */
const tooMuch = (plan: Step): ReadonlyArray<string> =>
  steps(plan).flatMap((step) => {
    const [, inner] = step.Plans ?? []
    if (step["Node Type"] === "Nested Loop" && inner?.["Node Type"].includes("CTE Scan") === true) {
      return ["compares each outcome with each job"]
    }
    return step["Node Type"] === "Seq Scan" && step["Relation Name"] === "jobs" ? ["reads all jobs"] : []
  })

const fill = Effect.flatMap(
  PgClient,
  (sql) => sql`
    INSERT INTO shigoto.jobs (state, worker, queue, args, run_at, inserted_at)
    SELECT 'available', 'note', 'default', '{}', now(), now()
    FROM generate_series(1, 20000)`
)

/** The moments that statistics may be of, each with the queue filled after it. */
const moments: Readonly<Record<string, Effect.Effect<unknown, unknown, PgClient>>> = {
  "never taken": fill,
  "taken while all jobs waited": Effect.flatMap(PgClient, (sql) =>
    Effect.andThen(fill, sql`VACUUM ANALYZE shigoto.jobs`)
  ),
  "taken of an empty table that has pages": Effect.flatMap(PgClient, (sql) =>
    fill.pipe(
      Effect.andThen(sql`DELETE FROM shigoto.jobs`),
      Effect.andThen(sql`VACUUM (ANALYZE, TRUNCATE off) shigoto.jobs`),
      Effect.andThen(fill)
    )
  )
}

describe("plans", () => {
  for (const [moment, prepare] of Object.entries(moments)) {
    onDatabase(`claim and settle by their indexes, with statistics ${moment}`, ({ skip }) =>
      Effect.gen(function* () {
        const [server] = yield* (yield* PgClient)<{ readonly version: number }>`
          SELECT current_setting('server_version_num')::int4 AS version`
        // Until then an index asked for a list of ids counts as dearer than reading this many jobs.
        if ((server?.version ?? 0) < 170_000) return skip("the planner of this server has other costs")
        yield* prepare
        const database = yield* TestDatabase
        // One connection, which keeps the function below.
        const sql = yield* database.makeClient({ maxConnections: 1 })
        const store = yield* JobStore.make.pipe(
          Effect.provide(ShigotoConfig.layer()),
          Effect.provideService(PgClient, sql)
        )
        const node = yield* store.register({ name: "bare", ttlMillis: 60_000 })
        const claim = store.claim({
          node,
          nodeName: "bare",
          queue: "default",
          limit: 500,
          workers: [{ name: "note", room: 500 }]
        })
        const jobs = yield* claim
        assert.strictEqual(jobs.length, 500)
        const settle = (some: typeof jobs, delayMillis?: number) =>
          store.settle(
            some.map(({ epoch, id }) => ({
              id,
              epoch,
              outcome: delayMillis === undefined ? { _tag: "Completed", result: "1" } : { _tag: "Snoozed", delayMillis }
            }))
          )
        const sent: Array<readonly [text: string, values: ReadonlyArray<unknown>]> = []
        const noting: Statement.Transformer = (statement) => {
          const [text, values] = statement.compile()
          if (hot.test(text)) sent.push([text, values])
          return Effect.succeed(statement)
        }
        yield* Effect.gen(function* () {
          yield* settle(jobs.slice(250), 1000)
          yield* settle(jobs.slice(0, 250))
          assert.strictEqual((yield* claim).length, 500)
          yield* store.promote({ id: node, queues: [{ name: "default", isBusy: false }], workers: ["work"] })
        }).pipe(Effect.provideService(Statement.CurrentTransformer, noting))
        assert.strictEqual(sent.length, 4)
        // As it is planned for its values, and as it would be for any: the driver would have to bind those.
        yield* sql`
          CREATE FUNCTION pg_temp.plan_of(statement text) RETURNS json
          LANGUAGE plpgsql
          AS ${sql.literal("$$ DECLARE plan json; BEGIN EXECUTE 'EXPLAIN (GENERIC_PLAN, FORMAT JSON) ' || statement INTO plan; RETURN plan; END $$")}`
        for (const [text, values] of sent) {
          const [own] = yield* sql.unsafe<{ readonly "QUERY PLAN": Explained }>(`EXPLAIN (FORMAT JSON) ${text}`, values)
          const [any] = yield* sql<{ readonly plan: Explained }>`SELECT pg_temp.plan_of(${text}::text) AS plan`
          for (const plan of [own?.["QUERY PLAN"][0].Plan, any?.plan[0].Plan]) {
            assert.isDefined(plan)
            assert.deepStrictEqual(tooMuch(plan), [], JSON.stringify(plan, null, 1))
          }
        }
      })
    )
  }
})
