/** Settles attempts and gives the places that they leave to the next jobs of their worker, in one statement. */
import * as Effect from "effect/Effect"
import { nothing } from "../newJob.ts"
import { workerRow } from "./account.ts"
import { candidatesOf, type ClaimRequest } from "./claim.ts"
import { claimedColumns, claimedRows, openAll, readClaimed, taking } from "./claimed.ts"
import type { Db } from "./db.ts"
import { sealOutcomes } from "./seal.ts"
import { settle, type Settlement, settling, type Verdict } from "./settle.ts"

/** Who takes the places of a worker whose concurrency over all nodes is limited. */
export interface Heirs {
  readonly worker: string
  /** What the code says of its concurrency. */
  readonly concurrency: number
  /** Takes at most as many jobs as are settled, of any worker that the node could claim: those come first that are first. */
  readonly request: ClaimRequest
}

/**
 * Settles attempts of one worker, and claims as many of its next jobs as were met.
 *
 * No lock of the limit is needed: in one statement a row stops to be counted and another begins to be, so whoever counts
 * under the lock finds as many as before. It takes no place that was free, and none beyond a limit that was lowered. Only
 * jobs at the head of the queue are taken: where another worker's is first, the places are left to a claim.
 *
 * Outcomes that concern other jobs are settled as ever, and leave their places.
 */
export const handOver = Effect.fnUntraced(function* (db: Db, given: ReadonlyArray<Settlement>, heirs: Heirs) {
  const { sql } = db
  const now = yield* db.now
  const { met, steps } = settling(db, yield* sealOutcomes(db, given), false, now)
  const rows = yield* db.statement(
    claimedRows(sql`${steps},
    met AS MATERIALIZED (${met}),
    candidate AS MATERIALIZED (${candidatesOf(db, heirs.request, now)}),
    chosen AS MATERIALIZED (
      SELECT id
      FROM (
        SELECT id, bool_and(worker = ${heirs.worker}) OVER queue AS is_heir, row_number() OVER queue AS place
        FROM candidate
        WINDOW queue AS (ORDER BY rank, run_at, id)
      ) AS c
      WHERE is_heir
        AND place <= (SELECT count(*) FROM met) + least(0, ${spare(db, heirs)})
    ),
    taken AS (
      ${taking(db, heirs.request.node, now)}
      WHERE j.id = ANY(ARRAY(SELECT id FROM chosen))
        AND j.claimed_by IS NULL
      RETURNING ${claimedColumns(db, "j")}
    )
    SELECT taken.*, met.position, met.state AS settled_state
    FROM (SELECT *, row_number() OVER () AS place FROM met) AS met
    LEFT JOIN (SELECT *, row_number() OVER () AS place FROM taken) AS taken
      ON taken.place = met.place`)
  )
  const jobs = yield* openAll(db, yield* readClaimed(db, heirs.request, rows), heirs.request)
  const accepted = new Map(
    rows.map((row): [number, Verdict] => {
      const [position, state] = row.slice(-2)
      return [Number(position) - 1, { _tag: "Accepted", state: String(state) }]
    })
  )
  const rest = given.filter((_, i) => !accepted.has(i))
  const others = rest.length === 0 ? undefined : yield* settle(db, rest)
  const left = [...(others?.verdicts ?? [])]
  return {
    jobs,
    verdicts: given.map((_, i): Verdict => accepted.get(i) ?? left.shift() ?? { _tag: "Gone", held: false }),
    aftermath: others?.aftermath ?? nothing
  }
})

// internal

/** How many places of the worker are free; below zero after its limit was lowered. */
const spare = (db: Db, { concurrency, worker }: Heirs) => db.sql`
  coalesce(
          (SELECT places FROM ${db.sql(`${db.schema}.limits`)} WHERE name = ${workerRow(worker)} AND key = ''),
          ${concurrency}::integer
        ) - (SELECT count(*) FROM ${db.jobs} WHERE state = 'executing' AND worker = ${worker})`
