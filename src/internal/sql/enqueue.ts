/** Inserts jobs: one statement for any number of rows. */
import * as Effect from "effect/Effect"
import type { JobId, JobState } from "../../JobRow.ts"
import { array, type Db, oid } from "./db.ts"
import { jobId } from "./row.ts"

/** A job to insert, checked and encoded. */
export interface NewJob {
  readonly worker: string
  readonly queue: string
  /** JSON text. */
  readonly args: string
  readonly priority: number
  readonly maxAttempts: number
  /** An absolute instant, or a delay from the database's now. */
  readonly due: { readonly at: Date } | { readonly delayMillis: number }
  readonly tags: ReadonlyArray<string> | undefined
  /** JSON text of an object. */
  readonly meta: string | undefined
  readonly partitionKey: string | undefined
}

/** What the database decided about an inserted job. */
export interface Inserted {
  readonly id: JobId
  readonly state: JobState
  readonly runAt: Date
  readonly insertedAt: Date
}

/**
 * Inserts the jobs and returns them in the order given.
 *
 * Ids are drawn in the order of the input, since the rows are sorted before the identity column is evaluated; so
 * sorting by id gives the input's order back.
 */
export const insert = Effect.fnUntraced(function* (db: Db, jobs: ReadonlyArray<NewJob>) {
  const { sql } = db
  const now = yield* db.now
  const rows = yield* sql<{
    readonly id: bigint
    readonly state: JobState
    readonly run_at: Date
    readonly inserted_at: Date
  }>`
    INSERT INTO ${db.jobs}
      (state, worker, queue, args, priority, max_attempts, run_at, inserted_at, tags, meta, partition_key)
    SELECT
      -- run_at is rounded to a millisecond: against the exact instant, half of all immediate jobs would be scheduled.
      CASE WHEN due.at > (${now})::timestamptz(3) THEN 'scheduled' ELSE 'available' END,
      job.worker, job.queue, job.args, job.priority, job.max_attempts, due.at, ${now},
      CASE WHEN job.tags IS NULL THEN NULL ELSE ARRAY(SELECT jsonb_array_elements_text(job.tags)) END,
      job.meta, job.partition_key
    FROM unnest(
      ${array(
        jobs.map((job) => job.worker),
        oid.text
      )}::text[],
      ${array(
        jobs.map((job) => job.queue),
        oid.text
      )}::text[],
      ${array(
        jobs.map((job) => job.args),
        oid.text
      )}::text[]::jsonb[],
      ${array(
        jobs.map((job) => job.priority),
        oid.int2
      )}::smallint[],
      ${array(
        jobs.map((job) => job.maxAttempts),
        oid.int2
      )}::smallint[],
      ${array(
        jobs.map((job) => ("at" in job.due ? job.due.at : null)),
        oid.timestamptz
      )}::timestamptz[],
      ${array(
        jobs.map((job) => ("delayMillis" in job.due ? job.due.delayMillis : null)),
        oid.float8
      )}::float8[],
      ${array(
        jobs.map((job) => (job.tags === undefined ? null : JSON.stringify(job.tags))),
        oid.text
      )}::text[]::jsonb[],
      ${array(
        jobs.map((job) => job.meta ?? null),
        oid.text
      )}::text[]::jsonb[],
      ${array(
        jobs.map((job) => job.partitionKey ?? null),
        oid.text
      )}::text[]
    ) WITH ORDINALITY AS job
      (worker, queue, args, priority, max_attempts, run_at, delay_millis, tags, meta, partition_key, position)
    CROSS JOIN LATERAL (
      SELECT greatest(
        coalesce(job.run_at, ${now} + job.delay_millis * interval '1 millisecond')::timestamptz(3),
        ${now}
      ) AS at
    ) AS due
    ORDER BY job.position
    RETURNING id, state, run_at, inserted_at`
  return rows
    .map((row): Inserted => ({ id: jobId(row.id), state: row.state, runAt: row.run_at, insertedAt: row.inserted_at }))
    .toSorted((a, b) => a.id - b.id)
})
