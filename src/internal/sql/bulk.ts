/**
 * Cancels, retries and deletes many jobs: found a bounded window at a time, changed a chunk to a transaction.
 *
 * What was found is asked for again under the lock of its row, so that a job that has moved on meanwhile stays as it is.
 * A chunk leaves alone the rows that others hold; each of those is then waited for by itself, in a transaction that
 * holds no other, so that nobody waits in a circle.
 */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { Fragment } from "effect/sql/Statement"
import type { Checked } from "../../Filter.ts"
import type { JobId } from "../../JobRow.ts"
import { type Aftermath, nothing } from "../newJob.ts"
import { archivedColumns, keptStates } from "./archive.ts"
import { batchId } from "./batch.ts"
import { conclude } from "./conclude.ts"
import { array, type Db, ids, oid } from "./db.ts"
import { dependenciesOf } from "./depend.ts"
import { matches, selective } from "./filter.ts"
import { restoredColumns, retry } from "./retry.ts"
import { jobId } from "./row.ts"
import { sealReason } from "./seal.ts"

/** The jobs of a chunk, and what they have to match still. */
export interface Chunk {
  readonly ids: ReadonlyArray<JobId>
  readonly filter: Checked
}

/** A job that was changed. */
export interface Touched {
  readonly id: JobId
  readonly worker: string
  readonly queue: string
  readonly attempt: number
}

/** What was done to a chunk. */
export interface Done {
  readonly changed: ReadonlyArray<Touched>
  /** The holders of running jobs, each as often as it was asked. */
  readonly asked: ReadonlyArray<{ readonly id: JobId; readonly node: number }>
  readonly aftermath: Aftermath
}

/** How many rows one look for jobs reads. */
export const windowSize = 20_000

/** The highest id so far. */
export const top = Effect.fnUntraced(function* (db: Db) {
  const [row] = yield* db.sql<{ readonly id: bigint }>`
    SELECT last_value AS id
    FROM ${db.sql(`${db.schema}.jobs_id_seq`)}`
  return Number(row?.id ?? 0)
})

/** The matching jobs in the next window below an id, by falling id, and where the window after it begins. */
export const find = Effect.fnUntraced(function* (db: Db, filter: Checked, below: number) {
  const { sql } = db
  const now = yield* db.now
  const [row] = yield* sql<{
    readonly ids: ReadonlyArray<bigint> | null
    readonly last: bigint | null
    readonly more: boolean
  }>`
    WITH seen AS MATERIALIZED (
      SELECT id, (${matches(db, filter, now)}) AS met
      FROM ${db.allJobs}
      WHERE id < ${below}::bigint
        AND ${matches(db, selective(filter), now)}
      ORDER BY id DESC
      LIMIT ${sql.literal(String(windowSize))}
    )
    SELECT array_agg(id ORDER BY id DESC) FILTER (WHERE met) AS ids, min(id) AS last,
      count(*) = ${sql.literal(String(windowSize))} AS more
    FROM seen`
  return {
    ids: (row?.ids ?? []).map(jobId),
    below: Number(row?.last ?? 0),
    more: row?.more === true
  }
})

/** Those that match still, as far as others have committed. */
export const still = Effect.fnUntraced(function* (db: Db, chunk: Chunk) {
  const now = yield* db.now
  const rows = yield* db.sql<{ readonly id: bigint }>`
    SELECT id
    FROM ${db.allJobs}
    WHERE id = ANY(${ids(chunk.ids)}::bigint[])
      AND ${matches(db, chunk.filter, now)}`
  return new Set(rows.map((row) => jobId(row.id)))
})

/** Cancels those that wait, and asks the holders of those that run. */
export const cancel = (db: Db, chunk: Chunk, reason: string | undefined): Effect.Effect<Done, SqlError> =>
  db.transaction(
    Effect.gen(function* () {
      const { sql } = db
      const now = yield* db.now
      const archived = sql.literal(archivedColumns)
      // One text for all, unless each is bound to its job.
      const own = reason !== undefined && db.cipher !== undefined
      const texts = own ? yield* Effect.forEach(chunk.ids, (id) => sealReason(db, id, reason)) : []
      const common = own ? undefined : yield* sealReason(db, jobId(0), reason)
      const said = new Map(chunk.ids.map((id, i) => [id, texts[i] ?? common]))
      const rows = yield* sql<Row & { readonly claimed_by: number | null }>`
        WITH said AS MATERIALIZED (
          SELECT id, reason::jsonb AS reason
          FROM unnest(${ids(own ? chunk.ids : [])}::bigint[], ${array(texts, oid.text)}::text[]) AS s (id, reason)
        ),
        target AS MATERIALIZED (${locked(db, chunk, now, "live")}),
        gone AS (
          DELETE FROM ${db.jobs} AS j
          USING target
          WHERE j.id = target.id
            AND j.state IN ('scheduled', 'blocked', 'available', 'retryable')
          RETURNING j.*
        ),
        archived AS (
          INSERT INTO ${db.archive}
            (${archived}, links, epoch, finished_at, state, errors, fingerprint, cancel_reason)
          SELECT ${archived}, gone.links, gone.epoch, ${now}, 'cancelled', gone.errors, gone.fingerprint,
            coalesce((SELECT said.reason FROM said WHERE said.id = gone.id), ${common ?? null}::text::jsonb)
          FROM gone
          WHERE 'cancelled' = ANY(${array(keptStates(db), oid.text)}::text[])
        ),
        asked AS (
          UPDATE ${db.jobs} AS j
          SET cancel_requested_at = coalesce(j.cancel_requested_at, ${now}),
            cancel_reason = coalesce(
              j.cancel_reason,
              (SELECT said.reason FROM said WHERE said.id = j.id),
              ${common ?? null}::text::jsonb
            )
          FROM target
          WHERE j.id = target.id
            AND j.state = 'executing'
          RETURNING j.id, j.worker, j.queue, j.attempt, j.links, j.batch_id, j.claimed_by
        )
        SELECT id, worker, queue, attempt, links, batch_id, NULL::integer AS claimed_by
        FROM gone
        UNION ALL
        SELECT id, worker, queue, attempt, links, batch_id, claimed_by
        FROM asked`
      const gone = rows.filter((row) => row.claimed_by === null)
      return {
        changed: gone.map(touched),
        asked: rows.flatMap((row) => (row.claimed_by === null ? [] : [{ id: jobId(row.id), node: row.claimed_by }])),
        aftermath: yield* concludeCancelled(db, gone, (id) => said.get(id))
      }
    })
  )

/** Makes those available now that are tied to nothing; the others are left for {@link retryOne}. */
export const retryPlain = (db: Db, chunk: Chunk): Effect.Effect<Done, SqlError> =>
  db.transaction(retryingPlain(db, chunk))

/** Runs one job again as `retry` does, if it matches still. */
export const retryOne = (db: Db, id: JobId, filter: Checked): Effect.Effect<Done, SqlError> =>
  db.transaction(
    Effect.gen(function* () {
      const { sql } = db
      const now = yield* db.now
      const chunk = { ids: [id], filter }
      const held = [
        ...(yield* sql`${locked(db, chunk, now, "archive")}`),
        ...(yield* sql`${locked(db, chunk, now, "live")}`)
      ]
      const none: Done = { changed: [], asked: [], aftermath: nothing }
      if (held.length === 0) return none
      const retried = yield* retry(db, id)
      return retried._tag === "Retried"
        ? {
            ...none,
            changed: [{ id, worker: retried.worker, queue: retried.queue, attempt: 0 }],
            aftermath: retried.aftermath
          }
        : none
    })
  )

/**
 * Deletes those that have finished, and those that wait, which counts as a cancel for whom it concerns.
 *
 * Jobs that wait for a deleted one keep its result. A key that a finished job holds is given back.
 */
export const remove = (db: Db, chunk: Chunk): Effect.Effect<Done, SqlError> =>
  db.transaction(
    Effect.gen(function* () {
      const { sql } = db
      const now = yield* db.now
      const live = yield* sql<Row>`
        WITH target AS MATERIALIZED (${locked(db, chunk, now, "live", sql`AND state <> 'executing'`)})
        DELETE FROM ${db.jobs} AS j
        USING target
        WHERE j.id = target.id
          AND j.state <> 'executing'
        RETURNING j.id, j.worker, j.queue, j.attempt, j.links, j.batch_id`
      const finished = yield* sql<Row>`
        WITH target AS MATERIALIZED (${locked(db, chunk, now, "archive")}),
        gone AS (
          DELETE FROM ${db.archive} AS a
          USING target
          WHERE a.id = target.id
          RETURNING a.*
        ),
        handed AS (
          -- Whatever its mark says: jobs that came after its end are not told by it.
          UPDATE ${dependenciesOf(db)} AS d
          SET result = gone.result
          FROM gone
          WHERE d.parent_id = gone.id
            AND d.outcome = gone.state
            AND gone.result IS NOT NULL
        ),
        freed AS (
          DELETE FROM ${sql(`${db.schema}.unique_keys`)} AS u
          USING gone
          WHERE u.key = gone.unique_key
            AND u.job_id = gone.id
        )
        SELECT id, worker, queue, attempt, links, batch_id
        FROM gone`
      return {
        changed: [...live, ...finished].map(touched),
        asked: [],
        aftermath: yield* concludeCancelled(db, live, () => JSON.stringify("It was deleted."))
      }
    })
  )

// internal

interface Row {
  readonly id: bigint
  readonly worker: string
  readonly queue: string
  readonly attempt: number
  readonly links: number
  readonly batch_id: bigint | null
}

const retryingPlain = Effect.fnUntraced(function* (db: Db, chunk: Chunk): Effect.fn.Return<Done, SqlError> {
  const { sql } = db
  const now = yield* db.now
  const restored = sql.literal(restoredColumns)
  const rows = yield* sql<Row>`
    WITH target AS MATERIALIZED (${locked(db, chunk, now, "archive", sql`AND links = 0 AND unique_key IS NULL`)}),
    waiting AS MATERIALIZED (${locked(db, chunk, now, "live", sql`AND state IN ('scheduled', 'retryable')`)}),
    finished AS (
      DELETE FROM ${db.archive} AS a
      USING target
      WHERE a.id = target.id
      RETURNING a.*
    ),
    restored AS (
      INSERT INTO ${db.jobs} (${restored}, state, run_at, epoch, max_attempts)
      OVERRIDING SYSTEM VALUE
      SELECT ${restored}, 'available', ${now}, epoch + 1, greatest(max_attempts, attempt + 1)
      FROM finished
    ),
    hurried AS (
      UPDATE ${db.jobs} AS j
      SET state = 'available',
        run_at = ${now},
        epoch = j.epoch + 1,
        max_attempts = greatest(j.max_attempts, j.attempt + 1),
        start_before = NULL
      FROM waiting
      WHERE j.id = waiting.id
        AND j.state IN ('scheduled', 'retryable')
      RETURNING j.id, j.worker, j.queue, j.attempt, j.links, j.batch_id
    )
    SELECT id, worker, queue, attempt, links, batch_id
    FROM finished
    UNION ALL
    SELECT id, worker, queue, attempt, links, batch_id
    FROM hurried`
  return { changed: rows.map(touched), asked: [], aftermath: nothing }
})

const touched = ({ attempt, id, queue, worker }: Row): Touched => ({ id: jobId(id), worker, queue, attempt })

/** The ids that match still, locked by rising id; of several, those that nobody else holds. */
const locked = (db: Db, chunk: Chunk, now: Fragment, of: "live" | "archive", also: Fragment = db.sql``): Fragment => {
  const { sql } = db
  return sql`
      SELECT id
      FROM ${of === "live" ? db.jobs : db.archive}
      WHERE id = ANY(${ids(chunk.ids)}::bigint[])
        AND ${matches(db, chunk.filter, now, of === "live" ? "live" : "all")}
        ${also}
      ORDER BY id
      FOR UPDATE ${chunk.ids.length === 1 ? sql`` : sql`SKIP LOCKED`}`
}

const concludeCancelled = (db: Db, rows: ReadonlyArray<Row>, reasonOf: (id: JobId) => string | undefined) =>
  conclude(
    db,
    rows
      .map((row) => ({
        id: jobId(row.id),
        state: "cancelled" as const,
        links: row.links,
        batch: row.batch_id === null ? undefined : batchId(row.batch_id),
        reason: reasonOf(jobId(row.id))
      }))
      .toSorted((a, b) => a.id - b.id)
  )
