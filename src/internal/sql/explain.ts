/** Reads what bears on whether a job runs: its row, its queue, the nodes, what it waits for, who comes first. */
import * as Effect from "effect/Effect"
import type { JobId } from "../../JobRow.ts"
import { type Db, oid, array } from "./db.ts"
import { dependenciesOf } from "./depend.ts"
import { type Asker, isLive, isPaused, isRemoved, isWaiting } from "./eligible.ts"
import { type JobColumns, jobId, jobRow } from "./row.ts"
import { autonomous } from "./statement.ts"

/** The most jobs counted ahead of one, and the most parents read. */
export const aheadLimit = 10_000
export const parentLimit = 100

/**
 * Reads one job and everything that decides over it, as of one instant.
 *
 * Whether a node would be given the job is asked in the words of the claim itself. In one transaction under a statement
 * timeout of two seconds; it is a savepoint where the caller has a transaction.
 */
export const explain = (db: Db, id: JobId) =>
  autonomous(
    db.sql,
    Effect.gen(function* () {
      yield* db.sql`SELECT set_config('statement_timeout', '2s', true)`
      const now = yield* db.now
      const [row] = yield* db.sql<JobColumns & { readonly wait_millis: number }>`
        SELECT *, (extract(epoch FROM run_at - ${now}) * 1000)::float8 AS wait_millis
        FROM ${db.allJobs}
        WHERE id = ${id}::bigint`
      if (row === undefined) return undefined
      const job = jobRow(row)
      const parents = job.state === "blocked" ? yield* waitsFor(db, id) : []
      const nodes = yield* askers(db, id, job)
      const wishes = yield* db.sql<WishColumns>`
        SELECT node, paused_at, removed_at
        FROM ${db.queues}
        WHERE name = ${job.queue}
          AND (paused_at IS NOT NULL OR removed_at IS NOT NULL)
        ORDER BY node`
      const ahead = job.state === "available" ? yield* countAhead(db, row) : 0
      return { job, waitMillis: row.wait_millis, parents, nodes, wishes, ahead } satisfies Findings
    })
  )

/** Everything found out about a job. */
export interface Findings {
  readonly job: ReturnType<typeof jobRow>
  /** Milliseconds until it is due; negative for one that is. */
  readonly waitMillis: number
  /** The jobs that it still waits for, or that keep it held. */
  readonly parents: ReadonlyArray<{
    readonly id: JobId
    readonly outcome: "discarded" | "cancelled" | undefined
    readonly state: string | undefined
    readonly total: number
  }>
  readonly nodes: ReadonlyArray<AskerColumns>
  readonly wishes: ReadonlyArray<WishColumns>
  /** How many jobs of its queue come before it, up to the limit. */
  readonly ahead: number
}

/** What operators asked of the job's queue. */
export interface WishColumns {
  /** Empty for all nodes. */
  readonly node: string
  readonly paused_at: Date | null
  readonly removed_at: Date | null
}

/** A node, and what keeps it from claiming the job. */
export interface AskerColumns {
  readonly id: number
  readonly name: string
  readonly live: boolean
  readonly has_worker: boolean
  readonly has_queue: boolean
  readonly paused: boolean
  readonly removed: boolean
  /** Whether its claim would take the job, if it had a free slot. */
  readonly takes: boolean
  /** How many jobs of the queue it holds, and may hold. */
  readonly executing: number
  readonly slots: number | null
}

// internal

const askers = Effect.fnUntraced(function* (
  db: Db,
  id: JobId,
  job: { readonly queue: string; readonly worker: string }
) {
  const { sql } = db
  const now = yield* db.now
  const asker: Asker = {
    node: sql`node.id`,
    nodeName: sql`node.name`,
    queue: sql`${job.queue}::text`,
    workers: sql`node.workers`,
    now
  }
  return yield* sql<AskerColumns>`
    SELECT node.id, node.name,
      ${isLive(db, asker)} AS live,
      ${job.worker}::text = ANY(node.workers) AS has_worker,
      ${job.queue}::text = ANY(node.queues) AS has_queue,
      ${isPaused(db, asker)} AS paused,
      ${isRemoved(db, asker)} AS removed,
      ${job.queue}::text = ANY(node.queues)
        AND ${isLive(db, asker)}
        AND NOT ${isPaused(db, asker)}
        AND NOT ${isRemoved(db, asker)}
        AND EXISTS (
          SELECT FROM ${db.jobs} AS j
          WHERE j.id = ${id}::bigint
            AND ${isWaiting(db, asker)}
        ) AS takes,
      (
        SELECT count(*)::integer
        FROM ${db.jobs} AS held
        WHERE held.claimed_by = node.id
          AND held.state = 'executing'
          AND held.queue = ${job.queue}::text
      ) AS executing,
      node.slots[array_position(node.queues, ${job.queue}::text)] AS slots
    FROM ${db.nodes} AS node
    ORDER BY node.name, node.id`
})

/** The parents that have not ended, and those whose end keeps the job where it is; the unfinished ones first. */
const waitsFor = Effect.fnUntraced(function* (db: Db, id: JobId) {
  const rows = yield* db.sql<{
    readonly parent_id: bigint
    readonly outcome: "discarded" | "cancelled" | null
    readonly state: string | null
    readonly total: number
  }>`
    SELECT edge.parent_id, edge.outcome, parent.state, count(*) OVER ()::integer AS total
    FROM ${dependenciesOf(db)} AS edge
    LEFT JOIN ${db.allJobs} AS parent
      ON parent.id = edge.parent_id
    WHERE edge.child_id = ${id}::bigint
      AND (edge.outcome IS NULL OR (edge.outcome = ANY(${array(["discarded", "cancelled"], oid.text)}::text[])
        AND edge.on_failure = 'hold'))
    ORDER BY edge.outcome IS NOT NULL, edge.parent_id
    LIMIT ${parentLimit}::integer`
  return rows.map((row) => ({
    id: jobId(row.parent_id),
    outcome: row.outcome ?? undefined,
    state: row.state ?? undefined,
    total: row.total
  }))
})

/** How many jobs come before one in the order of the claim, read from the index jobs_claim up to the limit. */
const countAhead = Effect.fnUntraced(function* (db: Db, job: JobColumns) {
  const [row] = yield* db.sql<{ readonly count: number }>`
    SELECT count(*)::integer AS count
    FROM (
      SELECT
      FROM ${db.jobs} AS j
      WHERE j.queue = ${job.queue}
        AND j.state = 'available'
        AND (j.rank, j.run_at, j.id) < (${~job.priority}::smallint, ${job.run_at}::timestamptz(3), ${job.id}::bigint)
      LIMIT ${aheadLimit}::integer
    ) AS ahead`
  return row?.count ?? 0
})
