/**
 * Values that many processes change: each as a whole, by whoever has seen its last version.
 *
 * What a value means is said in code. A change that comes too late meets no row and is made again on what is there now;
 * whoever needs more than one value at rest locks their rows.
 */
import * as Effect from "effect/Effect"
import { textProblem, utf8Length } from "../json.ts"
import { array, type Db, oid } from "./db.ts"

/** A value as it was read. */
export interface Cell {
  /** Undefined where there is none. */
  readonly value: unknown
  /** Zero where there is none. */
  readonly version: number
}

/** What a cell is to hold. */
export interface NextCell {
  readonly value: unknown
  /** From when on it says no more than none would, in milliseconds. */
  readonly idleAt: number
}

/** Under which name a value of a kind is kept for a key; undefined where the key is too long for an index. */
export const cellName = (kind: string, key: string): string | undefined => {
  const name = textProblem(key) === undefined ? `${kind}:${key}` : `${kind}!${JSON.stringify(key)}`
  return utf8Length(name) - kind.length - 1 > maxKeyBytes ? undefined : name
}

/** Reads one cell, and the instant of the look. */
export const readCell = Effect.fnUntraced(function* (db: Db, name: string) {
  const now = yield* db.now
  const [row] = yield* db.statement(db.sql<Partial<CellColumns> & { readonly now: Date }>`
    SELECT c.value, c.version, ${now} AS now
    FROM (SELECT) AS look
    LEFT JOIN ${table(db)} AS c
      ON c.name = ${name}`)
  return { ...cellOf(row), now: row?.now.getTime() ?? 0 }
})

/** Changes a cell that is still at the version that was seen; says whether it was. */
export const writeCell = Effect.fnUntraced(function* (db: Db, name: string, seen: number, next: NextCell) {
  const rows = yield* db.statement(db.sql`
    INSERT INTO ${table(db)} AS c (name, value, version, idle_at)
    VALUES (
      ${name},
      ${JSON.stringify(next.value)}::text::jsonb,
      ${BigInt(seen + 1)}::bigint,
      ${new Date(Math.min(next.idleAt, latestMillis))}::timestamptz(3)
    )
    ON CONFLICT (name) DO UPDATE
    SET value = excluded.value,
      version = excluded.version,
      idle_at = excluded.idle_at
    WHERE c.version = ${BigInt(seen)}::bigint
    RETURNING c.version`)
  return rows.length === 1
})

/** Reads cells as they are, without those that are not there. */
export const readCells = Effect.fnUntraced(function* (db: Db, names: ReadonlyArray<string>) {
  return byName(yield* select(db, names))
})

/** Locks the cells that are there, in the order of their names, and reads them; the caller has a transaction. */
export const lockCells = Effect.fnUntraced(function* (db: Db, names: ReadonlyArray<string>) {
  return byName(yield* db.sql<CellColumns>`${select(db, names)} FOR UPDATE`)
})

/** Removes cells that say no more than none would, up to some thousands; says whether there may be more. */
export const pruneCells = Effect.fnUntraced(function* (db: Db) {
  const now = yield* db.now
  const gone = yield* db.statement(db.sql`
    DELETE FROM ${table(db)}
    WHERE name = ANY(ARRAY(
      SELECT name
      FROM ${table(db)}
      WHERE idle_at < ${now} - interval '1 minute'
      LIMIT ${pruneLimit}::integer
      FOR UPDATE SKIP LOCKED
    ))
    RETURNING version`)
  return gone.length === pruneLimit
})

// internal

const maxKeyBytes = 1000

const pruneLimit = 5000

/** The year 9999: a later instant is not in every client's calendar. */
const latestMillis = 253_402_300_799_000

interface CellColumns {
  readonly name: string
  readonly value: unknown
  readonly version: bigint
}

const table = (db: Db) => db.sql(`${db.schema}.cells`)

const select = (db: Db, names: ReadonlyArray<string>) => db.sql<CellColumns>`
  SELECT name, value, version
  FROM ${table(db)}
  WHERE name = ANY(${array(names, oid.text)}::text[])
  ORDER BY name`

const byName = (rows: ReadonlyArray<CellColumns>): ReadonlyMap<string, Cell> =>
  new Map(rows.map((row) => [row.name, cellOf(row)]))

const cellOf = (row: Partial<CellColumns> | undefined): Cell => ({
  value: row?.value ?? undefined,
  version: Number(row?.version ?? 0)
})
