/** Takes jobs away from dead nodes. */
import * as Effect from "effect/Effect"
import type { JobId, JobState } from "../../JobRow.ts"
import { appendFailure, archivedColumns, keptStates } from "./archive.ts"
import { batchId } from "./batch.ts"
import { conclude } from "./conclude.ts"
import { array, type Db, oid } from "./db.ts"
import { noteDiscards } from "./discard.ts"
import { jobId } from "./row.ts"
import { openReason } from "./seal.ts"

/** A job taken from a dead node. */
export interface Rescued {
  readonly id: JobId
  readonly worker: string
  readonly queue: string
  readonly attempt: number
  readonly state: JobState
  /** The name of the dead node. */
  readonly node: string
  readonly failure: string
  /** Why it is cancelled, where it was to be. */
  readonly reason: string | undefined
}

/** The most jobs rescued by one statement. */
export const rescueLimit = 500

/**
 * Rescues executing jobs whose node's lease has run out: back to retryable, or to their end.
 *
 * Decides from the row alone, so a node that lacks the worker rescues as well as any. The epoch rises, so the old
 * holder's outcome is refused; the attempt stays counted. After a first crash the job is due at once; when the attempt
 * before this one crashed too it waits as after any failure, so that a job that kills its process does not meet the
 * same neighbours again and again. Rows are locked in the order of their ids, skipping those being settled.
 *
 * A node without a row is dead too: a claim that was sent while the lease was live may commit after the row was swept.
 */
export const rescue = (db: Db, by: string) =>
  db.transaction(
    Effect.gen(function* () {
      const rows = yield* take(db, by)
      const ended = rows.flatMap((row) =>
        row.state === "discarded" || row.state === "cancelled"
          ? [
              {
                id: jobId(row.id),
                state: row.state,
                links: row.links,
                batch: row.batch_id === null ? undefined : batchId(row.batch_id),
                failure: row.failure,
                reason: row.reason ?? undefined
              }
            ]
          : []
      )
      const aftermath = yield* conclude(db, ended)
      const rescued = yield* Effect.forEach(rows, ({ reason, ...row }) =>
        Effect.map(
          openReason(db, jobId(row.id), reason === null ? undefined : JSON.parse(reason)),
          (opened): Rescued => ({ ...row, id: jobId(row.id), reason: opened })
        )
      )
      return { rescued, aftermath }
    })
  )

// internal

const take = Effect.fnUntraced(function* (db: Db, by: string) {
  const { sql } = db
  const now = yield* db.now
  const archived = sql.literal(archivedColumns)
  return yield* sql<{
    readonly id: bigint
    readonly worker: string
    readonly queue: string
    readonly attempt: number
    readonly state: JobState
    readonly node: string
    readonly failure: string
    readonly links: number
    readonly batch_id: bigint | null
    /** JSON text. */
    readonly reason: string | null
  }>`
    WITH lost AS MATERIALIZED (
      SELECT j.id, coalesce(n.name, 'gone') AS node,
        j.cancel_requested_at IS NOT NULL AS cancelled,
        j.attempt >= j.max_attempts AS exhausted,
        coalesce(j.errors -> -1 ->> 'tag' = 'LeaseExpired', false)
          AND (j.errors -> -1 ->> 'attempt')::integer = j.attempt - 1 AS again,
        jsonb_build_object(
          'attempt', j.attempt,
          'at', to_char(${now} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
          'node', ${by}::text,
          'tag', 'LeaseExpired',
          'fingerprint', left(encode(sha256(convert_to(j.worker || ' LeaseExpired', 'UTF8')), 'hex'), 14),
          'message',
          'The lease of node ' || coalesce(n.name, 'gone') || ' (' || j.claimed_by || ') expired while it ran this attempt.'
        ) AS failure
      FROM ${db.jobs} AS j
      LEFT JOIN ${db.nodes} AS n
        ON n.id = j.claimed_by
      WHERE j.state = 'executing'
        AND (n.id IS NULL OR n.expires_at <= ${now})
      ORDER BY j.id
      LIMIT ${sql.literal(String(rescueLimit))}
      FOR UPDATE OF j SKIP LOCKED
    ),
    gone AS (
      DELETE FROM ${db.jobs} AS j
      USING lost
      WHERE j.id = lost.id
        AND j.state = 'executing'
        AND (lost.exhausted OR lost.cancelled)
      RETURNING j.*, lost.node, lost.failure,
        CASE WHEN lost.cancelled THEN 'cancelled' ELSE 'discarded' END AS final
    ),
    archived AS (
      INSERT INTO ${db.archive} (${archived}, links, epoch, finished_at, state, errors, fingerprint, cancel_reason)
      SELECT ${archived}, gone.links, gone.epoch + 1, ${now}, gone.final,
        ${appendFailure(db, "gone.errors", "gone.failure")},
        gone.failure ->> 'fingerprint',
        gone.cancel_reason
      FROM gone
      WHERE gone.final = ANY(${array(keptStates(db), oid.text)}::text[])
    ),
    noted AS (${noteDiscards(db, now, "gone.epoch + 1", sql``)}
    ),
    back AS (
      UPDATE ${db.jobs} AS j
      SET state = 'retryable',
        claimed_by = NULL,
        epoch = j.epoch + 1,
        run_at = CASE
          WHEN lost.again THEN ${now} + least(
            power(j.attempt, 4) + 1 + abs(hashint8(j.id * 31 + j.attempt)::bigint) % 30,
            1800
          ) * interval '1 second'
          ELSE ${now}
        END,
        errors = ${appendFailure(db, "j.errors", "lost.failure")},
        fingerprint = lost.failure ->> 'fingerprint'
      FROM lost
      WHERE j.id = lost.id
        AND j.state = 'executing'
        AND NOT (lost.exhausted OR lost.cancelled)
      RETURNING j.id, j.worker, j.queue, j.attempt, j.state, lost.node, lost.failure, j.links, j.batch_id
    )
    SELECT id, worker, queue, attempt, final AS state, node, failure::text, links, batch_id,
      CASE WHEN final = 'cancelled' THEN cancel_reason::text END AS reason
    FROM gone
    UNION ALL
    SELECT id, worker, queue, attempt, state, node, failure::text, links, batch_id, NULL
    FROM back`
})
