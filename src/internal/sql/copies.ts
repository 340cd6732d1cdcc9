/** What becomes of the copies of a broadcast job that is cancelled. */
import * as Effect from "effect/Effect"
import { archivedColumns, keptStates } from "./archive.ts"
import { batchId } from "./batch.ts"
import { array, type Db, ids, oid } from "./db.ts"
import type { EndedJob } from "./depend.ts"
import { jobId } from "./row.ts"

/**
 * Cancels the copies that wait, and asks the holders of those that run; returns those that waited.
 *
 * To be called in a statement after the one that took the job's row away: who makes copies holds that row.
 */
export const cancelCopies = Effect.fnUntraced(function* (db: Db, jobs: ReadonlyArray<EndedJob>) {
  const { sql } = db
  const now = yield* db.now
  const archived = sql.literal(archivedColumns)
  const rows = yield* sql<{
    readonly id: bigint
    readonly worker: string
    readonly queue: string
    readonly attempt: number
    readonly links: number
    readonly batch_id: bigint | null
    readonly reason: string
  }>`
    WITH copy AS MATERIALIZED (
      SELECT j.id, 'It is a copy of job ' || b.job_id || ', which was cancelled.' AS reason
      FROM ${sql(`${db.schema}.broadcasts`)} AS b
      JOIN ${db.jobs} AS j
        ON j.id = b.copy_id
      WHERE b.job_id = ANY(${ids(jobs.map(({ id }) => id))}::bigint[])
      ORDER BY j.id
      FOR UPDATE OF j
    ),
    gone AS (
      DELETE FROM ${db.jobs} AS j
      USING copy
      WHERE j.id = copy.id
        AND j.state IN ('scheduled', 'blocked', 'available', 'retryable')
      RETURNING j.*, copy.reason
    ),
    archived AS (
      INSERT INTO ${db.archive} (${archived}, links, epoch, finished_at, state, errors, fingerprint, cancel_reason)
      SELECT ${archived}, gone.links, gone.epoch, ${now}, 'cancelled', gone.errors, gone.fingerprint,
        to_jsonb(gone.reason)
      FROM gone
      WHERE 'cancelled' = ANY(${array(keptStates(db), oid.text)}::text[])
    ),
    asked AS (
      UPDATE ${db.jobs} AS j
      SET cancel_requested_at = coalesce(j.cancel_requested_at, ${now}),
        cancel_reason = coalesce(j.cancel_reason, to_jsonb(copy.reason))
      FROM copy
      WHERE j.id = copy.id
        AND j.state = 'executing'
    )
    SELECT id, worker, queue, attempt, links, batch_id, reason
    FROM gone
    ORDER BY id`
  return rows.map((row) => ({
    id: jobId(row.id),
    worker: row.worker,
    queue: row.queue,
    attempt: row.attempt,
    links: row.links,
    batch: row.batch_id === null ? undefined : batchId(row.batch_id),
    reason: row.reason
  }))
})
