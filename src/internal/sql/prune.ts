/** Keeps the archive: partitions for the next days are there, those past their retention are not. */
import * as Effect from "effect/Effect"
import type { Db } from "./db.ts"

/** What one round of upkeep did. */
export interface Pruned {
  readonly made: number
  readonly dropped: number
  readonly deleted: number
}

/**
 * Makes and drops partitions of the archive of one state.
 *
 * At READ COMMITTED: rows that a settle commits while this waits for its lock have to be seen.
 */
export const prune = Effect.fnUntraced(function* (db: Db, state: keyof Db["retention"]) {
  const { sql } = db
  const now = yield* db.now
  const [row] = yield* db.statement(sql<{
    readonly made: number
    readonly dropped: number
    readonly deleted: bigint
  }>`
    SELECT made, dropped, deleted
    FROM ${sql(`${db.schema}.maintain_archive`)}(
      ${state}::text,
      ${now},
      ${db.retention[state]}::float8 * interval '1 millisecond'
    )`)
  return {
    made: row?.made ?? 0,
    dropped: row?.dropped ?? 0,
    deleted: Number(row?.deleted ?? 0)
  } satisfies Pruned
})
