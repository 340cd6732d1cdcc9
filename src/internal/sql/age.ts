/**
 * The order of a queue in which a wait counts as priority: that of `run_at - priority * millis`.
 *
 * A job's aged priority is `priority + (now - run_at) / millis`, so that order is the same at every instant, and nothing
 * is rewritten as jobs age. Within one priority it is the order of the index jobs_claim, so only the first jobs of each
 * priority are looked at, however many wait; which priorities there are is found by skipping from one to the next.
 */
import type { Fragment } from "effect/sql/Statement"
import type { Db } from "./db.ts"
import { type Asker, isLive, isPaused, isRemoved, isWaiting } from "./eligible.ts"

/** The first candidates of a claim; of each priority as many are locked as are among the first of all. `except` leaves some out. */
export const byAge = (db: Db, asker: Asker, limit: number, millis: number, except: Fragment): Fragment => {
  const { sql } = db
  const age = sql`extract(epoch FROM j.run_at)::float8 * 1000 + j.rank::float8 * ${millis}::float8`
  const allowed = sql`${isWaiting(db, asker)}
          ${except}
          AND j.rank = share.rank
          AND ${isLive(db, asker)}
          AND NOT ${isPaused(db, asker)}
          AND NOT ${isRemoved(db, asker)}`
  return sql`
    WITH RECURSIVE ${ranksOf(db, asker.queue)},
    share AS MATERIALIZED (
      SELECT oldest.rank, count(*) AS places
      FROM (
        SELECT j.rank
        FROM ranks AS share
        CROSS JOIN LATERAL (
          SELECT j.rank, j.run_at, j.id
          FROM ${db.jobs} AS j
          WHERE ${allowed}
          ORDER BY j.queue, j.rank, j.run_at, j.id
          LIMIT ${limit}::integer
        ) AS j
        ORDER BY ${age}, j.id
        LIMIT ${limit}::integer
      ) AS oldest
      GROUP BY oldest.rank
    )
    SELECT j.id, j.worker, ${age} AS rank, j.run_at
    FROM share
    CROSS JOIN LATERAL (
      SELECT j.id, j.worker, j.rank, j.run_at
      FROM ${db.jobs} AS j
      WHERE ${allowed}
      ORDER BY j.queue, j.rank, j.run_at, j.id
      LIMIT share.places
      FOR UPDATE OF j SKIP LOCKED
    ) AS j`
}

/** How many jobs come before one in that order, up to a limit. */
export const aheadByAge = (
  db: Db,
  job: { readonly queue: string; readonly priority: number; readonly run_at: Date; readonly id: bigint },
  millis: number,
  limit: number
): Fragment => {
  const { sql } = db
  return sql`
    WITH RECURSIVE ${ranksOf(db, sql`${job.queue}::text`)}
    SELECT count(*)::integer AS count
    FROM (
      SELECT
      FROM ranks
      CROSS JOIN LATERAL (
        SELECT
        FROM ${db.jobs} AS j
        WHERE j.queue = ${job.queue}
          AND j.state = 'available'
          AND j.rank = ranks.rank
          AND (j.run_at, j.id) < (
            ${job.run_at}::timestamptz(3)
              + (${~job.priority}::float8 - ranks.rank) * ${millis}::float8 * interval '1 millisecond',
            ${job.id}::bigint
          )
        LIMIT ${limit}::integer
      ) AS j
      LIMIT ${limit}::integer
    ) AS ahead`
}

// internal

/** The ranks of a queue's available jobs: one probe of the index for each, and one that finds no more. */
const ranksOf = (db: Db, queue: Fragment): Fragment => {
  const { sql } = db
  const next = (above: Fragment) => sql`
        SELECT j.rank
        FROM ${db.jobs} AS j
        WHERE j.queue = ${queue}
          AND j.state = 'available'
          ${above}
        ORDER BY j.queue, j.rank
        LIMIT 1`
  return sql`ranks AS (
      (${next(sql``)})
      UNION ALL
      SELECT (${next(sql`AND j.rank > ranks.rank`)})
      FROM ranks
      WHERE ranks.rank IS NOT NULL
    )`
}
