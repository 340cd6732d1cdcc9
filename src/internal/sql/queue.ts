/** What operators ask of queues, for all nodes or for one name of node. */
import * as Effect from "effect/Effect"
import type { Db } from "./db.ts"
import type { QueueColumns } from "./promote.ts"

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
