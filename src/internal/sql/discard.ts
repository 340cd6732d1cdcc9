/**
 * Jobs that were given up and whose worker has not been told: each waits for a node that has the worker.
 *
 * A note is made in the transaction that discards the job, with the job as it ended, so it is there whoever discards
 * and whatever the history keeps. It goes once the worker has been told; where the teller died before, another tells.
 */
import * as Effect from "effect/Effect"
import type { Fragment } from "effect/sql/Statement"
import type { JobId, JobRow } from "../../JobRow.ts"
import { appendFailure, keptMillis } from "./archive.ts"
import { array, type Db, ids, oid } from "./db.ts"
import { type JobColumns, jobId, jobRow } from "./row.ts"
import { openRow } from "./seal.ts"

/** A discard of a job: an operator may run the job again, to be discarded again. */
export interface Discard {
  readonly id: JobId
  readonly epoch: number
}

/** Who tells, and what it tells already. */
export interface Teller {
  readonly node: number
  readonly workers: ReadonlyArray<string>
  readonly telling: ReadonlyArray<Discard>
}

/** The most discards that one statement takes. */
export const tellLimit = 100

/**
 * A statement that notes those rows of `gone`, jobs that this deletes with their `final` state and `failure`, that are
 * discarded.
 */
export const noteDiscards = (db: Db, now: Fragment, epoch: "gone.epoch" | "gone.epoch + 1", which: Fragment) => db.sql`
      INSERT INTO ${notes(db)} (job_id, epoch, worker, at, job)
      SELECT gone.id, ${db.sql.literal(epoch)}, gone.worker, ${now}, to_jsonb(gone) || jsonb_build_object(
        'state', gone.final,
        'epoch', ${db.sql.literal(epoch)},
        'finished_at', ${now},
        'errors', ${appendFailure(db, "gone.errors", "gone.failure")},
        'fingerprint', gone.failure -> 'fingerprint'
      )
      FROM gone
      WHERE gone.final = 'discarded'
        ${which}
      ON CONFLICT DO NOTHING`

/** Whether a discard waits for a node that has one of these workers. */
export const isUntold = (db: Db, workers: ReadonlyArray<string>, now: Fragment) => db.sql`EXISTS (
        SELECT FROM ${notes(db)} AS d
        WHERE d.worker = ANY(${array(workers, oid.text)}::text[])
          AND ${isFree(db, now)}
      )`

/** Takes discards for a node to tell its workers of: those that nobody tells, and what it took and does not know. */
export const take = Effect.fnUntraced(function* (db: Db, { node, telling, workers }: Teller) {
  const now = yield* db.now
  const rows = yield* db.statement(db.sql<JobColumns>`
    WITH untold AS MATERIALIZED (
      SELECT d.job_id, d.epoch
      FROM ${notes(db)} AS d
      WHERE d.worker = ANY(${array(workers, oid.text)}::text[])
        AND (${isFree(db, now)} OR d.taken_by = ${node}::integer)
        AND NOT EXISTS (
          SELECT FROM unnest(
            ${ids(telling.map(({ id }) => id))}::bigint[],
            ${array(
              telling.map(({ epoch }) => epoch),
              oid.int4
            )}::integer[]
          ) AS told (id, epoch)
          WHERE told.id = d.job_id
            AND told.epoch = d.epoch
        )
      ORDER BY d.at, d.job_id, d.epoch
      LIMIT ${db.sql.literal(String(tellLimit))}
      FOR UPDATE SKIP LOCKED
    ),
    taken AS (
      UPDATE ${notes(db)} AS d
      SET taken_by = ${node}::integer
      FROM untold
      WHERE d.job_id = untold.job_id
        AND d.epoch = untold.epoch
      RETURNING d.job
    )
    SELECT job.*
    FROM taken
    CROSS JOIN LATERAL jsonb_populate_record(NULL::${db.allJobs}, taken.job) AS job`)
  return yield* Effect.forEach(rows, (row): Effect.Effect<JobRow> => openRow(db, jobRow(row)))
})

/** Forgets a discard that a worker has been told of. */
export const told = Effect.fnUntraced(function* (db: Db, { epoch, id }: Discard) {
  yield* db.statement(db.sql`
    DELETE FROM ${notes(db)}
    WHERE job_id = ${id}::bigint
      AND epoch = ${epoch}::integer`)
})

/** Forgets discards that no node with their worker has come for, after as long as discarded jobs are kept, or a week. */
export const prune = Effect.fnUntraced(function* (db: Db) {
  const now = yield* db.now
  const rows = yield* db.statement(db.sql<{ readonly id: bigint }>`
    DELETE FROM ${notes(db)}
    WHERE (job_id, epoch) IN (
      SELECT job_id, epoch
      FROM ${notes(db)}
      WHERE at < ${now} - greatest(${keptMillis(db, "discarded", now)} * interval '1 millisecond', interval '7 days')
      LIMIT 1000
      FOR UPDATE SKIP LOCKED
    )
    RETURNING job_id AS id`)
  return rows.map(({ id }) => jobId(id)).length
})

// internal

const notes = (db: Db) => db.sql(`${db.schema}.discards`)

const isFree = (db: Db, now: Fragment) => db.sql`(
            d.taken_by IS NULL
            OR NOT EXISTS (
              SELECT FROM ${db.nodes} AS n
              WHERE n.id = d.taken_by
                AND n.expires_at > ${now}
            )
          )`
