/** Inserts jobs: one statement for any number of rows. */
import * as Effect from "effect/Effect"
import type { JobId, JobState } from "../../JobRow.ts"
import type { ArgsTooLarge, InvalidArgs } from "../../ShigotoError.ts"
import type { UniqueRule } from "../../Unique.ts"
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
  /** The instant that the job stands for, where that is not when it is due: a cron tick. */
  readonly scheduledFor?: Date | undefined
  readonly tags: ReadonlyArray<string> | undefined
  /** JSON text of an object. */
  readonly meta: string | undefined
  readonly partitionKey: string | undefined
  /** What makes it the same as another job; undefined for one that is like no other. */
  readonly unique?: UniqueRequest | undefined
}

/** What makes a new job unique. */
export interface UniqueRequest {
  readonly rule: UniqueRule
  /** The text whose hash is the key. */
  readonly text: string
  /** What both args make together, as JSON text; for `debounce` with a function. */
  readonly merge: (waiting: unknown) => Effect.Effect<string, MergeRefusal>
}

/** Why two args make no third. */
export type MergeRefusal = InvalidArgs | ArgsTooLarge

/** A key that was won, as a job's row carries it. */
export interface Reservation {
  readonly id: JobId
  readonly key: string
  readonly states: number
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
export const insert = Effect.fnUntraced(function* (
  db: Db,
  jobs: ReadonlyArray<NewJob>,
  reservation?: (position: number) => Reservation | undefined
) {
  const { sql } = db
  const now = yield* db.now
  const column = (read: (job: NewJob) => unknown, type: number) => array(jobs.map(read), type)
  if (jobs.length === 0) return []
  // An id that was reserved together with a key; the others draw theirs here.
  const reserved = reservation === undefined ? undefined : jobs.map((_, position) => reservation(position))
  const extra =
    reserved === undefined
      ? { names: sql``, target: sql``, values: sql``, arrays: sql`` }
      : {
          names: sql`, reserved_id, unique_key, unique_states`,
          target: sql`id, unique_key, unique_states,`,
          values: sql`coalesce(
        job.reserved_id,
        nextval(${`"${db.schema}".jobs_id_seq`}::text::regclass)
      ), decode(job.unique_key, 'hex'), job.unique_states,`,
          arrays: sql`,
      ${array(
        reserved.map((won) => (won === undefined ? null : BigInt(won.id))),
        oid.int8
      )}::bigint[],
      ${array(
        reserved.map((won) => won?.key ?? null),
        oid.text
      )}::text[],
      ${array(
        reserved.map((won) => won?.states ?? null),
        oid.int2
      )}::smallint[]`
        }
  const rows = yield* sql<{
    readonly id: bigint
    readonly state: JobState
    readonly run_at: Date
    readonly inserted_at: Date
  }>`
    INSERT INTO ${db.jobs}
      (${extra.target} state, worker, queue, args, priority, max_attempts, run_at, inserted_at, tags, meta, partition_key,
        scheduled_for)
    ${reserved === undefined ? sql`` : sql`OVERRIDING SYSTEM VALUE`}
    SELECT ${extra.values}
      -- run_at is rounded to a millisecond: against the exact instant, half of all immediate jobs would be scheduled.
      CASE WHEN due.at > (${now})::timestamptz(3) THEN 'scheduled' ELSE 'available' END,
      job.worker, job.queue, job.args, job.priority, job.max_attempts, due.at, ${now},
      CASE WHEN job.tags IS NULL THEN NULL ELSE ARRAY(SELECT jsonb_array_elements_text(job.tags)) END,
      job.meta, job.partition_key,
      coalesce(job.scheduled_for, CASE WHEN due.at > ${now} THEN due.at END)
    FROM unnest(
      ${column((job) => job.worker, oid.text)}::text[],
      ${column((job) => job.queue, oid.text)}::text[],
      ${column((job) => job.args, oid.text)}::text[]::jsonb[],
      ${column((job) => job.priority, oid.int2)}::smallint[],
      ${column((job) => job.maxAttempts, oid.int2)}::smallint[],
      ${column((job) => ("at" in job.due ? job.due.at : null), oid.timestamptz)}::timestamptz[],
      ${column((job) => ("delayMillis" in job.due ? job.due.delayMillis : null), oid.float8)}::float8[],
      ${column((job) => (job.tags === undefined ? null : JSON.stringify(job.tags)), oid.text)}::text[]::jsonb[],
      ${column((job) => job.meta ?? null, oid.text)}::text[]::jsonb[],
      ${column((job) => job.partitionKey ?? null, oid.text)}::text[],
      ${column((job) => job.scheduledFor ?? null, oid.timestamptz)}::timestamptz[]${extra.arrays}
    ) WITH ORDINALITY AS job
      (worker, queue, args, priority, max_attempts, run_at, delay_millis, tags, meta, partition_key, scheduled_for${extra.names},
        position)
    CROSS JOIN LATERAL (
      SELECT greatest(
        coalesce(job.run_at, ${now} + job.delay_millis * interval '1 millisecond')::timestamptz(3),
        ${now}
      ) AS at
    ) AS due
    ORDER BY job.position
    RETURNING id, state, run_at, inserted_at`
  const inserted = rows
    .map((row): Inserted => ({ id: jobId(row.id), state: row.state, runAt: row.run_at, insertedAt: row.inserted_at }))
    .toSorted((a, b) => a.id - b.id)
  if (reserved === undefined) return inserted
  const byId = new Map(inserted.map((row) => [row.id, row]))
  const taken = new Set(reserved.map((won) => won?.id))
  const drawn = inserted.filter((row) => !taken.has(row.id)).values()
  return reserved.map((won) => (won === undefined ? drawn.next().value : byId.get(won.id)) as Inserted) // one row each
})
