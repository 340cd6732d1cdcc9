/** Cron entries and the ledger of their ticks. */
import * as Effect from "effect/Effect"
import type { JobId } from "../../JobRow.ts"
import { cancel, type Cancelled } from "./cancel.ts"
import { array, type Db, ids, oid } from "./db.ts"
import { keptMillis } from "./archive.ts"
import { insert, type Inserted } from "./enqueue.ts"
import { jobId } from "./row.ts"
import type { Encrypted, Place } from "../envelope.ts"
import type { NewJob } from "../newJob.ts"
import { openText, sealText, seals } from "./seal.ts"

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
  /** Stands for args that cannot be read here. */
  readonly unreadable?: Encrypted
  /** Whether its jobs are; undefined for what the cipher says. */
  readonly encrypted?: boolean | undefined
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
  readonly expires_in_millis: number | null
  readonly on_expire: "cancel" | null
  readonly paused_at: Date | null
  readonly problem: string | null
  readonly worker_known: boolean
  readonly now: Date
}

const columns = (db: Db) =>
  db.sql`c.name, c.source, c.expression, c.timezone, c.on_gap, c.on_overlap, c.worker, c.queue, c.args::text AS args,
      c.priority, c.max_attempts, c.tags, c.meta::text AS meta, c.partition_key, c.expires_in_millis, c.on_expire, c.catch_up, c.overlap,
      c.jitter_millis, c.last_tick, c.next_tick, c.paused_at, c.problem`

/**
 * Stores an entry; one that is new, or whose expression or zone changed, starts at this instant without a past.
 *
 * Says `Conflict` where the database owns an entry of that name and code asks for it, or the other way round. Nodes that
 * start together meet here: the first inserts, the others wait for its row and update it.
 */
export const upsert = Effect.fnUntraced(function* (db: Db, entry: NewCron) {
  const { sql } = db
  const { job } = entry
  const place: Place = { field: "cron", of: entry.name, worker: job.worker }
  const args = yield* sealText(db, job.args, place, seals(db, job))
  // Of a definition, which knows no instants and no other jobs.
  const expiresIn = job.expires !== undefined && "afterMillis" in job.expires ? job.expires.afterMillis : null
  const onExpire = job.onExpire === "cancel" ? job.onExpire : null
  const nextAfter = (instant: Date): Date | null => {
    const next = entry.nextAfter(instant.getTime())
    return next === undefined ? null : new Date(next)
  }
  const insertEntry = Effect.fnUntraced(function* (instant: Date) {
    const rows = yield* sql`
      INSERT INTO ${name(db)} (
        name, source, expression, timezone, on_gap, on_overlap, worker, queue, args, priority, max_attempts, tags,
        meta, partition_key, expires_in_millis, on_expire, catch_up, overlap, jitter_millis, last_tick, next_tick, inserted_at, updated_at
      )
      VALUES (
        ${entry.name}, ${entry.source}, ${entry.expression}, ${entry.timezone}, ${entry.onGap ?? null}::text,
        ${entry.onOverlap ?? null}::text, ${job.worker}, ${job.queue}, ${args}::text::jsonb,
        ${job.priority}::integer, ${job.maxAttempts}::integer,
        ${job.tags === undefined ? null : array(job.tags, oid.text)}::text[],
        ${job.meta ?? null}::text::jsonb, ${job.partitionKey ?? null}::text,
        ${expiresIn}::float8, ${onExpire}::text,
        ${JSON.stringify(entry.catchUp)}::text::jsonb, ${entry.overlap}, ${entry.jitterMillis}::integer,
        ${instant}::timestamptz, ${nextAfter(instant)}::timestamptz, ${instant}::timestamptz, ${instant}::timestamptz
      )
      ON CONFLICT DO NOTHING
      RETURNING name`
    return rows.length === 1
  })
  const update = (instant: Date, lastTick: Date) => sql`
    UPDATE ${name(db)}
    SET expression = ${entry.expression},
      timezone = ${entry.timezone},
      on_gap = ${entry.onGap ?? null}::text,
      on_overlap = ${entry.onOverlap ?? null}::text,
      worker = ${job.worker},
      queue = ${job.queue},
      args = ${args}::text::jsonb,
      priority = ${job.priority}::integer,
      max_attempts = ${job.maxAttempts}::integer,
      tags = ${job.tags === undefined ? null : array(job.tags, oid.text)}::text[],
      meta = ${job.meta ?? null}::text::jsonb,
      partition_key = ${job.partitionKey ?? null}::text,
      expires_in_millis = ${expiresIn}::float8,
      on_expire = ${onExpire}::text,
      catch_up = ${JSON.stringify(entry.catchUp)}::text::jsonb,
      overlap = ${entry.overlap},
      jitter_millis = ${entry.jitterMillis}::integer,
      last_tick = ${lastTick}::timestamptz,
      next_tick = ${nextAfter(lastTick)}::timestamptz,
      problem = NULL,
      updated_at = ${instant}::timestamptz
    WHERE name = ${entry.name}`
  const store = Effect.gen(function* () {
    while (true) {
      if (yield* insertEntry(yield* db.instant)) return { _tag: "Stored" } as const
      const [known] = yield* sql<Pick<CronColumns, "source" | "expression" | "timezone" | "last_tick">>`
        SELECT source, expression, timezone, last_tick
        FROM ${name(db)}
        WHERE name = ${entry.name}
        FOR UPDATE`
      // Removed in between.
      if (known === undefined) continue
      if (known.source !== entry.source) return { _tag: "Conflict", source: known.source } as const
      const instant = yield* db.instant
      const same = known.expression === entry.expression && known.timezone === entry.timezone
      yield* update(instant, same ? known.last_tick : instant)
      return { _tag: "Stored" } as const
    }
  })
  return yield* db.transaction(store)
})

/** All entries, or one, with what is known of their workers. */
export const list = Effect.fnUntraced(function* (db: Db, only: string | undefined) {
  const { sql } = db
  const now = yield* db.now
  const rows = yield* sql<CronColumns>`
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
  return yield* Effect.forEach(rows, (row) => readable(db, row))
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
 * Entries from code are due for nodes that have them in their code; those of the database for all. Nodes with the same
 * entries in their code have a leader among themselves: one with other entries could not keep the time of theirs.
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
      INSERT INTO ${leadersOf(db)} AS l (name, node, term, expires_at)
      SELECT 'cron ' || md5(${array(node.entries.toSorted(), oid.text)}::text[]::text), ${node.id}::integer, 1, ${now} + ${node.leaseMillis}::float8 * interval '1 millisecond'
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
      (SELECT (extract(epoch FROM min(next_tick) - ${now}) * 1000)::float8 FROM entry WHERE next_tick > ${now})
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

/** What became of the ticks of an entry. */
export interface Evaluated {
  /** Those that nobody had dealt with, oldest first; without a job where the overlap policy held it back. */
  readonly ticks: ReadonlyArray<{ readonly tick: Date; readonly job: Inserted | undefined }>
  readonly worker: string
  readonly queue: string
  /** The jobs of earlier ticks that this one cancelled, or whose holders are to. */
  readonly cancelled: ReadonlyArray<{ readonly id: JobId; readonly reason: string; readonly result: Cancelled }>
  /** How long its jobs may wait once they are due. */
  readonly expiresMillis: number | undefined
}

/**
 * Deals with a due entry in one transaction: its ledger, its jobs, and where it goes on.
 *
 * The entry's row is locked first; everything after it is read in later statements. Undefined where another transaction
 * holds it, or has dealt with it. A tick that has a row in the ledger is never inserted again, whoever thinks so.
 */
export const evaluate = Effect.fnUntraced(function* (
  db: Db,
  entry: string,
  plan: (columns: CronColumns, now: number) => CronPlan
) {
  const { sql } = db
  return yield* db.transaction(
    Effect.gen(function* () {
      const instant = yield* db.instant
      const [row] = yield* sql<Due>`
        SELECT ${columns(db)}, c.live_jobs, true AS worker_known, ${instant}::timestamptz AS now
        FROM ${name(db)} AS c
        WHERE c.name = ${entry}
          AND c.paused_at IS NULL
          AND c.next_tick <= ${instant}::timestamptz
        FOR UPDATE SKIP LOCKED`
      if (row === undefined) return undefined
      const { next, problem, ticks } = plan(row, instant.getTime())
      const { evaluated, live } = yield* insertTicks(db, yield* readable(db, row), ticks, instant)
      yield* sql`
        UPDATE ${name(db)}
        SET last_tick = ${instant}::timestamptz,
          next_tick = ${next === undefined ? null : new Date(next)}::timestamptz,
          live_jobs = ${ids(live)}::bigint[],
          problem = ${problem ?? null}::text
        WHERE name = ${entry}`
      return evaluated
    })
  )
})

/** Notes why an entry cannot tick; it stays due. */
export const fail = Effect.fnUntraced(function* (db: Db, entry: string, problem: string) {
  yield* db.statement(db.sql`
    UPDATE ${name(db)}
    SET problem = ${problem}
    WHERE name = ${entry}
      AND problem IS DISTINCT FROM ${problem}`)
})

/** Gives up a node's leadership, so that another takes it at its next look. */
export const resign = Effect.fnUntraced(function* (db: Db, node: number) {
  yield* db.statement(db.sql`
    DELETE FROM ${leadersOf(db)}
    WHERE node = ${node}::integer
      AND name LIKE 'cron %'`)
})

/** The job of an entry: for a tick, or for now. */
export const jobOf = (entry: CronColumns, tick?: Date): NewJob => ({
  worker: entry.worker,
  queue: entry.queue,
  args: entry.args,
  encrypted: entry.encrypted,
  sealed: entry.unreadable !== undefined,
  priority: entry.priority,
  maxAttempts: entry.max_attempts,
  due: tick === undefined ? { delayMillis: 0 } : { at: new Date(tick.getTime() + jitterOf(entry, tick)) },
  scheduledFor: tick,
  tags: entry.tags ?? undefined,
  meta: entry.meta ?? undefined,
  partitionKey: entry.partition_key ?? undefined,
  expires: entry.expires_in_millis === null ? undefined : { afterMillis: entry.expires_in_millis },
  onExpire: entry.on_expire ?? undefined
})

/**
 * Forgets leaders long gone, and ticks whose jobs the history no longer keeps and that are older than a day more than
 * their entry's catch-up looks back.
 */
export const pruneTicks = Effect.fnUntraced(function* (db: Db) {
  const now = yield* db.now
  yield* db.statement(db.sql`
    DELETE FROM ${ticksOf(db)} AS t
    WHERE t.tick < ${now} - ${keptMillis(db, "completed", now)} * interval '1 millisecond'
      AND t.tick < ${now} - interval '1 day' - coalesce(
      (
        SELECT (c.catch_up ->> 'windowMillis')::float8 * interval '1 millisecond'
        FROM ${name(db)} AS c
        WHERE c.name = t.name
      ),
      interval '0'
    )`)
  yield* db.statement(db.sql`
    DELETE FROM ${leadersOf(db)}
    WHERE expires_at < ${now} - interval '1 day'`)
})

// internal

const name = (db: Db) => db.sql(`${db.schema}.cron`)

const ticksOf = (db: Db) => db.sql(`${db.schema}.cron_ticks`)

const leadersOf = (db: Db) => db.sql(`${db.schema}.leaders`)

const readable = <Row extends CronColumns>(db: Db, row: Row): Effect.Effect<Row> =>
  Effect.map(openText(db, row.args, { field: "cron", of: row.name, worker: row.worker }), (args) => ({
    ...row,
    ...args
  }))

interface Due extends CronColumns {
  readonly live_jobs: ReadonlyArray<bigint>
}

const insertTicks = Effect.fnUntraced(function* (db: Db, entry: Due, ticks: ReadonlyArray<number>, instant: Date) {
  const { sql } = db
  const { overlap } = entry
  const before = overlap === "allow" ? [] : yield* liveJobs(db, entry)
  const claimed =
    ticks.length === 0
      ? []
      : yield* sql<{ readonly tick: Date }>`
          INSERT INTO ${ticksOf(db)} (name, tick, outcome, inserted_at)
          SELECT ${entry.name}, tick, 'skipped', ${instant}::timestamptz
          FROM unnest(${array(
            ticks.map((tick) => new Date(tick)),
            oid.timestamptz
          )}::timestamptz[]) AS tick
          ON CONFLICT DO NOTHING
          RETURNING tick`
  const fresh = claimed.map(({ tick }) => tick).toSorted((a, b) => a.getTime() - b.getTime())
  const running = allowed(overlap, fresh, before)
  const inserted =
    running.length === 0
      ? []
      : yield* insert(
          db,
          running.map((tick) => jobOf(entry, tick))
        )
  if (running.length > 0) {
    yield* sql`
      UPDATE ${ticksOf(db)} AS t
      SET outcome = 'inserted',
        job_id = job.id
      FROM unnest(
        ${array(running, oid.timestamptz)}::timestamptz[],
        ${ids(inserted.map((job) => job.id))}::bigint[]
      ) AS job (tick, id)
      WHERE t.name = ${entry.name}
        AND t.tick = job.tick`
  }
  const reason = `the next tick of the cron entry ${entry.name}`
  const cancelled =
    overlap === "cancelRunning" && running.length > 0
      ? yield* Effect.forEach(before, ({ id }) =>
          Effect.map(cancelSurely(db, id, reason), (result) => ({ id, reason, result }))
        )
      : []
  const evaluated: Evaluated = {
    ticks: fresh.map((tick) => ({ tick, job: inserted[running.indexOf(tick)] })),
    worker: entry.worker,
    queue: entry.queue,
    cancelled,
    expiresMillis: entry.expires_in_millis ?? undefined
  }
  return { evaluated, live: overlap === "allow" ? [] : [...before, ...inserted].map((job) => job.id) }
})

/** Which of several ticks run; they are dealt with as if they had come one by one, and none of their jobs had begun. */
const allowed = (
  overlap: Overlap,
  ticks: ReadonlyArray<Date>,
  live: ReadonlyArray<{ readonly state: string }>
): ReadonlyArray<Date> => {
  switch (overlap) {
    case "allow":
      return ticks
    case "skip":
      return live.length > 0 ? [] : ticks.slice(0, 1)
    case "queueOne":
      return live.some((job) => job.state !== "executing") ? [] : ticks.slice(0, 1)
    case "cancelRunning":
      return ticks.slice(-1)
  }
}

/** The jobs of an entry's earlier ticks that have not ended. */
const liveJobs = Effect.fnUntraced(function* (db: Db, entry: Due) {
  const rows = yield* db.sql<{ readonly id: bigint; readonly state: string }>`
    SELECT id, state
    FROM ${db.jobs}
    WHERE id = ANY(${array(entry.live_jobs, oid.int8)}::bigint[])
    ORDER BY id`
  return rows.map((row) => ({ id: jobId(row.id), state: row.state }))
})

const cancelSurely = Effect.fnUntraced(function* (db: Db, id: JobId, reason: string) {
  while (true) {
    const result = yield* cancel(db, id, reason)
    if (result._tag !== "Moved") return result
  }
})

/** A delay below the entry's jitter that every node computes alike (FNV-1a of name and tick). */
const jitterOf = (entry: CronColumns, tick: Date): number => {
  if (entry.jitter_millis === 0) return 0
  let hash = 0x811c9dc5
  for (const char of `${entry.name}@${tick.getTime()}`) hash = Math.imul(hash ^ (char.codePointAt(0) ?? 0), 0x01000193)
  return (hash >>> 0) % entry.jitter_millis
}
