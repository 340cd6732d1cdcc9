/** Reads what a job waits for, and what waits for it. */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { JobId } from "../../JobRow.ts"
import type { Db } from "./db.ts"
import { dependenciesOf } from "./depend.ts"
import { jobId } from "./row.ts"

/**
 * A job that another one waits or waited for, or that does itself.
 *
 * @category models
 */
export interface Related {
  readonly id: JobId
  /** Undefined where no row of it is kept, like its queue. */
  readonly worker: string | undefined
  readonly queue: string | undefined
  /** Its state, or how it ended where no row is kept; `pruned` where that is not known. */
  readonly state: string
  /** What the one that waits calls it. */
  readonly name: string | undefined
  readonly onFailure: string
}

/** The first `limit` jobs of one side, by rising id. */
export const related = Effect.fnUntraced(function* (
  db: Db,
  side: "parents" | "children",
  id: JobId,
  limit: number
): Effect.fn.Return<ReadonlyArray<Related>, SqlError> {
  const { sql } = db
  const [other, own] = side === "parents" ? [sql`d.parent_id`, sql`d.child_id`] : [sql`d.child_id`, sql`d.parent_id`]
  const rows = yield* sql<{
    readonly id: bigint
    readonly worker: string | null
    readonly queue: string | null
    readonly state: string
    readonly name: string | null
    readonly on_failure: string
  }>`
    SELECT ${other} AS id, j.worker, j.queue,
      coalesce(j.state, ${side === "parents" ? sql`d.outcome` : sql`NULL`}, 'pruned') AS state,
      d.name, d.on_failure
    FROM ${dependenciesOf(db)} AS d
    LEFT JOIN LATERAL (
      SELECT one.worker, one.queue, one.state
      FROM ${db.allJobs} AS one
      WHERE one.id = ${other}
    ) AS j ON true
    WHERE ${own} = ${id}::bigint
    ORDER BY ${other}
    LIMIT ${limit}::integer`
  return rows.map((row) => ({
    id: jobId(row.id),
    worker: row.worker ?? undefined,
    queue: row.queue ?? undefined,
    state: row.state,
    name: row.name ?? undefined,
    onFailure: row.on_failure
  }))
})
