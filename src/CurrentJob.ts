/**
 * What a handler knows of the job it runs, and what it may say about it.
 */
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { shown } from "./internal/names.ts"
import type { Dependency } from "./internal/newJob.ts"
import type { BatchId, AttemptFailure, JobId } from "./JobRow.ts"

/**
 * The attempt that is running.
 *
 * @category models
 */
export interface Attempt {
  readonly id: JobId
  readonly worker: string
  readonly queue: string
  /** This attempt's number, from 1. */
  readonly attempt: number
  readonly maxAttempts: number
  readonly priority: number
  /** The fencing token of this attempt; unique together with the id. */
  readonly epoch: number
  /** The failures of earlier attempts, oldest first. */
  readonly errors: ReadonlyArray<AttemptFailure>
  readonly meta: Readonly<Record<string, unknown>>
  readonly tags: ReadonlyArray<string>
  readonly partitionKey: string | undefined
  /** How often the job has snoozed. */
  readonly snoozes: number
  /** When the job was first due: a cron job's tick, a delay's end, else when it was enqueued. */
  readonly scheduledFor: DateTime.Utc
  readonly insertedAt: DateTime.Utc
  /** Before when the attempt had to start, and before when another one would have to; undefined for no matter. */
  readonly startBefore: DateTime.Utc | undefined
  /** The W3C `traceparent` of the span that enqueued it, where a tracer listened. */
  readonly trace: string | undefined
  /** Whether it is stored encrypted, and so is what it leaves. */
  readonly encrypted: boolean
  /** The batch or flow that it is a member of. */
  readonly batch: BatchId | undefined
  /** The jobs that it waited for, by id, with their encoded results; those included that it has added itself. */
  readonly dependencies: ReadonlyMap<JobId, Dependency>
}

/**
 * The job that the current handler runs; every handler may ask for it.
 *
 * @category services
 */
export class CurrentJob extends Context.Service<
  CurrentJob,
  Attempt & {
    /** Stores how far the handler has come, from 0 to 100; written at most twice a second, the last value surely. */
    readonly progress: (percent: number) => Effect.Effect<void>
    /** How much time is left until its deadline or its timeout, whichever comes first; zero after that. */
    readonly remaining: Effect.Effect<Duration.Duration>
  }
>()("effect-shigoto/CurrentJob") {}

/**
 * Says how far the handler has come, from 0 to 100.
 *
 * **Details**
 *
 * The value is rounded and stored soon, at most twice a second, and published as an event. It is a report, not a
 * decision: while the database is away it is dropped.
 *
 * **Gotchas**
 *
 * Dies on a number that is no percentage.
 *
 * @category accessors
 */
export const progress = (percent: number): Effect.Effect<void, never, CurrentJob> =>
  percent >= 0 && percent <= 100
    ? Effect.flatMap(CurrentJob, (job) => job.progress(Math.round(percent)))
    : Effect.die(new RangeError(`progress takes a number from 0 to 100, not ${shown(percent)}`))

/**
 * How much time is left until the job's deadline or the attempt's timeout, whichever comes first.
 *
 * **Details**
 *
 * The budget for what the handler calls: `Effect.timeout(call, yield* Job.remaining)`. Infinite where neither is set, zero
 * once the deadline has passed; an attempt that has started in time is not interrupted by it. Counted from the claim, by
 * the database's clock.
 *
 * @category accessors
 */
export const remaining: Effect.Effect<Duration.Duration, never, CurrentJob> = Effect.flatMap(
  CurrentJob,
  (job) => job.remaining
)
