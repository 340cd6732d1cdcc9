/** The lease of a node: taken at boot, renewed, given up last. */
import * as Effect from "effect/Effect"
import type { JobRef } from "../../JobEvent.ts"
import { merge, nothing } from "../newJob.ts"
import { cancel } from "./cancel.ts"
import { array, type Db, ids, oid } from "./db.ts"
import type { Governed } from "./limit.ts"
import { jobId } from "./row.ts"
import { openReason } from "./seal.ts"

/** What a node tells of itself with each renewal. */
export interface Published {
  readonly workers: ReadonlyArray<string>
  readonly queues: ReadonlyArray<{ readonly name: string; readonly concurrency: number }>
  /** Its workers whose circuit is open. */
  readonly broken: ReadonlyArray<string>
  /** How many attempts may run on it, over all queues; undefined or Infinity for what the queues allow. */
  readonly capacity?: number | undefined
  /** Below which priority it claims nothing, since jobs wait too long; undefined for none. */
  readonly shedBelow?: number | undefined
  /** How many attempts of a worker may run on it, of those for which that is less than its queues allow. */
  readonly places?: ReadonlyArray<{ readonly worker: string; readonly places: number }>
  /** What limits its workers over all nodes. */
  readonly limits: ReadonlyArray<Governed>
  /** The longest that its event loop was late since the renewal before, in whole milliseconds. */
  readonly lagMillis: number
  /** Whether it hears notifications. */
  readonly listening: boolean
}

/** Makes a row for a new incarnation and returns its number. */
export const register = Effect.fnUntraced(function* (
  db: Db,
  node: {
    readonly name: string
    readonly ttlMillis: number
    /** The queues whose jobs every node runs, as it is configured. */
    readonly broadcasts: ReadonlyArray<string>
  }
) {
  const now = yield* db.now
  const [row] = yield* db.sql<{ readonly id: number }>`
    INSERT INTO ${db.nodes} (name, started_at, beat_at, expires_at, ttl_millis, retention, broadcasts)
    VALUES (
      ${node.name}, ${now}, ${now},
      ${now} + ${node.ttlMillis}::float8 * interval '1 millisecond',
      ${node.ttlMillis}::integer,
      ${JSON.stringify(db.retention)}::text::jsonb,
      ${node.broadcasts.length === 0 ? null : array(node.broadcasts, oid.text)}::text[]
    )
    RETURNING id`
  return row?.id ?? 0
})

/** What a renewal found. */
export interface Renewal {
  /** Whether the lease is live; where not it has run out, and with it the incarnation. */
  readonly isLive: boolean
  /** How many live nodes hear of each queue of this one, without it, in the order in which it published them. */
  readonly others: ReadonlyArray<number>
}

/** Renews a live lease. */
export const renew = Effect.fnUntraced(function* (db: Db, node: { readonly id: number } & Published) {
  const now = yield* db.now
  const [row] = yield* db.statement(db.sql<{ readonly others: ReadonlyArray<number> }>`
    UPDATE ${db.nodes} AS own
    SET beat_at = ${now},
      expires_at = ${now} + ttl_millis * interval '1 millisecond',
      lag_millis = ${node.lagMillis}::integer,
      listening = ${node.listening}::boolean,
      workers = ${array(node.workers, oid.text)}::text[],
      queues = ${array(
        node.queues.map((queue) => queue.name),
        oid.text
      )}::text[],
      slots = ${array(
        node.queues.map((queue) => queue.concurrency),
        oid.int4
      )}::integer[],
      limits = ${JSON.stringify(node.limits)}::text::jsonb,
      broken = ${array(node.broken, oid.text)}::text[],
      capacity = ${node.capacity === Infinity ? null : (node.capacity ?? null)}::integer,
      shed_below = ${node.shedBelow ?? null}::smallint,
      places = ${JSON.stringify(Object.fromEntries((node.places ?? []).map((one) => [one.worker, one.places])))}::text::jsonb
    WHERE id = ${node.id}::integer
      AND expires_at > ${now}
    RETURNING ARRAY(
      SELECT count(other.queue)::integer
      FROM unnest(own.queues) WITH ORDINALITY AS mine (queue, position)
      LEFT JOIN (
        SELECT unnest(n.queues) AS queue
        FROM ${db.nodes} AS n
        WHERE n.id <> ${node.id}::integer
          AND n.listening
          AND n.expires_at > ${now}
      ) AS other ON other.queue = mine.queue
      GROUP BY mine.position
      ORDER BY mine.position
    ) AS others`)
  return { isLive: row !== undefined, others: row?.others ?? [] } satisfies Renewal
})

/** A job that ended as it was given back: it was to be cancelled. */
export interface CancelledInstead extends JobRef {
  readonly attempt: number
  readonly reason: string | undefined
}

/**
 * Gives back jobs that the database thinks this node holds but that it does not know: their claim's reply was lost.
 *
 * The epoch rises, so that a late reply cannot start them; the attempt is given back, since it never started. One that
 * is to be cancelled ends here: its holder never knew of it, and the next one would start it first.
 */
export const reconcile = (
  db: Db,
  node: { readonly id: number; readonly known: ReadonlyArray<number>; readonly graceMillis: number }
) =>
  db.transaction(
    Effect.gen(function* () {
      const rows = yield* giveBack(db, node)
      const cancelled: Array<CancelledInstead> = []
      let aftermath = nothing
      for (const row of rows) {
        if (!row.cancelled) continue
        const id = jobId(row.id)
        const reason = yield* openReason(db, id, row.cancel_reason)
        const told = yield* cancel(db, id, reason)
        if (told._tag !== "Cancelled") continue
        cancelled.push({ id, worker: told.worker, queue: told.queue, attempt: told.attempt, reason })
        aftermath = merge(aftermath, told.aftermath)
      }
      return { given: rows.map((row) => jobId(row.id)), cancelled, aftermath }
    })
  )

/** Ends a lease and, where no job is left under it, removes its row. */
export const retire = Effect.fnUntraced(function* (db: Db, id: number) {
  const now = yield* db.now
  yield* db.statement(db.sql`
    UPDATE ${db.nodes}
    SET expires_at = ${now}
    WHERE id = ${id}::integer
      AND expires_at > ${now}`)
  yield* sweep(db)
})

/** Removes the rows of dead nodes that hold no job any more. */
export const sweep = Effect.fnUntraced(function* (db: Db) {
  const now = yield* db.now
  yield* db.statement(db.sql`
    DELETE FROM ${db.nodes} AS n
    WHERE n.expires_at <= ${now}
      AND NOT EXISTS (
        SELECT FROM ${db.jobs} AS j
        WHERE j.claimed_by = n.id
          AND j.state = 'executing'
      )`)
})

/** The rows of nodes, those with a live lease first. */
export const list = Effect.fnUntraced(function* (db: Db) {
  const now = yield* db.now
  return yield* db.sql<NodeColumns>`
    SELECT n.id, n.name, n.started_at, n.beat_at, n.expires_at, n.ttl_millis, n.lag_millis, n.listening,
      n.workers, n.queues, n.slots,
      n.expires_at > ${now} AS live,
      (extract(epoch FROM ${now} - n.beat_at) * 1000)::float8 AS silent_millis,
      (
        SELECT count(*)::integer
        FROM ${db.jobs} AS j
        WHERE j.claimed_by = n.id
          AND j.state = 'executing'
      ) AS executing
    FROM ${db.nodes} AS n
    ORDER BY n.expires_at > ${now} DESC, n.name, n.id`
})

/** A row of `nodes` with what can be told of it. */
export interface NodeColumns {
  readonly id: number
  readonly name: string
  readonly started_at: Date
  readonly beat_at: Date
  readonly expires_at: Date
  readonly ttl_millis: number
  readonly lag_millis: number
  readonly listening: boolean
  readonly workers: ReadonlyArray<string>
  readonly queues: ReadonlyArray<string>
  readonly slots: ReadonlyArray<number>
  readonly live: boolean
  /** Milliseconds since its last renewal. */
  readonly silent_millis: number
  /** How many jobs it holds. */
  readonly executing: number
}

// internal

const giveBack = Effect.fnUntraced(function* (
  db: Db,
  node: { readonly id: number; readonly known: ReadonlyArray<number>; readonly graceMillis: number }
) {
  const now = yield* db.now
  return yield* db.sql<{ readonly id: bigint; readonly cancelled: boolean; readonly cancel_reason: unknown }>`
    WITH lost AS MATERIALIZED (
      SELECT id
      FROM ${db.jobs}
      WHERE claimed_by = ${node.id}::integer
        AND state = 'executing'
        AND NOT (id = ANY(${ids(node.known)}::bigint[]))
        AND claimed_at <= ${now} - ${node.graceMillis}::float8 * interval '1 millisecond'
      ORDER BY id
      FOR UPDATE SKIP LOCKED
    )
    UPDATE ${db.jobs} AS j
    SET state = 'available',
      claimed_by = NULL,
      epoch = j.epoch + 1,
      attempt = j.attempt - 1
    FROM lost
    WHERE j.id = lost.id
      AND j.state = 'executing'
      AND j.claimed_by = ${node.id}::integer
    RETURNING j.id, j.cancel_requested_at IS NOT NULL AS cancelled, j.cancel_reason`
})
