/** Reads how a flow stands: its counts, and its nodes with what they wait for. */
import * as Effect from "effect/Effect"
import type { AttemptFailure, BatchId, JobId, JobState } from "../../JobRow.ts"
import type { Db } from "./db.ts"
import { dependenciesOf } from "./depend.ts"
import { jobId } from "./row.ts"
import { open, openFailures, openReason } from "./seal.ts"

/**
 * A node of a flow as stored.
 *
 * @category models
 */
export interface FlowNode {
  readonly id: JobId
  /** The names from the outermost flow to the node, with slashes between them. */
  readonly step: string
  readonly worker: string
  readonly state: JobState
  readonly attempt: number
  readonly maxAttempts: number
  /** From 0 to 100, as last said by the handler. */
  readonly progress: number | undefined
  /** The encoded result of a completed one, null for none. */
  readonly result: unknown
  /** The last failure. */
  readonly failure: AttemptFailure | undefined
  readonly cancelReason: string | undefined
  /** The jobs that it comes after. */
  readonly after: ReadonlyArray<JobId>
  /** How many jobs it has added itself and waited for. */
  readonly children: number
}

/** How many members of a batch are in each state, as of one instant; those that have ended by its counters. */
export const counts = Effect.fnUntraced(function* (db: Db, id: BatchId) {
  const rows = yield* db.sql<{ readonly state: JobState; readonly count: number }>`
    SELECT state, count(*)::integer AS count
    FROM ${db.jobs}
    WHERE batch_id = ${id}::bigint
    GROUP BY state
    UNION ALL
    SELECT ended.state, ended.count
    FROM ${db.sql(`${db.schema}.batches`)} AS b
    CROSS JOIN LATERAL (
      VALUES ('completed', b.completed), ('discarded', b.discarded), ('cancelled', b.cancelled)
    ) AS ended (state, count)
    WHERE b.id = ${id}::bigint`
  return new Map(rows.map((row) => [row.state, row.count]))
})

/** The named jobs of a batch by rising id, as far as they are kept. */
export const nodes = Effect.fnUntraced(function* (db: Db, id: BatchId) {
  const { sql } = db
  const rows = yield* sql<{
    readonly id: bigint
    readonly step: string
    readonly worker: string
    readonly state: JobState
    readonly attempt: number
    readonly max_attempts: number
    readonly progress: number | null
    readonly result: unknown
    readonly failure: AttemptFailure | null
    readonly cancel_reason: unknown
    readonly after: ReadonlyArray<string>
    readonly children: number
  }>`
    SELECT j.id, j.step, j.worker, j.state, j.attempt, j.max_attempts, j.progress, j.result,
      j.errors -> -1 AS failure, j.cancel_reason,
      ARRAY(
        SELECT d.parent_id::text
        FROM ${dependenciesOf(db)} AS d
        WHERE d.child_id = j.id
          AND d.parent_id < j.id
        ORDER BY d.parent_id
      ) AS after,
      (
        SELECT count(*)::integer
        FROM ${dependenciesOf(db)} AS d
        WHERE d.child_id = j.id
          AND d.parent_id > j.id
      ) AS children
    FROM ${db.allJobs} AS j
    WHERE j.batch_id = ${id}::bigint
      AND j.step IS NOT NULL
    ORDER BY j.id`
  return yield* Effect.forEach(
    rows,
    Effect.fnUntraced(function* (row): Effect.fn.Return<FlowNode> {
      const node = jobId(row.id)
      const [failure] = row.failure === null ? [] : yield* openFailures(db, node, [row.failure])
      return {
        id: node,
        step: row.step,
        worker: row.worker,
        state: row.state,
        attempt: row.attempt,
        maxAttempts: row.max_attempts,
        progress: row.progress ?? undefined,
        result: row.result === null ? null : yield* open(db, row.result, { field: "result", of: node }, false),
        failure,
        cancelReason: yield* openReason(db, node, row.cancel_reason),
        after: row.after.map((parent) => jobId(Number(parent))),
        children: row.children
      }
    })
  )
})
