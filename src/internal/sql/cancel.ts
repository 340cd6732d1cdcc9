/** Cancels jobs: queued ones at once, executing ones by a request to their holder. */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { JobId, JobState } from "../../JobRow.ts"
import type { Aftermath } from "../newJob.ts"
import { archivedColumns, keptStates } from "./archive.ts"
import { batchId } from "./batch.ts"
import { conclude } from "./conclude.ts"
import { array, type Db, oid } from "./db.ts"
import { jobId } from "./row.ts"
import { openReason, sealReason } from "./seal.ts"

/** What became of the wish to cancel one job. */
export type Cancelled =
  | {
      readonly _tag: "Cancelled"
      readonly worker: string
      readonly queue: string
      readonly attempt: number
      readonly aftermath: Aftermath
    }
  | { readonly _tag: "Requested"; readonly node: number }
  | { readonly _tag: "Finished"; readonly state: JobState }
  | { readonly _tag: "NotFound" }
  /** The row changed between two looks; ask again. */
  | { readonly _tag: "Moved" }

/** Cancels one job, or asks its holder to. */
export const cancel = (db: Db, id: JobId, reason: string | undefined): Effect.Effect<Cancelled, SqlError> =>
  db.transaction(cancelling(db, id, reason))

/** The jobs that a node holds and is to cancel. */
export const requested = Effect.fnUntraced(function* (db: Db, node: number) {
  const rows = yield* db.sql<{ readonly id: bigint; readonly epoch: number; readonly cancel_reason: unknown }>`
    SELECT id, epoch, cancel_reason
    FROM ${db.jobs}
    WHERE claimed_by = ${node}::integer
      AND state = 'executing'
      AND cancel_requested_at IS NOT NULL`
  return yield* Effect.forEach(rows, (row) =>
    Effect.map(openReason(db, jobId(row.id), row.cancel_reason), (reason) => ({
      id: jobId(row.id),
      epoch: row.epoch,
      reason
    }))
  )
})

/** What becomes of a job that no write met: finished, unknown, or changed between the two statements. */
export const whereabouts = Effect.fnUntraced(function* (db: Db, id: JobId): Effect.fn.Return<Cancelled, SqlError> {
  const [row] = yield* db.sql<{ readonly state: JobState; readonly finished: boolean }>`
    SELECT state, finished_at IS NOT NULL AS finished
    FROM ${db.allJobs}
    WHERE id = ${id}::bigint`
  return row === undefined
    ? { _tag: "NotFound" }
    : row.finished
      ? { _tag: "Finished", state: row.state }
      : { _tag: "Moved" }
})

// internal

const cancelling = Effect.fnUntraced(function* (
  db: Db,
  id: JobId,
  reason: string | undefined
): Effect.fn.Return<Cancelled, SqlError> {
  const { sql } = db
  const now = yield* db.now
  const archived = sql.literal(archivedColumns)
  const stored = yield* sealReason(db, id, reason)
  const why = sql`${stored ?? null}::text::jsonb`
  const [met] = yield* sql<{
    readonly worker: string
    readonly queue: string
    readonly attempt: number
    readonly claimed_by: number | null
    readonly links: number
    readonly batch_id: bigint | null
  }>`
    WITH gone AS (
      DELETE FROM ${db.jobs} AS j
      WHERE j.id = ${id}::bigint
        AND j.state IN ('scheduled', 'blocked', 'available', 'retryable')
      RETURNING j.*
    ),
    archived AS (
      INSERT INTO ${db.archive} (${archived}, links, epoch, finished_at, state, errors, fingerprint, cancel_reason)
      SELECT ${archived}, gone.links, gone.epoch, ${now}, 'cancelled', gone.errors, gone.fingerprint, ${why}
      FROM gone
      WHERE 'cancelled' = ANY(${array(keptStates(db), oid.text)}::text[])
    ),
    asked AS (
      UPDATE ${db.jobs} AS j
      SET cancel_requested_at = coalesce(j.cancel_requested_at, ${now}),
        cancel_reason = coalesce(j.cancel_reason, ${why})
      WHERE j.id = ${id}::bigint
        AND j.state = 'executing'
      RETURNING j.worker, j.queue, j.attempt, j.claimed_by, j.links, j.batch_id
    )
    SELECT worker, queue, attempt, NULL::integer AS claimed_by, links, batch_id
    FROM gone
    UNION ALL
    SELECT worker, queue, attempt, claimed_by, links, batch_id
    FROM asked`
  if (met === undefined) return yield* whereabouts(db, id)
  if (met.claimed_by !== null) return { _tag: "Requested", node: met.claimed_by }
  const batch = met.batch_id === null ? undefined : batchId(met.batch_id)
  const aftermath = yield* conclude(db, [{ id, state: "cancelled", links: met.links, batch, reason: stored }])
  return { _tag: "Cancelled", worker: met.worker, queue: met.queue, attempt: met.attempt, aftermath }
})
