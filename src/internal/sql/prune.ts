/** Keeps the archive: partitions for the next days are there, those past their retention are not. */
import * as Effect from "effect/Effect"
import { keptMillis } from "./archive.ts"
import type { Db } from "./db.ts"

/** What one round of upkeep did. */
export interface Pruned {
  readonly made: number
  readonly dropped: number
  readonly deleted: number
  /** By which retention, in milliseconds. */
  readonly keptMillis: number
}

/**
 * Makes and drops partitions of the archive of one state: by the retention of this node alone, or as `agreed` by all.
 *
 * At READ COMMITTED: rows that a settle commits while this waits for its lock have to be seen.
 */
export const prune = Effect.fnUntraced(function* (db: Db, state: keyof Db["retention"], agreed: boolean) {
  const { sql } = db
  const now = yield* db.now
  const [row] = yield* db.statement(sql<{
    readonly made: number
    readonly dropped: number
    readonly deleted: bigint
    readonly kept_millis: number
  }>`
    SELECT kept.millis AS kept_millis, done.made, done.dropped, done.deleted
    FROM (SELECT ${agreed ? keptMillis(db, state, now) : sql`${db.retention[state]}::float8`} AS millis) AS kept
    CROSS JOIN LATERAL ${sql(`${db.schema}.maintain_archive`)}(
      ${state}::text,
      ${now},
      kept.millis * interval '1 millisecond'
    ) AS done`)
  return {
    made: row?.made ?? 0,
    dropped: row?.dropped ?? 0,
    deleted: Number(row?.deleted ?? 0),
    keptMillis: row?.kept_millis ?? db.retention[state]
  } satisfies Pruned
})
