/** What a claim leaves of a row, and the row as its attempt needs it. */
import * as Effect from "effect/Effect"
import type { Fragment } from "effect/sql/Statement"
import type { AttemptFailure, BatchId, JobId } from "../../JobRow.ts"
import { type Dependency, link } from "../newJob.ts"
import { batchId } from "./batch.ts"
import { array, type Db, oid } from "./db.ts"
import { read } from "./depend.ts"
import { jobId } from "./row.ts"
import { isPlain, openClaimed } from "./seal.ts"

/** A claimed job, as its attempt needs it. */
export interface Claimed {
  readonly id: JobId
  readonly epoch: number
  readonly worker: string
  readonly queue: string
  readonly attempt: number
  readonly maxAttempts: number
  readonly priority: number
  readonly args: unknown
  readonly runAt: Date
  readonly claimedAt: Date
  /** When the job was first due; undefined for one that was due as it was inserted. */
  readonly scheduledFor: Date | undefined
  readonly insertedAt: Date
  readonly errors: ReadonlyArray<AttemptFailure>
  readonly meta: Readonly<Record<string, unknown>>
  readonly tags: ReadonlyArray<string>
  readonly partitionKey: string | undefined
  readonly snoozes: number
  readonly links: number
  readonly trace: string | undefined
  /** Before when an attempt had to start; undefined for no matter. */
  readonly startBefore: Date | undefined
  readonly batch: BatchId | undefined
  readonly dependencies: ReadonlyArray<Dependency>
  /** Whether what it leaves is encrypted; undefined where there is nothing to encrypt with. */
  readonly encrypted?: boolean | undefined
  /** What the shared circuit of its worker let it through with; undefined where there is none. */
  readonly passage?: { readonly generation: number; readonly probe: boolean } | undefined
  /** What its args are to be computed from, for a node of a flow. */
  readonly flow: { readonly name: string; readonly input: unknown; readonly step: string } | undefined
}

/** The columns that a claim returns, as the driver reads them. */
export interface ClaimedColumns {
  /** Null where a claim that says whether it stopped has brought nothing. */
  readonly id: bigint | null
  readonly epoch: number
  readonly worker: string
  readonly queue: string
  readonly attempt: number
  readonly max_attempts: number
  readonly priority: number
  readonly args: unknown
  readonly run_at: Date
  readonly inserted_at: Date
  readonly claimed_at: Date
  readonly errors: ReadonlyArray<AttemptFailure> | null
  readonly meta: Readonly<Record<string, unknown>> | null
  readonly tags: ReadonlyArray<string> | null
  readonly partition_key: string | null
  readonly snoozes: number | null
  readonly scheduled_for: Date | null
  readonly links: number
  readonly batch_id: bigint | null
  readonly step: string | null
  readonly trace: string | null
  readonly start_before: Date | null
}

/** The columns that a claim returns of a job `j`. */
export const claimedColumns = `j.id, j.epoch, j.worker, j.queue, j.attempt, j.max_attempts, j.priority, j.args, j.run_at,
      j.inserted_at, j.claimed_at, j.errors, j.meta, j.tags, j.partition_key, j.snoozes, j.scheduled_for, j.links, j.batch_id, j.step,
      j.trace, j.start_before`

/** The beginning of a claim's update of jobs `j`; which ones, and that nobody has claimed them, is to follow. */
export const taking = (db: Db, node: number, now: Fragment): Fragment => db.sql`
    UPDATE ${db.jobs} AS j
    SET state = 'executing',
      claimed_by = ${node}::integer,
      claimed_at = ${now},
      attempt = j.attempt + 1,
      epoch = j.epoch + 1,
      progress = NULL`

/**
 * Reads what a claim returned, in the order of the queue, with what the jobs waited for and are computed from. What is
 * encrypted stays so until it is opened.
 */
export const readClaimed = Effect.fnUntraced(function* (db: Db, found: ReadonlyArray<ClaimedColumns>) {
  const rows = found.filter((row): row is typeof row & { readonly id: bigint } => row.id !== null)
  const waited = rows.filter((row) => (row.links & link.waits) !== 0)
  const dependencies =
    waited.length === 0
      ? undefined
      : yield* read(
          db,
          waited.map((row) => jobId(row.id))
        )
  const computed = rows.filter((row) => (row.links & link.computed) !== 0)
  const flows = computed.length === 0 ? undefined : yield* readFlows(db, computed)
  return rows
    .map((row): Claimed => ({
      id: jobId(row.id),
      epoch: row.epoch,
      worker: row.worker,
      queue: row.queue,
      attempt: row.attempt,
      maxAttempts: row.max_attempts,
      priority: row.priority,
      args: row.args,
      runAt: row.run_at,
      claimedAt: row.claimed_at,
      scheduledFor: row.scheduled_for ?? undefined,
      insertedAt: row.inserted_at,
      errors: row.errors ?? [],
      meta: row.meta ?? {},
      tags: row.tags ?? [],
      partitionKey: row.partition_key ?? undefined,
      snoozes: row.snoozes ?? 0,
      links: row.links,
      trace: row.trace ?? undefined,
      startBefore: row.start_before ?? undefined,
      batch: row.batch_id === null ? undefined : batchId(row.batch_id),
      dependencies: dependencies?.get(jobId(row.id)) ?? [],
      flow: flows?.get(row.id)
    }))
    .toSorted((a, b) => b.priority - a.priority || a.runAt.getTime() - b.runAt.getTime() || a.id - b.id)
})

/** Claimed jobs as their handlers read them: outside of any transaction, since each value takes a turn of the event loop. */
export const openAll = (
  db: Db,
  claimed: ReadonlyArray<Claimed>,
  encrypted: ReadonlyMap<string, boolean> | undefined
): Effect.Effect<ReadonlyArray<Claimed>> => {
  const wanted = ({ worker }: Claimed): boolean | undefined => encrypted?.get(worker)
  return claimed.every((job) => isPlain(db, job, wanted(job)))
    ? Effect.succeed(claimed)
    : Effect.forEach(claimed, (job) => openClaimed(db, job, wanted(job)))
}

// internal

const readFlows = Effect.fnUntraced(function* (
  db: Db,
  jobs: ReadonlyArray<{ readonly id: bigint; readonly batch_id: bigint | null; readonly step: string | null }>
) {
  const rows = yield* db.sql<{ readonly id: bigint; readonly name: string; readonly input: unknown }>`
    SELECT id, name, input
    FROM ${db.sql(`${db.schema}.batches`)}
    WHERE id = ANY(${array(
      jobs.map((job) => job.batch_id),
      oid.int8
    )}::bigint[])`
  const byId = new Map(rows.map((row) => [row.id, row]))
  return new Map(
    jobs.map((job) => {
      const flow = byId.get(job.batch_id ?? 0n)
      return [job.id, { name: flow?.name ?? "", input: flow?.input ?? null, step: job.step ?? "" }]
    })
  )
})
