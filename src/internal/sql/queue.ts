/** What operators ask of queues, for all nodes or for one name of node. */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { Db } from "./db.ts"
import { keysAtWork } from "./keys.ts"
import type { QueueColumns } from "./promote.ts"
import { limited } from "./search.ts"

/** A change to what is asked of a queue; what is undefined stays as it is. */
export interface QueueChange {
  readonly name: string
  /** The name of a node; empty for all. */
  readonly node: string
  readonly concurrency?: number
  readonly paused?: boolean
  readonly removed?: boolean
}

/**
 * Stores a change; doing so twice is doing it once.
 *
 * A removal everywhere also takes back what was asked for single nodes: else those would go on.
 */
export const change = Effect.fnUntraced(function* (db: Db, wish: QueueChange) {
  const { sql } = db
  const now = yield* db.now
  const flag = (wanted: boolean | undefined, column: "paused_at" | "removed_at") =>
    wanted === undefined
      ? sql`q.${sql(column)}`
      : wanted
        ? sql`coalesce(q.${sql(column)}, ${now})`
        : sql`NULL::timestamptz(3)`
  yield* db.statement(sql`
    WITH forgotten AS (
      DELETE FROM ${db.queues}
      WHERE ${wish.removed === true && wish.node === ""}::boolean
        AND name = ${wish.name}
        AND node <> ''
    )
    INSERT INTO ${db.queues} AS q (name, node, concurrency, paused_at, removed_at, updated_at)
    VALUES (
      ${wish.name}, ${wish.node}, ${wish.concurrency ?? null}::integer,
      CASE WHEN ${wish.paused === true}::boolean THEN ${now} END,
      CASE WHEN ${wish.removed === true}::boolean THEN ${now} END,
      ${now}
    )
    ON CONFLICT (name, node) DO UPDATE
    SET concurrency = coalesce(excluded.concurrency, q.concurrency),
      paused_at = ${flag(wish.paused, "paused_at")},
      removed_at = ${flag(wish.removed, "removed_at")},
      updated_at = ${now}`)
})

/** How many jobs of a queue are executing, anywhere or on nodes of one name. */
export const executing = Effect.fnUntraced(function* (db: Db, queue: string, node: string) {
  const [row] = yield* db.sql<{ readonly count: number }>`
    SELECT count(*)::integer AS count
    FROM ${db.jobs} AS j
    WHERE j.queue = ${queue}
      AND j.state = 'executing'
      AND (
        ${node} = ''
        OR j.claimed_by IN (SELECT n.id FROM ${db.nodes} AS n WHERE n.name = ${node})
      )`
  return row?.count ?? 0
})

/** A partition key of a fair queue that is paused. */
export interface PausedKey {
  readonly queue: string
  readonly key: string
}

/** Some partition keys, and whether these are all. */
export interface PartitionsFound {
  readonly rows: ReadonlyArray<PartitionColumns>
  readonly isComplete: boolean
}

/** A partition key, with what of its jobs waits for a slot and runs. */
export interface PartitionColumns {
  readonly key: string
  /** Up to the limit and one. */
  readonly available: number
  /** Milliseconds that one of these has been due the longest; null where there is none. */
  readonly oldest_millis: number | null
  readonly executing: number
  readonly paused: boolean
}

/** The most jobs of a key that are counted, the most keys that are looked at, and the most that are told. */
export const partitionCountLimit = 1000
const partitionLimit = 500
const partitionsTold = 20

/**
 * The partition keys of a queue with the most waiting jobs, paused ones in any case; `isComplete` is false where there
 * may be more.
 */
export const partitions = (db: Db, queue: string): Effect.Effect<PartitionsFound, SqlError> =>
  limited(
    db,
    Effect.gen(function* () {
      const { sql } = db
      const now = yield* db.now
      const rows = yield* sql<PartitionColumns & { readonly leapt: number; readonly found: number }>`
        WITH RECURSIVE keyed (key, place) AS (${keysAtWork(db, queue, partitionLimit)}),
        running AS (
          SELECT partition_key AS key, count(*)::integer AS count
          FROM ${db.jobs}
          WHERE queue = ${queue}
            AND state = 'executing'
            AND partition_key IS NOT NULL
          GROUP BY partition_key
        ),
        paused AS (
          SELECT key
          FROM ${sql(`${db.schema}.partitions`)}
          WHERE queue = ${queue}
            AND paused_at IS NOT NULL
            AND key <> ''
          ORDER BY key
          LIMIT ${partitionLimit}::integer
        ),
        named AS (
          SELECT key FROM keyed WHERE key IS NOT NULL
          UNION
          SELECT key FROM running
          UNION
          SELECT key FROM paused
        )
        SELECT named.key, waiting.available, waiting.oldest_millis,
          coalesce(running.count, 0) AS executing,
          paused.key IS NOT NULL AS paused,
          (SELECT count(*)::integer FROM keyed) AS leapt,
          count(*) OVER ()::integer AS found
        FROM named
        LEFT JOIN running
          ON running.key = named.key
        LEFT JOIN paused
          ON paused.key = named.key
        CROSS JOIN LATERAL (
          SELECT count(*)::integer AS available,
            (extract(epoch FROM ${now} - min(run_at)) * 1000)::float8 AS oldest_millis
          FROM (
            SELECT j.run_at
            FROM ${db.jobs} AS j
            WHERE j.queue = ${queue}
              AND j.state = 'available'
              AND j.partition_key = named.key
            ORDER BY j.rank, j.run_at, j.id
            LIMIT ${partitionCountLimit + 1}::integer
          ) AS counted
        ) AS waiting
        ORDER BY paused.key IS NOT NULL DESC, waiting.available DESC, executing DESC, named.key
        LIMIT ${partitionsTold}::integer`
      const [first] = rows
      return {
        rows,
        isComplete: first === undefined || (first.found === rows.length && first.leapt < partitionLimit)
      }
    })
  )

/** Everything that is asked of queues at the moment. */
export const wishes = Effect.fnUntraced(function* (db: Db) {
  const { sql } = db
  return {
    wishes: yield* sql<QueueColumns>`
      SELECT name, node, concurrency, paused_at IS NOT NULL AS paused, removed_at IS NOT NULL AS removed
      FROM ${db.queues}
      ORDER BY name, node`,
    keys: yield* sql<PausedKey>`
      SELECT queue, key
      FROM ${sql(`${db.schema}.partitions`)}
      WHERE paused_at IS NOT NULL
      ORDER BY queue, key
      LIMIT 1000`
  }
})
