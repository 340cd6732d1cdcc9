/** How rows read: the one place that turns columns into values. */
import * as DateTime from "effect/DateTime"
import type { AttemptFailure, BatchId, JobId, JobRow, JobState } from "../../JobRow.ts"

/** The columns of a job as the driver gives them. */
export interface JobColumns {
  readonly id: bigint
  readonly worker: string
  readonly queue: string
  readonly state: JobState
  readonly priority: number
  readonly attempt: number
  readonly max_attempts: number
  readonly epoch: number
  readonly claimed_by: number | null
  readonly run_at: Date
  readonly inserted_at: Date
  readonly claimed_at: Date | null
  readonly cancel_requested_at: Date | null
  readonly finished_at: Date | null
  readonly progress: number | null
  readonly snoozes: number | null
  readonly args: unknown
  readonly result: unknown
  readonly errors: ReadonlyArray<AttemptFailure> | null
  readonly fingerprint: string | null
  readonly meta: Readonly<Record<string, unknown>> | null
  readonly tags: ReadonlyArray<string> | null
  readonly partition_key: string | null
  /** A text, or an envelope until it is opened. */
  readonly cancel_reason: string | null
  readonly scheduled_for: Date | null
  readonly batch_id: bigint | null
  readonly step: string | null
  readonly trace: string | null
  readonly start_before: Date | null
}

/** An id as the driver gives it; ids stay below 2^53 for longer than any database lives. */
export const jobId = (id: bigint | number): JobId => Number(id) as JobId // an id, under its brand

/** A job's row from its columns. */
export const jobRow = (columns: JobColumns): JobRow => ({
  id: jobId(columns.id),
  worker: columns.worker,
  queue: columns.queue,
  state: columns.state,
  priority: columns.priority,
  attempt: columns.attempt,
  maxAttempts: columns.max_attempts,
  epoch: columns.epoch,
  args: columns.args,
  result: columns.result ?? undefined,
  errors: columns.errors ?? [],
  fingerprint: columns.fingerprint ?? undefined,
  meta: columns.meta ?? {},
  tags: columns.tags ?? [],
  partitionKey: columns.partition_key ?? undefined,
  batch: columns.batch_id === null ? undefined : (Number(columns.batch_id) as BatchId), // an id, under its brand
  step: columns.step ?? undefined,
  trace: columns.trace ?? undefined,
  progress: columns.progress ?? undefined,
  snoozes: columns.snoozes ?? 0,
  claimedBy: columns.claimed_by ?? undefined,
  runAt: instant(columns.run_at),
  startBefore: optionalInstant(columns.start_before),
  scheduledFor: instant(columns.scheduled_for ?? columns.inserted_at),
  insertedAt: instant(columns.inserted_at),
  claimedAt: optionalInstant(columns.claimed_at),
  finishedAt: optionalInstant(columns.finished_at),
  cancelRequestedAt: optionalInstant(columns.cancel_requested_at),
  cancelReason: columns.cancel_reason ?? undefined
})

// internal

const instant = (date: Date): DateTime.Utc => DateTime.fromDateUnsafe(date)

const optionalInstant = (date: Date | null): DateTime.Utc | undefined => (date === null ? undefined : instant(date))
