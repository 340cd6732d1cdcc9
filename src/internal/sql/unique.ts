/** Inserts jobs of which some are unique: reserves their keys, and deals with those that are taken. */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { JobId, JobRow } from "../../JobRow.ts"
import { Encrypted, envelopeOf, type Place } from "../envelope.ts"
import type { MergeRefusal, NewJob, UniqueRequest } from "../newJob.ts"
import type { ReplaceField, UniqueRule, WaitingState } from "../../Unique.ts"
import { array, type Db, oid } from "./db.ts"
import { dependenciesOf } from "./depend.ts"
import { type Inserted, insert, type Reservation } from "./enqueue.ts"
import { type JobColumns, jobId, jobRow } from "./row.ts"
import { argsOf, blindKeys, open, openRow, refusesClear, sealText, seals } from "./seal.ts"
import { sqlState } from "./statement.ts"
import { nameIn } from "./quote.ts"

/** What became of a new job. */
export type Stored =
  /** `notified` where its statement has told the nodes of it. */
  | { readonly _tag: "Inserted"; readonly inserted: Inserted; readonly notified?: boolean }
  | { readonly _tag: "Existing" | "Replaced" | "Debounced" | "ConflictExecuting"; readonly job: JobRow }

/**
 * Stores the jobs, each unique one only where its key is free, and returns what became of each in the order given.
 *
 * Runs in one transaction. Keys are reserved in their own order, so that two calls never wait for each other in a
 * circle; a key that another transaction holds uncommitted is waited for, and its rollback lets this one in. What
 * holds a key is read after that, in later statements. Of jobs of one call that share a key the first counts as there
 * before the others.
 */
export const insertUnique = (
  db: Db,
  jobs: ReadonlyArray<NewJob>,
  awaited: ReadonlySet<number> = new Set()
): Effect.Effect<ReadonlyArray<Stored>, MergeRefusal | SqlError> =>
  Effect.flatMap(blindKeys(db, jobs), (blinded) => insertBlinded(db, blinded, awaited))

/** Removes keys whose time is over, and those of jobs that are no more. */
export const pruneKeys = Effect.fnUntraced(function* (db: Db) {
  const now = yield* db.now
  yield* db.statement(db.sql`
    DELETE FROM ${keysOf(db)} AS u
    WHERE u.expires_at <= ${now}
      OR (
        u.states & 224 <> 0
        AND NOT EXISTS (SELECT FROM ${db.allJobs} AS j WHERE j.id = u.job_id)
      )`)
})

/**
 * Takes the key of a finished job again, for another life of it; says who holds it where it is taken.
 *
 * A job without a key, or one that is not to hold it while it waits, takes nothing.
 */
export const reacquire = Effect.fnUntraced(function* (db: Db, id: JobId) {
  const now = yield* db.now
  const [row] = yield* db.sql<{ readonly holder: bigint | null }>`
    WITH job AS (
      SELECT id, unique_key, unique_states
      FROM ${db.archive}
      WHERE id = ${id}::bigint
        AND unique_key IS NOT NULL
        AND unique_states & 4 <> 0
    ),
    taken AS (
      INSERT INTO ${keysOf(db)} AS u (key, job_id, states, first_at)
      SELECT unique_key, id, unique_states, ${now}
      FROM job
      ON CONFLICT (key) DO UPDATE
      SET job_id = excluded.job_id,
        states = excluded.states,
        first_at = excluded.first_at,
        expires_at = NULL
      WHERE u.job_id = excluded.job_id
        OR u.expires_at <= ${now}
      RETURNING u.key
    )
    SELECT (SELECT u.job_id FROM ${keysOf(db)} AS u WHERE u.key = job.unique_key) AS holder
    FROM job
    WHERE NOT EXISTS (SELECT FROM taken)`
  return row === undefined ? undefined : jobId(row.holder ?? 0)
})

// internal

const insertBlinded = (
  db: Db,
  jobs: ReadonlyArray<NewJob>,
  awaited: ReadonlySet<number>
): Effect.Effect<ReadonlyArray<Stored>, MergeRefusal | SqlError> =>
  db.transaction(
    Effect.gen(function* () {
      const stored = jobs.map((): Stored | undefined => undefined)
      const firstOf = new Map<string, number>()
      for (const [i, { unique }] of jobs.entries()) {
        if (unique !== undefined && !firstOf.has(unique.text)) firstOf.set(unique.text, i)
      }
      const taken = yield* reserve(db, jobs, [...firstOf.values()])
      const won = jobs.flatMap((job, i) => (job.unique === undefined || taken.won.has(i) ? [i] : []))
      const inserted = yield* insert(
        db,
        won.map((i) => jobs[i] as NewJob), // within its bounds
        {
          reservation: (position) => taken.won.get(won[position] as number), // within its bounds
          awaited: new Set(won.flatMap((i, position) => (awaited.has(i) ? [position] : [])))
        }
      )
      for (const [position, i] of won.entries()) {
        stored[i] = { _tag: "Inserted", inserted: inserted[position] as Inserted } // one row for each job
      }
      for (const [i, job] of jobs.entries()) {
        if (job.unique === undefined || stored[i] !== undefined) continue
        const key = taken.keys.get(job.unique.text) as string // every text was reserved or found taken
        stored[i] = yield* meet(db, job as NewJob & { readonly unique: UniqueRequest }, key) // only such jobs come here
      }
      return stored as ReadonlyArray<Stored> // each place is filled by now
    })
  )

const keysOf = (db: Db) => db.sql(`${db.schema}.unique_keys`)

interface Reserved {
  /** The keys that are ours now, by the position of their job. */
  readonly won: ReadonlyMap<number, Reservation>
  /** All keys by their text, in hexadecimal. */
  readonly keys: ReadonlyMap<string, string>
}

const reserve = Effect.fnUntraced(function* (
  db: Db,
  jobs: ReadonlyArray<NewJob>,
  positions: ReadonlyArray<number>
): Effect.fn.Return<Reserved, SqlError> {
  const { sql } = db
  const now = yield* db.now
  const wanted = positions.flatMap((i) => {
    const unique = jobs[i]?.unique
    return unique === undefined ? [] : [{ i, text: unique.text, rule: unique.rule }]
  })
  const rows = yield* sql<{ readonly position: number; readonly key: string; readonly id: bigint | null }>`
    WITH wanted AS MATERIALIZED (
      SELECT job.position, sha256(convert_to(job.text, 'UTF8')) AS key, job.states, job.period_millis
      FROM unnest(
        ${array(
          wanted.map((job) => job.i),
          oid.int4
        )}::integer[],
        ${array(
          wanted.map((job) => job.text),
          oid.text
        )}::text[],
        ${array(
          wanted.map((job) => job.rule.states),
          oid.int2
        )}::smallint[],
        ${array(
          wanted.map((job) => job.rule.periodMillis ?? null),
          oid.float8
        )}::float8[]
      ) AS job (position, text, states, period_millis)
    ),
    won AS (
      INSERT INTO ${keysOf(db)} AS u (key, job_id, states, first_at, expires_at)
      SELECT key, nextval(${nameIn(db.schema, "jobs_id_seq")}::text::regclass), states, ${now},
        ${now} + period_millis * interval '1 millisecond'
      FROM wanted
      ORDER BY key
      ON CONFLICT (key) DO UPDATE
      SET job_id = excluded.job_id,
        states = excluded.states,
        first_at = excluded.first_at,
        expires_at = excluded.expires_at
      WHERE u.expires_at <= ${now}
      RETURNING u.key, u.job_id
    )
    SELECT wanted.position, encode(wanted.key, 'hex') AS key, won.job_id AS id
    FROM wanted
    LEFT JOIN won
      ON won.key = wanted.key`
  const won = new Map<number, Reservation>()
  const keys = new Map<string, string>()
  for (const row of rows) {
    const unique = jobs[row.position]?.unique
    if (unique === undefined) continue
    keys.set(unique.text, row.key)
    if (row.id !== null) won.set(row.position, { id: jobId(row.id), key: row.key, states: unique.rule.states })
  }
  return { won, keys }
})

/** Deals with a job whose key is taken. */
const meet = (
  db: Db,
  job: NewJob & { readonly unique: UniqueRequest },
  key: string
): Effect.Effect<Stored, MergeRefusal | SqlError> =>
  Effect.gen(function* () {
    const { sql } = db
    const [row] = yield* sql<JobColumns & { readonly first_at: Date }>`
      SELECT j.*, u.first_at
      FROM ${keysOf(db)} AS u
      JOIN ${db.allJobs} AS j
        ON j.id = u.job_id
      WHERE u.key = decode(${key}, 'hex')`
    if (row === undefined) return yield* takeOver(db, job, key)
    const holder = yield* openRow(db, jobRow(row))
    const { rule } = job.unique
    if (rule.debounce?.leading === true) return yield* swallow(db, job.unique.rule, key, holder)
    const fields = rule.debounce === undefined ? rule.replace[holder.state as WaitingState] : debounced(rule) // others are not met
    if (holder.state === "executing") {
      const asks = rule.debounce !== undefined || Object.keys(rule.replace).length > 0
      return { _tag: asks ? "ConflictExecuting" : "Existing", job: holder }
    }
    if (fields === undefined || holder.finishedAt !== undefined) return { _tag: "Existing", job: holder }
    return yield* change(db, job, holder, fields, row.first_at)
  })

const debounced = (rule: UniqueRule): ReadonlyArray<ReplaceField> =>
  rule.debounce?.args === "keep" ? ["runAt"] : ["runAt", "args"]

/** The holder is no more, pruned with its key left: the key is ours. */
const takeOver = (
  db: Db,
  job: NewJob & { readonly unique: UniqueRequest },
  key: string
): Effect.Effect<Stored, MergeRefusal | SqlError> =>
  Effect.gen(function* () {
    yield* db.sql`
      DELETE FROM ${keysOf(db)}
      WHERE key = decode(${key}, 'hex')`
    const [stored] = yield* insertBlinded(db, [job], new Set())
    return stored as Stored // one job in, one answer out
  })

/** A leading debounce has run: the key is held until the enqueues have paused, or for `maxWait` in all. */
const swallow = Effect.fnUntraced(function* (
  db: Db,
  rule: UniqueRule,
  key: string,
  holder: JobRow
): Effect.fn.Return<Stored, SqlError> {
  const now = yield* db.now
  yield* db.sql`
    UPDATE ${keysOf(db)}
    SET expires_at = least(
      ${now} + ${rule.debounce?.waitMillis ?? 0}::float8 * interval '1 millisecond',
      first_at + ${rule.debounce?.maxWaitMillis ?? null}::float8 * interval '1 millisecond'
    )
    WHERE key = decode(${key}, 'hex')`
  return { _tag: "Debounced", job: holder }
})

/**
 * Changes a waiting holder.
 *
 * We hold its key's row, and whoever ends the holder has its row and wants the key: the wait for the row is bounded,
 * in a savepoint, so that the two cannot wait for each other. A holder that is moving just then counts as executing; so
 * does one that has fanned out, since its handler has made children of the args that it had.
 */
const change = (
  db: Db,
  job: NewJob & { readonly unique: UniqueRequest },
  holder: JobRow,
  fields: ReadonlyArray<ReplaceField>,
  firstAt: Date
): Effect.Effect<Stored, MergeRefusal | SqlError> =>
  db
    .transaction(
      Effect.gen(function* () {
        const { sql } = db
        const now = yield* db.now
        const { rule } = job.unique
        const [before] = yield* sql<{ readonly value: string }>`SELECT current_setting('lock_timeout') AS value`
        yield* sql`SELECT set_config('lock_timeout', ${`${lockMillis}ms`}, true)`
        const [locked] = yield* sql<{ readonly state: string; readonly args: unknown; readonly begun: boolean }>`
        SELECT j.state, j.args,
          EXISTS (
            SELECT FROM ${dependenciesOf(db)} AS d
            WHERE d.child_id = j.id
              AND d.parent_id > j.id
          ) AS begun
        FROM ${db.jobs} AS j
        WHERE j.id = ${holder.id}::bigint
        FOR UPDATE`
        yield* sql`SELECT set_config('lock_timeout', ${before?.value ?? "0"}, true)`
        if (locked === undefined || !isWaiting(locked.state) || locked.begun) {
          return { _tag: "ConflictExecuting", job: holder } satisfies Stored
        }
        const replaces = (field: ReplaceField): boolean => fields.includes(field)
        const place = argsOf(holder.id, holder.worker)
        const text = !replaces("args")
          ? null
          : rule.debounce?.args === "merge"
            ? yield* job.unique.merge(yield* openSurely(db, locked.args, place, job))
            : job.args
        const encrypted = seals(db, job) || envelopeOf(locked.args) !== undefined
        const args = text === null ? null : yield* sealText(db, text, place, encrypted)
        const wait = rule.debounce
        const due =
          wait === undefined
            ? "at" in job.due
              ? sql`${job.due.at}::timestamptz`
              : sql`${now} + ${job.due.delayMillis}::float8 * interval '1 millisecond'`
            : sql`least(
              ${now} + ${wait.waitMillis}::float8 * interval '1 millisecond',
              ${firstAt}::timestamptz + ${wait.maxWaitMillis ?? null}::float8 * interval '1 millisecond'
            )`
        const runAt = sql`greatest((${due})::timestamptz(3), (${now})::timestamptz(3))`
        const [row] = yield* sql<JobColumns>`
        UPDATE ${db.jobs}
        SET args = coalesce(${args}::text::jsonb, args),
          priority = ${replaces("priority") ? sql`${job.priority}::integer` : sql`priority`},
          max_attempts = ${replaces("maxAttempts") ? sql`greatest(${job.maxAttempts}::integer, attempt + 1)` : sql`max_attempts`},
          tags = ${replaces("tags") ? sql`${job.tags === undefined ? null : array(job.tags, oid.text)}::text[]` : sql`tags`},
          meta = ${replaces("meta") ? sql`${job.meta ?? null}::text::jsonb` : sql`meta`},
          run_at = ${replaces("runAt") ? runAt : sql`run_at`},
          state = ${
            replaces("runAt")
              ? sql`CASE
            WHEN state = 'blocked' THEN state
            WHEN ${runAt} > (${now})::timestamptz(3) THEN 'scheduled'
            ELSE 'available'
          END`
              : sql`state`
          }
        WHERE id = ${holder.id}::bigint
          AND state IN ('scheduled', 'blocked', 'available', 'retryable')
        RETURNING *, NULL::timestamptz AS finished_at, NULL::jsonb AS result`
        return row === undefined
          ? ({ _tag: "ConflictExecuting", job: holder } satisfies Stored)
          : ({
              _tag: wait === undefined ? "Replaced" : "Debounced",
              job: yield* openRow(db, jobRow(row))
            } satisfies Stored)
      })
    )
    .pipe(
      Effect.catchIf(
        (error): error is SqlError => isLockTimeout(error),
        () => Effect.succeed<Stored>({ _tag: "ConflictExecuting", job: holder })
      )
    )

/** Args that are about to be merged: what cannot be read is not replaced. */
const openSurely = (db: Db, args: unknown, place: Place, { encrypted }: NewJob) =>
  Effect.flatMap(open(db, args, place, refusesClear(db, encrypted)), (value) =>
    value instanceof Encrypted ? Effect.fail(value.problem) : Effect.succeed(value)
  )

/** How long to wait for a holder that another transaction is moving. */
const lockMillis = 250

const isWaiting = (state: string): boolean => state !== "executing"

const isLockTimeout = (error: unknown): boolean =>
  typeof error === "object" &&
  error !== null &&
  "_tag" in error &&
  error._tag === "SqlError" &&
  sqlState(error as SqlError) === "55P03" // sqlState reads any error
