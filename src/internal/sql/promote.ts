/** One look at the database: makes due jobs available and tells what there is to do. */
import * as Effect from "effect/Effect"
import { array, type Db, oid } from "./db.ts"
import { isUntold } from "./discard.ts"
import { expiry } from "./expire.ts"

/** Who looks. */
export interface Looker {
  readonly id: number
  /** Its queues; where a queue is busy, that it has work is known, and the entries of dead rows are not read for it. */
  readonly queues: ReadonlyArray<{ readonly name: string; readonly isBusy: boolean }>
  readonly workers: ReadonlyArray<string>
  /** Whether to look too for what needs no look each time. */
  readonly sweeps?: boolean | undefined
}

/** What a look found. */
export interface Look {
  /** How many jobs became available. */
  readonly promoted: number
  /** Those of the node's queues that have an available job; busy ones only where it has just become available. */
  readonly ready: ReadonlyArray<string>
  /** Milliseconds until the next job is due, at most 0 for one that another transaction holds; undefined for none. */
  readonly nextDueMillis: number | undefined
  /** Milliseconds until the next job expires, at most 0 for one that has; undefined for none. */
  readonly nextExpiryMillis: number | undefined
  /** Whether a node's lease has run out. */
  readonly deadNodes: boolean
  /** Whether a job is held by a node that is not there at all; looked at only where asked. */
  readonly strays: boolean
  /** Whether a job waits for others; looked at only where asked. */
  readonly blocked: boolean
  /** Whether a job of this node is to be cancelled. */
  readonly cancels: boolean
  /** Whether a worker of this node is to be told that a job was given up. */
  readonly discards: boolean
  /** What operators asked of queues, as `queue.ts` reads it. */
  readonly queues: ReadonlyArray<QueueColumns>
}

/** A row of `queues` as JSON. */
export interface QueueColumns {
  readonly name: string
  readonly node: string
  readonly concurrency: number | null
  readonly paused: boolean
  readonly removed: boolean
}

/** The most jobs promoted by one statement. */
export const promoteLimit = 1000

/**
 * Promotes due jobs of all queues and looks around, in one statement.
 *
 * Rows are locked in the order of jobs_due, skipping those that another node is promoting or cancelling. Not prepared,
 * for the reason that a claim is not.
 */
export const promote = Effect.fnUntraced(function* (db: Db, node: Looker) {
  const { sql } = db
  const now = yield* db.now
  const [row] = yield* db.statement(
    sql<{
      readonly promoted: number
      readonly ready: ReadonlyArray<string>
      readonly next_due_millis: number | null
      readonly next_expiry_millis: number | null
      readonly dead_nodes: boolean
      readonly strays?: boolean
      readonly blocked?: boolean
      readonly cancels: boolean
      readonly discards: boolean
      readonly queues: ReadonlyArray<QueueColumns> | null
    }>`
    WITH due AS MATERIALIZED (
      SELECT id
      FROM ${db.jobs}
      WHERE state IN ('scheduled', 'retryable')
        AND run_at <= ${now}
      ORDER BY run_at, id
      LIMIT ${sql.literal(String(promoteLimit))}
      FOR UPDATE SKIP LOCKED
    ),
    promoted AS (
      UPDATE ${db.jobs} AS j
      SET state = 'available'
      WHERE j.id = ANY(ARRAY(SELECT id FROM due))
        AND j.state IN ('scheduled', 'retryable')
      RETURNING j.queue
    )
    SELECT
      (SELECT count(*)::integer FROM promoted) AS promoted,
      ARRAY(
        SELECT q.name
        FROM unnest(
          ${array(
            node.queues.map(({ name }) => name),
            oid.text
          )}::text[],
          ${array(
            node.queues.map(({ isBusy }) => isBusy),
            oid.bool
          )}::boolean[]
        ) AS q (name, is_busy)
        WHERE EXISTS (SELECT FROM promoted WHERE promoted.queue = q.name)
          OR NOT q.is_busy
          AND (
            -- The first of them and not any: for any, a backlog of other queues may be read from its beginning.
            SELECT j.id
            FROM ${db.jobs} AS j
            WHERE j.queue = q.name
              AND j.state = 'available'
            ORDER BY j.rank, j.run_at, j.id
            LIMIT 1
          ) IS NOT NULL
      ) AS ready,
      (
        SELECT (extract(epoch FROM min(run_at) - ${now}) * 1000)::float8
        FROM ${db.jobs}
        WHERE state IN ('scheduled', 'retryable')
          AND id NOT IN (SELECT id FROM due)
      ) AS next_due_millis,
      (
        SELECT (extract(epoch FROM min(${expiry(db)}) - ${now}) * 1000)::float8
        FROM ${db.jobs}
        WHERE start_before IS NOT NULL
          AND state <> 'executing'
      ) AS next_expiry_millis,
      EXISTS (SELECT FROM ${db.nodes} WHERE expires_at <= ${now}) AS dead_nodes,
      ${
        node.sweeps === true
          ? sql`EXISTS (
        SELECT FROM ${db.jobs} AS j
        WHERE j.state = 'executing'
          AND NOT EXISTS (SELECT FROM ${db.nodes} AS n WHERE n.id = j.claimed_by)
      ) AS strays,
      EXISTS (SELECT FROM ${db.jobs} WHERE state = 'blocked') AS blocked,`
          : sql``
      }
      EXISTS (
        SELECT FROM ${db.jobs}
        WHERE claimed_by = ${node.id}::integer
          AND state = 'executing'
          AND cancel_requested_at IS NOT NULL
      ) AS cancels,
      ${isUntold(db, node.workers, now)} AS discards,
      (
        SELECT jsonb_agg(jsonb_build_object(
          'name', name,
          'node', node,
          'concurrency', concurrency,
          'paused', paused_at IS NOT NULL,
          'removed', removed_at IS NOT NULL
        ) ORDER BY name, node)
        FROM ${db.queues}
      ) AS queues`.unprepared
  )
  return {
    promoted: row?.promoted ?? 0,
    ready: row?.ready ?? [],
    nextDueMillis: row?.next_due_millis ?? undefined,
    nextExpiryMillis: row?.next_expiry_millis ?? undefined,
    deadNodes: row?.dead_nodes ?? false,
    strays: row?.strays ?? false,
    blocked: row?.blocked ?? false,
    cancels: row?.cancels ?? false,
    discards: row?.discards ?? false,
    queues: row?.queues ?? []
  } satisfies Look
})
