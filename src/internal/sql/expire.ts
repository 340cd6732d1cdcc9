/** Ends jobs that have not started before their deadline, or never will. */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { JobId } from "../../JobRow.ts"
import { type Aftermath, merge, type NewJob, nothing } from "../newJob.ts"
import { appendFailure, archivedColumns, keptStates } from "./archive.ts"
import { batchId, type Deltas, deltaOf } from "./batch.ts"
import { conclude } from "./conclude.ts"
import { array, type Db, oid } from "./db.ts"
import { noteDiscards } from "./discard.ts"
import { insert, told } from "./enqueue.ts"
import { jobId } from "./row.ts"
import { openExpiry } from "./seal.ts"

/** A job that has expired. */
export interface Expired {
  readonly id: JobId
  readonly worker: string
  readonly queue: string
  /** The last attempt that started; 0 for none. */
  readonly attempt: number
  readonly state: "discarded" | "cancelled"
  readonly startBefore: Date
  /** JSON text of the failure of one that is discarded. */
  readonly failure: string
  /** Why one is cancelled. */
  readonly reason: string | undefined
  /** The job that runs in its place. */
  readonly fallback: JobId | undefined
}

/** The most jobs ended by one statement. */
export const expireLimit = 500

/**
 * When a job expires, in the words of the index jobs_expiring: at its deadline, or at once where it is not due before
 * that, be it for a delay, a snooze or the wait for the next attempt.
 */
export const expiry = (db: Db) =>
  db.sql.literal("CASE WHEN run_at >= start_before THEN inserted_at ELSE start_before END")

/**
 * Ends jobs that have expired, whatever they wait for: as their enqueue has said, by default as discarded. The job that
 * runs instead of one is inserted in the same transaction, and takes its place in its batch.
 *
 * A claim refuses such jobs by itself, so it does not matter how soon this comes. One transaction at a time, so that no
 * two wait for each other's jobs; rows that others hold are skipped.
 */
export const expire = (db: Db, by: string) =>
  db.transaction(
    Effect.gen(function* () {
      if (!(yield* isFirst(db))) return { expired: [], aftermath: nothing, full: false }
      const rows = yield* take(db, by)
      const deltas: Deltas = new Map()
      const fallbacks = yield* insertFallbacks(db, rows, deltas)
      const ended = rows.map((row) => ({
        id: jobId(row.id),
        state: row.state,
        links: row.links,
        batch: row.batch_id === null ? undefined : batchId(row.batch_id),
        ...(row.state === "discarded" ? { failure: row.failure } : { reason: JSON.stringify(row.reason) })
      }))
      return {
        expired: rows.map((row): Expired => {
          const id = jobId(row.id)
          const { attempt, failure, queue, reason, start_before: startBefore, state, worker } = row
          const fallback = fallbacks.ids.get(id)
          return {
            id,
            worker,
            queue,
            attempt,
            state,
            startBefore,
            failure,
            reason: state === "cancelled" ? reason : undefined,
            fallback
          }
        }),
        aftermath: merge(fallbacks.aftermath, yield* conclude(db, ended, deltas)),
        full: rows.length === expireLimit
      }
    })
  )

// internal

interface Row {
  readonly id: bigint
  readonly worker: string
  readonly queue: string
  readonly attempt: number
  readonly state: "discarded" | "cancelled"
  readonly start_before: Date
  readonly failure: string
  readonly reason: string
  readonly links: number
  readonly batch_id: bigint | null
  readonly on_expire: "cancel" | NewJob | null
}

const isFirst = Effect.fnUntraced(function* (db: Db) {
  const [row] = yield* db.sql<{ readonly first: boolean }>`
    SELECT pg_try_advisory_xact_lock(hashtextextended(${`${db.schema} expire`}, 0)) AS first`
  return row?.first === true
})

const take = Effect.fnUntraced(function* (db: Db, by: string) {
  const { sql } = db
  const now = yield* db.now
  const archived = sql.literal(archivedColumns)
  return yield* sql<Row>`
    WITH late AS MATERIALIZED (
      SELECT id
      FROM ${db.jobs}
      WHERE start_before IS NOT NULL
        AND state <> 'executing'
        AND ${expiry(db)} <= ${now}
      ORDER BY ${expiry(db)}
      LIMIT ${sql.literal(String(expireLimit))}
      FOR UPDATE SKIP LOCKED
    ),
    told AS (
      SELECT j.id,
        CASE WHEN j.on_expire IS NULL THEN 'discarded' ELSE 'cancelled' END AS final,
        (CASE WHEN j.start_before <= ${now} THEN 'It had not started before ' ELSE 'It would not start before ' END)
          || to_char(j.start_before AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
          || CASE WHEN jsonb_typeof(j.on_expire) = 'object'
            THEN '; a job of "' || (j.on_expire ->> 'worker') || '" takes its place.'
            ELSE '.'
          END AS reason
      FROM ${db.jobs} AS j
      WHERE j.id = ANY(ARRAY(SELECT id FROM late))
    ),
    gone AS (
      DELETE FROM ${db.jobs} AS j
      USING told
      WHERE j.id = told.id
        AND j.state <> 'executing'
      RETURNING j.*, told.final, told.reason,
        jsonb_build_object(
          'attempt', j.attempt,
          'at', to_char(${now} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
          'node', ${by}::text,
          'tag', 'Expired',
          'fingerprint', left(encode(sha256(convert_to(j.worker || ' Expired', 'UTF8')), 'hex'), 14),
          'message', told.reason
        ) AS failure
    ),
    archived AS (
      INSERT INTO ${db.archive} (${archived}, links, epoch, finished_at, state, errors, fingerprint, cancel_reason)
      SELECT ${archived}, gone.links, gone.epoch, ${now}, gone.final,
        CASE WHEN gone.final = 'discarded' THEN ${appendFailure(db, "gone.errors", "gone.failure")} ELSE gone.errors END,
        CASE WHEN gone.final = 'discarded' THEN gone.failure ->> 'fingerprint' ELSE gone.fingerprint END,
        CASE WHEN gone.final = 'cancelled' THEN to_jsonb(gone.reason) END
      FROM gone
      WHERE gone.final = ANY(${array(keptStates(db), oid.text)}::text[])
    ),
    noted AS (${noteDiscards(db, now, "gone.epoch", sql``)}
    )
    SELECT id, worker, queue, attempt, final AS state, start_before, failure::text, reason, links, batch_id, on_expire
    FROM gone
    ORDER BY id`
})

/** Inserts the jobs that run instead; each knows whose place it takes. */
const insertFallbacks = Effect.fnUntraced(function* (
  db: Db,
  rows: ReadonlyArray<Row>,
  deltas: Deltas
): Effect.fn.Return<{ readonly ids: ReadonlyMap<JobId, JobId>; readonly aftermath: Aftermath }, SqlError> {
  const planned: Array<{ readonly of: JobId; readonly job: NewJob }> = []
  for (const row of rows) {
    if (row.on_expire === null || row.on_expire === "cancel") continue
    const of = jobId(row.id)
    const fallback = yield* openExpiry(db, of, row.on_expire)
    const meta = fallback.meta === undefined ? {} : (JSON.parse(fallback.meta) as object) // as it was stored
    const batch = row.batch_id === null ? undefined : batchId(row.batch_id)
    if (batch !== undefined) deltaOf(deltas, batch).grown++
    const expired = { id: of, worker: row.worker }
    planned.push({ of, job: { ...fallback, batch, meta: JSON.stringify({ ...meta, expired }) } })
  }
  const inserted = yield* insert(
    db,
    planned.map(({ job }) => job)
  )
  return {
    ids: new Map(planned.map(({ of }, i) => [of, inserted[i]?.id as JobId])), // one row for each
    aftermath: { ...nothing, inserted: inserted.map((row, i) => told(row, planned[i]?.job as NewJob)) } // as above
  }
})
