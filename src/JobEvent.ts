/**
 * What happens to jobs, as data: each event is published after the database has accepted it, on the node that did it.
 */
import type * as DateTime from "effect/DateTime"
import type { BatchSummary } from "./internal/newJob.ts"
import type { AttemptFailure, JobId, JobState } from "./JobRow.ts"

/**
 * Which job an event is about.
 *
 * @category models
 */
export interface JobRef {
  readonly id: JobId
  readonly worker: string
  readonly queue: string
}

/**
 * One event.
 *
 * **Details**
 *
 * `Rescued` tells that this node took a job away from a dead one; `LeaseLost` that an outcome of this node was
 * refused because the job had been taken away; `Stuck` that a handler did not end after its interruption.
 *
 * @category models
 */
export type JobEvent =
  | (JobRef & { readonly _tag: "Inserted"; readonly state: JobState })
  /** It was claimed, and its handler starts. */
  | (JobRef & {
      readonly _tag: "Started"
      readonly attempt: number
      /** How long it had been due, by the database's clock. */
      readonly waitMillis: number
    })
  | (JobRef & { readonly _tag: "Completed"; readonly attempt: number; readonly runMillis: Run })
  | (JobRef & {
      readonly _tag: "Failed"
      readonly attempt: number
      readonly failure: AttemptFailure
      readonly delayMillis: number
      readonly runMillis: Run
    })
  | (JobRef & {
      readonly _tag: "Discarded"
      readonly attempt: number
      readonly failure: AttemptFailure
      readonly runMillis: Run
    })
  | (JobRef & {
      readonly _tag: "Cancelled"
      readonly attempt: number
      readonly reason: string | undefined
      readonly runMillis: Run
    })
  | (JobRef & {
      readonly _tag: "Snoozed"
      readonly attempt: number
      readonly delayMillis: number
      readonly runMillis: Run
    })
  | (JobRef & { readonly _tag: "Released"; readonly attempt: number; readonly runMillis: Run })
  /** It was claimed and turned away before its handler started: it is back in its place, with all its attempts. */
  | (JobRef & { readonly _tag: "Deferred"; readonly by: "circuit" })
  | (JobRef & { readonly _tag: "Retried" })
  | (JobRef & { readonly _tag: "Deleted" })
  /** It has not started before its deadline, and is discarded or cancelled. */
  | (JobRef & {
      readonly _tag: "Expired"
      /** The last attempt that started; 0 for none. */
      readonly attempt: number
      readonly state: JobState
      readonly startBefore: DateTime.Utc
      /** The job that runs in its place. */
      readonly fallback: JobId | undefined
    })
  /** It waits for the jobs that its handler has just added. */
  | (JobRef & { readonly _tag: "Blocked"; readonly attempt: number; readonly runMillis: Run })
  /** It waits for no other job any more. */
  | (JobRef & { readonly _tag: "Unblocked"; readonly state: JobState })
  | { readonly _tag: "BatchFinished"; readonly batch: BatchSummary }
  | (JobRef & { readonly _tag: "Rescued"; readonly attempt: number; readonly state: JobState; readonly node: string })
  | (JobRef & { readonly _tag: "LeaseLost"; readonly attempt: number; readonly runMillis: Run })
  | (JobRef & { readonly _tag: "Stuck"; readonly attempt: number })
  | (JobRef & { readonly _tag: "Progress"; readonly percent: number })
  | {
      readonly _tag: "CronTicked"
      readonly name: string
      readonly tick: DateTime.Utc
      /** The job that the tick inserted; undefined where the overlap policy held it back. */
      readonly job: JobId | undefined
    }
  /** A claim came back: how many jobs it asked for, and how many it brought. */
  | { readonly _tag: "QueuePolled"; readonly queue: string; readonly asked: number; readonly claimed: number }
  | { readonly _tag: "QueuePaused"; readonly queue: string }
  | { readonly _tag: "QueueResumed"; readonly queue: string }
  /** The database did not take so many outcomes, for the nth time in a row; they are sent again. */
  | { readonly _tag: "SettleRetried"; readonly jobs: number; readonly failures: number }
  /** A test holds back the claims of this node until it says when. */
  | { readonly _tag: "TestModeArmed" }
  /** A rate limit keeps a worker's jobs from this node, for the time told; not repeated while it lasts. */
  | {
      readonly _tag: "RateLimited"
      readonly worker: string
      readonly queue: string
      readonly limit: string
      /** Whose account it is, of a limit by partition key; the one that has room first, where there are several. */
      readonly partitionKey: string | undefined
      readonly freesInMillis: number
    }
  /** As many of a worker's jobs run, on all nodes together, as may; not repeated while it lasts. */
  | { readonly _tag: "ConcurrencyLimited"; readonly worker: string; readonly queue: string }
  /** As many attempts run on this node as may; told at most once a second. */
  | { readonly _tag: "BulkheadFull"; readonly running: number }
  /**
   * This node starts no job of a priority below the number told, by the number of its attempts (told at most once a
   * second) or since all jobs of a queue wait too long.
   */
  | {
      readonly _tag: "LoadShed"
      readonly below: number
      readonly by: "attempts" | "waits"
      readonly queue?: string
    }
  /** Jobs do not wait too long any more. */
  | { readonly _tag: "LoadRestored" }
  /** The concurrency of a worker or of a queue found another number on this node. */
  | {
      readonly _tag: "ConcurrencyAdapted"
      readonly worker?: string
      readonly queue?: string
      readonly limit: number
    }
  /** A worker's attempts fail too often on this node: none starts for the time told. */
  | { readonly _tag: "CircuitOpened"; readonly worker: string; readonly openMillis: number }
  /** That time is over: some attempts find out whether they succeed. */
  | { readonly _tag: "CircuitHalfOpened"; readonly worker: string }
  /** They do: attempts start as ever. */
  | { readonly _tag: "CircuitClosed"; readonly worker: string }
  | { readonly _tag: "NodeStarted"; readonly node: number; readonly name: string }
  | { readonly _tag: "NodeLeaseLost"; readonly node: number; readonly name: string }

/**
 * How long an attempt of this node ran, in milliseconds, from its claim to the end of its handler; undefined for a job
 * whose handler did not run here, or while nobody listened.
 *
 * @category models
 */
export type Run = number | undefined
