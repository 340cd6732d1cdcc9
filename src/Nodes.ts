/**
 * The nodes of the fleet, as their leases tell of them.
 */
import * as DateTime from "effect/DateTime"
import type { NodeColumns } from "./internal/sql/node.ts"

/**
 * One incarnation of a process that runs jobs.
 *
 * @category models
 */
export interface NodeRow {
  /** The number of the incarnation; never used again. */
  readonly id: number
  readonly name: string
  readonly startedAt: DateTime.Utc
  /** When it last renewed its lease. */
  readonly beatAt: DateTime.Utc
  readonly leaseUntil: DateTime.Utc
  /** Whether its lease is live. */
  readonly live: boolean
  /** Milliseconds since it last renewed its lease. */
  readonly silentMillis: number
  /** How long a renewal lasts, in milliseconds. */
  readonly leaseTtlMillis: number
  /** The longest that its event loop was found late before the last renewal, in milliseconds. */
  readonly lagMillis: number
  /** Whether it hears notifications; else it polls. */
  readonly listening: boolean
  /** The names of the jobs that it can run. */
  readonly workers: ReadonlyArray<string>
  readonly queues: ReadonlyArray<{ readonly name: string; readonly concurrency: number }>
  /** How many jobs it holds. */
  readonly executing: number
}

/**
 * Reads a node's row.
 *
 * @category constructors
 */
export const fromColumns = (row: NodeColumns): NodeRow => ({
  id: row.id,
  name: row.name,
  startedAt: DateTime.fromDateUnsafe(row.started_at),
  beatAt: DateTime.fromDateUnsafe(row.beat_at),
  leaseUntil: DateTime.fromDateUnsafe(row.expires_at),
  live: row.live,
  silentMillis: row.silent_millis,
  leaseTtlMillis: row.ttl_millis,
  lagMillis: row.lag_millis,
  listening: row.listening,
  workers: row.workers,
  queues: row.queues.map((name, i) => ({ name, concurrency: row.slots[i] ?? 0 })),
  executing: row.executing
})
