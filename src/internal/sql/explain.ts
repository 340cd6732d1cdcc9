/** Reads what bears on whether a job runs: its row, its queue, the nodes, what it waits for, who comes first. */
import * as Effect from "effect/Effect"
import type { JobId, JobRow } from "../../JobRow.ts"
import { aheadByAge } from "./age.ts"
import { countCopies, isCopyKey, nodeOf } from "./broadcast.ts"
import { type Db, oid, array } from "./db.ts"
import { dependenciesOf } from "./depend.ts"
import { type Asker, isBroadcast, isLive, isPaused, isRemoved, isWaiting } from "./eligible.ts"
import { usualRun } from "./history.ts"
import { type Governed, type Held, look } from "./limit.ts"
import { type JobColumns, jobId, jobRow } from "./row.ts"
import { openRow } from "./seal.ts"

/** The most jobs counted ahead of one, and the most parents read. */
export const aheadLimit = 10_000
export const parentLimit = 100

/** The most running jobs named that take up a limit. */
const holderLimit = 10

/**
 * Reads one job and everything that decides over it, as of one instant.
 *
 * Whether a node would be given the job is asked in the words of the claim itself. In one transaction under a statement
 * timeout of two seconds; it is a savepoint where the caller has a transaction.
 */
export const explain = (db: Db, id: JobId, rules: QueueRules) =>
  db.transaction(
    Effect.gen(function* () {
      yield* db.sql`SELECT set_config('statement_timeout', '2s', true)`
      const now = yield* db.now
      const [row] = yield* db.sql<JobColumns & { readonly wait_millis: number }>`
        SELECT *, (extract(epoch FROM run_at - ${now}) * 1000)::float8 AS wait_millis
        FROM ${db.allJobs}
        WHERE id = ${id}::bigint`
      if (row === undefined) return undefined
      const job = yield* openRow(db, jobRow(row))
      const parents = job.state === "blocked" ? yield* waitsFor(db, id) : []
      const asked = yield* askers(db, id, job)
      const only = isCopyKey(job.partitionKey) ? yield* nodeOf(db, id) : undefined
      const nodes = yield* withLimits(
        db,
        job,
        asked.filter((node) => only === undefined || node.id === only)
      )
      const most = job.state === "available" ? rules.partitionLimit(job.queue, job.partitionKey) : Infinity
      const inPartition = most === Infinity ? 0 : yield* countPartition(db, job.queue, job.partitionKey)
      const isCrowded = nodes.some((node) => node.takes) && inPartition >= most
      const keyPausedAt = rules.hasPausableKeys(job.queue) ? yield* pauseOfKey(db, job) : undefined
      const wishes = yield* db.sql<WishColumns>`
        SELECT node, paused_at, removed_at
        FROM ${db.queues}
        WHERE name = ${job.queue}
          AND (paused_at IS NOT NULL OR removed_at IS NOT NULL)
        ORDER BY node`
      const ahead = job.state === "available" ? yield* countAhead(db, row, rules.aging.get(job.queue)) : 0
      const concurrent = nodes.some((node) => node.held?.why === "concurrency")
      return {
        job,
        waitMillis: row.wait_millis,
        parents,
        copies: job.state === "scheduled" ? yield* countCopies(db, job) : 0,
        nodes: isCrowded || keyPausedAt !== undefined ? nodes.map((node) => ({ ...node, takes: false })) : nodes,
        wishes,
        keyPausedAt,
        ahead,
        partition: isCrowded ? { running: inPartition, limit: most } : undefined,
        ...(concurrent ? yield* holdersOf(db, job.worker) : { holders: [], freesInMillis: undefined })
      } satisfies Findings
    })
  )

/** What the configuration of the process that asks says of queues. */
export interface QueueRules {
  /** How many jobs of a partition may run; Infinity for any number. */
  readonly partitionLimit: (queue: string, key: string | undefined) => number
  /** Whether keys of the queue may be paused: it is fair, or this process does not know. */
  readonly hasPausableKeys: (queue: string) => boolean
  /** How many milliseconds of a wait count as one priority. */
  readonly aging: ReadonlyMap<string, number>
}

/** Everything found out about a job. */
export interface Findings {
  readonly job: ReturnType<typeof jobRow>
  /** Milliseconds until it is due; negative for one that is. */
  readonly waitMillis: number
  /** The jobs that it still waits for, or that keep it held. */
  readonly parents: ReadonlyArray<{
    readonly id: JobId
    readonly name: string | undefined
    /** Whether the job has added it itself, and waits. */
    readonly child: boolean
    readonly outcome: "discarded" | "cancelled" | undefined
    readonly state: string | undefined
    readonly total: number
  }>
  /** How many nodes have a copy of it, where every node runs one. */
  readonly copies: number
  readonly nodes: ReadonlyArray<AskerRow>
  readonly wishes: ReadonlyArray<WishColumns>
  /** Since when its partition key is paused. */
  readonly keyPausedAt: Date | undefined
  /** How many jobs of its queue come before it, up to the limit. */
  readonly ahead: number
  /** How many jobs of its partition run, where these are as many as may. */
  readonly partition: { readonly running: number; readonly limit: number } | undefined
  /** Running jobs of its worker, where these are as many as may: the first of them. */
  readonly holders: ReadonlyArray<JobId>
  /** When one of these ends, if it takes as long as half of the worker's do; undefined where all take longer. */
  readonly freesInMillis: number | undefined
}

/** A node, and what limits over all nodes hold back of what it would take. */
export interface AskerRow extends AskerColumns {
  readonly held: Held | undefined
}

/** What operators asked of the job's queue. */
export interface WishColumns {
  /** Empty for all nodes. */
  readonly node: string
  readonly paused_at: Date | null
  readonly removed_at: Date | null
}

/** A node, and what keeps it from claiming the job. */
export interface AskerColumns {
  readonly id: number
  readonly name: string
  readonly live: boolean
  readonly has_worker: boolean
  readonly has_queue: boolean
  readonly paused: boolean
  readonly removed: boolean
  /** Whether it has the queue as an ordinary one, where a live node makes copies of its jobs. */
  readonly ordinary: boolean
  /** Whether it claims no job of the worker, since its circuit is open there. */
  readonly broken: boolean
  /** Below which priority it claims nothing. */
  readonly shed_below: number | null
  /** How many attempts of the job's worker run on it, and may; null for as many as its queues allow. */
  readonly of_worker: number
  readonly places: number | null
  /** Whether as many attempts run on it as may, over all queues. */
  readonly crowded: boolean
  /** Whether its claim would take the job, if it had a free slot. */
  readonly takes: boolean
  /** How many jobs of the queue it holds, and may hold. */
  readonly executing: number
  readonly slots: number | null
  /** What limits its workers over all nodes. */
  readonly limits: ReadonlyArray<Governed>
}

// internal

const askers = Effect.fnUntraced(function* (
  db: Db,
  id: JobId,
  job: { readonly queue: string; readonly worker: string }
) {
  const { sql } = db
  const now = yield* db.now
  const asker: Asker = {
    node: sql`node.id`,
    nodeName: sql`node.name`,
    queue: sql`${job.queue}::text`,
    workers: sql`node.workers`,
    lowest: sql`~coalesce(node.shed_below, -32768)::smallint`,
    makesCopies: sql`coalesce(${job.queue}::text = ANY(node.broadcasts), false)`,
    now
  }
  return yield* sql<AskerColumns>`
    SELECT node.id, node.name,
      ${isLive(db, asker)} AS live,
      ${job.worker}::text = ANY(node.workers) AS has_worker,
      ${job.queue}::text = ANY(node.queues) AS has_queue,
      ${isPaused(db, asker)} AS paused,
      ${isRemoved(db, asker)} AS removed,
      NOT coalesce(${job.queue}::text = ANY(node.broadcasts), false) AND ${isBroadcast(db, asker)} AS ordinary,
      ${job.worker}::text = ANY(node.broken) AS broken,
      node.shed_below,
      node.capacity IS NOT NULL AND node.capacity <= (
        SELECT count(*)
        FROM ${db.jobs} AS held
        WHERE held.claimed_by = node.id
          AND held.state = 'executing'
      ) AS crowded,
      (node.places ->> ${job.worker}::text)::integer AS places,
      (
        SELECT count(*)::integer
        FROM ${db.jobs} AS held
        WHERE held.claimed_by = node.id
          AND held.state = 'executing'
          AND held.worker = ${job.worker}::text
      ) AS of_worker,
      ${job.queue}::text = ANY(node.queues)
        AND NOT ${job.worker}::text = ANY(node.broken)
        AND ${isLive(db, asker)}
        AND NOT ${isPaused(db, asker)}
        AND NOT ${isRemoved(db, asker)}
        AND EXISTS (
          SELECT FROM ${db.jobs} AS j
          WHERE j.id = ${id}::bigint
            AND ${isWaiting(db, asker)}
        ) AS takes,
      (
        SELECT count(*)::integer
        FROM ${db.jobs} AS held
        WHERE held.claimed_by = node.id
          AND held.state = 'executing'
          AND held.queue = ${job.queue}::text
      ) AS executing,
      node.limits,
      node.slots[array_position(node.queues, ${job.queue}::text)] AS slots
    FROM ${db.nodes} AS node
    ORDER BY node.name, node.id`
})

/** Asks the limits, as each node keeps them, of those that would take the job. */
const withLimits = Effect.fnUntraced(function* (db: Db, job: JobRow, nodes: ReadonlyArray<AskerColumns>) {
  const answers = new Map<string, Held | undefined>()
  return yield* Effect.forEach(
    nodes,
    Effect.fnUntraced(function* (node) {
      const governed = node.limits.filter((one) => one.worker === job.worker || one.queue === job.queue)
      if (!node.takes || governed.length === 0) return { ...node, held: undefined } satisfies AskerRow
      const key = JSON.stringify([governed, governed.some(({ rate }) => rate?.local === true) ? node.id : 0])
      if (!answers.has(key)) answers.set(key, yield* look(db, governed, job, node.id))
      const held = answers.get(key)
      return { ...node, takes: held === undefined, held } satisfies AskerRow
    })
  )
})

const holdersOf = Effect.fnUntraced(function* (db: Db, worker: string) {
  const now = yield* db.now
  const rows = yield* db.sql<{ readonly id: bigint; readonly ran_millis: number | null }>`
    SELECT id, (extract(epoch FROM ${now} - claimed_at) * 1000)::float8 AS ran_millis
    FROM ${db.jobs}
    WHERE state = 'executing'
      AND worker = ${worker}
    ORDER BY claimed_at, id
    LIMIT ${holderLimit}::integer`
  const usual = yield* usualRun(db, worker)
  const left = rows.flatMap(({ ran_millis }) =>
    usual === undefined || ran_millis === null ? [] : [usual - ran_millis]
  )
  const soon = left.filter((millis) => millis > 0)
  return {
    holders: rows.map((row) => jobId(row.id)),
    freesInMillis: soon.length === 0 ? undefined : Math.ceil(Math.min(...soon))
  }
})

const countPartition = Effect.fnUntraced(function* (db: Db, queue: string, key: string | undefined) {
  const [row] = yield* db.sql<{ readonly count: number }>`
    SELECT count(*)::integer AS count
    FROM ${db.jobs}
    WHERE state = 'executing'
      AND queue = ${queue}
      AND partition_key IS NOT DISTINCT FROM ${key ?? null}::text`
  return row?.count ?? 0
})

const pauseOfKey = Effect.fnUntraced(function* (db: Db, { partitionKey, queue }: JobRow) {
  if (partitionKey === undefined) return undefined
  const [row] = yield* db.sql<{ readonly paused_at: Date }>`
    SELECT paused_at
    FROM ${db.sql(`${db.schema}.partitions`)}
    WHERE queue = ${queue}
      AND key = ${partitionKey}
      AND paused_at IS NOT NULL`
  return row?.paused_at
})

/** The parents that have not ended, and those whose end keeps the job where it is; the unfinished ones first. */
const waitsFor = Effect.fnUntraced(function* (db: Db, id: JobId) {
  const rows = yield* db.sql<{
    readonly parent_id: bigint
    readonly name: string | null
    readonly child: boolean
    readonly outcome: "discarded" | "cancelled" | null
    readonly state: string | null
    readonly total: number
  }>`
    SELECT edge.parent_id, edge.name, edge.parent_id > edge.child_id AS child, edge.outcome, parent.state, count(*) OVER ()::integer AS total
    FROM ${dependenciesOf(db)} AS edge
    LEFT JOIN ${db.allJobs} AS parent
      ON parent.id = edge.parent_id
    WHERE edge.child_id = ${id}::bigint
      AND (edge.outcome IS NULL OR (edge.outcome = ANY(${array(["discarded", "cancelled"], oid.text)}::text[])
        AND edge.on_failure = 'hold'))
    ORDER BY edge.outcome IS NOT NULL, edge.parent_id
    LIMIT ${parentLimit}::integer`
  return rows.map((row) => ({
    id: jobId(row.parent_id),
    name: row.name ?? undefined,
    child: row.child,
    outcome: row.outcome ?? undefined,
    state: row.state ?? undefined,
    total: row.total
  }))
})

/** How many jobs come before one in the order of the claim, read from the index jobs_claim up to the limit. */
const countAhead = Effect.fnUntraced(function* (db: Db, job: JobColumns, aging: number | undefined) {
  const { sql } = db
  const [row] = yield* sql<{ readonly count: number }>`${
    aging !== undefined
      ? aheadByAge(db, job, aging, aheadLimit)
      : sql`
    SELECT count(*)::integer AS count
    FROM (
      SELECT
      FROM ${db.jobs} AS j
      WHERE j.queue = ${job.queue}
        AND j.state = 'available'
        AND (j.rank, j.run_at, j.id) < (${~job.priority}::smallint, ${job.run_at}::timestamptz(3), ${job.id}::bigint)
      LIMIT ${aheadLimit}::integer
    ) AS ahead`
  }`
  return row?.count ?? 0
})
