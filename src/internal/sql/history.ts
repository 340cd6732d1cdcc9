/** What happened when: added up by minute, hour and day, read in steps, forgotten by age. */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import { empty, percentile } from "../buckets.ts"
import { array, type Db, oid } from "./db.ts"
import { limited } from "./search.ts"

/** What happened to one worker's jobs of one queue; both are empty for the totals. */
export interface Increment {
  readonly queue: string
  readonly worker: string
  readonly completed: number
  readonly failed: number
  readonly discarded: number
  readonly cancelled: number
  readonly snoozed: number
  readonly run: ReadonlyArray<number>
  readonly wait: ReadonlyArray<number>
}

/** How fine a span is told, and how long that is kept. */
export const tiers = {
  minute: { millis: 60_000, days: 7 },
  hour: { millis: 3_600_000, days: 90 },
  day: { millis: 86_400_000, days: 366 }
} as const

/** What to read. */
export interface HistoryPage {
  readonly tier: keyof typeof tiers
  readonly spanMillis: number
  readonly stepMillis: number
  /** Undefined for all queues, of which the totals are kept. */
  readonly queues: ReadonlyArray<string> | undefined
  readonly worker: string | undefined
}

/** One step of a span in which something happened. */
export interface PointColumns extends Omit<Increment, "queue" | "worker"> {
  readonly at: Date
}

/** How much waited in one step: the most, and the longest. */
export interface DepthColumns {
  readonly at: Date
  readonly available: number
  readonly oldest_millis: number
}

/**
 * Adds to the rows of this minute, hour and day, in one statement, so that these never tell different things.
 *
 * Rows are met in the order of their key: two nodes wait for each other and never in a circle.
 */
export const add = Effect.fnUntraced(function* (db: Db, increments: ReadonlyArray<Increment>) {
  const { sql } = db
  const now = yield* db.now
  yield* db.statement(sql`
    INSERT INTO ${metricsOf(db)} AS m
      (tier, at, queue, worker, completed, failed, discarded, cancelled, snoozed, run, wait)
    SELECT t.tier, date_trunc(t.tier, ${now}, 'UTC'), i.queue, i.worker,
      i.completed, i.failed, i.discarded, i.cancelled, i.snoozed, i.run, i.wait
    FROM jsonb_to_recordset(${JSON.stringify(increments)}::text::jsonb) AS i (
      queue text, worker text, completed bigint, failed bigint, discarded bigint, cancelled bigint, snoozed bigint,
      run bigint[], wait bigint[]
    )
    CROSS JOIN (VALUES ('minute'), ('hour'), ('day')) AS t (tier)
    ORDER BY t.tier, i.queue, i.worker
    ON CONFLICT (tier, at, queue, worker) DO UPDATE
    SET completed = m.completed + excluded.completed,
      failed = m.failed + excluded.failed,
      discarded = m.discarded + excluded.discarded,
      cancelled = m.cancelled + excluded.cancelled,
      snoozed = m.snoozed + excluded.snoozed,
      run = ARRAY(
        SELECT coalesce(u.a, 0) + coalesce(u.b, 0)
        FROM unnest(m.run, excluded.run) WITH ORDINALITY AS u (a, b, n)
        ORDER BY u.n
      ),
      wait = ARRAY(
        SELECT coalesce(u.a, 0) + coalesce(u.b, 0)
        FROM unnest(m.wait, excluded.wait) WITH ORDINALITY AS u (a, b, n)
        ORDER BY u.n
      )`)
})

/** Whether nobody has told yet how much waits in this minute. */
export const isUnseen = Effect.fnUntraced(function* (db: Db) {
  const now = yield* db.now
  const rows = yield* db.sql<{ readonly at: Date }>`
    SELECT at
    FROM ${depthsOf(db)}
    WHERE at = date_trunc('minute', ${now}, 'UTC')
      AND queue = ''`
  return rows.length === 0
})

/** Notes how much waits in this minute, unless another node has. */
export const noteDepths = Effect.fnUntraced(function* (
  db: Db,
  queues: ReadonlyArray<{ readonly queue: string; readonly available: number; readonly oldest_millis: number }>
) {
  const now = yield* db.now
  yield* db.statement(db.sql`
    INSERT INTO ${depthsOf(db)} (at, queue, available, oldest_millis)
    SELECT date_trunc('minute', ${now}, 'UTC'), q.queue, q.available, q.oldest_millis
    FROM unnest(
      ${array(
        queues.map((one) => one.queue),
        oid.text
      )}::text[],
      ${array(
        queues.map((one) => one.available),
        oid.int4
      )}::integer[],
      ${array(
        queues.map((one) => one.oldest_millis),
        oid.float8
      )}::float8[]
    ) AS q (queue, available, oldest_millis)
    ORDER BY q.queue
    ON CONFLICT (at, queue) DO NOTHING`)
})

/** Reads a span in steps; steps in which nothing happened are absent. */
export const read = (
  db: Db,
  page: HistoryPage
): Effect.Effect<
  {
    readonly now: Date
    readonly points: ReadonlyArray<PointColumns>
    readonly depths: ReadonlyArray<DepthColumns>
  },
  SqlError
> =>
  limited(
    db,
    Effect.gen(function* () {
      const { sql } = db
      const now = yield* db.now
      const step = sql`${page.stepMillis}::float8 * interval '1 millisecond'`
      const from = sql`date_bin(
        ${step},
        ${now} - ${page.spanMillis}::float8 * interval '1 millisecond',
        ${epoch}::timestamptz
      )`
      const total = page.queues === undefined && page.worker === undefined
      const wanted = total
        ? sql`queue = '' AND worker = ''`
        : sql`worker <> ''
          ${page.queues === undefined ? sql`` : sql`AND queue = ANY(${array(page.queues, oid.text)}::text[])`}
          ${page.worker === undefined ? sql`` : sql`AND worker = ${page.worker}::text`}`
      const points = yield* sql<PointColumns>`
        WITH found AS MATERIALIZED (
          SELECT date_bin(${step}, at, ${epoch}::timestamptz) AS at,
            completed, failed, discarded, cancelled, snoozed, run, wait
          FROM ${metricsOf(db)}
          WHERE tier = ${page.tier}::text
            AND at >= ${from}
            AND ${wanted}
        ),
        summed AS (
          SELECT one.at, array_agg(one.run ORDER BY one.n) AS run, array_agg(one.wait ORDER BY one.n) AS wait
          FROM (
            SELECT found.at, u.n, coalesce(sum(u.run), 0)::float8 AS run, coalesce(sum(u.wait), 0)::float8 AS wait
            FROM found
            CROSS JOIN LATERAL unnest(found.run, found.wait) WITH ORDINALITY AS u (run, wait, n)
            GROUP BY found.at, u.n
          ) AS one
          GROUP BY one.at
        )
        SELECT found.at, summed.run, summed.wait,
          sum(found.completed)::float8 AS completed,
          sum(found.failed)::float8 AS failed,
          sum(found.discarded)::float8 AS discarded,
          sum(found.cancelled)::float8 AS cancelled,
          sum(found.snoozed)::float8 AS snoozed
        FROM found
        JOIN summed
          ON summed.at = found.at
        GROUP BY found.at, summed.run, summed.wait
        ORDER BY found.at`
      const depths = yield* sql<DepthColumns>`
        SELECT date_bin(${step}, minute.at, ${epoch}::timestamptz) AS at,
          max(minute.available)::float8 AS available,
          max(minute.oldest_millis) AS oldest_millis
        FROM (
          SELECT at, sum(available) AS available, max(oldest_millis) AS oldest_millis
          FROM ${depthsOf(db)}
          WHERE at >= ${from}
            AND ${page.queues === undefined ? sql`queue = ''` : sql`queue = ANY(${array(page.queues, oid.text)}::text[])`}
          GROUP BY at
        ) AS minute
        GROUP BY 1
        ORDER BY 1`
      return { now: yield* db.instant, points, depths }
    })
  )

/** One step of a group in which something happened; null is the name of the rest. */
export interface GroupColumns extends Pick<Increment, "run" | "wait"> {
  readonly name: string | null
  readonly at: Date
  readonly completed: number
  readonly failed: number
}

/**
 * Reads a span in steps for each of the queues or workers of which most ended, and for the rest together.
 *
 * Times are added up place by place: taking them apart, as for one row a minute, is too slow for those of all pairs.
 */
export const readBy = (db: Db, by: "queue" | "worker", page: Omit<HistoryPage, "worker">, most: number) =>
  limited(
    db,
    Effect.gen(function* () {
      const { sql } = db
      const now = yield* db.now
      const step = sql`${page.stepMillis}::float8 * interval '1 millisecond'`
      const sums = (column: "run" | "wait") =>
        sql.csv(
          empty().map((_, i) => sql`coalesce(sum(found.${sql(column)}[${sql.literal(String(i + 1))}]), 0)::float8`)
        )
      const rows = yield* sql<GroupColumns>`
        WITH found AS MATERIALIZED (
          SELECT ${sql(by)} AS name, date_bin(${step}, at, ${epoch}::timestamptz) AS at,
            completed, failed + discarded AS failed, run, wait
          FROM ${metricsOf(db)}
          WHERE tier = ${page.tier}::text
            AND at >= date_bin(
              ${step},
              ${now} - ${page.spanMillis}::float8 * interval '1 millisecond',
              ${epoch}::timestamptz
            )
            AND worker <> ''
            ${page.queues === undefined ? sql`` : sql`AND queue = ANY(${array(page.queues, oid.text)}::text[])`}
        ),
        most AS (
          SELECT name
          FROM found
          GROUP BY name
          ORDER BY sum(completed + failed) DESC, name
          LIMIT ${most}::integer
        )
        SELECT most.name, found.at, sum(found.completed)::float8 AS completed, sum(found.failed)::float8 AS failed,
          ARRAY[${sums("run")}] AS run,
          ARRAY[${sums("wait")}] AS wait
        FROM found
        LEFT JOIN most
          ON most.name = found.name
        GROUP BY most.name, found.at
        ORDER BY found.at`
      return { now: yield* db.instant, rows }
    })
  )

/** What happened of late to the jobs of one queue or worker. */
export interface ActivityColumns extends Pick<Increment, "run" | "wait"> {
  readonly name: string
  /** In steps of five minutes, of those in which anything happened. */
  readonly steps: ReadonlyArray<{ readonly at: string; readonly completed: number; readonly failed: number }>
}

/** Reads the last hour of each queue or worker. */
export const activity = (db: Db, by: "queue" | "worker") =>
  limited(
    db,
    Effect.gen(function* () {
      const { sql } = db
      const now = yield* db.now
      const rows = yield* sql<ActivityColumns>`
        WITH found AS MATERIALIZED (
          SELECT ${sql.literal(by)} AS name, date_bin(interval '5 minutes', at, ${epoch}::timestamptz) AS at,
            completed, failed + discarded AS failed, run, wait
          FROM ${metricsOf(db)}
          WHERE tier = 'minute'
            AND at >= date_bin(interval '5 minutes', ${now} - interval '55 minutes', ${epoch}::timestamptz)
            AND worker <> ''
        ),
        spread AS (
          SELECT one.name, array_agg(one.run ORDER BY one.n) AS run, array_agg(one.wait ORDER BY one.n) AS wait
          FROM (
            SELECT found.name, u.n, coalesce(sum(u.run), 0)::float8 AS run, coalesce(sum(u.wait), 0)::float8 AS wait
            FROM found
            CROSS JOIN LATERAL unnest(found.run, found.wait) WITH ORDINALITY AS u (run, wait, n)
            GROUP BY found.name, u.n
          ) AS one
          GROUP BY one.name
        ),
        stepped AS (
          SELECT one.name, jsonb_agg(to_jsonb(one) - 'name' ORDER BY one.at) AS steps
          FROM (
            SELECT name, at, sum(completed) AS completed, sum(failed) AS failed
            FROM found
            GROUP BY name, at
          ) AS one
          GROUP BY one.name
        )
        SELECT name, run, wait, steps
        FROM spread
        JOIN stepped USING (name)
        ORDER BY name`
      return { now: yield* db.instant, rows }
    })
  )

/** How long half of a worker's attempts took at most, of late; undefined where nothing is known of any. */
export const usualRun = Effect.fnUntraced(function* (db: Db, worker: string) {
  const now = yield* db.now
  const rows = yield* db.sql<{ readonly run: ReadonlyArray<number> }>`
    SELECT run::float8[] AS run
    FROM ${metricsOf(db)}
    WHERE tier = 'hour'
      AND at >= ${now} - interval '1 day'
      AND worker = ${worker}`
  const sums = empty()
  for (const { run } of rows) for (const [i, inside] of run.entries()) sums[i] = (sums[i] ?? 0) + inside
  return percentile(sums, 0.5)
})

/** Deletes what is past its time, by the primary keys; says how many rows. */
export const prune = Effect.fnUntraced(function* (db: Db) {
  const now = yield* db.now
  let gone = 0
  for (const [tier, { days }] of Object.entries(tiers)) {
    const rows = yield* db.statement(db.sql`
      DELETE FROM ${metricsOf(db)}
      WHERE (tier, at, queue, worker) IN (
        SELECT tier, at, queue, worker
        FROM ${metricsOf(db)}
        WHERE tier = ${tier}::text
          AND at < ${now} - ${days}::float8 * interval '1 day'
        ORDER BY at
        LIMIT ${db.sql.literal(String(pruneLimit))}
      )
      RETURNING at`)
    gone += rows.length
  }
  const depths = yield* db.statement(db.sql`
    DELETE FROM ${depthsOf(db)}
    WHERE (at, queue) IN (
      SELECT at, queue
      FROM ${depthsOf(db)}
      WHERE at < ${now} - ${tiers.hour.days}::float8 * interval '1 day'
      ORDER BY at
      LIMIT ${db.sql.literal(String(pruneLimit))}
    )
    RETURNING at`)
  return gone + depths.length
})

// internal

/** The most rows deleted by one statement. */
const pruneLimit = 10_000

/** Where steps are counted from. */
const epoch = "2000-01-01T00:00:00Z"

const metricsOf = (db: Db) => db.sql(`${db.schema}.metrics`)
const depthsOf = (db: Db) => db.sql(`${db.schema}.depths`)
