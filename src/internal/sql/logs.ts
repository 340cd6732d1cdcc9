/** What handlers logged: appended in batches, read by job, forgotten by age. */
import * as Effect from "effect/Effect"
import type { JobId } from "../../JobRow.ts"
import { Encrypted, type Place } from "../envelope.ts"
import { array, type Db, ids, oid } from "./db.ts"
import { open, sealText } from "./seal.ts"

/** A line to store. */
export interface NewLine {
  readonly id: JobId
  readonly attempt: number
  readonly epoch: number
  /** Counted from 1 within the claim. */
  readonly line: number
  readonly at: Date
  readonly level: string
  readonly message: string
  /** What it quotes of what stands nowhere in the job's row. */
  readonly quotes?: unknown
}

/** Which lines to read: those of one job after a position, in order. */
export interface LogPage {
  readonly id: JobId
  readonly after: { readonly epoch: number; readonly line: number }
  readonly limit: number
}

/** The most lines deleted by one statement. */
const pruneLimit = 10_000

/** Stores lines; what they say may quote anything, so it is encrypted where there is a cipher. */
export const append = Effect.fnUntraced(function* (db: Db, lines: ReadonlyArray<NewLine>) {
  const { sql } = db
  const now = yield* db.now
  const column = (read: (line: NewLine) => unknown, type: number) => array(lines.map(read), type)
  const messages = yield* Effect.forEach(lines, (line) => sealText(db, JSON.stringify(saidBy(line)), placeOf(line)))
  yield* db.statement(sql`
    INSERT INTO ${sql(`${db.schema}.logs`)} (job_id, stored_at, logged_at, line, epoch, attempt, level, message)
    SELECT l.job_id, ${now}, l.logged_at, l.line, l.epoch, l.attempt, l.level, l.message
    FROM unnest(
      ${ids(lines.map((line) => line.id))}::bigint[],
      ${column((line) => line.at, oid.timestamptz)}::timestamptz[],
      ${column((line) => line.line, oid.int4)}::integer[],
      ${column((line) => line.epoch, oid.int4)}::integer[],
      ${column((line) => line.attempt, oid.int2)}::smallint[],
      ${column((line) => line.level, oid.text)}::text[],
      ${array(messages, oid.text)}::text[]::jsonb[]
    ) AS l (job_id, logged_at, line, epoch, attempt, level, message)`)
})

/** Reads lines of one job in the order of its claims, by the index logs_job. */
export const read = Effect.fnUntraced(function* (db: Db, { after, id, limit }: LogPage) {
  const { sql } = db
  const rows = yield* sql<{
    readonly attempt: number
    readonly epoch: number
    readonly line: number
    readonly logged_at: Date
    readonly level: string
    readonly message: unknown
  }>`
    SELECT attempt, epoch, line, logged_at, level, message
    FROM ${sql(`${db.schema}.logs`)}
    WHERE job_id = ${id}::bigint
      AND (epoch, line) > (${after.epoch}::integer, ${after.line}::integer)
    ORDER BY epoch, line
    LIMIT ${limit}::integer`
  return yield* Effect.forEach(rows, (row) =>
    Effect.map(open(db, row.message, placeOf({ id, ...row }), false), (message) => ({
      ...row,
      ...(message instanceof Encrypted ? { message: message.problem.message, quotes: undefined } : readBy(message))
    }))
  )
})

/** Deletes lines past their retention, by the index logs_stored; says how many. */
export const prune = Effect.fnUntraced(function* (db: Db, retentionMillis: number) {
  const { sql } = db
  const now = yield* db.now
  const logs = sql(`${db.schema}.logs`)
  const [row] = yield* db.statement(sql<{ readonly count: number }>`
    WITH old AS MATERIALIZED (
      SELECT ctid
      FROM ${logs}
      WHERE stored_at < ${now} - ${retentionMillis}::float8 * interval '1 millisecond'
      ORDER BY stored_at
      LIMIT ${sql.literal(String(pruneLimit))}
      FOR UPDATE SKIP LOCKED
    ),
    gone AS (
      DELETE FROM ${logs}
      WHERE ctid = ANY(ARRAY(SELECT ctid FROM old))
      RETURNING job_id
    )
    SELECT count(*)::integer AS count FROM gone`)
  return row?.count ?? 0
})

/** What is stored of a line: its text alone, where it quotes nothing from elsewhere. */
const saidBy = ({ message, quotes }: NewLine): unknown => (quotes === undefined ? message : { message, quotes })

const readBy = (stored: unknown): Pick<NewLine, "message" | "quotes"> =>
  typeof stored === "object" && stored !== null ? (stored as NewLine) : { message: String(stored) } // see saidBy

/** The place of a line. */
export const placeOf = (line: Pick<NewLine, "id" | "epoch" | "line">): Place => ({
  field: "log",
  of: `${line.id}/${line.epoch}/${line.line}`
})
