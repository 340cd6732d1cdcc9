/** Who did what: appended, read newest first, forgotten by age. */
import * as Effect from "effect/Effect"
import type { Db } from "./db.ts"

/** What somebody did. */
export interface NewEntry {
  readonly actor: string
  readonly action: string
  readonly subject: string
  readonly outcome: string
  readonly detail: string | undefined
}

/**
 * How far a bulk operation has come.
 *
 * @category models
 */
export interface Progress {
  /** How many jobs were seen to match before it began. */
  readonly expected: number
  readonly matched: number
  readonly changed: number
  readonly requested: number
  readonly skipped: number
  readonly failed: number
}

/** A row. */
export interface AuditColumns {
  readonly id: bigint
  readonly at: Date
  readonly actor: string
  readonly action: string
  readonly subject: string
  readonly outcome: string | null
  readonly detail: string | null
  readonly progress: Progress | null
  readonly finished_at: Date | null
  /** Whether it has not ended, and has not told how far it has come for a minute. */
  readonly lost: boolean
}

/** Entries are kept this long. */
export const retentionDays = 90

/** The most rows deleted by one statement. */
const pruneLimit = 10_000

/** Appends what was done. */
export const record = Effect.fnUntraced(function* (db: Db, entry: NewEntry) {
  const now = yield* db.now
  yield* db.statement(db.sql`
    INSERT INTO ${auditOf(db)} (at, actor, action, subject, outcome, detail, finished_at)
    VALUES (
      ${now}, ${entry.actor}::text, ${entry.action}::text, ${entry.subject}::text,
      ${entry.outcome}::text, ${entry.detail ?? null}::text, ${now}
    )`)
})

/** Appends an operation that begins, and returns its id. */
export const begin = Effect.fnUntraced(function* (
  db: Db,
  entry: Omit<NewEntry, "outcome" | "detail"> & { readonly progress: Progress }
) {
  const now = yield* db.now
  const [row] = yield* db.statement(db.sql<{ readonly id: bigint }>`
    INSERT INTO ${auditOf(db)} (at, actor, action, subject, progress, beat_at)
    VALUES (
      ${now}, ${entry.actor}::text, ${entry.action}::text, ${entry.subject}::text,
      ${JSON.stringify(entry.progress)}::text::jsonb, ${now}
    )
    RETURNING id`)
  return Number(row?.id ?? 0)
})

/** Tells how far an operation has come; says whether it may go on. */
export const advance = Effect.fnUntraced(function* (db: Db, id: number, progress: Progress) {
  const now = yield* db.now
  const rows = yield* db.statement(db.sql<{ readonly stop_requested: boolean }>`
    UPDATE ${auditOf(db)}
    SET progress = ${JSON.stringify(progress)}::text::jsonb,
      beat_at = ${now}
    WHERE id = ${id}::bigint
      AND outcome IS NULL
    RETURNING stop_requested`)
  return rows[0]?.stop_requested === false
})

/** Ends an operation that has not ended. */
export const finish = Effect.fnUntraced(function* (
  db: Db,
  id: number,
  end: { readonly outcome: string; readonly detail: string | undefined }
) {
  const now = yield* db.now
  yield* db.statement(db.sql`
    UPDATE ${auditOf(db)}
    SET outcome = ${end.outcome}::text,
      detail = ${end.detail ?? null}::text,
      finished_at = ${now}
    WHERE id = ${id}::bigint
      AND outcome IS NULL`)
})

/** Asks whoever runs an operation to end it; false where it has ended or never was. */
export const stop = Effect.fnUntraced(function* (db: Db, id: number) {
  const rows = yield* db.statement(db.sql`
    UPDATE ${auditOf(db)}
    SET stop_requested = true
    WHERE id = ${id}::bigint
      AND outcome IS NULL
    RETURNING id`)
  return rows.length > 0
})

/** A page of entries, the newest first; of operations alone, or of all. */
export const list = Effect.fnUntraced(function* (
  db: Db,
  page: { readonly before: number; readonly limit: number; readonly operations: boolean }
) {
  const { sql } = db
  const now = yield* db.now
  return yield* sql<AuditColumns>`
    SELECT id, at, actor, action, subject, outcome, detail, progress, finished_at,
      outcome IS NULL AND beat_at < ${now} - interval '1 minute' AS lost
    FROM ${auditOf(db)}
    WHERE id < ${page.before}::bigint
      ${page.operations ? sql`AND progress IS NOT NULL` : sql``}
    ORDER BY id DESC
    LIMIT ${page.limit}::integer`
})

/** Deletes entries past their retention, by the index audit_at; says how many. */
export const prune = Effect.fnUntraced(function* (db: Db) {
  const now = yield* db.now
  const rows = yield* db.statement(db.sql`
    DELETE FROM ${auditOf(db)}
    WHERE id IN (
      SELECT id
      FROM ${auditOf(db)}
      WHERE at < ${now} - ${retentionDays}::float8 * interval '1 day'
      ORDER BY at
      LIMIT ${db.sql.literal(String(pruneLimit))}
    )
    RETURNING id`)
  return rows.length
})

// internal

const auditOf = (db: Db) => db.sql(`${db.schema}.audit`)
