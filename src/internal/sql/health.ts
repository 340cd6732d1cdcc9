/** Reads how the whole stands, at a cost that does not grow with the number of jobs. */
import * as Effect from "effect/Effect"
import { type Db, oid, array } from "./db.ts"
import { nameIn } from "./quote.ts"

/** The most jobs counted of each kind, pairs of queue and priority read, and jobs looked at for their worker. */
export const countLimit = 10_000
const pairLimit = 1000
const headLimit = 100

/** How the jobs of one queue that wait for a slot stand. */
export interface QueueColumns {
  readonly queue: string
  /** Up to the limit. */
  readonly available: number
  /** Milliseconds that the one that waits longest has been due. */
  readonly oldest_millis: number
}

/**
 * Reads counts, queues and workers from the partial indexes of `jobs`, each up to a limit.
 *
 * Queues with work are found by jumping along jobs_claim from one (queue, rank) to the next, so a million jobs of one
 * queue cost one step; within a pair the first entry is the oldest. A worker that nobody has cannot be claimed, so its
 * jobs come to the head of their queue: it is enough to look there, and among what is due next.
 */
export const read = (db: Db) =>
  db.transaction(
    Effect.gen(function* () {
      const { sql } = db
      const now = yield* db.now
      yield* sql`SELECT set_config('statement_timeout', '2s', true)`
      const [counts] = yield* sql<CountColumns>`
        SELECT
          (SELECT count(*)::integer FROM (
            SELECT FROM ${db.jobs} WHERE state = 'available' LIMIT ${countLimit}::integer
          ) AS counted) AS available,
          (SELECT count(*)::integer FROM (
            SELECT FROM ${db.jobs} WHERE state = 'executing' LIMIT ${countLimit}::integer
          ) AS counted) AS executing,
          (SELECT count(*)::integer FROM (
            SELECT FROM ${db.jobs} WHERE state = 'blocked' LIMIT ${countLimit}::integer
          ) AS counted) AS blocked,
          (SELECT count(*)::integer FROM (
            SELECT FROM ${db.jobs} WHERE state IN ('scheduled', 'retryable') AND run_at > ${now}
            LIMIT ${countLimit}::integer
          ) AS counted) AS waiting,
          (SELECT count(*)::integer FROM (
            SELECT FROM ${db.jobs} WHERE state IN ('scheduled', 'retryable') AND run_at <= ${now}
            LIMIT ${countLimit}::integer
          ) AS counted) AS due,
          (SELECT count(*)::integer FROM (
            SELECT FROM ${db.jobs} AS j
            WHERE j.state = 'executing'
              AND j.claimed_by IS NOT NULL
              AND NOT EXISTS (SELECT FROM ${db.nodes} AS n WHERE n.id = j.claimed_by AND n.expires_at > ${now})
            LIMIT ${countLimit}::integer
          ) AS counted) AS stale,
          greatest((SELECT reltuples FROM pg_class WHERE oid = ${nameIn(db.schema, "jobs")}::text::regclass), 0)::float8
            AS estimate`
      const heads = yield* readHeads(db)
      const next = yield* sql<{ readonly worker: string }>`
        SELECT DISTINCT soon.worker
        FROM (
          SELECT worker
          FROM ${db.jobs}
          WHERE state IN ('scheduled', 'retryable')
          ORDER BY run_at, id
          LIMIT ${headLimit}::integer
        ) AS soon`
      return {
        counts: counts ?? { available: 0, executing: 0, blocked: 0, waiting: 0, due: 0, stale: 0, estimate: 0 },
        queues: heads.map(({ available, oldest_millis, queue }) => ({ queue, available, oldest_millis })),
        workers: [...new Set([...heads.flatMap((head) => head.workers), ...next.map((row) => row.worker)])].toSorted()
      }
    })
  )

/** How many jobs there are of each kind, each up to the limit; `estimate` is the planner's idea of all live ones. */
export interface CountColumns {
  readonly available: number
  readonly executing: number
  readonly blocked: number
  readonly waiting: number
  /** Due and not yet made available. */
  readonly due: number
  /** Held by nodes whose lease has run out. */
  readonly stale: number
  readonly estimate: number
}

/** What the server says of itself, and of what holds back its vacuum. */
export interface ServerColumns {
  readonly version: string
  /** From 0 to 1. */
  readonly notification_usage: number
  readonly dead_rows: number
  /** Seconds; null where there is none, or where it may not be seen. */
  readonly oldest_transaction: number | null
  readonly oldest_pid: number | null
  readonly oldest_what: string | null
}

/**
 * Reads what the server says of itself.
 *
 * A transaction holds back vacuum while it has a snapshot. A role without pg_read_all_stats sees when transactions of
 * other roles began as null; such ones are not counted.
 */
export const server = Effect.fnUntraced(function* (db: Db) {
  const [row] = yield* db.sql<ServerColumns>`
    WITH holder AS (
      SELECT a.pid, a.xact_start AS since,
        coalesce(nullif(a.application_name, ''), a.usename, a.backend_type) AS what
      FROM pg_stat_activity AS a
      WHERE a.backend_xmin IS NOT NULL
        AND a.xact_start IS NOT NULL
        AND a.pid <> pg_backend_pid()
        AND (a.datname = current_database() OR a.datname IS NULL)
      UNION ALL
      SELECT NULL, p.prepared, 'prepared transaction ' || p.gid
      FROM pg_prepared_xacts AS p
      WHERE p.database = current_database()
      ORDER BY since
      LIMIT 1
    )
    SELECT current_setting('server_version') AS version,
      pg_notification_queue_usage() AS notification_usage,
      coalesce(
        (SELECT n_dead_tup FROM pg_stat_user_tables WHERE relid = ${nameIn(db.schema, "jobs")}::text::regclass),
        0
      )::float8 AS dead_rows,
      (SELECT extract(epoch FROM clock_timestamp() - since)::float8 FROM holder) AS oldest_transaction,
      (SELECT pid FROM holder) AS oldest_pid,
      (SELECT what FROM holder) AS oldest_what`
  return row
})

/** The version of the schema that is installed, and whether the server takes writes. */
export const ping = Effect.fnUntraced(function* (db: Db) {
  const [row] = yield* db.sql<{ readonly version: number; readonly read_only: boolean }>`
    SELECT coalesce(max(version), 0)::integer AS version,
      pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on' AS read_only
    FROM ${db.sql(`${db.schema}.migrations`)}`
  return { version: row?.version ?? 0, readOnly: row?.read_only ?? false }
})

/** How long the job of each queue that waits longest for a slot has been due, in milliseconds. */
export const oldest = Effect.fnUntraced(function* (db: Db) {
  return (yield* readPairs(db)).map(({ oldest_millis, queue }) => ({ queue, oldest_millis }))
})

// internal

const readHeads = Effect.fnUntraced(function* (db: Db) {
  const { sql } = db
  const pairs = yield* readPairs(db)
  return yield* sql<QueueColumns & { readonly workers: ReadonlyArray<string> }>`
    SELECT q.name AS queue, q.oldest_millis,
      (SELECT count(*)::integer FROM (
        SELECT FROM ${db.jobs} AS j
        WHERE j.queue = q.name
          AND j.state = 'available'
        LIMIT ${countLimit}::integer
      ) AS counted) AS available,
      ARRAY(
        SELECT DISTINCT head.worker
        FROM (
          SELECT j.worker
          FROM ${db.jobs} AS j
          WHERE j.queue = q.name
            AND j.state = 'available'
          ORDER BY j.rank, j.run_at, j.id
          LIMIT ${headLimit}::integer
        ) AS head
      ) AS workers
    FROM unnest(
      ${array(
        pairs.map((pair) => pair.queue),
        oid.text
      )}::text[],
      ${array(
        pairs.map((pair) => pair.oldest_millis),
        oid.float8
      )}::float8[]
    ) AS q (name, oldest_millis)`
})

const readPairs = Effect.fnUntraced(function* (db: Db) {
  const { sql } = db
  const now = yield* db.now
  return yield* sql<{ readonly queue: string; readonly oldest_millis: number }>`
    WITH RECURSIVE pair AS (
      (
        SELECT queue, rank, run_at
        FROM ${db.jobs}
        WHERE state = 'available'
        ORDER BY queue, rank, run_at, id
        LIMIT 1
      )
      UNION ALL
      SELECT next.queue, next.rank, next.run_at
      FROM pair
      CROSS JOIN LATERAL (
        SELECT j.queue, j.rank, j.run_at
        FROM ${db.jobs} AS j
        WHERE j.state = 'available'
          AND (j.queue, j.rank) > (pair.queue, pair.rank)
        ORDER BY j.queue, j.rank, j.run_at, j.id
        LIMIT 1
      ) AS next
    )
    SELECT queue, (extract(epoch FROM ${now} - min(run_at)) * 1000)::float8 AS oldest_millis
    FROM (SELECT * FROM pair LIMIT ${pairLimit}::integer) AS pair
    GROUP BY queue
    ORDER BY queue`
})
