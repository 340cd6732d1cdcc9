/** Runs jobs again on an operator's word. */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { JobId, JobState } from "../../JobRow.ts"
import { type Aftermath, link, nothing } from "../newJob.ts"
import { batchId, type Deltas, deltaOf, type End } from "./batch.ts"
import { conclude, release } from "./conclude.ts"
import { type Db, ids } from "./db.ts"
import { bit, dependenciesOf, heal } from "./depend.ts"
import { jobId } from "./row.ts"
import { reacquire } from "./unique.ts"

/** What became of the wish to run one job again. */
export type Retried =
  | { readonly _tag: "Retried"; readonly worker: string; readonly queue: string; readonly aftermath: Aftermath }
  | { readonly _tag: "Unchanged"; readonly state: JobState }
  /** Another job holds the key of this one. */
  | { readonly _tag: "Conflict"; readonly holder: JobId }
  | { readonly _tag: "NotFound" }

/** The columns that a job takes back from the archive as they are. */
export const restoredColumns =
  "id, inserted_at, claimed_at, priority, attempt, snoozes, queue, worker, args, errors, fingerprint, meta, tags, partition_key, scheduled_for, unique_key, unique_states, batch_id, step, trace"

/**
 * Makes a finished, scheduled or retryable job available now, with room for one attempt more and without a deadline.
 *
 * The epoch rises, so that no outcome of an earlier life is accepted in this one. A job that waited for others waits
 * for those that have not ended, and no longer minds those that have failed; so a job that is held runs. Its batch is
 * open for it again. Jobs that were cancelled because it had failed wait for it again, and so on; so do those that
 * are still blocked.
 */
export const retry = (db: Db, id: JobId): Effect.Effect<Retried, SqlError> => db.transaction(retrying(db, id))

// internal

const retrying = Effect.fnUntraced(function* (db: Db, id: JobId): Effect.fn.Return<Retried, SqlError> {
  const { sql } = db
  const holder = yield* reacquire(db, id)
  if (holder !== undefined) return { _tag: "Conflict", holder } satisfies Retried
  const now = yield* db.now
  const kept = sql.literal(restoredColumns)
  const [met] = yield* sql<{
    readonly worker: string
    readonly queue: string
    readonly links: number
    readonly batch_id: bigint | null
    readonly ended: End | null
  }>`
    WITH finished AS (
      DELETE FROM ${db.archive}
      WHERE id = ${id}::bigint
      RETURNING *
    ),
    restored AS (
      INSERT INTO ${db.jobs} (${kept}, links, state, run_at, epoch, max_attempts)
      OVERRIDING SYSTEM VALUE
      SELECT ${kept}, links & ~${bit(db, "cascaded")},
        CASE WHEN links & ${bit(db, "waits")} <> 0 THEN 'blocked' ELSE 'available' END,
        ${now}, epoch + 1, greatest(max_attempts, attempt + 1)
      FROM finished
    ),
    hurried AS (
      UPDATE ${db.jobs}
      SET state = 'available',
        run_at = ${now},
        epoch = epoch + 1,
        max_attempts = greatest(max_attempts, attempt + 1),
        start_before = NULL
      WHERE id = ${id}::bigint
        AND state IN ('scheduled', 'retryable')
      RETURNING worker, queue
    )
    SELECT worker, queue, links, batch_id, state AS ended FROM finished
    UNION ALL
    SELECT worker, queue, 0, NULL, NULL FROM hurried`
  if (met === undefined) return yield* unmet(db, id)
  const { queue, worker } = met
  if (met.ended === null || met.links === 0) return { _tag: "Retried", worker, queue, aftermath: nothing }
  const deltas: Deltas = new Map()
  if (met.batch_id !== null) deltaOf(deltas, batchId(met.batch_id))[met.ended]--
  if ((met.links & link.awaited) !== 0) yield* reopen(db, id, deltas)
  if ((met.links & link.waits) === 0) {
    return { _tag: "Retried", worker, queue, aftermath: yield* conclude(db, [], deltas) }
  }
  yield* forgive(db, id)
  yield* heal(db, [id])
  return { _tag: "Retried", worker, queue, aftermath: yield* release(db, [id], deltas) }
})

/** A job that is neither finished nor waiting for its time: one that is held goes on, every other stays. */
const unmet = Effect.fnUntraced(function* (db: Db, id: JobId): Effect.fn.Return<Retried, SqlError> {
  const { sql } = db
  const [blocked] = yield* sql<{ readonly worker: string; readonly queue: string }>`
    SELECT worker, queue
    FROM ${db.jobs}
    WHERE id = ${id}::bigint
      AND state = 'blocked'
    FOR UPDATE`
  if (blocked !== undefined) {
    yield* forgive(db, id)
    const aftermath = yield* release(db, [id], new Map())
    return aftermath.freed.length === 0
      ? { _tag: "Unchanged", state: "blocked" }
      : { _tag: "Retried", ...blocked, aftermath }
  }
  const [row] = yield* sql<{ readonly state: JobState }>`
    SELECT state
    FROM ${db.allJobs}
    WHERE id = ${id}::bigint`
  return row === undefined ? { _tag: "NotFound" } : { _tag: "Unchanged", state: row.state }
})

/** Lets a job run whatever became of those of its parents that have failed. */
const forgive = Effect.fnUntraced(function* (db: Db, id: JobId) {
  yield* db.sql`
    UPDATE ${dependenciesOf(db)}
    SET on_failure = 'run'
    WHERE child_id = ${id}::bigint
      AND outcome IN ('discarded', 'cancelled')`
})

/**
 * Lets jobs wait again for one that lives again: those that are blocked, and those that were cancelled on its account,
 * with what was cancelled on theirs. A job that another failure would have cancelled too stays as it is.
 */
const reopen = Effect.fnUntraced(function* (db: Db, id: JobId, deltas: Deltas) {
  const { sql } = db
  const now = yield* db.now
  const kept = sql.literal(restoredColumns)
  const all: Array<JobId> = []
  let parents: ReadonlyArray<JobId> = [id]
  while (parents.length > 0) {
    const waited = sql`
      SELECT d.child_id
      FROM ${dependenciesOf(db)} AS d
      WHERE d.parent_id = ANY(${ids(parents)}::bigint[])`
    const blocked = yield* sql<{ readonly id: bigint }>`
      SELECT id
      FROM ${db.jobs}
      WHERE id IN (${waited})
        AND state = 'blocked'
      ORDER BY id
      FOR UPDATE`
    const fallen = yield* sql<{ readonly id: bigint; readonly keyed: boolean }>`
      SELECT a.id, a.unique_key IS NOT NULL AS keyed
      FROM ${db.archive} AS a
      WHERE a.id IN (${waited})
        AND a.state = 'cancelled'
        AND a.links & ${bit(db, "cascaded")} <> 0
        AND NOT EXISTS (
          SELECT FROM ${dependenciesOf(db)} AS d
          WHERE d.child_id = a.id
            AND d.outcome IN ('discarded', 'cancelled')
            AND d.on_failure = 'cancel'
            AND NOT EXISTS (SELECT FROM ${db.jobs} AS p WHERE p.id = d.parent_id)
        )
      ORDER BY a.unique_key, a.id
      FOR UPDATE`
    const chosen: Array<JobId> = []
    for (const row of fallen) {
      const child = jobId(row.id)
      // A unique job whose key somebody else has taken since stays cancelled.
      if (!row.keyed || (yield* reacquire(db, child)) === undefined) chosen.push(child)
    }
    const restored = yield* sql<{ readonly id: bigint; readonly links: number; readonly batch_id: bigint | null }>`
      WITH finished AS (
        DELETE FROM ${db.archive}
        WHERE id = ANY(${ids(chosen)}::bigint[])
        RETURNING *
      ),
      restored AS (
        INSERT INTO ${db.jobs} (${kept}, links, state, run_at, epoch, max_attempts)
        OVERRIDING SYSTEM VALUE
        SELECT ${kept}, links & ~${bit(db, "cascaded")}, 'blocked', ${now}, epoch + 1,
          greatest(max_attempts, attempt + 1)
        FROM finished
      )
      SELECT id, links, batch_id
      FROM finished`
    const open = [...blocked, ...restored].map((row) => jobId(row.id))
    yield* sql`
      UPDATE ${dependenciesOf(db)} AS d
      SET outcome = NULL,
        result = NULL
      WHERE d.child_id = ANY(${ids(open)}::bigint[])
        AND d.outcome IS NOT NULL
        AND (d.parent_id = ANY(${ids(parents)}::bigint[]) OR d.outcome IN ('discarded', 'cancelled'))
        AND EXISTS (SELECT FROM ${db.jobs} AS p WHERE p.id = d.parent_id)`
    // One that stays cancelled on another's account comes back with that one, if this one has succeeded by then.
    yield* sql`
      UPDATE ${dependenciesOf(db)} AS d
      SET outcome = NULL,
        result = NULL
      WHERE d.parent_id = ANY(${ids(parents)}::bigint[])
        AND d.outcome IS NOT NULL
        AND EXISTS (
          SELECT FROM ${db.archive} AS a
          WHERE a.id = d.child_id
            AND a.state = 'cancelled'
            AND a.links & ${bit(db, "cascaded")} <> 0
        )`
    for (const row of restored) {
      all.push(jobId(row.id))
      if (row.batch_id !== null) deltaOf(deltas, batchId(row.batch_id)).cancelled--
    }
    parents = restored.filter((row) => (row.links & link.awaited) !== 0).map((row) => jobId(row.id))
  }
  if (all.length > 0) yield* heal(db, all)
})
