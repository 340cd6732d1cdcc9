/**
 * Finds jobs for people: pages, counts and groups of failures, each bounded in what it reads.
 *
 * Every statement gives up after two seconds: what people look at never holds up what jobs need.
 */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { Fragment } from "effect/sql/Statement"
import type { Checked } from "../../Filter.ts"
import type { AttemptFailure, JobId, JobRow, JobState } from "../../JobRow.ts"
import type { Db } from "./db.ts"
import { matches, matchesJson, matchesPlain } from "./filter.ts"
import { type JobColumns, jobId, jobRow } from "./row.ts"
import { openFailures, openRow } from "./seal.ts"

/** Which jobs to read, in which order, after which one. */
export interface Page {
  readonly filter: Checked
  readonly order: "newest" | "due" | "finished"
  readonly after: { readonly id: JobId; readonly at: Date | undefined } | undefined
  readonly limit: number
  /** Without results, errors and meta, and with small args alone. */
  readonly brief: boolean
}

/** How many jobs a search by args or meta reads, newest first. */
export const jsonWindow = 100_000

/** The most jobs that are counted. */
export const maxCount = 10_000

/** A page of jobs. */
export const list = (db: Db, page: Page): Effect.Effect<ReadonlyArray<JobRow>, SqlError> =>
  Effect.flatMap(limited(db, page.order === "finished" ? finished(db, page) : ordered(db, page, page.order)), (rows) =>
    Effect.forEach(rows, (row) => openRow(db, row))
  )

/** How many jobs match, of the first 10,000 and one. */
export const count = (db: Db, filter: Checked): Effect.Effect<number, SqlError> =>
  limited(
    db,
    Effect.gen(function* () {
      const { sql } = db
      const now = yield* db.now
      const [row] = yield* sql<{ readonly count: number }>`
        SELECT count(*)::integer AS count
        FROM (
          SELECT 1
          FROM ${windowed(db, filter, now, db.allJobs)}
          LIMIT ${sql.literal(String(maxCount + 1))}
        ) AS matching`
      return row?.count ?? 0
    })
  )

/**
 * How many jobs of each state a search by JSON finds, in one reading of what it looks at; `isWhole` says whether that was
 * all there is.
 */
export const countByState = (db: Db, filter: Checked) =>
  limited(
    db,
    Effect.gen(function* () {
      const { sql } = db
      const now = yield* db.now
      const rows = yield* sql<{ readonly state: JobState; readonly seen: number; readonly count: number }>`
        SELECT state,
          count(*)::integer AS seen,
          (count(*) FILTER (WHERE ${matchesJson(db, filter) ?? sql`true`}))::integer AS count
        FROM (
          SELECT *
          FROM ${db.allJobs}
          WHERE ${matchesPlain(db, filter, now, "all")}
          ORDER BY id DESC
          LIMIT ${sql.literal(String(jsonWindow))}
        ) AS j
        GROUP BY state`
      return { rows, isWhole: rows.reduce((sum, { seen }) => sum + seen, 0) < jsonWindow }
    })
  )

/** A group of jobs that failed in the same way. */
export interface Group {
  readonly fingerprint: string
  readonly count: number
  readonly worker: string
  readonly queue: string
  readonly sample: JobId
  readonly failure: AttemptFailure
  readonly firstSeen: string
  readonly lastSeen: string
}

/**
 * Groups of failures, those whose newest job is youngest first.
 *
 * The fingerprints are found by leaping from one to the next in their index, at most a thousand. Of each group that is
 * told, its count is capped and the times are those of its oldest and newest hundred jobs.
 */
export const failures = (db: Db, limit: number): Effect.Effect<ReadonlyArray<Group>, SqlError> =>
  limited(
    db,
    Effect.gen(function* () {
      const { sql } = db
      const edge = (direction: "ASC" | "DESC") => sql`
          SELECT errors -> -1 ->> 'at' AS at
          FROM ${db.allJobs}
          WHERE fingerprint = newest.fingerprint
          ORDER BY id ${sql.literal(direction)}
          LIMIT 100`
      const rows = yield* sql<{
        readonly fingerprint: string
        readonly count: number
        readonly worker: string
        readonly queue: string
        readonly id: bigint
        readonly failure: AttemptFailure
        readonly first_seen: string
        readonly last_seen: string
      }>`
        WITH RECURSIVE known AS (
          SELECT min(fingerprint) AS fingerprint, 1 AS place
          FROM ${db.allJobs}
          WHERE fingerprint IS NOT NULL
          UNION ALL
          SELECT (
            SELECT min(j.fingerprint)
            FROM ${db.allJobs} AS j
            WHERE j.fingerprint > known.fingerprint
          ), place + 1
          FROM known
          WHERE known.fingerprint IS NOT NULL
            AND known.place < 1000
        ),
        newest AS MATERIALIZED (
          SELECT known.fingerprint, job.*
          FROM known
          CROSS JOIN LATERAL (
            SELECT id, worker, queue, errors -> -1 AS failure
            FROM ${db.allJobs} AS j
            WHERE j.fingerprint = known.fingerprint
            ORDER BY id DESC
            LIMIT 1
          ) AS job
          ORDER BY job.id DESC
          LIMIT ${limit}::integer
        )
        SELECT newest.*,
          (
            SELECT count(*)::integer
            FROM (
              SELECT 1
              FROM ${db.allJobs} AS j
              WHERE j.fingerprint = newest.fingerprint
              LIMIT ${sql.literal(String(maxCount + 1))}
            ) AS member
          ) AS count,
          (SELECT min(oldest.at) FROM (${edge("ASC")}) AS oldest) AS first_seen,
          (SELECT max(latest.at) FROM (${edge("DESC")}) AS latest) AS last_seen
        FROM newest
        ORDER BY newest.id DESC`
      return yield* Effect.forEach(rows, ({ failure, first_seen, id, last_seen, ...group }) =>
        Effect.map(openFailures(db, jobId(id), [failure]), ([opened = failure]): Group => ({
          ...group,
          failure: opened,
          sample: jobId(id),
          firstSeen: first_seen,
          lastSeen: last_seen
        }))
      )
    })
  )

/**
 * Gives up after two seconds.
 *
 * Each statement is planned for its values: from the sixth time on the server takes a plan for any, which for a state
 * knows neither the partial indexes nor the partitions, and reads five million jobs to find none.
 */
export const limited = <A>(db: Db, effect: Effect.Effect<A, SqlError>): Effect.Effect<A, SqlError> =>
  db.transaction(
    Effect.andThen(
      db.sql`
        SELECT set_config('statement_timeout', '2s', true),
          set_config('plan_cache_mode', 'force_custom_plan', true)`,
      effect
    )
  )

// internal

/** The matching jobs; of a search by JSON, those among the newest that match in all else. */
const windowed = (db: Db, filter: Checked, now: Fragment, table: Db["jobs"]) => {
  const of = table === db.jobs ? "live" : "all"
  const json = matchesJson(db, filter)
  return json === undefined
    ? db.sql`${table} AS j
          WHERE ${matches(db, filter, now, of)}`
    : db.sql`(
            SELECT *
            FROM ${table}
            WHERE ${matchesPlain(db, filter, now, of)}
            ORDER BY id DESC
            LIMIT ${db.sql.literal(String(jsonWindow))}
          ) AS j
          WHERE ${json}`
}

/** What is read of a job; briefly, what is long stays where it lies. */
const read = ({ sql }: Db, brief: boolean, of: "all" | "live" = "all"): Fragment =>
  brief
    ? sql`id, worker, queue, state, priority, attempt, max_attempts, epoch, claimed_by, run_at, inserted_at, claimed_at,
          cancel_requested_at, progress, snoozes, tags, partition_key, scheduled_for, batch_id, step, fingerprint, trace,
          start_before, CASE WHEN pg_column_size(args) <= ${sql.literal(String(briefBytes))} THEN args END AS args,
          NULL::jsonb AS errors, NULL::jsonb AS meta, NULL::jsonb AS cancel_reason
          ${of === "live" ? sql`` : sql`, finished_at, NULL::jsonb AS result`}`
    : sql`*`

/** The largest args that are read briefly, as they are stored. */
const briefBytes = 4096

const ordered = Effect.fnUntraced(function* (db: Db, { after, brief, filter, limit }: Page, order: "newest" | "due") {
  const { sql } = db
  const now = yield* db.now
  const rows =
    order === "newest"
      ? yield* sql<JobColumns>`
        SELECT ${read(db, brief)}
        FROM ${windowed(db, filter, now, db.allJobs)}
          AND id < ${after?.id ?? Number.MAX_SAFE_INTEGER}::bigint
        ORDER BY id DESC
        LIMIT ${limit}::integer`
      : yield* sql<JobColumns>`
        SELECT ${brief ? read(db, brief, "live") : sql`*`}, NULL::timestamptz(3) AS finished_at, NULL::jsonb AS result
        FROM ${windowed(db, filter, now, db.jobs)}
          AND (run_at, id) > (${after?.at ?? new Date(0)}::timestamptz(3), ${after?.id ?? 0}::bigint)
        ORDER BY run_at, id
        LIMIT ${limit}::integer`
  return rows.map(jobRow)
})

/** How far back each look for finished jobs goes, in milliseconds, until there are enough. */
const lookBacks = [60_000, 15 * 60_000, 4 * 3_600_000, 2 * 86_400_000, Infinity]

/**
 * Jobs by falling time of their end.
 *
 * Nothing is sorted by that time but the order in which rows were written, of which a BRIN index tells the ranges. So
 * the looks go back further and further, each over all that the one before saw.
 */
const finished = Effect.fnUntraced(function* (
  db: Db,
  { after, brief, filter, limit }: Page
): Effect.fn.Return<ReadonlyArray<JobRow>, SqlError> {
  const { sql } = db
  const now = yield* db.now
  const latest = after?.at ?? (yield* db.instant)
  for (const back of lookBacks) {
    const since = new Date(Math.max(latest.getTime() - back, 0))
    const rows = yield* sql<JobColumns>`
      SELECT ${read(db, brief)}
      FROM ${db.archive}
      WHERE ${matches(db, filter, now)}
        AND finished_at >= ${since}::timestamptz(3)
        ${after === undefined ? sql`` : sql`AND (finished_at, id) < (${latest}::timestamptz(3), ${after.id}::bigint)`}
      ORDER BY finished_at DESC, id DESC
      LIMIT ${limit}::integer`
    if (rows.length === limit || back === Infinity) return rows.map(jobRow)
  }
  return []
})
