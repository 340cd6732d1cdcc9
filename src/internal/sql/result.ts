/** Keeps the ends of jobs that somebody waits for, and reads them for all who wait at once. */
import * as Effect from "effect/Effect"
import type { AttemptFailure, JobId } from "../../JobRow.ts"
import { type DecryptionError, envelopeOf, type Place } from "../envelope.ts"
import { link } from "../newJob.ts"
import type { End } from "./batch.ts"
import { array, type Db, ids, oid } from "./db.ts"
import type { EndedJob } from "./depend.ts"
import { jobId } from "./row.ts"
import { inTheClear, open, openFailures, openReason, refusesClear } from "./seal.ts"

/** How a job ended; `gone` for one of which nothing is left. */
export interface Settled {
  readonly id: JobId
  readonly state: End | "gone"
  /** The encoded result; null for none, an `Encrypted` for one that cannot be read here. */
  readonly result: unknown
  /** Its last failure, where it failed. */
  readonly failure: AttemptFailure | undefined
  /** Why it was cancelled. */
  readonly reason: string | undefined
  /** What is wrong with a result in the clear, for who expects none; `byDefault` for definitions that do not say. */
  readonly clear?: { readonly problem: DecryptionError; readonly byDefault: boolean } | undefined
}

/** Keeps the ends of jobs, in the transaction that ends them. */
export const keep = Effect.fnUntraced(function* (db: Db, ended: ReadonlyArray<EndedJob>) {
  const now = yield* db.now
  const texts = (read: (job: EndedJob) => string | undefined) =>
    array(
      ended.map((job) => read(job) ?? null),
      oid.text
    )
  yield* db.sql`
    INSERT INTO ${resultsOf(db)} (id, state, result, failure, reason, finished_at)
    SELECT id, state, result, failure, reason, ${now}
    FROM unnest(
      ${ids(ended.map((job) => job.id))}::bigint[],
      ${texts((job) => job.state)}::text[],
      ${texts((job) => job.result)}::text[]::jsonb[],
      ${texts((job) => job.failure)}::text[]::jsonb[],
      ${texts((job) => job.reason)}::text[]::jsonb[]
    ) AS e (id, state, result, failure, reason)
    ON CONFLICT (id) DO UPDATE
    SET state = excluded.state,
      result = excluded.result,
      failure = excluded.failure,
      reason = excluded.reason,
      finished_at = excluded.finished_at`
})

/** Marks a live job, so that its end is kept for who waits for it; one that has ended is left as it is. */
export const watch = Effect.fnUntraced(function* (db: Db, id: JobId) {
  const watched = db.sql.literal(String(link.watched))
  yield* db.statement(db.sql`
    UPDATE ${db.jobs}
    SET links = links | ${watched}
    WHERE id = ${id}::bigint
      AND links & ${watched} = 0`)
})

/**
 * The ends of those of the jobs that have ended.
 *
 * A job that lives has not ended, whatever is kept of an earlier life. Of a job that was not watched, or longer ago
 * than ends are kept, history tells; should it tell nothing, the job is gone.
 */
export const read = Effect.fnUntraced(function* (db: Db, wanted: ReadonlyArray<JobId>) {
  const { sql } = db
  const rows = yield* sql<Omit<Columns, "state"> & { readonly state: End | null }>`
    SELECT w.id, r.state, r.result, r.failure, r.reason
    FROM unnest(${ids(wanted)}::bigint[]) AS w (id)
    LEFT JOIN ${resultsOf(db)} AS r
      ON r.id = w.id
    WHERE NOT EXISTS (SELECT FROM ${db.jobs} AS j WHERE j.id = w.id)`
  const settled: Array<Settled> = []
  for (const row of rows) if (row.state !== null) settled.push(yield* settledOf(db, { ...row, state: row.state }))
  if (settled.length === rows.length) return settled
  const unknown = rows.flatMap((row) => (row.state === null ? [jobId(row.id)] : []))
  const known = yield* sql<Columns & { readonly finished_at: Date | null }>`
    SELECT id, state, result, errors -> -1 AS failure, cancel_reason AS reason, finished_at
    FROM ${db.allJobs}
    WHERE id = ANY(${ids(unknown)}::bigint[])`
  const found = new Set(known.map((row) => jobId(row.id)))
  for (const row of known) if (row.finished_at !== null) settled.push(yield* settledOf(db, row))
  for (const id of unknown) {
    if (!found.has(id)) settled.push({ id, state: "gone", result: null, failure: undefined, reason: undefined })
  }
  return settled
})

/** Forgets ends that are older than five minutes; at most 10,000 at a time, and says whether there may be more. */
export const prune = Effect.fnUntraced(function* (db: Db) {
  const now = yield* db.now
  const rows = yield* db.statement(db.sql`
    DELETE FROM ${resultsOf(db)}
    WHERE id = ANY(ARRAY(
      SELECT id
      FROM ${resultsOf(db)}
      WHERE finished_at < ${now} - interval '5 minutes'
      ORDER BY finished_at
      LIMIT 10000
    ))
    RETURNING id`)
  return rows.length === 10_000
})

// internal

interface Columns {
  readonly id: bigint
  readonly state: End
  readonly result: unknown
  readonly failure: AttemptFailure | null
  readonly reason: unknown
}

const resultsOf = (db: Db) => db.sql(`${db.schema}.results`)

const settledOf = Effect.fnUntraced(function* (db: Db, row: Columns): Effect.fn.Return<Settled> {
  const id = jobId(row.id)
  const [failure] = row.failure === null ? [] : yield* openFailures(db, id, [row.failure])
  const place: Place = { field: "result", of: id }
  const isClear = row.result !== null && envelopeOf(row.result) === undefined
  return {
    id,
    state: row.state,
    clear:
      isClear && refusesClear(db, true)
        ? { problem: inTheClear(place), byDefault: refusesClear(db, undefined) }
        : undefined,
    result: row.result === null ? null : yield* open(db, row.result, place, false),
    failure,
    reason: yield* openReason(db, id, row.reason)
  }
})
