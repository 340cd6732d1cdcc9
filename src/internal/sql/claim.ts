/** Takes available jobs for this node. */
import * as Effect from "effect/Effect"
import type { Fragment, Statement } from "effect/sql/Statement"
import type { JobId } from "../../JobRow.ts"
import { byAge } from "./age.ts"
import { claimedColumns, claimedRows, openAll, readClaimed, taking } from "./claimed.ts"
import { array, type Db, oid } from "./db.ts"
import { type Asker, isLive, isPaused, isRemoved, isWaiting } from "./eligible.ts"
import { jobId } from "./row.ts"
import { argsOf, open } from "./seal.ts"

/** What a claim asks for. */
export interface ClaimRequest {
  readonly node: number
  readonly nodeName: string
  readonly queue: string
  readonly limit: number
  /** Where to start in the claim order; from its beginning where undefined. */
  readonly from?: { readonly priority: number; readonly runAt: Date; readonly id: JobId } | undefined
  /** The lowest priority of jobs to take; undefined for any. */
  readonly floor?: number | undefined
  /** The workers that may be claimed, each with the number of its jobs that this node has room for. */
  readonly workers: ReadonlyArray<{
    readonly name: string
    readonly room: number
  }>
  /** Whether the jobs of a worker are encrypted, for workers whose definition says so or not. */
  readonly encrypted?: ReadonlyMap<string, boolean> | undefined
  /** How many milliseconds of a wait count as one priority; undefined for a strict order of priorities. */
  readonly aging?: number | undefined
  /** Whether the queue is one whose jobs every node runs, so that it takes its copies alone. */
  readonly makesCopies?: boolean | undefined
  /** How many jobs to take from which partitions, and none from others; the empty key is that of jobs without one. */
  readonly partitions?: ReadonlyArray<{ readonly key: string; readonly room: number }>
  /** Partition keys of workers whose jobs are left alone; the empty key is that of jobs without one. */
  readonly except?: ReadonlyArray<{ readonly worker: string; readonly key: string }>
  /** Says which of the first jobs are taken, instead of all that there is room for. */
  readonly choose?: (jobs: ReadonlyArray<Waiting>) => Effect.Effect<ReadonlyArray<bigint>>
  /** The workers for which this needs to know the args. */
  readonly reading?: ReadonlyArray<string>
  /** Whether the statement is prepared; defaults to no. */
  readonly isPrepared?: boolean | undefined
}

/** A job that a claim may take. */
export interface Waiting {
  readonly id: bigint
  readonly worker: string
  /** Its partition key; empty for none. */
  readonly key: string
  /** As its handler would read them; null where nobody asked. */
  readonly args: unknown
}

/**
 * Claims up to `limit` jobs in the order (priority, run_at, id), for a node whose lease is live.
 *
 * Reads the index jobs_claim in its own order. The CTE is MATERIALIZED so that LIMIT holds under every plan. A worker
 * that has no room for all its candidates leaves the rest unlocked; the caller then asks again without it.
 *
 * What jobs waited for is read in a later statement; should that fail, the claim's reply counts as lost.
 *
 * `from` spares the scan the index entries of claimed and deleted rows, which pile up below it while some other
 * session holds a snapshot. The update names the rows by an array and not by a join, and says `claimed_by IS NULL` and
 * not the state: whatever the statistics say, it looks up each row by its id once.
 *
 * To parse and plan it takes a millisecond, as much as all the rest, so that it is prepared where few jobs wait. Where many
 * do it is not: a plan kept from when the table was small sorts all of a backlog for each claim, until the server next
 * looks at its statistics.
 */
export const claim = (db: Db, request: ClaimRequest) =>
  Effect.flatMap(claimSealed(db, request), (jobs) => openAll(db, jobs, request))

/** The same for a transaction, which opens what is encrypted once it has committed. */
export const claimSealed = (db: Db, request: ClaimRequest) =>
  Effect.map(claimUpTo(db, request, undefined), ({ jobs }) => jobs)

/**
 * Claims those that come before the first job of some workers, in one statement as well, and says whether there was one:
 * a queue that has nothing of limited workers needs none of their locks.
 */
export const scout = (db: Db, request: ClaimRequest, workers: ReadonlyArray<string>) =>
  Effect.flatMap(claimUpTo(db, request, workers), ({ jobs, stopped }) =>
    Effect.map(openAll(db, jobs, request), (opened) => ({ jobs: opened, stopped }))
  )

/** The first jobs that a request may take, locked, in the order in which they are to be taken. */
export const candidatesOf = (db: Db, request: ClaimRequest, now: Fragment): Fragment => {
  const { sql } = db
  const { from } = request
  const asker: Asker = {
    node: sql`${request.node}::integer`,
    nodeName: sql`${request.nodeName}`,
    queue: sql`${request.queue}`,
    workers: sql`${namesOf(request)}::text[]`,
    makesCopies: request.makesCopies === true ? sql`true` : undefined,
    lowest: request.floor === undefined ? undefined : sql`${~request.floor}::smallint`,
    now
  }
  return request.aging !== undefined
    ? byAge(db, asker, request.limit, request.aging, exceptKeys(db, request))
    : request.partitions === undefined
      ? sql`
    SELECT j.id, j.worker, j.rank, j.run_at
    FROM ${db.jobs} AS j
    WHERE ${isWaiting(db, asker)}
      ${exceptKeys(db, request)}
      ${
        from === undefined
          ? sql``
          : sql`AND (j.rank, j.run_at, j.id) >= (${~from.priority}::smallint, ${from.runAt}::timestamptz(3), ${BigInt(from.id)}::bigint)`
      }
      AND ${isLive(db, asker)}
      AND NOT ${isPaused(db, asker)}
      AND NOT ${isRemoved(db, asker)}
    ORDER BY j.rank, j.run_at, j.id
    LIMIT ${request.limit}::integer
    FOR UPDATE OF j SKIP LOCKED`
      : ofPartitions(db, asker, request, request.partitions)
}

// internal

const namesOf = (request: ClaimRequest) =>
  array(
    request.workers.map((worker) => worker.name),
    oid.text
  )

const claimUpTo = Effect.fnUntraced(function* (
  db: Db,
  request: ClaimRequest,
  stopAt: ReadonlyArray<string> | undefined
) {
  const { sql } = db
  const now = yield* db.now
  const names = namesOf(request)
  const candidate = candidatesOf(db, request, now)
  const bounded = request.workers.some((worker) => worker.room < request.limit)
  const choice = request.choose === undefined ? undefined : yield* choose(db, request, request.choose, candidate)
  if (choice !== undefined && choice.length === 0) return { jobs: [], stopped: false }
  const chosen = bounded
    ? sql`
    SELECT ranked.id
    FROM (
      SELECT id, worker, row_number() OVER (PARTITION BY worker ORDER BY rank, run_at, id) AS place
      FROM candidate
    ) AS ranked
    JOIN unnest(
      ${names}::text[],
      ${array(
        request.workers.map((worker) => Math.min(worker.room, request.limit)),
        oid.int4
      )}::integer[]
    ) AS worker (name, room)
      ON worker.name = ranked.worker
      AND ranked.place <= worker.room`
    : sql`SELECT id FROM candidate`
  const stops = sql`EXISTS (SELECT FROM stop)`
  const before =
    choice !== undefined
      ? sql``
      : stopAt === undefined
        ? sql`WITH candidate AS MATERIALIZED (${candidate}), chosen AS MATERIALIZED (${chosen})`
        : sql`
    WITH seen AS MATERIALIZED (${candidate}),
    stop AS MATERIALIZED (
      SELECT rank, run_at, id
      FROM seen
      WHERE worker = ANY(${array(stopAt, oid.text)}::text[])
      ORDER BY rank, run_at, id
      LIMIT 1
    ),
    candidate AS MATERIALIZED (
      SELECT id, worker, rank, run_at
      FROM seen
      WHERE NOT ${stops}
        OR (rank, run_at, id) < (SELECT rank, run_at, id FROM stop)
    ),
    chosen AS MATERIALIZED (${chosen})`
  const take = sql`
    ${taking(db, request.node, now)}
    WHERE j.id = ANY(${choice === undefined ? sql`ARRAY(SELECT id FROM chosen)` : sql`${array(choice, oid.int8)}::bigint[]`})
      AND j.claimed_by IS NULL
    RETURNING ${claimedColumns(db, "j")}`
  const read = (statement: Statement<unknown>) =>
    Effect.gen(function* () {
      const found = yield* db.statement(claimedRows(statement, request.isPrepared === true))
      const jobs = yield* readClaimed(db, request, found)
      return { jobs, stopped: stopAt !== undefined && found[0]?.at(-1) === true }
    })
  if (stopAt === undefined) return yield* read(sql`${before}${take}`)
  if (request.from !== undefined) {
    // The last claim came back full. What comes with the jobs costs less than what is told without them.
    const some = yield* read(sql`${before}${take}, ${stops} AS stopped`)
    if (some.jobs.length > 0) return some
  }
  return yield* read(sql`
    ${before},
    taken AS (${take})
    SELECT taken.*, ${stops} AS stopped
    FROM (VALUES (1)) AS always
    LEFT JOIN taken
      ON true`)
})

/** The first candidates of each partition, read from the index of partitions whatever the statistics say. */
const ofPartitions = (
  db: Db,
  asker: Asker,
  request: ClaimRequest,
  partitions: NonNullable<ClaimRequest["partitions"]>
) => {
  const { sql } = db
  const keyed = partitions.filter(({ key }) => key !== "")
  const keyless = partitions.find(({ key }) => key === "")?.room ?? 0
  const allowed = sql`${isWaiting(db, asker)}
        ${exceptKeys(db, request)}
        AND ${isLive(db, asker)}
        AND NOT ${isPaused(db, asker)}
        AND NOT ${isRemoved(db, asker)}`
  return sql`
    SELECT j.id, j.worker, j.rank, j.run_at
    FROM unnest(
      ${array(
        keyed.map(({ key }) => key),
        oid.text
      )}::text[],
      ${array(
        keyed.map(({ room }) => room),
        oid.int4
      )}::integer[]
    ) AS part (key, room)
    CROSS JOIN LATERAL (
      SELECT j.id, j.worker, j.rank, j.run_at
      FROM ${db.jobs} AS j
      WHERE ${allowed}
        AND j.partition_key >= part.key
        AND j.partition_key <= part.key
      ORDER BY j.partition_key, j.rank, j.run_at, j.id
      LIMIT part.room
      FOR UPDATE OF j SKIP LOCKED
    ) AS j
    UNION ALL
    SELECT j.id, j.worker, j.rank, j.run_at
    FROM (
      SELECT j.id, j.worker, j.rank, j.run_at
      FROM ${db.jobs} AS j
      WHERE ${allowed}
        AND j.partition_key IS NULL
      ORDER BY j.rank, j.run_at, j.id
      LIMIT ${keyless}::integer
      FOR UPDATE OF j SKIP LOCKED
    ) AS j`
}

/** Leaves out jobs by the pair of their worker and partition key, neither of which can contain the separator. */
const exceptKeys = ({ sql }: Db, { except = [] }: ClaimRequest) =>
  except.length === 0
    ? sql``
    : sql`AND j.worker || E'\\x1f' || coalesce(j.partition_key, '') <> ALL(${array(
        except.map(({ key, worker }) => `${worker}\u001f${key}`),
        oid.text
      )}::text[])`

/** Locks the candidates, shows them in the order of the queue, and says which of them are to be taken. */
const choose = Effect.fnUntraced(function* (
  db: Db,
  { reading = [] }: ClaimRequest,
  pick: NonNullable<ClaimRequest["choose"]>,
  candidate: Fragment
) {
  const rows = yield* db.statement(db.sql<{
    readonly id: bigint
    readonly worker: string
    readonly key: string | null
    readonly args: unknown
  }>`
    WITH candidate AS MATERIALIZED (${candidate})
    SELECT c.id, c.worker, j.partition_key AS key, j.args
    FROM candidate AS c
    CROSS JOIN LATERAL (
      SELECT j.partition_key, CASE WHEN j.worker = ANY(${array(reading, oid.text)}::text[]) THEN j.args END AS args
      FROM ${db.jobs} AS j
      WHERE j.id = c.id
      LIMIT 1
    ) AS j
    ORDER BY c.rank, c.run_at, c.id`)
  return yield* Effect.flatMap(
    Effect.forEach(rows, ({ args, id, key, worker }) =>
      Effect.map(
        args === null ? Effect.succeed(null) : open(db, args, argsOf(jobId(id), worker), false),
        (opened): Waiting => ({ id, worker, key: key ?? "", args: opened })
      )
    ),
    pick
  )
})
