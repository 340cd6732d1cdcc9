/**
 * Jobs that every node runs: one copy for each incarnation of a node, made while the job's window is open.
 *
 * A job of a broadcast queue is never claimed. The node that comes upon it first opens its window: the job is scheduled
 * for the window's end, and there it is completed. A copy is a job of its own, under a partition key that only its node
 * claims and that nobody can enqueue with, since it begins with white space.
 */
import * as Effect from "effect/Effect"
import type { JobId, JobState } from "../../JobRow.ts"
import { type Aftermath, concerned, link, type NewJob, nothing } from "../newJob.ts"
import { keptMillis } from "./archive.ts"
import { array, type Db, ids, oid } from "./db.ts"
import { insert } from "./enqueue.ts"
import { jobId } from "./row.ts"
import { argsOf, openText } from "./seal.ts"
import { settle } from "./settle.ts"

/** Who makes copies, for which queues and workers. */
export interface Broadcaster {
  /** The number of the incarnation. */
  readonly node: number
  readonly nodeName: string
  /** The queues, and for how long a window of theirs is open. */
  readonly queues: ReadonlyMap<string, number>
  readonly workers: ReadonlyArray<string>
}

/** What there is to do. */
export interface Pending {
  /** Whether there is a window to open or to close, or a copy to make. */
  readonly due: boolean
  /** Copies that wait for a node that is gone; at most 100. */
  readonly strays: ReadonlyArray<JobId>
  /** Live nodes that have one of the queues as an ordinary one; at most 100. */
  readonly ordinary: ReadonlyArray<{ readonly queue: string; readonly name: string }>
}

/** What a round did. */
export interface Spread {
  /** The jobs whose window it opened. */
  readonly opened: ReadonlyArray<{ readonly id: JobId; readonly worker: string; readonly queue: string }>
  /** The copies that it made for its node. */
  readonly copies: ReadonlyArray<{ readonly id: JobId; readonly worker: string; readonly queue: string }>
  /** The jobs whose window it closed, and how many nodes have made a copy of each. */
  readonly closed: ReadonlyArray<{
    readonly id: JobId
    readonly worker: string
    readonly queue: string
    readonly copies: number
  }>
  readonly aftermath: Aftermath
}

/** The most windows opened and closed, and copies made, in one round. */
export const roundLimit = 200

/** The partition key of an incarnation's copies. */
export const keyOf = (node: number): string => ` node ${node}`

/** Whether a partition key is one of a copy. */
export const isCopyKey = (key: string | undefined): boolean => key?.startsWith(" node ") === true

/** Says what there is to do: one statement, for every look of a node that has such queues. */
export const look = Effect.fnUntraced(function* (db: Db, by: Broadcaster) {
  const now = yield* db.now
  const [row] = yield* db.sql<{
    readonly due: boolean
    readonly strays: ReadonlyArray<bigint>
    readonly ordinary: Pending["ordinary"] | null
  }>`
    SELECT
      EXISTS (
        SELECT
        FROM ${db.jobs} AS j
        WHERE ${isCalling(db, by)}
      ) OR EXISTS (${lacking(db, by, now)}) AS due,
      ARRAY(
        SELECT j.id
        FROM ${db.jobs} AS j
        WHERE j.queue = ANY(${queuesOf(by)}::text[])
          AND j.state = 'available'
          AND j.partition_key LIKE ' node %'
          AND NOT EXISTS (
            SELECT FROM ${db.nodes} AS n
            WHERE n.id::text = substr(j.partition_key, 7)
              AND n.expires_at > ${now}
          )
        LIMIT 100
      ) AS strays,
      (
        SELECT jsonb_agg(jsonb_build_object('queue', q.name, 'name', n.name))
        FROM (SELECT * FROM ${db.nodes} WHERE expires_at > ${now} LIMIT 100) AS n
        JOIN unnest(${queuesOf(by)}::text[]) AS q (name)
          ON q.name = ANY(n.queues)
        WHERE NOT q.name = ANY(coalesce(n.broadcasts, '{}'))
      ) AS ordinary`
  return {
    due: row?.due ?? false,
    strays: (row?.strays ?? []).map(jobId),
    ordinary: row?.ordinary ?? []
  } satisfies Pending
})

/**
 * Opens windows, makes the copies that this node lacks, and completes the jobs whose window is over.
 *
 * The rows of the jobs are locked first, skipping those that another node is at; a node without a live lease does
 * nothing. The first copy is made in the transaction that opens the window, so a window without one is not open.
 */
export const spread = (db: Db, by: Broadcaster) =>
  db.transaction(
    Effect.gen(function* () {
      const { sql } = db
      const now = yield* db.now
      const [lease] = yield* sql<{ readonly id: number }>`
        SELECT id
        FROM ${db.nodes}
        WHERE id = ${by.node}::integer
          AND expires_at > ${now}`
      if (lease === undefined) return { opened: [], copies: [], closed: [], aftermath: nothing } satisfies Spread
      const calling = yield* sql<{
        readonly id: bigint
        readonly epoch: number
        readonly worker: string
        readonly queue: string
        readonly links: number
      }>`
        SELECT j.id, j.epoch, j.worker, j.queue, j.links
        FROM ${db.jobs} AS j
        WHERE ${isCalling(db, by)}
        ORDER BY j.rank, j.run_at, j.id
        LIMIT ${roundLimit}::integer
        FOR UPDATE SKIP LOCKED`
      const before = yield* sql<{ readonly job_id: bigint; readonly epoch: number; readonly copies: number }>`
        SELECT job_id, epoch, count(*)::integer AS copies
        FROM ${broadcastsOf(db)}
        WHERE job_id = ANY(${array(
          calling.map((job) => job.id),
          oid.int8
        )}::bigint[])
        GROUP BY job_id, epoch`
      const seen = new Map(before.map((one) => [`${one.job_id}/${one.epoch}`, one.copies]))
      const copiesBefore = (job: Master): number => seen.get(`${job.id}/${job.epoch}`) ?? 0
      const isOver = (job: Master): boolean => copiesBefore(job) > 0
      const over = calling.filter(isOver)
      const fresh = calling.filter((job) => !isOver(job))
      if (fresh.length > 0) yield* open(db, by, fresh)
      const copies = [
        ...(fresh.length === 0 ? [] : yield* copy(db, by, fresh, true)),
        ...(yield* copy(db, by, yield* sql<Master>`${lacking(db, by, now)} FOR SHARE OF m SKIP LOCKED`, false))
      ]
      const aftermath = over.length === 0 ? nothing : yield* close(db, by.node, over)
      return {
        opened: fresh.map((job) => ({ id: jobId(job.id), worker: job.worker, queue: job.queue })),
        copies,
        closed: over.map((job) => ({
          id: jobId(job.id),
          worker: job.worker,
          queue: job.queue,
          copies: copiesBefore(job)
        })),
        aftermath
      } satisfies Spread
    })
  )

/** The copies of a job's last life, by node. */
export const copiesOf = Effect.fnUntraced(function* (db: Db, id: JobId) {
  const now = yield* db.now
  const rows = yield* db.sql<{
    readonly node: number
    readonly node_name: string
    readonly copy_id: bigint
    readonly state: JobState | null
    readonly attempt: number | null
    readonly live: boolean
  }>`
    SELECT b.node, b.node_name, b.copy_id, j.state, j.attempt,
      EXISTS (
        SELECT FROM ${db.nodes} AS n
        WHERE n.id = b.node
          AND n.expires_at > ${now}
      ) AS live
    FROM ${broadcastsOf(db)} AS b
    LEFT JOIN LATERAL (
      SELECT one.state, one.attempt
      FROM ${db.allJobs} AS one
      WHERE one.id = b.copy_id
    ) AS j ON true
    WHERE b.job_id = ${id}::bigint
      AND b.epoch = (SELECT max(last.epoch) FROM ${broadcastsOf(db)} AS last WHERE last.job_id = ${id}::bigint)
    ORDER BY b.node_name, b.node`
  return rows.map((row) => ({
    id: jobId(row.copy_id),
    node: row.node,
    nodeName: row.node_name,
    live: row.live,
    state: row.state ?? undefined,
    attempt: row.attempt ?? undefined
  }))
})

/** The incarnation that a copy is for; undefined for a job that is no copy. */
export const nodeOf = Effect.fnUntraced(function* (db: Db, id: JobId) {
  const [row] = yield* db.sql<{ readonly node: number }>`
    SELECT node
    FROM ${broadcastsOf(db)}
    WHERE copy_id = ${id}::bigint`
  return row?.node
})

/** How many nodes have a copy of a job's present life; 0 for one that is no open broadcast. */
export const countCopies = Effect.fnUntraced(function* (db: Db, job: { readonly id: JobId; readonly epoch: number }) {
  const [row] = yield* db.sql<{ readonly count: number }>`
    SELECT count(*)::integer AS count
    FROM ${broadcastsOf(db)}
    WHERE job_id = ${job.id}::bigint
      AND epoch = ${job.epoch}::integer`
  return row?.count ?? 0
})

/** Forgets which copies there were, some time after their window: by then their history is gone too. */
export const prune = Effect.fnUntraced(function* (db: Db) {
  const now = yield* db.now
  yield* db.statement(db.sql`
    DELETE FROM ${broadcastsOf(db)}
    WHERE until <= ${now} - ${keptMillis(db, "completed", now)} * interval '1 millisecond' - interval '1 day'`)
})

// internal

interface Master {
  readonly id: bigint
  readonly epoch: number
}

const broadcastsOf = (db: Db) => db.sql(`${db.schema}.broadcasts`)

const queuesOf = (by: Broadcaster) => array([...by.queues.keys()], oid.text)

/** Whether a job `j` asks for copies: one that is due, for the first time or again, or whose window is over. */
const isCalling = (db: Db, by: Broadcaster) => db.sql`
  j.queue = ANY(${queuesOf(by)}::text[])
          AND j.state = 'available'
          AND j.worker = ANY(${array(by.workers, oid.text)}::text[])
          AND coalesce(j.partition_key NOT LIKE ' node %', true)`

/** The jobs with an open window that this node has no copy of. */
const lacking = (db: Db, by: Broadcaster, now: Effect.Success<Db["now"]>) => db.sql`
  SELECT m.id, m.epoch
        FROM ${broadcastsOf(db)} AS b
        JOIN ${db.jobs} AS m
          ON m.id = b.job_id
          AND m.epoch = b.epoch
          AND m.state = 'scheduled'
        WHERE b.opens
          AND b.queue = ANY(${queuesOf(by)}::text[])
          AND b.until > ${now}
          AND m.worker = ANY(${array(by.workers, oid.text)}::text[])
          AND NOT EXISTS (
            SELECT FROM ${broadcastsOf(db)} AS own
            WHERE own.job_id = b.job_id
              AND own.epoch = b.epoch
              AND own.node = ${by.node}::integer
          )
        ORDER BY b.until, m.id
        LIMIT ${roundLimit}::integer`

const open = Effect.fnUntraced(function* (
  db: Db,
  by: Broadcaster,
  jobs: ReadonlyArray<Master & { readonly queue: string }>
) {
  const now = yield* db.now
  yield* db.sql`
    UPDATE ${db.jobs} AS j
    SET state = 'scheduled',
      scheduled_for = coalesce(j.scheduled_for, j.run_at),
      run_at = ${now} + w.millis * interval '1 millisecond',
      -- It starts now, everywhere: its deadline has been kept.
      start_before = NULL,
      -- Who cancels it has its copies to cancel.
      links = j.links | ${db.sql.literal(String(link.copied))}
    FROM unnest(
      ${array(
        jobs.map((job) => job.id),
        oid.int8
      )}::bigint[],
      ${array(
        jobs.map((job) => by.queues.get(job.queue) ?? 0),
        oid.float8
      )}::float8[]
    ) AS w (id, millis)
    WHERE j.id = w.id
      AND j.state = 'available'`
})

/** Makes copies of locked jobs, encrypted as these are. */
const copy = Effect.fnUntraced(function* (db: Db, by: Broadcaster, jobs: ReadonlyArray<Master>, opens: boolean) {
  if (jobs.length === 0) return []
  const { sql } = db
  const column = array(
    jobs.map((job) => job.id),
    oid.int8
  )
  const masters = yield* sql<{
    readonly id: bigint
    readonly worker: string
    readonly queue: string
    readonly args: string
    readonly priority: number
    readonly max_attempts: number
    readonly scheduled_for: Date
    readonly meta: string | null
    readonly tags: ReadonlyArray<string> | null
    readonly trace: string | null
  }>`
    SELECT id, worker, queue, args::text AS args, priority, max_attempts, scheduled_for, meta::text AS meta, tags, trace
    FROM ${db.jobs}
    WHERE id = ANY(${column}::bigint[])
      AND state = 'scheduled'
    ORDER BY rank, id`
  const copies = yield* Effect.forEach(masters, (master) =>
    Effect.map(
      openText(db, master.args, argsOf(jobId(master.id), master.worker)),
      ({ args, encrypted, unreadable }): NewJob => ({
        worker: master.worker,
        queue: master.queue,
        args,
        encrypted,
        sealed: unreadable !== undefined,
        priority: master.priority,
        maxAttempts: master.max_attempts,
        due: { delayMillis: 0 },
        scheduledFor: master.scheduled_for,
        tags: master.tags ?? undefined,
        meta: master.meta ?? undefined,
        trace: master.trace ?? undefined,
        partitionKey: keyOf(by.node)
      })
    )
  )
  const made = yield* insert(db, copies)
  yield* sql`
    INSERT INTO ${broadcastsOf(db)} (job_id, epoch, node, node_name, copy_id, queue, until, opens)
    SELECT m.id, m.epoch, ${by.node}::integer, ${by.nodeName}, made.copy_id, m.queue, m.run_at, ${opens}::boolean
    FROM unnest(
      ${array(
        masters.map(({ id }) => id),
        oid.int8
      )}::bigint[],
      ${ids(made.map(({ id }) => id))}::bigint[]
    ) AS made (job_id, copy_id)
    JOIN ${db.jobs} AS m
      ON m.id = made.job_id`
  return made.map(({ id }, i) => ({ id, worker: masters[i]?.worker ?? "", queue: masters[i]?.queue ?? "" }))
})

/** Completes jobs whose window is over, as their holder would: all that follows from an end follows from this. */
const close = Effect.fnUntraced(function* (
  db: Db,
  node: number,
  jobs: ReadonlyArray<Master & { readonly links: number }>
) {
  const now = yield* db.now
  yield* db.sql`
    UPDATE ${db.jobs}
    SET state = 'executing',
      claimed_by = ${node}::integer,
      claimed_at = ${now}
    WHERE id = ANY(${ids(jobs.map((job) => Number(job.id)))}::bigint[])
      AND state = 'available'`
  const { aftermath } = yield* settle(
    db,
    jobs.map(({ epoch, id, links }) => ({
      id: jobId(id),
      epoch,
      linked: (links & concerned) !== 0,
      outcome: { _tag: "Completed", result: undefined }
    }))
  )
  return aftermath
})
