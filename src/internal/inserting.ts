/** What an enqueue answers, and what nodes are told of it. */
import * as DateTime from "effect/DateTime"
import type { JobId, JobRow } from "../JobRow.ts"
import type { Hint } from "../Notifier.ts"
import { expiresIn, type NewJob } from "./newJob.ts"
import type { Inserted as InsertedRow } from "./sql/enqueue.ts"
import type { Stored } from "./sql/unique.ts"

/**
 * What an enqueue did, and the job that it was about.
 *
 * **Details**
 *
 * All but `Inserted` concern unique jobs and carry the job that holds the key: `Existing` left it as it is, `Replaced`
 * and `Debounced` changed it, `ConflictExecuting` would have changed it, but it is running already: what its handler
 * does not see any more has to be enqueued again.
 *
 * @category models
 */
export type EnqueueResult = {
  readonly _tag: "Inserted" | "Existing" | "Replaced" | "Debounced" | "ConflictExecuting"
  readonly id: JobId
  readonly job: JobRow
}

/** What a stored job means to who enqueued it. */
export const resultOf = (job: NewJob, stored: Stored, instant: (date: Date) => DateTime.Utc): EnqueueResult =>
  stored._tag === "Inserted"
    ? inserted(job, stored.inserted, instant)
    : { _tag: stored._tag, id: stored.job.id, job: stored.job }

/** Dates as instants; jobs of one statement share theirs. */
export const lastInstant = (): ((date: Date) => DateTime.Utc) => {
  let last: { readonly date: Date; readonly instant: DateTime.Utc } | undefined
  return (date) => (last?.date === date ? last : (last = { date, instant: DateTime.fromDateUnsafe(date) })).instant
}

/** One hint for each queue with work to do now, and one for the earliest of those that are due or expire soon. */
export const hintsFor = (
  results: ReadonlyArray<EnqueueResult>,
  given: ReadonlyArray<NewJob>,
  horizon: number
): ReadonlyArray<Hint> => {
  const queues = new Set<string>()
  let soonest = Infinity
  for (let i = 0; i < results.length; i++) {
    const { _tag, job } = results[i] as EnqueueResult // within its bounds
    if (_tag === "Existing" || _tag === "ConflictExecuting") continue
    if (given[i]?.expires !== undefined && job.startBefore !== undefined) {
      soonest = Math.min(soonest, Math.max(job.startBefore.epochMilliseconds - job.insertedAt.epochMilliseconds, 0))
    }
    if (job.state === "available") queues.add(job.queue)
    // A job that was moved: a look finds out when it is due.
    else if (_tag !== "Inserted") soonest = 0
    else if (job.state === "scheduled") {
      soonest = Math.min(soonest, job.runAt.epochMilliseconds - job.insertedAt.epochMilliseconds)
    }
  }
  const hints: Array<Hint> = [...queues].map((queue) => ({ _tag: "Available", queue }))
  if (soonest <= horizon) hints.push({ _tag: "Due", inMillis: soonest })
  return hints
}

// internal

const inserted = (job: NewJob, row: InsertedRow, instant: (date: Date) => DateTime.Utc): EnqueueResult => {
  const insertedAt = instant(row.insertedAt)
  // Most are due as they are inserted.
  const runAt = row.runAt.getTime() === row.insertedAt.getTime() ? insertedAt : DateTime.fromDateUnsafe(row.runAt)
  return {
    _tag: "Inserted",
    id: row.id,
    job: {
      id: row.id,
      worker: job.worker,
      queue: job.queue,
      state: row.state,
      priority: job.priority,
      attempt: 0,
      maxAttempts: job.maxAttempts,
      epoch: 0,
      args: JSON.parse(job.args),
      result: undefined,
      errors: [],
      fingerprint: undefined,
      meta: job.meta === undefined ? {} : (JSON.parse(job.meta) as Record<string, unknown>), // checked to be an object
      tags: job.tags ?? [],
      partitionKey: job.partitionKey,
      batch: job.batch,
      step: job.step,
      trace: job.trace,
      progress: undefined,
      snoozes: 0,
      claimedBy: undefined,
      runAt,
      startBefore: deadlineOf(job, row),
      scheduledFor: runAt,
      insertedAt,
      claimedAt: undefined,
      finishedAt: row.state === "cancelled" ? insertedAt : undefined,
      cancelRequestedAt: undefined,
      cancelReason: undefined
    }
  }
}

const deadlineOf = (
  job: NewJob,
  row: { readonly runAt: Date; readonly insertedAt: Date }
): DateTime.Utc | undefined => {
  const millis = expiresIn(job, row)
  return millis === undefined ? undefined : DateTime.makeUnsafe(row.insertedAt.getTime() + millis)
}
