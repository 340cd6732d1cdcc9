/** Bulk operations on random graphs of jobs with batches and keys: whatever is done, what ties them stays right. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import * as Batch from "../src/Batch.ts"
import { Batches } from "../src/Batches.ts"
import type { Filter } from "../src/Filter.ts"
import * as Job from "../src/Job.ts"
import { type JobId, type JobState, states } from "../src/JobRow.ts"
import { Jobs } from "../src/Jobs.ts"
import { ShigotoTest } from "../src/testing/index.ts"
import { TestDatabase } from "./setup/TestDatabase.ts"

const failing = new Set<number>()

const Part = Job.make("part", { args: { n: Schema.Int, key: Schema.Int }, maxAttempts: 1 })
const Call = Job.make("call", { args: { occasion: Schema.String } })

const world = Layer.mergeAll(
  Part.toLayer(({ n }) => Effect.suspend(() => (failing.has(n) ? Job.discard("for now") : Effect.void))),
  Call.toLayer(() => Effect.void)
).pipe(
  Layer.provideMerge(
    Layer.unwrap(
      Effect.map(TestDatabase, (database) =>
        ShigotoTest.layer({ queues: { default: 10 }, client: database.clientConfig })
      )
    )
  ),
  Layer.provideMerge(TestDatabase.layerDatabase())
)

/** What may never be, between any two operations. */
const offences = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  return {
    // A job that waits has something to wait for that lives, or a failure that holds it.
    stuck: yield* sql`
      SELECT j.id
      FROM shigoto.jobs AS j
      WHERE j.state = 'blocked'
        AND NOT EXISTS (
          SELECT FROM shigoto.dependencies AS d
          LEFT JOIN shigoto.jobs AS p
            ON p.id = d.parent_id
          WHERE d.child_id = j.id
            AND CASE WHEN d.outcome IS NULL THEN p.id IS NOT NULL
              ELSE d.outcome IN ('discarded', 'cancelled') AND d.on_failure = 'hold' END
        )`,
    // One that does not wait has nothing undecided before it.
    early: yield* sql`
      SELECT j.id
      FROM shigoto.jobs AS j
      JOIN shigoto.dependencies AS d
        ON d.child_id = j.id AND d.outcome IS NULL
      WHERE j.state <> 'blocked'`,
    // Who lives and is unique holds a key, and nobody else holds one.
    keyless: yield* sql`
      SELECT j.id, u.job_id
      FROM (SELECT id FROM shigoto.jobs WHERE unique_key IS NOT NULL) AS j
      FULL JOIN shigoto.unique_keys AS u
        ON u.job_id = j.id
      WHERE j.id IS NULL OR u.job_id IS NULL`,
    // What was deleted after its end is counted on.
    miscounted: yield* sql`
      SELECT b.id
      FROM shigoto.batches AS b
      CROSS JOIN LATERAL (
        SELECT (SELECT count(*) FROM shigoto.jobs AS j WHERE j.batch_id = b.id)
          + (SELECT count(*) FROM shigoto.batches AS n WHERE n.parent_id = b.id AND n.finished_at IS NULL) AS live
      ) AS m
      WHERE b.pending <> m.live
        OR b.total <> b.pending + b.completed + b.discarded + b.cancelled
        OR least(b.completed, b.discarded, b.cancelled) < 0
        OR (b.finished_at IS NOT NULL) <> (b.pending = 0)`,
    twice: yield* sql`
      SELECT FROM shigoto.all_jobs WHERE worker = 'call' GROUP BY meta -> 'batch' ->> 'id', args HAVING count(*) > 1`
  }
})
const none = { stuck: [], early: [], keyless: [], miscounted: [], twice: [] }

describe("bulk operations on a random graph", () => {
  for (const first of [11, 222, 71_276, 269_251]) {
    it.effect(`keep dependents, batches and keys right, from seed ${first}`, () => {
      let seed = first
      const random = (below: number) => (seed = (seed * 48_271) % 2_147_483_647) % below
      const pick = <A>(items: ReadonlyArray<A>): A => items[random(items.length)] as A // none is empty
      const size = 30
      return Effect.gen(function* () {
        const jobs = yield* Jobs
        const batches = yield* Batches
        const options = {
          onFinished: Call.prepare({ occasion: "finished" }),
          onSucceeded: Call.prepare({ occasion: "succeeded" }),
          onFirstFailure: Call.prepare({ occasion: "failed" })
        }
        const outer = yield* Batch.make("outer", options).open()
        const inner = yield* Batch.make("inner", options).open({ parent: outer })
        const alone = yield* Batch.make("alone", options).open()
        const made: Array<JobId> = []
        for (let n = 0; n < size; n++) {
          const { id } = yield* Part.enqueue(
            { n, key: random(20) },
            {
              tags: [`t${random(3)}`],
              priority: random(4),
              ...(random(3) > 0 && { batch: pick([outer, inner, alone]) }),
              ...(random(2) === 0 && { unique: { keys: ["worker", "args.key"] } }),
              ...(random(4) === 0 && { delay: "1 hour" }),
              dependsOn: [...new Set(Array.from({ length: made.length === 0 ? 0 : random(4) }, () => pick(made)))].map(
                (id) => ({ id, onFailure: pick(["cancel", "run", "hold"] as const) })
              )
            }
          )
          if (!made.includes(id)) made.push(id)
        }
        for (const id of [inner, outer, alone]) yield* batches.seal(id)
        assert.deepStrictEqual(yield* offences, none)

        const filter = (): Filter => ({
          worker: "part",
          ...pick<() => Filter>([
            () => ({ tag: `t${random(3)}` }),
            () => ({ batch: pick([outer, inner, alone]) }),
            () => ({ id: { min: pick(made), max: pick(made) } }),
            () => ({ id: [pick(made), pick(made), pick(made)] }),
            () => ({ priority: { max: random(3) } }),
            () => ({ args: { key: random(20) } })
          ])(),
          ...(random(2) === 0 && { state: [pick<JobState>(states), pick<JobState>(states)] })
        })
        for (let step = 0; step < 60; step++) {
          failing.clear()
          for (let n = 0; n < size; n++) if (random(3) === 0) failing.add(n)
          const wanted = filter()
          const what = pick(["cancelBy", "retryBy", "retryBy", "retryBy", "deleteBy", "drain", "advance"] as const)
          if (what === "drain") yield* ShigotoTest.drain
          else if (what === "advance") yield* ShigotoTest.advance("20 minutes")
          // Few at a time, or soon nothing is left.
          else if (what === "deleteBy") yield* Stream.runDrain(jobs.deleteBy({ ...wanted, id: [pick(made)] }))
          else {
            const state = what === "retryBy" && random(2) === 0 ? (["discarded", "cancelled"] as const) : wanted.state
            // A range may have its ends the wrong way round.
            yield* Stream.runDrain(jobs[what]({ ...wanted, state })).pipe(
              Effect.catchTag("InvalidFilter", () => Effect.void)
            )
          }
          assert.deepStrictEqual(yield* offences, none, `step ${step}: ${what} ${JSON.stringify(wanted)}`)
        }

        // Everything that is left comes to its end once nothing fails, and what a failure holds is let go.
        failing.clear()
        for (let round = 0; round < 5; round++) {
          yield* Stream.runDrain(jobs.retryBy({ worker: "part", state: ["discarded", "cancelled", "blocked"] }))
          yield* ShigotoTest.advance("1 hour")
        }
        assert.deepStrictEqual(yield* offences, none)
        const { count: live } = yield* jobs.count({
          state: ["blocked", "scheduled", "available", "executing", "retryable"]
        })
        assert.strictEqual(live, 0)
        for (const id of [inner, outer, alone]) assert.isTrue((yield* batches.get(id)).finished)
      }).pipe(Effect.provide(world))
    })
  }
})
