/** Counts live jobs for people, at a cost that has a bound however many there are. */
import * as Effect from "effect/Effect"
import type { JobState } from "../../JobRow.ts"
import type { Db } from "./db.ts"
import { nameIn } from "./quote.ts"

/**
 * How many jobs of a queue are in a state: exactly so many, or at least.
 *
 * @category models
 */
export interface QueueCount {
  readonly queue: string
  readonly state: JobState
  readonly count: number
  readonly isExact: boolean
}

/** Up to this size the whole table is read, in bytes: well over a million small jobs, in a third of a second. */
const wholeBytes = 512 * 1024 * 1024

/** Of a larger one: the most jobs of a queue that wait for a slot, and the most of each other kind, that are counted. */
const availableLimit = 10_000
const kindLimit = 50_000
const queueLimit = 1000

/**
 * How many live jobs are in each queue and state.
 *
 * Of a large table only the partial indexes are read. That of the claim is by queue, so that each queue is counted up to
 * a limit of its own; the others are not, and a limit holds for all queues together.
 */
export const counts = Effect.fnUntraced(function* (db: Db) {
  const { sql } = db
  const [table] = yield* sql<{ readonly bytes: number }>`
    SELECT pg_relation_size(${nameIn(db.schema, "jobs")}::text::regclass)::float8 AS bytes`
  return (table?.bytes ?? 0) <= wholeBytes ? yield* whole(db) : yield* bounded(db)
})

/** Reads the table. */
export const whole = (db: Db) =>
  Effect.map(
    db.sql<Omit<QueueCount, "isExact">>`
      SELECT queue, state, count(*)::integer AS count
      FROM ${db.jobs}
      GROUP BY queue, state
      ORDER BY queue, state`,
    (rows): ReadonlyArray<QueueCount> => rows.map((row) => ({ ...row, isExact: true }))
  )

/** Reads up to the limits. */
export const bounded = Effect.fnUntraced(function* (db: Db) {
  const { sql } = db
  const available = yield* sql<{ readonly queue: string; readonly count: number }>`
    WITH RECURSIVE named AS (
      (
        SELECT queue
        FROM ${db.jobs}
        WHERE state = 'available'
        ORDER BY queue
        LIMIT 1
      )
      UNION ALL
      SELECT (
        SELECT j.queue
        FROM ${db.jobs} AS j
        WHERE j.state = 'available'
          AND j.queue > named.queue
        ORDER BY j.queue
        LIMIT 1
      )
      FROM named
      WHERE named.queue IS NOT NULL
    )
    SELECT named.queue,
      (
        SELECT count(*)::integer
        FROM (
          SELECT
          FROM ${db.jobs} AS j
          WHERE j.queue = named.queue
            AND j.state = 'available'
          LIMIT ${availableLimit + 1}::integer
        ) AS counted
      ) AS count
    FROM (SELECT queue FROM named WHERE queue IS NOT NULL LIMIT ${queueLimit}::integer) AS named`
  const found: Array<QueueCount> = available.map(({ count, queue }) => ({
    queue,
    state: "available",
    count: Math.min(count, availableLimit),
    isExact: count <= availableLimit
  }))
  // In the order of the index: without it, a table with few of a kind would be read to its end.
  for (const [states, order] of [
    [sql`state = 'executing'`, sql`claimed_by, id`],
    [sql`state IN ('scheduled', 'retryable')`, sql`run_at, id`],
    [sql`state = 'blocked'`, sql`id`]
  ] as const) {
    const rows = yield* sql<Omit<QueueCount, "isExact">>`
      SELECT queue, state, count(*)::integer AS count
      FROM (
        SELECT queue, state
        FROM ${db.jobs}
        WHERE ${states}
        ORDER BY ${order}
        LIMIT ${kindLimit}::integer
      ) AS first
      GROUP BY queue, state`
    const isExact = rows.reduce((sum, { count }) => sum + count, 0) < kindLimit
    found.push(...rows.map((row) => ({ ...row, isExact })))
  }
  return found
})
