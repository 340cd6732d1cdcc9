/**
 * A job as the database holds it.
 *
 * Args, result and errors are the encoded JSON values: what a schema makes of them is known only to the code that
 * defines the job. What is encrypted and cannot be read here is a `Cipher.Encrypted` in their place.
 */
import type * as Brand from "effect/Brand"
import type * as DateTime from "effect/DateTime"

/**
 * The id of a job: a positive integer, unique in its database for ever.
 *
 * @category models
 */
export type JobId = number & Brand.Brand<"effect-shigoto/JobId">

/**
 * The id of a batch or flow: a positive integer, unique in its database for ever.
 *
 * @category models
 */
export type BatchId = number & Brand.Brand<"effect-shigoto/BatchId">

/**
 * Where a job is in its life; the last three are terminal.
 *
 * **Details**
 *
 * `scheduled` waits for its time, `blocked` for other jobs, `available` for a free slot, `retryable` for the next
 * attempt.
 *
 * @category models
 */
export type JobState =
  | "scheduled"
  | "blocked"
  | "available"
  | "executing"
  | "retryable"
  | "completed"
  | "discarded"
  | "cancelled"

/**
 * All states in the order of a job's life.
 *
 * @category models
 */
export const states: ReadonlyArray<JobState> = [
  "scheduled",
  "blocked",
  "available",
  "executing",
  "retryable",
  "completed",
  "discarded",
  "cancelled"
]

/**
 * Why one attempt failed, as kept with the job: the last 20, each at most 16 KiB.
 *
 * @category models
 */
export interface AttemptFailure {
  /** The attempt that failed, counted from 1; of one that expired, the last that started, 0 for none. */
  readonly attempt: number
  /** When it failed, by the clock of the node that reports it; ISO 8601 in UTC. */
  readonly at: string
  /** The name of the node that reports it. */
  readonly node: string
  /** The `_tag` or the class name of the error. */
  readonly tag: string
  /** The error's message. */
  readonly message: string
  /** A short hash of the worker, the tag and the message without its numbers, ids and quotes: failures alike share it. */
  readonly fingerprint?: string
  /** The error as its schema encodes it, where the handler failed with it and it fits into 8 KiB. */
  readonly error?: unknown
  /** The pretty-printed cause with stack traces; absent where there is nothing more to say than the message. */
  readonly cause?: string
  /**
   * The values that these texts quote and that stand nowhere in the row, args that a flow computed and results that the
   * job waited for, under their names: by them a reader tells what is a secret.
   */
  readonly quotes?: unknown
}

/**
 * One job, live or archived.
 *
 * @category models
 */
export interface JobRow {
  readonly id: JobId
  /** The name of its definition. */
  readonly worker: string
  readonly queue: string
  readonly state: JobState
  /** Higher first. */
  readonly priority: number
  /** Attempts started and counted; a snooze, a release and a lost claim give theirs back. */
  readonly attempt: number
  readonly maxAttempts: number
  /** The fencing token: rises on each claim and on each departure that the holder did not make. */
  readonly epoch: number
  /** The encoded args. */
  readonly args: unknown
  /** The encoded result of a completed job. */
  readonly result: unknown
  readonly errors: ReadonlyArray<AttemptFailure>
  /** The fingerprint of its last failure, for as long as it has not succeeded since. */
  readonly fingerprint: string | undefined
  readonly meta: Readonly<Record<string, unknown>>
  readonly tags: ReadonlyArray<string>
  readonly partitionKey: string | undefined
  /** The batch or flow that it is a member of. */
  readonly batch: BatchId | undefined
  /** The name of its node in a flow. */
  readonly step: string | undefined
  /** The W3C `traceparent` of the span that enqueued it, where a tracer listened. */
  readonly trace: string | undefined
  /** From 0 to 100, as last said by the handler. */
  readonly progress: number | undefined
  /** How often it snoozed. */
  readonly snoozes: number
  /** The incarnation number of the node that holds it, or that held it last. */
  readonly claimedBy: number | undefined
  /** When it may run, or when the attempt that is due was due. */
  readonly runAt: DateTime.Utc
  /** The deadline by which an attempt has to have started; undefined for none. */
  readonly startBefore: DateTime.Utc | undefined
  /** When it was first due: a cron job's tick, a delay's end, else when it was inserted. */
  readonly scheduledFor: DateTime.Utc
  readonly insertedAt: DateTime.Utc
  /** When the latest attempt was claimed. */
  readonly claimedAt: DateTime.Utc | undefined
  readonly finishedAt: DateTime.Utc | undefined
  readonly cancelRequestedAt: DateTime.Utc | undefined
  readonly cancelReason: string | undefined
}
