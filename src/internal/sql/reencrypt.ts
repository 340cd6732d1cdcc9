/**
 * Finds what stands under a key, or under none, and puts it under the first one.
 *
 * Every place that may hold an encrypted value is in one list here. Rows are looked through a bounded window at a time;
 * a row is written only while it is what was read, and one that somebody else holds is left for the next round, so that
 * nobody waits for a re-encryption and none undoes what a worker has written meanwhile.
 */
import * as Effect from "effect/Effect"
import type { Fragment } from "effect/sql/Statement"
import type { AttemptFailure } from "../../JobRow.ts"
import { Encrypted, type Place } from "../envelope.ts"
import type { NewJob } from "../newJob.ts"
import { callbackOf } from "./batch.ts"
import { array, type Db, oid } from "./db.ts"
import { placeOf as logOf } from "./logs.ts"
import { jobId } from "./row.ts"
import { argsOf, errorOf, fallbackOf, openedText, reasonOf, sealFailure } from "./seal.ts"

/** The tables with encrypted values, in the order in which jobs go through them. */
export const tables = ["cron", "batches", "jobs", "dependencies", "results", "jobs_archive", "logs"] as const

/** A table with encrypted values. */
export type Table = (typeof tables)[number]

/** Where a row stands in its table: its key, as text. */
export type Position = ReadonlyArray<string>

/** The rows of a window that are to be written, and where the next window begins. */
export interface Window {
  readonly found: ReadonlyArray<Position>
  readonly after: Position | undefined
  readonly more: boolean
}

/** What became of a chunk of rows. */
export interface Written {
  readonly changed: number
  /** Rows that had changed since, or that somebody holds. */
  readonly busy: number
  readonly unreadable: ReadonlyArray<Encrypted>
}

/** How many rows one look reads. */
export const windowSize = 5000

/** The rows in the next window with a value under another key than `keyId`, or under none where that is asked for. */
export const find = Effect.fnUntraced(function* (
  db: Db,
  table: Table,
  after: Position | undefined,
  { keyId, plaintext }: { readonly keyId: string; readonly plaintext: boolean }
) {
  const { sql } = db
  const stale = sql`SELECT FROM (${valuesOf(db, table)}) AS held (value)
    WHERE coalesce(${keyOf(db)} <> ${keyId}::text, ${plaintext}::boolean)`
  const rows = yield* sql<{ readonly at: Position; readonly stale: boolean; readonly n: number }>`
    WITH seen AS MATERIALIZED (
      ${window(db, table, after, sql`, EXISTS (${stale}) AS stale`)}
    )
    SELECT at, stale, n
    FROM seen
    WHERE stale
      OR n = (SELECT max(n) FROM seen)
    ORDER BY n`
  const last = rows.at(-1)
  return {
    found: rows.filter((row) => row.stale).map((row) => row.at),
    after: last?.at,
    more: last?.n === windowSize
  } satisfies Window
})

/** How many values of the next window stand under each key; the empty key is none. */
export const count = Effect.fnUntraced(function* (db: Db, table: Table, after: Position | undefined) {
  const { sql } = db
  const rows = yield* sql<{
    readonly key: string | null
    readonly count: number
    readonly at: Position | null
    readonly n: number
  }>`
    WITH seen AS MATERIALIZED (
      ${window(db, table, after, sql`, ARRAY(SELECT coalesce(${keyOf(db)}, '') FROM (${valuesOf(db, table)}) AS held (value)) AS keys`)}
    )
    SELECT key, count(*)::integer AS count, NULL::text[] AS at, 0 AS n
    FROM seen, unnest(seen.keys) AS key
    GROUP BY key
    UNION ALL
    SELECT NULL, 0, at, n
    FROM seen
    WHERE n = (SELECT max(n) FROM seen)`
  const last = rows.find((row) => row.at !== null)
  return {
    counts: rows.flatMap(({ count: values, key }) => (key === null ? [] : [{ key, count: values }])),
    after: last?.at ?? undefined,
    more: last?.n === windowSize
  }
})

/** Puts the values of rows under the first key, those without any too where that is asked for. */
export const rewrite = Effect.fnUntraced(function* (
  db: Db,
  table: Table,
  positions: ReadonlyArray<Position>,
  { keyId, plaintext }: { readonly keyId: string; readonly plaintext: boolean }
) {
  const { sql } = db
  const { columns, keys } = layout[table]
  const on = sql.literal(keys.map(([key]) => `t.${key} = v.${key}`).join(" AND "))
  const keyNames = keys.map(([key]) => key).join(", ")
  const keyLists = (of: ReadonlyArray<Position>): Fragment =>
    sql.join(
      ", ",
      false
    )(
      keys.map(
        ([, type], i) =>
          sql`${array(
            of.map((position) => position[i]),
            oid.text
          )}::text[]::${sql.literal(type)}[]`
      )
    )
  const at = sql.literal(positionOf(table))
  const rows = yield* sql<Row>`
    SELECT t.*, ${at} AS at, ${fingerprintOf(db, table)} AS seen
    FROM ${tableOf(db, table)} AS t
    JOIN unnest(${keyLists(positions)}) AS v (${sql.literal(keyNames)})
      ON ${on}`
  const unreadable: Array<Encrypted> = []
  const sealed: Array<{ readonly row: Row; readonly texts: ReadonlyArray<string | null> }> = []
  for (const row of rows) {
    const reseal: Reseal = Effect.fnUntraced(function* (value, place) {
      const text = yield* openedText(db, value, place, { keyId, plaintext })
      if (text === undefined) return undefined
      if (text instanceof Encrypted) {
        unreadable.push(text)
        return undefined
      }
      return db.cipher === undefined ? undefined : yield* db.cipher.seal(text, place)
    })
    const texts: Array<string | null> = []
    for (const column of columns) {
      const value = row[column.name]
      texts.push(
        value === null || value === undefined ? null : ((yield* column.rewrite(db, row, value, reseal)) ?? null)
      )
    }
    if (texts.some((text) => text !== null)) sealed.push({ row, texts })
  }
  if (sealed.length === 0) return { changed: 0, busy: 0, unreadable } satisfies Written
  const newValues = sql.join(
    ", ",
    false
  )(
    columns.map(
      (_, i) =>
        sql`${array(
          sealed.map(({ texts }) => texts[i] ?? null),
          oid.text
        )}::text[]`
    )
  )
  const names = sql.literal(columns.map(({ name }) => `new_${name}`).join(", "))
  const written = yield* db.statement(sql`
    WITH v AS MATERIALIZED (
      SELECT *
      FROM unnest(
        ${keyLists(sealed.map(({ row }) => row.at))},
        ${array(
          sealed.map(({ row }) => row.seen),
          oid.text
        )}::text[],
        ${newValues}
      ) AS v (${sql.literal(keyNames)}, seen, ${names})
    ),
    target AS MATERIALIZED (
      SELECT v.*
      FROM ${tableOf(db, table)} AS t
      JOIN v
        ON ${on}
      WHERE ${fingerprintOf(db, table)} = v.seen
      ORDER BY ${sql.literal(keys.map(([key]) => `t.${key}`).join(", "))}
      FOR UPDATE OF t SKIP LOCKED
    )
    UPDATE ${tableOf(db, table)} AS t
    SET ${sql.literal(columns.map(({ name }) => `${name} = coalesce(v.new_${name}::jsonb, t.${name})`).join(", "))}
    FROM target AS v
    WHERE ${on}
      AND ${fingerprintOf(db, table)} = v.seen
    RETURNING 1 AS done`)
  return { changed: written.length, busy: sealed.length - written.length, unreadable } satisfies Written
})

// internal

type Row = Readonly<Record<string, unknown>> & {
  readonly at: Position
  /** What its values were as they were read. */
  readonly seen: string
}

/** The text of a value under the first key; undefined where it stays as it is. */
type Reseal = (value: unknown, place: Place) => Effect.Effect<string | undefined>

interface Column {
  readonly name: string
  /** The values in the column `t.<name>`, as a query; plain ones are those that are no envelope. */
  readonly values: string
  /** The JSON text to store in its place; undefined where nothing in it changes. */
  readonly rewrite: (db: Db, row: Row, value: unknown, reseal: Reseal) => Effect.Effect<string | undefined>
}

const value = (name: string, place: (row: Row) => Place): Column => ({
  name,
  values: `SELECT t.${name} WHERE t.${name} IS NOT NULL`,
  rewrite: (_, row, held, reseal) => reseal(held, place(row))
})

/** A failure keeps what finds and counts it in the clear beside its envelope. */
type StoredFailure = AttemptFailure & { readonly sealed?: unknown }

/** What a rescue writes quotes nobody's data, and is in the clear wherever it stands. */
const isRescue = ({ error, message, tag }: StoredFailure): boolean =>
  tag === "LeaseExpired" && error === undefined && message.startsWith("The lease of node ")

/** The same of the failure `e`. */
const rescueText = `(e ->> 'tag' = 'LeaseExpired' AND NOT e ? 'error' AND starts_with(e ->> 'message', 'The lease of node '))`

const resealed = Effect.fnUntraced(function* (db: Db, row: Row, failure: StoredFailure, reseal: Reseal) {
  if (isRescue(failure)) return undefined
  const id = jobId(Number(row["id"]))
  const place = errorOf(id, failure.attempt)
  if (failure.sealed !== undefined) {
    const text = yield* reseal(failure.sealed, place)
    return text === undefined ? undefined : { ...failure, sealed: JSON.parse(text) as unknown } // nothing is known of it
  }
  // One in the clear is asked about as a whole, and sealed the way that a settle does it.
  const text = yield* reseal(failure, place)
  return text === undefined ? undefined : yield* sealFailure(db, id, failure)
})

const failures: Column = {
  name: "errors",
  values: `SELECT coalesce(e -> 'sealed', e) FROM jsonb_array_elements(t.errors) AS e WHERE NOT ${rescueText}`,
  rewrite: Effect.fnUntraced(function* (db: Db, row: Row, held: unknown, reseal: Reseal) {
    const all = held as ReadonlyArray<StoredFailure> // what settles append
    const next = yield* Effect.forEach(all, (failure) => resealed(db, row, failure, reseal))
    return next.every((failure) => failure === undefined)
      ? undefined
      : JSON.stringify(all.map((failure, i) => next[i] ?? failure))
  })
}

const failure: Column = {
  name: "failure",
  values: `SELECT coalesce(e -> 'sealed', e) FROM (SELECT t.failure) AS f (e) WHERE e IS NOT NULL AND NOT ${rescueText}`,
  rewrite: Effect.fnUntraced(function* (db: Db, row: Row, held: unknown, reseal: Reseal) {
    const next = yield* resealed(db, row, held as StoredFailure, reseal) // what settles keep
    return next === undefined ? undefined : JSON.stringify(next)
  })
}

const callbacks: Column = {
  name: "callbacks",
  values: `SELECT (c.value ->> 'args')::jsonb FROM jsonb_each(t.callbacks) AS c`,
  rewrite: Effect.fnUntraced(function* (_: Db, row: Row, held: unknown, reseal: Reseal) {
    const next: Record<string, NewJob> = { ...(held as Readonly<Record<string, NewJob>>) } // what creates store
    let changed = false
    for (const [occasion, job] of Object.entries(next)) {
      const args = yield* reseal(JSON.parse(job.args), callbackOf(Number(row["id"]), occasion))
      if (args === undefined) continue
      next[occasion] = { ...job, args }
      changed = true
    }
    return changed ? JSON.stringify(next) : undefined
  })
}

const fallback: Column = {
  name: "on_expire",
  values: `SELECT (t.on_expire ->> 'args')::jsonb WHERE jsonb_typeof(t.on_expire) = 'object'`,
  rewrite: Effect.fnUntraced(function* (_: Db, row: Row, held: unknown, reseal: Reseal) {
    if (typeof held !== "object" || held === null) return undefined
    const job = held as NewJob // what enqueues store
    const args = yield* reseal(JSON.parse(job.args), fallbackOf(Number(row["id"])))
    return args === undefined ? undefined : JSON.stringify({ ...job, args })
  })
}

/** Why a job was cancelled; what the library says itself quotes nobody's data. */
const reason = (name: string): Column => ({
  name,
  values: `SELECT t.${name} WHERE t.${name} IS NOT NULL AND t.${name} #>> '{}' !~ '${ownReason.source}'`,
  rewrite: (_, row, held, reseal) =>
    typeof held === "string" && ownReason.test(held) ? Effect.undefined : reseal(held, reasonOf(idOf(row)))
})

const ownReason = /^(It waited for job|It had not started before|It would not start before|It was deleted) ?/

const idOf = (row: Row, name = "id") => jobId(Number(row[name]))

const args = value("args", (row) => argsOf(idOf(row), String(row["worker"])))
const result = value("result", (row) => ({ field: "result", of: idOf(row) }))

/** The key of each table, by which it has an index, and the columns in which a value may be encrypted. */
const layout: {
  readonly [T in Table]: {
    readonly keys: ReadonlyArray<readonly [name: string, type: string]>
    readonly columns: ReadonlyArray<Column>
  }
} = {
  cron: {
    keys: [["name", "text"]],
    columns: [value("args", (row) => ({ field: "cron", of: String(row["name"]), worker: String(row["worker"]) }))]
  },
  batches: {
    keys: [["id", "bigint"]],
    columns: [value("input", (row) => ({ field: "input", of: idOf(row) })), callbacks]
  },
  jobs: { keys: [["id", "bigint"]], columns: [args, failures, fallback, reason("cancel_reason")] },
  dependencies: {
    keys: [
      ["child_id", "bigint"],
      ["parent_id", "bigint"]
    ],
    columns: [value("result", (row) => ({ field: "result", of: idOf(row, "parent_id") }))]
  },
  results: { keys: [["id", "bigint"]], columns: [result, failure, reason("reason")] },
  jobs_archive: { keys: [["id", "bigint"]], columns: [args, result, failures, reason("cancel_reason")] },
  logs: {
    keys: [
      ["job_id", "bigint"],
      ["epoch", "integer"],
      ["line", "integer"]
    ],
    columns: [
      value("message", (row) =>
        logOf({ id: idOf(row, "job_id"), epoch: Number(row["epoch"]), line: Number(row["line"]) })
      )
    ]
  }
}

const tableOf = (db: Db, table: Table) => db.sql(`${db.schema}.${table}`)

const positionOf = (table: Table): string => `ARRAY[${layout[table].keys.map(([key]) => `t.${key}::text`).join(", ")}]`

const valuesOf = (db: Db, table: Table): Fragment =>
  db.sql.literal(layout[table].columns.map((column) => column.values).join(" UNION ALL "))

/** The id of the key that the value `held.value` is under; null for none. As `envelopeOf` and `keyIdOf` have it. */
const keyOf = ({ sql }: Db): Fragment =>
  sql`CASE
      WHEN jsonb_typeof(held.value -> '$enc') = 'string'
        AND held.value = jsonb_build_object('$enc', held.value -> '$enc')
        THEN split_part(held.value ->> '$enc', '.', 2)
    END`

/** Says whether the values of a row are still what they were, without sending them twice. */
const fingerprintOf = (db: Db, table: Table): Fragment =>
  db.sql.literal(
    `encode(sha256(convert_to(concat_ws('|', ${layout[table].columns.map(({ name }) => `coalesce(t.${name}::text, '-')`).join(", ")}), 'UTF8')), 'hex')`
  )

/** The next rows by their key, each with what is asked about it. */
const window = (db: Db, table: Table, after: Position | undefined, asked: Fragment): Fragment => {
  const { sql } = db
  const { keys } = layout[table]
  const names = sql.literal(keys.map(([key]) => `t.${key}`).join(", "))
  const bound = sql.join(", ", false)(keys.map(([, type], i) => sql`${after?.[i] ?? null}::text::${sql.literal(type)}`))
  return sql`
      SELECT ${sql.literal(positionOf(table))} AS at, (row_number() OVER (ORDER BY ${names}))::integer AS n ${asked}
      FROM ${tableOf(db, table)} AS t
      ${after === undefined ? sql`` : sql`WHERE (${names}) > (${bound})`}
      ORDER BY ${names}
      LIMIT ${sql.literal(String(windowSize))}`
}
