/** Runs jobs again on an operator's word. */
import * as Effect from "effect/Effect"
import type { JobId, JobState } from "../../JobRow.ts"
import type { Db } from "./db.ts"
import { reacquire } from "./unique.ts"

/** What became of the wish to run one job again. */
export type Retried =
  | { readonly _tag: "Retried"; readonly worker: string; readonly queue: string }
  | { readonly _tag: "Unchanged"; readonly state: JobState }
  /** Another job holds the key of this one. */
  | { readonly _tag: "Conflict"; readonly holder: JobId }
  | { readonly _tag: "NotFound" }

const columns =
  "id, inserted_at, claimed_at, priority, attempt, snoozes, queue, worker, args, errors, meta, tags, partition_key, scheduled_for, unique_key, unique_states"

/**
 * Makes a finished, scheduled or retryable job available now, with room for one attempt more.
 *
 * The epoch rises, so that no outcome of an earlier life is accepted in this one.
 */
export const retry = Effect.fnUntraced(function* (db: Db, id: JobId) {
  const { sql } = db
  const holder = yield* reacquire(db, id)
  if (holder !== undefined) return { _tag: "Conflict", holder } satisfies Retried
  const now = yield* db.now
  const kept = sql.literal(columns)
  const [met] = yield* db.statement(sql<{ readonly worker: string; readonly queue: string }>`
    WITH finished AS (
      DELETE FROM ${db.archive}
      WHERE id = ${id}::bigint
      RETURNING *
    ),
    restored AS (
      INSERT INTO ${db.jobs} (${kept}, state, run_at, epoch, max_attempts)
      OVERRIDING SYSTEM VALUE
      SELECT ${kept}, 'available', ${now}, epoch + 1, greatest(max_attempts, attempt + 1)
      FROM finished
      RETURNING worker, queue
    ),
    hurried AS (
      UPDATE ${db.jobs}
      SET state = 'available',
        run_at = ${now},
        epoch = epoch + 1,
        max_attempts = greatest(max_attempts, attempt + 1)
      WHERE id = ${id}::bigint
        AND state IN ('scheduled', 'retryable')
      RETURNING worker, queue
    )
    SELECT worker, queue FROM restored
    UNION ALL
    SELECT worker, queue FROM hurried`)
  if (met !== undefined) return { _tag: "Retried", worker: met.worker, queue: met.queue } satisfies Retried
  const [row] = yield* sql<{ readonly state: JobState }>`
    SELECT state
    FROM ${db.allJobs}
    WHERE id = ${id}::bigint`
  return (row === undefined ? { _tag: "NotFound" } : { _tag: "Unchanged", state: row.state }) satisfies Retried
})
