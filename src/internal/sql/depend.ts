/**
 * Edges between jobs: a job waits until every job that it depends on has ended.
 *
 * Two transactions that meet on an edge never miss each other: an insert locks the rows of the jobs that it will wait
 * for and marks them, so an end waits for it and finds the mark; an end takes its row away first and reads edges in a
 * later statement. Locks are taken in one order: parents by id, children by id, batches by falling id.
 */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { AttemptFailure, BatchId, JobId } from "../../JobRow.ts"
import { type Dependency, link, type NewEdge } from "../newJob.ts"
import { archivedColumns, keptStates } from "./archive.ts"
import { batchId, type End } from "./batch.ts"
import { array, type Db, ids, oid } from "./db.ts"
import { jobId } from "./row.ts"

/** A job that has just ended, as those that wait for it need to know. */
export interface EndedJob {
  readonly id: JobId
  readonly state: End
  readonly links: number
  readonly batch: BatchId | undefined
  /** JSON text, for states of which no row is kept. */
  readonly result?: string | undefined
  /** JSON text of its last failure, where it failed. */
  readonly failure?: string | undefined
  /** JSON text of why it was cancelled. */
  readonly reason?: string | undefined
}

/** A job that waits no longer. */
export type Resolved =
  | {
      readonly _tag: "Freed"
      readonly id: JobId
      readonly worker: string
      readonly queue: string
      readonly state: "available" | "scheduled"
      readonly dueMillis: number
    }
  | {
      readonly _tag: "Cancelled"
      readonly id: JobId
      readonly worker: string
      readonly queue: string
      readonly attempt: number
      readonly reason: string
      readonly links: number
      readonly batch: BatchId | undefined
    }

/** How the jobs that a new one is to wait for stand; undefined for one that lives, absent where there never was one. */
export type Standings = ReadonlyMap<JobId, Dependency["state"] | undefined>

/** The edges of the library's schema. */
export const dependenciesOf = (db: Db) => db.sql(`${db.schema}.dependencies`)

/**
 * Locks the jobs that others are going to wait for, marks them, and says how they stand.
 *
 * The mark is an update of those that do not have it; the rest is locked in share mode, so that any number of
 * transactions may add children to one parent at once. How they stand is read after that, in a later statement.
 */
export const lockParents = Effect.fnUntraced(function* (
  db: Db,
  parents: ReadonlyArray<JobId>
): Effect.fn.Return<Standings, SqlError> {
  const { sql } = db
  const wanted = ids(parents)
  yield* sql`
    WITH parent AS MATERIALIZED (
      SELECT id
      FROM ${db.jobs}
      WHERE id = ANY(${wanted}::bigint[])
        AND links & ${bit(db, "awaited")} = 0
      ORDER BY id
      FOR NO KEY UPDATE
    )
    UPDATE ${db.jobs} AS j
    SET links = j.links | ${bit(db, "awaited")}
    FROM parent
    WHERE j.id = parent.id`
  yield* sql`
    SELECT id
    FROM ${db.jobs}
    WHERE id = ANY(${wanted}::bigint[])
    ORDER BY id
    FOR SHARE`
  const rows = yield* sql<{
    readonly id: bigint
    readonly live: boolean
    readonly state: Dependency["state"] | null
    readonly drawn: boolean
  }>`
    SELECT parent.id, j.id IS NOT NULL AS live, a.state,
      parent.id BETWEEN 1 AND (
        SELECT CASE WHEN is_called THEN last_value ELSE 0 END
        FROM ${sql(`${db.schema}.jobs_id_seq`)}
      ) AS drawn
    FROM unnest(${wanted}::bigint[]) AS parent (id)
    LEFT JOIN ${db.jobs} AS j
      ON j.id = parent.id
    LEFT JOIN ${db.archive} AS a
      ON a.id = parent.id`
  const standings = new Map<JobId, Dependency["state"] | undefined>()
  const absent: Array<JobId> = []
  for (const row of rows) {
    const id = jobId(row.id)
    if (row.live) standings.set(id, undefined)
    else if (row.state !== null) standings.set(id, row.state)
    else if (row.drawn) absent.push(id)
  }
  if (absent.length === 0) return standings
  if (yield* probe(db, absent)) return yield* lockParents(db, parents)
  for (const id of absent) standings.set(id, "pruned")
  return standings
})

/** Stores edges; `outcome` is how the parent ended where it has. */
export const insertEdges = Effect.fnUntraced(function* (
  db: Db,
  edges: ReadonlyArray<
    Omit<NewEdge, "parent"> & {
      readonly child: JobId
      readonly parent: JobId
      readonly outcome: Dependency["state"] | undefined
    }
  >
) {
  const { sql } = db
  const column = (read: (edge: (typeof edges)[number]) => string | null) => array(edges.map(read), oid.text)
  yield* sql`
    INSERT INTO ${dependenciesOf(db)} (child_id, parent_id, on_failure, name, outcome)
    SELECT *
    FROM unnest(
      ${ids(edges.map((edge) => edge.child))}::bigint[],
      ${ids(edges.map((edge) => edge.parent))}::bigint[],
      ${column((edge) => edge.onFailure)}::text[],
      ${column((edge) => edge.name ?? null)}::text[],
      ${column((edge) => edge.outcome ?? null)}::text[]
    )`
})

/** Writes the ends of jobs onto their edges and returns those that wait for them, locked. */
export const markEnded = Effect.fnUntraced(function* (db: Db, ended: ReadonlyArray<EndedJob>) {
  const { sql } = db
  const kept = new Set(keptStates(db))
  const rows = yield* sql<{ readonly id: bigint }>`
    WITH ended AS MATERIALIZED (
      SELECT *
      FROM unnest(
        ${ids(ended.map((job) => job.id))}::bigint[],
        ${array(
          ended.map((job) => job.state),
          oid.text
        )}::text[],
        ${array(
          ended.map((job) => (kept.has(job.state) ? null : (job.result ?? null))),
          oid.text
        )}::text[]::jsonb[]
      ) AS e (id, state, result)
    ),
    child AS MATERIALIZED (
      SELECT j.id
      FROM ${db.jobs} AS j
      WHERE j.id IN (
          SELECT d.child_id
          FROM ${dependenciesOf(db)} AS d
          JOIN ended
            ON ended.id = d.parent_id
          WHERE d.outcome IS NULL
        )
        AND j.state = 'blocked'
      ORDER BY j.id
      FOR UPDATE
    ),
    marked AS (
      UPDATE ${dependenciesOf(db)} AS d
      SET outcome = ended.state,
        result = ended.result
      FROM ended
      WHERE d.parent_id = ended.id
        AND d.outcome IS NULL
    )
    SELECT id FROM child`
  return rows.map((row) => jobId(row.id))
})

/**
 * Lets go of blocked jobs whose edges say so: to run, or to be cancelled at once where one of them asks for that.
 *
 * To be called in a statement after the one that locked them.
 */
export const resolve = Effect.fnUntraced(function* (
  db: Db,
  children: ReadonlyArray<JobId>
): Effect.fn.Return<ReadonlyArray<Resolved>, SqlError> {
  const { sql } = db
  const now = yield* db.now
  const archived = sql.literal(archivedColumns)
  const rows = yield* sql<{
    readonly id: bigint
    readonly worker: string
    readonly queue: string
    readonly state: "available" | "scheduled" | "cancelled"
    readonly attempt: number
    readonly links: number
    readonly batch_id: bigint | null
    readonly due_millis: number
    readonly reason: string | null
  }>`
    WITH child AS MATERIALIZED (
      SELECT c.id, failed.reason,
        EXISTS (
          SELECT FROM ${dependenciesOf(db)} AS d
          WHERE d.child_id = c.id
            AND d.outcome IS NULL
        ) AS pending,
        EXISTS (
          SELECT FROM ${dependenciesOf(db)} AS d
          WHERE d.child_id = c.id
            AND d.outcome IN ('discarded', 'cancelled')
            AND d.on_failure = 'hold'
        ) AS held
      FROM unnest(${ids(children)}::bigint[]) AS c (id)
      LEFT JOIN LATERAL (
        SELECT 'It waited for job ' || d.parent_id || ', which was ' || d.outcome || '.' AS reason
        FROM ${dependenciesOf(db)} AS d
        WHERE d.child_id = c.id
          AND d.outcome IN ('discarded', 'cancelled')
          AND d.on_failure = 'cancel'
        LIMIT 1
      ) AS failed
        ON true
    ),
    freed AS (
      UPDATE ${db.jobs} AS j
      SET state = CASE WHEN j.run_at > ${now} THEN 'scheduled' ELSE 'available' END,
        run_at = greatest(j.run_at, ${now})
      FROM child
      WHERE j.id = child.id
        AND j.state = 'blocked'
        AND child.reason IS NULL
        AND NOT child.pending
        AND NOT child.held
      RETURNING j.id, j.worker, j.queue, j.state, j.attempt, j.links, j.batch_id,
        extract(epoch FROM j.run_at - ${now})::float8 * 1000 AS due_millis
    ),
    gone AS (
      DELETE FROM ${db.jobs} AS j
      USING child
      WHERE j.id = child.id
        AND j.state = 'blocked'
        AND child.reason IS NOT NULL
      RETURNING j.*, child.reason
    ),
    archived AS (
      INSERT INTO ${db.archive} (${archived}, links, epoch, finished_at, state, errors, fingerprint, cancel_reason)
      SELECT ${archived}, gone.links | ${bit(db, "cascaded")}, gone.epoch, ${now}, 'cancelled', gone.errors,
        gone.fingerprint, to_jsonb(gone.reason)
      FROM gone
      WHERE 'cancelled' = ANY(${array(keptStates(db), oid.text)}::text[])
    )
    SELECT id, worker, queue, state, attempt, links, batch_id, due_millis, NULL AS reason
    FROM freed
    UNION ALL
    SELECT id, worker, queue, 'cancelled', attempt, links, batch_id, 0, reason
    FROM gone
    ORDER BY id`
  return rows.map((row): Resolved => {
    const base = { id: jobId(row.id), worker: row.worker, queue: row.queue }
    return row.state === "cancelled"
      ? {
          ...base,
          _tag: "Cancelled",
          attempt: row.attempt,
          reason: row.reason ?? "",
          links: row.links,
          batch: row.batch_id === null ? undefined : batchId(row.batch_id)
        }
      : { ...base, _tag: "Freed", state: row.state, dueMillis: row.due_millis }
  })
})

/**
 * Brings the edges of blocked jobs in line with what has become of their parents, for jobs that are blocked again.
 *
 * The parents that live are locked, so that one that is ending now is waited for, or finds these jobs.
 */
export const heal = Effect.fnUntraced(function* (db: Db, children: ReadonlyArray<JobId>) {
  const { sql } = db
  const wanted = ids(children)
  yield* sql`
    SELECT j.id
    FROM ${db.jobs} AS j
    WHERE j.id IN (
      SELECT d.parent_id
      FROM ${dependenciesOf(db)} AS d
      WHERE d.child_id = ANY(${wanted}::bigint[])
        AND d.outcome IS NULL
    )
    ORDER BY j.id
    FOR SHARE`
  yield* sql`
    UPDATE ${dependenciesOf(db)} AS d
    SET outcome = coalesce((SELECT a.state FROM ${db.archive} AS a WHERE a.id = d.parent_id), 'pruned')
    WHERE d.child_id = ANY(${wanted}::bigint[])
      AND d.outcome IS NULL
      AND NOT EXISTS (SELECT FROM ${db.jobs} AS j WHERE j.id = d.parent_id)`
})

/** The most blocked jobs that one sweep looks at. */
export const sweepLimit = 1000

/**
 * Finds blocked jobs whose edges wait for jobs that live no more, or that have nothing left to wait for, among the
 * first ones after a given id, and locks them.
 *
 * None is expected: every end resolves its children itself.
 */
export const findStuck = Effect.fnUntraced(function* (db: Db, after: number) {
  const { sql } = db
  const rows = yield* sql<{ readonly stuck: ReadonlyArray<string>; readonly last: bigint | null }>`
    WITH blocked AS MATERIALIZED (
      SELECT id
      FROM ${db.jobs}
      WHERE state = 'blocked'
        AND id > ${after}::bigint
      ORDER BY id
      LIMIT ${sql.literal(String(sweepLimit))}
    ),
    stuck AS MATERIALIZED (
      SELECT j.id
      FROM ${db.jobs} AS j
      JOIN blocked
        ON blocked.id = j.id
      WHERE j.state = 'blocked'
        AND (
          EXISTS (
            SELECT FROM ${dependenciesOf(db)} AS d
            WHERE d.child_id = j.id
              AND d.outcome IS NULL
              AND NOT EXISTS (SELECT FROM ${db.jobs} AS p WHERE p.id = d.parent_id)
          )
          OR NOT EXISTS (
            SELECT FROM ${dependenciesOf(db)} AS d
            WHERE d.child_id = j.id
              AND (d.outcome IS NULL OR (d.outcome IN ('discarded', 'cancelled') AND d.on_failure = 'hold'))
          )
        )
      ORDER BY j.id
      FOR UPDATE OF j SKIP LOCKED
    )
    SELECT ARRAY(SELECT id::text FROM stuck) AS stuck,
      (SELECT max(id) FROM blocked HAVING count(*) = ${sql.literal(String(sweepLimit))}) AS last`
  const [row] = rows
  return {
    stuck: (row?.stuck ?? []).map((id) => jobId(Number(id))),
    /** Where the next sweep goes on; 0 for the beginning. */
    next: Number(row?.last ?? 0)
  }
})

/** The dependencies of jobs, by the id of the job. */
export const read = Effect.fnUntraced(function* (db: Db, children: ReadonlyArray<JobId>) {
  const { sql } = db
  const rows = yield* sql<{
    readonly child_id: bigint
    readonly parent_id: bigint
    readonly name: string | null
    readonly outcome: Dependency["state"] | null
    readonly result: unknown
    readonly kept: boolean
    readonly worker: string | null
    readonly failure: AttemptFailure | null
    /** A text, or an envelope until it is opened. */
    readonly reason: string | null
  }>`
    SELECT d.child_id, d.parent_id, d.name, d.outcome, coalesce(d.result, a.result) AS result,
      a.id IS NOT NULL OR d.result IS NOT NULL AS kept,
      a.worker, a.errors -> -1 AS failure, a.cancel_reason AS reason
    FROM ${dependenciesOf(db)} AS d
    LEFT JOIN ${db.archive} AS a
      ON a.id = d.parent_id
    WHERE d.child_id = ANY(${ids(children)}::bigint[])
    ORDER BY d.child_id, d.parent_id`
  const found = new Map<JobId, Array<Dependency>>(children.map((child) => [child, []]))
  for (const row of rows) {
    found.get(jobId(row.child_id))?.push({
      id: jobId(row.parent_id),
      name: row.name ?? undefined,
      // What a job was enqueued to wait for was there before it.
      added: row.parent_id > row.child_id,
      worker: row.worker ?? undefined,
      state: row.outcome ?? "pruned",
      result: row.kept ? row.result : undefined,
      failure: row.outcome === "completed" ? undefined : (row.failure ?? undefined),
      reason: row.reason ?? undefined
    })
  }
  return found
})

/** Forgets the edges of jobs that are no more; at most 10,000 at a time. */
export const prune = Effect.fnUntraced(function* (db: Db) {
  const rows = yield* db.statement(db.sql`
    DELETE FROM ${dependenciesOf(db)}
    WHERE ctid = ANY(ARRAY(
      SELECT d.ctid
      FROM ${dependenciesOf(db)} AS d
      WHERE NOT EXISTS (SELECT FROM ${db.jobs} AS j WHERE j.id = d.child_id)
        AND NOT EXISTS (SELECT FROM ${db.archive} AS a WHERE a.id = d.child_id)
      LIMIT 10000
    ))
    RETURNING child_id`)
  return rows.length
})

/** A bit of `links` as text of a statement. */
export const bit = (db: Db, name: keyof typeof link) => db.sql.literal(String(link[name]))

// internal

/**
 * Says whether one of the ids belongs to a row that another transaction has not committed: an insert of the same id
 * waits for it. The rows put in for that are taken out again.
 */
const probe = Effect.fnUntraced(function* (db: Db, absent: ReadonlyArray<JobId>) {
  const { sql } = db
  const now = yield* db.now
  const rows = yield* sql<{ readonly id: bigint }>`
    INSERT INTO ${db.jobs} (id, state, worker, queue, args, run_at, inserted_at)
    OVERRIDING SYSTEM VALUE
    SELECT id, 'blocked', 'probe', 'probe', 'null', ${now}, ${now}
    FROM unnest(${ids(absent)}::bigint[]) AS probe (id)
    ORDER BY id
    ON CONFLICT (id) DO NOTHING
    RETURNING id`
  yield* sql`
    DELETE FROM ${db.jobs}
    WHERE id = ANY(${ids(rows.map((row) => jobId(row.id)))}::bigint[])`
  return rows.length < absent.length
})
