/**
 * Batches: a row of counters that changes in the transaction that ends its members.
 *
 * Rows are locked by falling id. A nested batch is younger than the one that it is in, so going up keeps that order.
 */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { BatchId, JobId, JobState } from "../../JobRow.ts"
import { BatchClosed, BatchNotFound } from "../../ShigotoError.ts"
import type { Place } from "../envelope.ts"
import type { Aftermath, BatchSummary, NewJob, Occasion } from "../newJob.ts"
import { keptMillis } from "./archive.ts"
import { array, type Db, ids, oid } from "./db.ts"
import { insert, told } from "./enqueue.ts"
import { jobId } from "./row.ts"
import { open, openText, revived, sealText, seals } from "./seal.ts"
import { nameIn } from "./quote.ts"

/** The terminal states of members. */
export type End = "completed" | "discarded" | "cancelled"

/** What happens to the counters of one batch. */
export interface Delta {
  /** New members that only an open batch takes. */
  joining: number
  /** Members that a member of it has added. */
  grown: number
  /** Members that have ended; negative for those that live again. */
  completed: number
  discarded: number
  cancelled: number
}

/** Changes of counters by batch. */
export type Deltas = Map<BatchId, Delta>

/** The change of a batch, to be added to. */
export const deltaOf = (deltas: Deltas, id: BatchId): Delta => {
  const known = deltas.get(id)
  if (known !== undefined) return known
  const delta: Delta = { joining: 0, grown: 0, completed: 0, discarded: 0, cancelled: 0 }
  deltas.set(id, delta)
  return delta
}

/** A batch to create. */
export interface NewBatch {
  readonly name: string
  /** JSON text of a flow's input. */
  readonly input?: string | undefined
  readonly parent?: BatchId | undefined
  readonly sealed: boolean
  readonly callbacks: Callbacks
}

/** The jobs to insert, by occasion. */
export type Callbacks = { readonly [K in Occasion]?: NewJob | undefined }

/** A batch as stored. */
export interface BatchRow extends BatchSummary {
  readonly parent: BatchId | undefined
  readonly sealed: boolean
  readonly finished: boolean
  readonly input: unknown
  /** The callback jobs that were inserted. */
  readonly fired: { readonly [K in Occasion]?: JobId }
}

/** What changed counters brought about. */
export interface Tallied {
  readonly inserted: Aftermath["inserted"]
  readonly finished: ReadonlyArray<BatchSummary>
}

/** The place of a callback's args. */
export const callbackOf = (id: number, occasion: string): Place => ({ field: "callback", of: `${id}/${occasion}` })

/** Creates a batch without members, and counts it in the one that it is nested in. */
export const create = Effect.fnUntraced(function* (db: Db, batch: NewBatch) {
  const { sql } = db
  const now = yield* db.now
  const sequence = sql`nextval(${nameIn(db.schema, "batches_id_seq")}::text::regclass)`
  // What is encrypted is bound to its row, so that its id has to be known before.
  const [drawn] = db.cipher === undefined ? [] : yield* sql<{ readonly id: bigint }>`SELECT ${sequence} AS id`
  const place = batchId(drawn?.id ?? 0n)
  const input = batch.input === undefined ? null : yield* sealText(db, batch.input, { field: "input", of: place })
  const callbacks: { [K in Occasion]?: NewJob } = {}
  for (const occasion of ["finished", "succeeded", "failed"] as const) {
    const job = batch.callbacks[occasion]
    if (job === undefined) continue
    callbacks[occasion] = { ...job, args: yield* sealText(db, job.args, callbackOf(place, occasion), seals(db, job)) }
  }
  const [row] = yield* sql<{ readonly id: bigint }>`
    INSERT INTO ${batchesOf(db)} (id, name, parent_id, input, inserted_at, callbacks)
    OVERRIDING SYSTEM VALUE
    VALUES (
      coalesce(${drawn?.id ?? null}::bigint, ${sequence}), ${batch.name}, ${batch.parent ?? null}::bigint, ${input}::text::jsonb, ${now},
      ${JSON.stringify(callbacks)}::text::jsonb
    )
    RETURNING id`
  return batchId(row?.id ?? 0n)
})

/**
 * Changes counters, and inserts the callbacks of batches that have come to their occasion, each at most once.
 *
 * All rows that may change are locked before any is read, with the batches that they are in; what they become is
 * computed from what was locked. `seal` closes batches beside that.
 */
export const tally = Effect.fnUntraced(function* (
  db: Db,
  deltas: Deltas,
  seal: ReadonlySet<BatchId> = new Set()
): Effect.fn.Return<Tallied, SqlError | BatchClosed | BatchNotFound> {
  const { sql } = db
  if (deltas.size === 0) return { inserted: [], finished: [] }
  const now = yield* db.now
  const rows = yield* sql<BatchColumns>`
    SELECT *
    FROM ${batchesOf(db)}
    WHERE id IN (
      WITH RECURSIVE above AS (
        SELECT b.id, b.parent_id
        FROM ${batchesOf(db)} AS b
        WHERE b.id = ANY(${ids([...deltas.keys()])}::bigint[])
        UNION
        SELECT b.id, b.parent_id
        FROM ${batchesOf(db)} AS b
        JOIN above
          ON above.parent_id = b.id
      )
      SELECT id FROM above
    )
    ORDER BY id DESC
    FOR UPDATE`
  const found = new Set(rows.map((row) => batchId(row.id)))
  for (const [id, delta] of deltas) {
    // The end of a member is nobody's fault: a batch that was pruned meanwhile is just no longer counted.
    if (!found.has(id) && (delta.joining > 0 || seal.has(id))) return yield* missing(id)
  }
  const changed: Array<Changed> = []
  const calls: Array<{ readonly to: Changed; readonly occasion: Occasion; readonly job: NewJob }> = []
  for (const row of rows) {
    const id = batchId(row.id)
    const delta = deltas.get(id)
    if (delta === undefined) continue
    if (delta.joining > 0 && row.sealed_at !== null) return yield* closed(id, row)
    const added = delta.joining + delta.grown
    const next: Changed = {
      id,
      row,
      total: row.total + added,
      pending: row.pending + added - delta.completed - delta.discarded - delta.cancelled,
      completed: row.completed + delta.completed,
      discarded: row.discarded + delta.discarded,
      cancelled: row.cancelled + delta.cancelled,
      seals: seal.has(id) && row.sealed_at === null,
      finished:
        (row.sealed_at !== null || seal.has(id)) &&
        row.pending + added - delta.completed - delta.discarded - delta.cancelled <= 0,
      fired: { ...row.fired }
    }
    changed.push(next)
    const failed = next.discarded + next.cancelled > 0
    const due: Record<Occasion, boolean> = {
      failed,
      succeeded: next.finished && !failed,
      finished: next.finished
    }
    for (const occasion of ["failed", "succeeded", "finished"] as const) {
      const job = row.callbacks[occasion]
      if (due[occasion] && job !== undefined && row.fired[occasion] === undefined)
        calls.push({ to: next, occasion, job })
    }
    const before = row.finished_at === null ? undefined : summaryOf(columnsOf(row)).outcome
    const after = next.finished ? summaryOf(next).outcome : undefined
    if (before === after || row.parent_id === null) continue
    // Its end is the end of a member one level up, and a new life of it a new life there.
    const above = deltaOf(deltas, batchId(row.parent_id))
    if (before !== undefined) above[before]--
    if (after !== undefined) above[after]++
  }
  const callbacks = yield* Effect.forEach(calls, ({ job, occasion, to }) =>
    Effect.map(openText(db, job.args, callbackOf(to.id, occasion)), ({ args, encrypted, unreadable }) => ({
      ...revived(job),
      args,
      encrypted,
      sealed: unreadable !== undefined,
      meta: withSummary(job.meta, summaryOf(to))
    }))
  )
  const inserted = yield* insert(db, callbacks)
  for (const [i, call] of calls.entries()) call.to.fired[call.occasion] = inserted[i]?.id
  yield* sql`
    UPDATE ${batchesOf(db)} AS b
    SET total = c.total,
      pending = c.pending,
      completed = c.completed,
      discarded = c.discarded,
      cancelled = c.cancelled,
      sealed_at = CASE WHEN c.seals THEN ${now} ELSE b.sealed_at END,
      finished_at = CASE WHEN c.finished THEN coalesce(b.finished_at, ${now}) END,
      fired = c.fired
    FROM unnest(
      ${ids(changed.map((batch) => batch.id))}::bigint[],
      ${numbers(changed.map((batch) => batch.total))}::integer[],
      ${numbers(changed.map((batch) => batch.pending))}::integer[],
      ${numbers(changed.map((batch) => batch.completed))}::integer[],
      ${numbers(changed.map((batch) => batch.discarded))}::integer[],
      ${numbers(changed.map((batch) => batch.cancelled))}::integer[],
      ${array(
        changed.map((batch) => batch.seals),
        oid.bool
      )}::boolean[],
      ${array(
        changed.map((batch) => batch.finished),
        oid.bool
      )}::boolean[],
      ${array(
        changed.map((batch) => JSON.stringify(batch.fired)),
        oid.text
      )}::text[]::jsonb[]
    ) AS c (id, total, pending, completed, discarded, cancelled, seals, finished, fired)
    WHERE b.id = c.id`
  return {
    inserted: inserted.map((row, i) => told(row, calls[i]?.job as NewJob)), // one row for each
    finished: changed.filter((batch) => batch.finished && batch.row.finished_at === null).map(summaryOf)
  }
})

/** One batch. */
export const get = Effect.fnUntraced(function* (db: Db, id: BatchId): Effect.fn.Return<BatchRow | undefined, SqlError> {
  const [row] = yield* db.sql<BatchColumns>`
    SELECT *
    FROM ${batchesOf(db)}
    WHERE id = ${id}::bigint`
  if (row === undefined) return undefined
  return {
    ...summaryOf(columnsOf(row)),
    parent: row.parent_id === null ? undefined : batchId(row.parent_id),
    sealed: row.sealed_at !== null,
    finished: row.finished_at !== null,
    input: yield* open(db, row.input ?? undefined, { field: "input", of: id }, false),
    fired: row.fired
  }
})

/** Which batches to read. */
export interface BatchPage {
  /** Only those below this id. */
  readonly before: number | undefined
  /** Only those that have, or have not, finished. */
  readonly finished: boolean | undefined
  readonly limit: number
}

/** A page of batches by falling id; without their inputs, which may be large. */
export const list = Effect.fnUntraced(function* (db: Db, page: BatchPage) {
  const { sql } = db
  const rows = yield* sql<Omit<BatchColumns, "input" | "callbacks">>`
    SELECT id, parent_id, name, total, pending, completed, discarded, cancelled, sealed_at, finished_at, fired
    FROM ${batchesOf(db)}
    WHERE (${page.before ?? null}::bigint IS NULL OR id < ${page.before ?? null}::bigint)
      AND (${page.finished ?? null}::boolean IS NULL OR (finished_at IS NOT NULL) = ${page.finished ?? null}::boolean)
    ORDER BY id DESC
    LIMIT ${page.limit}::integer`
  return rows.map((row) => {
    const columns = { ...row, input: undefined, callbacks: {} }
    return {
      ...summaryOf(columnsOf(columns)),
      parent: row.parent_id === null ? undefined : batchId(row.parent_id),
      sealed: row.sealed_at !== null,
      finished: row.finished_at !== null,
      fired: row.fired
    }
  })
})

/** A page of a batch's members by rising id. */
export const members = Effect.fnUntraced(function* (
  db: Db,
  page: {
    readonly batch: BatchId
    readonly states: ReadonlyArray<JobState>
    readonly after: number
    readonly limit: number
  }
) {
  const rows = yield* db.sql<{
    readonly id: bigint
    readonly state: JobState
    readonly step: string | null
    readonly links: number
  }>`
    SELECT id, state, step, links
    FROM ${db.allJobs}
    WHERE batch_id = ${page.batch}::bigint
      AND id > ${page.after}::bigint
      AND state = ANY(${array(page.states, oid.text)}::text[])
    ORDER BY id
    LIMIT ${page.limit}::integer`
  return rows.map((row) => ({
    id: jobId(row.id),
    state: row.state,
    step: row.step ?? undefined,
    links: row.links
  }))
})

/** How many members are looked at to tell how fast a batch goes. */
const paceDepth = 1000

/** How many members of a batch have ended, of the last by their id, and since when these end, in milliseconds. */
export const pace = Effect.fnUntraced(function* (db: Db, id: BatchId) {
  const now = yield* db.now
  const [row] = yield* db.sql<{ readonly ended: number; readonly millis: number }>`
    SELECT count(*)::integer AS ended,
      coalesce(extract(epoch FROM ${now} - min(finished_at)) * 1000, 0)::float8 AS millis
    FROM (
      SELECT finished_at
      FROM ${db.archive}
      WHERE batch_id = ${id}::bigint
      ORDER BY id DESC
      LIMIT ${paceDepth}::integer
    ) AS last`
  return row ?? { ended: 0, millis: 0 }
})

/** The batches nested in one. */
export const nested = Effect.fnUntraced(function* (db: Db, id: BatchId) {
  const rows = yield* db.sql<{ readonly id: bigint }>`
    SELECT id
    FROM ${batchesOf(db)}
    WHERE parent_id = ${id}::bigint
    ORDER BY id`
  return rows.map((row) => batchId(row.id))
})

/** Forgets batches that finished longer ago than any job is kept and that nothing points to; at most 1,000 at a time. */
export const prune = Effect.fnUntraced(function* (db: Db) {
  const now = yield* db.now
  const rows = yield* db.statement(db.sql`
    DELETE FROM ${batchesOf(db)}
    WHERE id IN (
      SELECT b.id
      FROM ${batchesOf(db)} AS b
      WHERE b.finished_at < ${now} - greatest(
        ${keptMillis(db, "completed", now)},
        ${keptMillis(db, "discarded", now)},
        ${keptMillis(db, "cancelled", now)}
      ) * interval '1 millisecond'
        AND b.finished_at < ${now} - interval '1 day'
        AND NOT EXISTS (SELECT FROM ${db.jobs} AS j WHERE j.batch_id = b.id)
        AND NOT EXISTS (SELECT FROM ${batchesOf(db)} AS n WHERE n.parent_id = b.id)
      ORDER BY b.finished_at
      LIMIT 1000
    )
    RETURNING id`)
  return rows.length
})

/** An id as the driver gives it. */
export const batchId = (id: bigint | number): BatchId => Number(id) as BatchId // an id, under its brand

// internal

interface BatchColumns {
  readonly id: bigint
  readonly parent_id: bigint | null
  readonly name: string
  readonly input: unknown
  readonly total: number
  readonly pending: number
  readonly completed: number
  readonly discarded: number
  readonly cancelled: number
  readonly sealed_at: Date | null
  readonly finished_at: Date | null
  readonly callbacks: Callbacks
  readonly fired: BatchRow["fired"]
}

interface Counted {
  readonly id: BatchId
  readonly row: BatchColumns
  readonly total: number
  readonly pending: number
  readonly completed: number
  readonly discarded: number
  readonly cancelled: number
}

interface Changed extends Counted {
  readonly seals: boolean
  readonly finished: boolean
  readonly fired: { [K in Occasion]?: JobId | undefined }
}

const batchesOf = (db: Db) => db.sql(`${db.schema}.batches`)

const numbers = (values: ReadonlyArray<number>) => array(values, oid.int4)

const columnsOf = (row: BatchColumns): Counted => ({ ...row, id: batchId(row.id), row })

const summaryOf = (batch: Counted): BatchSummary => ({
  id: batch.id,
  name: batch.row.name,
  total: batch.total,
  pending: batch.pending,
  completed: batch.completed,
  discarded: batch.discarded,
  cancelled: batch.cancelled,
  outcome: batch.discarded > 0 ? "discarded" : batch.cancelled > 0 ? "cancelled" : "completed"
})

const withSummary = (meta: string | undefined, summary: BatchSummary): string =>
  JSON.stringify({ ...(meta === undefined ? {} : (JSON.parse(meta) as object)), batch: summary }) // as it was stored

const missing = (id: BatchId): BatchNotFound =>
  new BatchNotFound({ batch: String(id), message: `There is no batch ${id}.` })

const closed = (id: BatchId, row: BatchColumns): BatchClosed =>
  new BatchClosed({
    batch: String(id),
    message: `The batch ${id} ("${row.name}") was sealed: it takes no more members. Add them before it is sealed.`
  })
