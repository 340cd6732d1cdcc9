/** Ends attempts: many outcomes in one statement, each fenced by its epoch. */
import * as Effect from "effect/Effect"
import type { JobId } from "../../JobRow.ts"
import type { Outcome } from "../../Outcome.ts"
import { array, type Db, ids, oid } from "./db.ts"
import { jobId } from "./row.ts"

/** One attempt and what became of it. */
export interface Settlement {
  readonly id: JobId
  readonly epoch: number
  readonly outcome: Outcome
}

/**
 * What the database made of a settlement.
 *
 * `Accepted` has the state that the job is in now; `Lost` says that somebody else has taken the job since; `Gone` that
 * there is no such job any more; `Pending` that the row changed underneath in a way that leaves it ours, so the
 * settlement is to be sent again.
 */
export type Verdict =
  | { readonly _tag: "Accepted"; readonly state: string }
  | { readonly _tag: "Lost" }
  | { readonly _tag: "Gone" }
  | { readonly _tag: "Pending" }

/** The most failures kept with a job. */
export const maxFailures = 20

/** An expression for a job's failures with one more, the oldest leaving where there would be too many. */
export const appendFailure = (db: Db, failures: "j.errors" | "gone.errors", failure: string) => {
  const column = db.sql.literal(failures)
  return db.sql`CASE
      WHEN ${db.sql.literal(failure)} IS NULL THEN ${column}
      WHEN jsonb_array_length(${column}) >= ${db.sql.literal(String(maxFailures))}
        THEN (${column} - 0) || ${db.sql.literal(failure)}
      ELSE coalesce(${column}, '[]') || ${db.sql.literal(failure)}
    END`
}

/** The columns that a job takes into the archive as they are. */
export const archivedColumns =
  "id, run_at, inserted_at, claimed_at, cancel_requested_at, claimed_by, priority, attempt, max_attempts, progress, snoozes, queue, worker, args, meta, tags, partition_key, scheduled_for, unique_key, unique_states"

/**
 * Settles attempts, and says of each what became of it, in the order given.
 *
 * A row is met only as `executing` under the epoch of its claim, so a settlement that was accepted before, or whose
 * job was taken away, meets none; what those rows are now is read in a second statement. Rows are locked in the order
 * of the scan; two batches never hold the same row, so they cannot deadlock.
 *
 * A claimed row is an executing one by the constraint jobs_claimed. It is asked for in words that fit no partial index
 * and no statistics: told of a moment when nothing was executing, the planner would read all of jobs_executing for a
 * batch, or take one row for granted and compare each outcome with each job.
 */
export const settle = Effect.fnUntraced(function* (db: Db, settlements: ReadonlyArray<Settlement>) {
  const met = yield* db.statement(write(db, settlements))
  const accepted = new Map(met.map((row) => [jobId(row.id), row.state]))
  const missing = settlements.filter((settlement) => !accepted.has(settlement.id))
  const found = missing.length === 0 ? new Map<JobId, Verdict>() : yield* look(db, missing)
  return settlements.map((settlement): Verdict => {
    const state = accepted.get(settlement.id)
    return state === undefined ? (found.get(settlement.id) ?? { _tag: "Gone" }) : { _tag: "Accepted", state }
  })
})

// internal

const write = Effect.fnUntraced(function* (db: Db, settlements: ReadonlyArray<Settlement>) {
  const { sql } = db
  const now = yield* db.now
  const columns = settlements.map(({ epoch, id, outcome }) => encode(id, epoch, outcome))
  const wanted = ids(columns.map((column) => column.id))
  const archived = sql.literal(archivedColumns)
  const goesBack = columns.some((column) => !terminal.has(column.state))
  return yield* sql<{ readonly id: bigint; readonly state: string }>`
    WITH outcome AS MATERIALIZED (
      SELECT *
      FROM unnest(
        ${wanted}::bigint[],
        ${array(
          columns.map((column) => column.epoch),
          oid.int4
        )}::integer[],
        ${array(
          columns.map((column) => column.state),
          oid.text
        )}::text[],
        ${array(
          columns.map((column) => column.result),
          oid.text
        )}::text[]::jsonb[],
        ${array(
          columns.map((column) => column.failure),
          oid.text
        )}::text[]::jsonb[],
        ${array(
          columns.map((column) => column.delayMillis),
          oid.float8
        )}::float8[],
        ${array(
          columns.map((column) => column.refund),
          oid.int2
        )}::smallint[],
        ${array(
          columns.map((column) => column.reason),
          oid.text
        )}::text[]
      ) AS o (id, epoch, state, result, failure, delay_millis, refund, reason)
    ),
    gone AS (
      DELETE FROM ${db.jobs} AS j
      USING outcome
      WHERE j.id = ANY(${wanted}::bigint[])
        AND j.id = outcome.id
        AND j.epoch = outcome.epoch
        AND coalesce(j.claimed_by, 0) <> 0
        AND (outcome.state IN ('completed', 'discarded', 'cancelled') OR j.cancel_requested_at IS NOT NULL)
      RETURNING j.*,
        CASE
          WHEN outcome.state IN ('completed', 'discarded', 'cancelled') THEN outcome.state
          ELSE 'cancelled'
        END AS final,
        outcome.result, outcome.failure, outcome.reason
    ),
    archived AS (
      INSERT INTO ${db.archive} (${archived}, epoch, finished_at, state, result, errors, cancel_reason)
      SELECT ${archived}, gone.epoch, ${now}, gone.final, gone.result,
        ${appendFailure(db, "gone.errors", "gone.failure")},
        coalesce(gone.cancel_reason, gone.reason)
      FROM gone
      WHERE gone.final = ANY(${array(keptStates(db), oid.text)}::text[])
    )${
      goesBack
        ? sql`,
    back AS (
      UPDATE ${db.jobs} AS j
      SET state = outcome.state,
        run_at = CASE
          WHEN outcome.delay_millis IS NULL THEN j.run_at
          ELSE ${now} + outcome.delay_millis * interval '1 millisecond'
        END,
        attempt = j.attempt - outcome.refund,
        snoozes = CASE WHEN outcome.state = 'scheduled' THEN coalesce(j.snoozes, 0) + 1 ELSE j.snoozes END,
        claimed_by = NULL,
        errors = ${appendFailure(db, "j.errors", "outcome.failure")}
      FROM outcome
      WHERE j.id = ANY(${wanted}::bigint[])
        AND j.id = outcome.id
        AND j.epoch = outcome.epoch
        AND coalesce(j.claimed_by, 0) <> 0
        AND outcome.state IN ('scheduled', 'available', 'retryable')
        AND j.cancel_requested_at IS NULL
      RETURNING j.id, j.state
    )
    SELECT id, final AS state FROM gone
    UNION ALL
    SELECT id, state FROM back`
        : sql`
    SELECT id, final AS state FROM gone`
    }`
})

/** Says what the rows are that a settlement did not meet. */
const look = Effect.fnUntraced(function* (db: Db, settlements: ReadonlyArray<Settlement>) {
  const wanted = ids(settlements.map((settlement) => settlement.id))
  const rows = yield* db.sql<{ readonly id: bigint; readonly state: string; readonly epoch: number }>`
    SELECT id, state, epoch
    FROM ${db.allJobs}
    WHERE id = ANY(${wanted}::bigint[])`
  const byId = new Map(rows.map((row) => [jobId(row.id), row]))
  return new Map(
    settlements.map(({ epoch, id }): [JobId, Verdict] => {
      const row = byId.get(id)
      if (row === undefined) return [id, { _tag: "Gone" }]
      if (row.epoch !== epoch) return [id, { _tag: "Lost" }]
      return [id, row.state === "executing" ? { _tag: "Pending" } : { _tag: "Accepted", state: row.state }]
    })
  )
})

/** The terminal states whose jobs are kept at all. */
export const keptStates = (db: Db): ReadonlyArray<string> =>
  Object.entries(db.retention)
    .filter(([, millis]) => millis > 0)
    .map(([state]) => state)

const terminal: ReadonlySet<string> = new Set(["completed", "discarded", "cancelled"])

interface Columns {
  readonly id: number
  readonly epoch: number
  readonly state: string
  readonly result: string | null
  readonly failure: string | null
  readonly delayMillis: number | null
  readonly refund: number
  readonly reason: string | null
}

const encode = (id: number, epoch: number, outcome: Outcome): Columns => {
  const base = { id, epoch, result: null, failure: null, delayMillis: null, refund: 0, reason: null }
  switch (outcome._tag) {
    case "Completed":
      return { ...base, state: "completed", result: outcome.result ?? null }
    case "Retryable":
      return { ...base, state: "retryable", failure: JSON.stringify(outcome.failure), delayMillis: outcome.delayMillis }
    case "Discarded":
      return { ...base, state: "discarded", failure: JSON.stringify(outcome.failure) }
    case "Cancelled":
      return {
        ...base,
        state: "cancelled",
        failure: outcome.failure === undefined ? null : JSON.stringify(outcome.failure),
        reason: outcome.reason ?? null
      }
    case "Snoozed":
      return { ...base, state: "scheduled", delayMillis: outcome.delayMillis, refund: 1 }
    case "Released":
      return { ...base, state: "available", refund: 1 }
  }
}
