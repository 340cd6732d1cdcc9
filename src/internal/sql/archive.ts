/** What a job takes with it as it leaves the live table. */
import type { Fragment } from "effect/sql/Statement"
import type { Db } from "./db.ts"

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
  "id, run_at, inserted_at, claimed_at, cancel_requested_at, claimed_by, priority, attempt, max_attempts, progress, snoozes, queue, worker, args, meta, tags, partition_key, scheduled_for, unique_key, unique_states, batch_id, step, trace, start_before"

/** The terminal states whose jobs are kept at all. */
export const keptStates = (db: Db): ReadonlyArray<string> =>
  Object.entries(db.retention)
    .filter(([, millis]) => millis > 0)
    .map(([state]) => state)

/**
 * An expression for how long the finished jobs of a state are kept, in milliseconds: for as long as this node says, or
 * any other whose lease is live. The history is one for all, so nobody forgets what somebody else wants kept.
 */
export const keptMillis = (db: Db, state: keyof Db["retention"], now: Fragment) => db.sql`greatest(
        ${db.retention[state]}::float8,
        (SELECT max((n.retention ->> ${state})::float8) FROM ${db.nodes} AS n WHERE n.expires_at > ${now})
      )`
