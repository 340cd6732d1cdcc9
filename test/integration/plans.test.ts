/** The plans of the hot statements, under statistics of moments that were quite unlike the one they run in. */
import { assert, describe } from "@effect/vitest"
import { PgClient } from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
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

const steps = (step: Step): ReadonlyArray<Step> => [step, ...(step.Plans ?? []).flatMap(steps)]

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
    onDatabase(`claim and settle by their indexes, with statistics ${moment}`, () =>
      Effect.gen(function* () {
        yield* prepare
        const database = yield* TestDatabase
        // One connection, which says what it has prepared.
        const client = yield* database.makeClient({ maxConnections: 1 })
        const store = yield* JobStore.make.pipe(
          Effect.provide(ShigotoConfig.layer()),
          Effect.provideService(PgClient, client)
        )
        const node = yield* store.register({ name: "bare", ttlMillis: 60_000 })
        const jobs = yield* store.claim({
          node,
          nodeName: "bare",
          queue: "default",
          limit: 500,
          workers: [{ name: "note", room: 500 }]
        })
        const [first, ...others] = jobs
        assert.isDefined(first)
        const settle = (some: typeof jobs, delayMillis?: number) =>
          store.settle(
            some.map(({ epoch, id }) => ({
              id,
              epoch,
              outcome: delayMillis === undefined ? { _tag: "Completed", result: "1" } : { _tag: "Snoozed", delayMillis }
            }))
          )
        yield* settle([first as (typeof jobs)[number]], 1000) // asserted above
        yield* settle(others)
        // The driver would have to bind the statement's parameters; a plan for any values has none.
        yield* client`
          CREATE FUNCTION pg_temp.plan_of(statement text) RETURNS json
          LANGUAGE plpgsql
          AS ${client.literal("$$ DECLARE plan json; BEGIN EXECUTE 'EXPLAIN (GENERIC_PLAN, FORMAT JSON) ' || statement INTO plan; RETURN plan; END $$")}`
        const prepared = yield* client<{ readonly statement: string }>`
          SELECT statement
          FROM pg_prepared_statements
          WHERE statement ~ '^[[:space:]]*WITH (outcome|candidate) AS'`
        assert.strictEqual(prepared.length, 3)
        for (const { statement } of prepared) {
          const [row] = yield* client<{ readonly plan: ReadonlyArray<{ readonly Plan: Step }> }>`
            SELECT pg_temp.plan_of(${statement}::text) AS plan`
          const plan = row?.plan[0]?.Plan
          assert.isDefined(plan)
          assert.deepStrictEqual(tooMuch(plan as Step), [], JSON.stringify(plan, null, 1)) // asserted above
        }
      })
    )
  }
})
