/** Cron entries and the ledger of their ticks. */
import * as Effect from "effect/Effect"
import type { JobId } from "../../JobRow.ts"
import { array, type Db, oid } from "./db.ts"
import { insert, type NewJob } from "./enqueue.ts"
import { jobId } from "./row.ts"
import { autonomous } from "./statement.ts"

/** What happens to ticks that were missed: none runs, the last one runs, or the last `max` of a window. */
export type CatchUp =
  | { readonly _tag: "skip" }
  | { readonly _tag: "latest" }
  | { readonly _tag: "all"; readonly max: number; readonly windowMillis: number }

/** What happens to a tick while the job of an earlier one lives. */
export type Overlap = "allow" | "skip" | "queueOne" | "cancelRunning"

/** An entry to store, checked and encoded. */
export interface NewCron {
  readonly name: string
  readonly source: "code" | "database"
  readonly expression: string
  readonly timezone: string
  readonly onGap: "run" | "skip" | undefined
  readonly onOverlap: "first" | "both" | undefined
  readonly job: NewJob
  readonly catchUp: CatchUp
  readonly overlap: Overlap
  readonly jitterMillis: number
  /** The first tick after the given instant; undefined where there is none. */
  readonly nextAfter: (millis: number) => number | undefined
}

/** An entry as stored. */
export interface CronColumns {
  readonly name: string
  readonly source: "code" | "database"
  readonly expression: string
  readonly timezone: string
  readonly on_gap: "run" | "skip" | null
  readonly on_overlap: "first" | "both" | null
  readonly worker: string
  readonly queue: string
  readonly args: string
  readonly priority: number
  readonly max_attempts: number
  readonly tags: ReadonlyArray<string> | null
  readonly meta: string | null
  readonly partition_key: string | null
  readonly catch_up: CatchUp
  readonly overlap: Overlap
  readonly jitter_millis: number
  readonly last_tick: Date
  readonly next_tick: Date | null
  readonly paused_at: Date | null
  readonly problem: string | null
  readonly worker_known: boolean
  readonly now: Date
}

const columns = (db: Db) =>
  db.sql`c.name, c.source, c.expression, c.timezone, c.on_gap, c.on_overlap, c.worker, c.queue, c.args::text AS args,
      c.priority, c.max_attempts, c.tags, c.meta::text AS meta, c.partition_key, c.catch_up, c.overlap,
      c.jitter_millis, c.last_tick, c.next_tick, c.paused_at, c.problem`

/**
 * Stores an entry; one that is new, or whose expression or zone changed, starts at this instant without a past.
 *
 * Says `Conflict` where the database owns an entry of that name and code asks for it, or the other way round.
 */
export const upsert = Effect.fnUntraced(function* (db: Db, entry: NewCron) {
  const { sql } = db
  return yield* autonomous(
    sql,
    Effect.gen(function* () {
      const instant = yield* db.instant
      const [known] = yield* sql<Pick<CronColumns, "source" | "expression" | "timezone" | "last_tick">>`
        SELECT source, expression, timezone, last_tick
        FROM ${name(db)}
        WHERE name = ${entry.name}
        FOR UPDATE`
      if (known !== undefined && known.source !== entry.source)
        return { _tag: "Conflict", source: known.source } as const
      const restarts = known === undefined || known.expression !== entry.expression || known.timezone !== entry.timezone
      const lastTick = restarts ? instant : known.last_tick
      const next = entry.nextAfter(lastTick.getTime())
      const { job } = entry
      yield* sql`
        INSERT INTO ${name(db)} (
          name, source, expression, timezone, on_gap, on_overlap, worker, queue, args, priority, max_attempts, tags,
          meta, partition_key, catch_up, overlap, jitter_millis, last_tick, next_tick, inserted_at, updated_at
        )
        VALUES (
          ${entry.name}, ${entry.source}, ${entry.expression}, ${entry.timezone}, ${entry.onGap ?? null}::text,
          ${entry.onOverlap ?? null}::text, ${job.worker}, ${job.queue}, ${job.args}::text::jsonb,
          ${job.priority}::integer, ${job.maxAttempts}::integer,
          ${job.tags === undefined ? null : array(job.tags, oid.text)}::text[],
          ${job.meta ?? null}::text::jsonb, ${job.partitionKey ?? null}::text,
          ${JSON.stringify(entry.catchUp)}::text::jsonb, ${entry.overlap}, ${entry.jitterMillis}::integer,
          ${lastTick}::timestamptz, ${next === undefined ? null : new Date(next)}::timestamptz,
          ${instant}::timestamptz, ${instant}::timestamptz
        )
        ON CONFLICT (name) DO UPDATE
        SET expression = excluded.expression,
          timezone = excluded.timezone,
          on_gap = excluded.on_gap,
          on_overlap = excluded.on_overlap,
          worker = excluded.worker,
          queue = excluded.queue,
          args = excluded.args,
          priority = excluded.priority,
          max_attempts = excluded.max_attempts,
          tags = excluded.tags,
          meta = excluded.meta,
          partition_key = excluded.partition_key,
          catch_up = excluded.catch_up,
          overlap = excluded.overlap,
          jitter_millis = excluded.jitter_millis,
          last_tick = excluded.last_tick,
          next_tick = excluded.next_tick,
          problem = NULL,
          updated_at = excluded.updated_at`
      return { _tag: "Stored" } as const
    })
  )
})

/** All entries, or one, with what is known of their workers. */
export const list = Effect.fnUntraced(function* (db: Db, only: string | undefined) {
  const { sql } = db
  const now = yield* db.now
  return yield* sql<CronColumns>`
    SELECT ${columns(db)}, ${now} AS now,
      EXISTS (
        SELECT FROM ${db.nodes} AS n
        WHERE n.expires_at > ${now}
          AND c.worker = ANY(n.workers)
      ) AS worker_known
    FROM ${name(db)} AS c
    WHERE ${only ?? null}::text IS NULL
      OR c.name = ${only ?? null}::text
    ORDER BY c.name`
})

/** Removes an entry; its ticks stay until they are pruned. False where there is none. */
export const remove = Effect.fnUntraced(function* (db: Db, entry: string) {
  const rows = yield* db.statement(db.sql`
    DELETE FROM ${name(db)}
    WHERE name = ${entry}
    RETURNING name`)
  return rows.length === 1
})

/**
 * Pauses an entry, or resumes it from this instant on. False where there is none.
 *
 * A resumed entry is due at once with an empty past, so that its next evaluation finds its next tick and no other.
 */
export const pause = Effect.fnUntraced(function* (db: Db, entry: string, paused: boolean) {
  const { sql } = db
  const now = yield* db.now
  const rows = yield* db.statement(sql`
    UPDATE ${name(db)}
    SET paused_at = ${paused ? sql`coalesce(paused_at, ${now})` : sql`NULL`},
      last_tick = ${paused ? sql`last_tick` : sql`CASE WHEN paused_at IS NULL THEN last_tick ELSE ${now} END`},
      next_tick = ${paused ? sql`next_tick` : sql`CASE WHEN paused_at IS NULL THEN next_tick ELSE ${now} END`},
      updated_at = ${now}
    WHERE name = ${entry}
    RETURNING name`)
  return rows.length === 1
})

/** The due entries that this node may evaluate, or when the next one is due. */
export interface CronLook {
  readonly due: ReadonlyArray<string>
  readonly nextMillis: number | undefined
  /** Whether this node is to keep the exact time. */
  readonly leads: boolean
}

/**
 * Takes or renews the leadership where it is free or held, and looks at what is due.
 *
 * Entries from code are due for nodes that have them in their code; those of the database for all.
 */
export const look = Effect.fnUntraced(function* (
  db: Db,
  node: { readonly id: number; readonly entries: ReadonlyArray<string>; readonly leaseMillis: number }
) {
  const { sql } = db
  const now = yield* db.now
  const [row] = yield* db.statement(sql<{
    readonly due: ReadonlyArray<string> | null
    readonly next_millis: number | null
    readonly leads: boolean
  }>`
    WITH lead AS (
      INSERT INTO ${sql(`${db.schema}.leaders`)} AS l (name, node, term, expires_at)
      SELECT 'cron', ${node.id}::integer, 1, ${now} + ${node.leaseMillis}::float8 * interval '1 millisecond'
      WHERE ${node.id}::integer > 0
      ON CONFLICT (name) DO UPDATE
      SET node = excluded.node,
        term = l.term + CASE WHEN l.node = excluded.node THEN 0 ELSE 1 END,
        expires_at = excluded.expires_at
      WHERE l.node = excluded.node
        OR l.expires_at <= ${now}
      RETURNING node
    ),
    entry AS (
      SELECT name, next_tick
      FROM ${name(db)}
      WHERE paused_at IS NULL
        AND next_tick IS NOT NULL
        AND (source = 'database' OR name = ANY(${array(node.entries, oid.text)}::text[]))
    )
    SELECT
      (SELECT array_agg(name ORDER BY next_tick, name) FROM entry WHERE next_tick <= ${now}) AS due,
      (SELECT extract(epoch FROM min(next_tick) - ${now})::float8 * 1000 FROM entry WHERE next_tick > ${now})
        AS next_millis,
      EXISTS (SELECT FROM lead) AS leads`)
  return {
    due: row?.due ?? [],
    nextMillis: row?.next_millis ?? undefined,
    leads: row?.leads ?? false
  } satisfies CronLook
})

/** What to do with a due entry: its ticks that run, and the first one after now. */
export interface CronPlan {
  readonly ticks: ReadonlyArray<number>
  readonly next: number | undefined
  readonly problem?: string
}

/** What became of one tick. */
export interface Ticked {
  readonly tick: Date
  readonly queue: string
  readonly job: JobId | undefined
  readonly cancelled: ReadonlyArray<JobId>
}

/**
 * Deals with a due entry in one transaction: its ledger, its jobs, and where it goes on.
 *
 * The entry's row is locked first, skipping one that another node is at; everything after it is read in later
 * statements. A tick that has a row in the ledger is never inserted again, whoever thinks so.
 */
export const evaluate = Effect.fnUntraced(function* (
  db: Db,
  entry: string,
  plan: (columns: CronColumns, now: number) => CronPlan
) {
  const { sql } = db
  return yield* autonomous(
    sql,
    Effect.gen(function* () {
      const instant = yield* db.instant
      const [row] = yield* sql<CronColumns>`
        SELECT ${columns(db)}, true AS worker_known, ${instant}::timestamptz AS now
        FROM ${name(db)} AS c
        WHERE c.name = ${entry}
          AND c.paused_at IS NULL
          AND c.next_tick <= ${instant}::timestamptz
        FOR UPDATE SKIP LOCKED`
      if (row === undefined) return []
      const { next, problem, ticks } = plan(row, instant.getTime())
      const ticked: Array<Ticked> = []
      for (const tick of ticks) ticked.push(yield* insertTick(db, row, new Date(tick), instant))
      yield* sql`
        UPDATE ${name(db)}
        SET last_tick = ${instant}::timestamptz,
          next_tick = ${next === undefined ? null : new Date(next)}::timestamptz,
          problem = ${problem ?? null}::text
        WHERE name = ${entry}`
      return ticked
    })
  )
})

/** Inserts a job of an entry now, outside its ticks. Undefined where there is no such entry. */
export const runNow = Effect.fnUntraced(function* (db: Db, entry: string) {
  const [row] = yield* list(db, entry)
  if (row === undefined) return undefined
  const [inserted] = yield* insert(db, [jobOf(row, undefined, 0)])
  return inserted === undefined ? undefined : { id: inserted.id, worker: row.worker, queue: row.queue }
})

/** Forgets ticks that are older than a day more than any catch-up looks back. */
export const pruneTicks = Effect.fnUntraced(function* (db: Db) {
  const now = yield* db.now
  yield* db.statement(db.sql`
    DELETE FROM ${ticksOf(db)} AS t
    WHERE t.tick < ${now} - interval '8 days'
      AND t.tick < ${now} - interval '1 day' - coalesce(
        (
          SELECT (c.catch_up ->> 'windowMillis')::float8 * interval '1 millisecond'
          FROM ${name(db)} AS c
          WHERE c.name = t.name
        ),
        interval '0'
      )`)
})

// internal

const name = (db: Db) => db.sql(`${db.schema}.cron`)

const ticksOf = (db: Db) => db.sql(`${db.schema}.cron_ticks`)

const insertTick = Effect.fnUntraced(function* (db: Db, entry: CronColumns, tick: Date, instant: Date) {
  const { sql } = db
  const nothing: Ticked = { tick, queue: entry.queue, job: undefined, cancelled: [] }
  const [claimed] = yield* sql`
    INSERT INTO ${ticksOf(db)} (name, tick, outcome, inserted_at)
    VALUES (${entry.name}, ${tick}::timestamptz, 'skipped', ${instant}::timestamptz)
    ON CONFLICT DO NOTHING
    RETURNING name`
  if (claimed === undefined) return nothing
  const live = entry.overlap === "allow" ? [] : yield* liveJobs(db, entry.name)
  if (entry.overlap === "skip" && live.length > 0) return nothing
  if (entry.overlap === "queueOne" && live.some((job) => job.state !== "executing")) return nothing
  const [inserted] = yield* insert(db, [jobOf(entry, tick, jitterOf(entry, tick))])
  yield* sql`
    UPDATE ${ticksOf(db)}
    SET outcome = 'inserted',
      job_id = ${inserted?.id ?? null}::bigint
    WHERE name = ${entry.name}
      AND tick = ${tick}::timestamptz`
  return {
    ...nothing,
    job: inserted?.id,
    cancelled: entry.overlap === "cancelRunning" ? live.map((job) => job.id) : []
  } satisfies Ticked
})

/** The jobs of an entry's earlier ticks that have not ended. */
const liveJobs = Effect.fnUntraced(function* (db: Db, entry: string) {
  const rows = yield* db.sql<{ readonly id: bigint; readonly state: string }>`
    SELECT j.id, j.state
    FROM ${ticksOf(db)} AS t
    JOIN ${db.jobs} AS j
      ON j.id = t.job_id
    WHERE t.name = ${entry}
    ORDER BY j.id`
  return rows.map((row) => ({ id: jobId(row.id), state: row.state }))
})

const jobOf = (entry: CronColumns, tick: Date | undefined, jitterMillis: number): NewJob => ({
  worker: entry.worker,
  queue: entry.queue,
  args: entry.args,
  priority: entry.priority,
  maxAttempts: entry.max_attempts,
  due: tick === undefined ? { delayMillis: 0 } : { at: new Date(tick.getTime() + jitterMillis) },
  scheduledFor: tick,
  tags: entry.tags ?? undefined,
  meta: entry.meta ?? undefined,
  partitionKey: entry.partition_key ?? undefined
})

/** A delay below the entry's jitter that every node computes alike (FNV-1a of name and tick). */
const jitterOf = (entry: CronColumns, tick: Date): number => {
  if (entry.jitter_millis === 0) return 0
  let hash = 0x811c9dc5
  for (const char of `${entry.name}@${tick.getTime()}`) hash = Math.imul(hash ^ (char.codePointAt(0) ?? 0), 0x01000193)
  return (hash >>> 0) % entry.jitter_millis
}
