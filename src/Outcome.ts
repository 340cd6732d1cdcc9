/**
 * What becomes of a job after an attempt: one pure decision from how the attempt ended.
 *
 * The table (`../docs/decisions.md` has the reasons):
 *
 * | the attempt ended with | and | outcome |
 * |---|---|---|
 * | success | | completed, also when a cancel was asked for |
 * | snooze, wait, failure, interruption | a cancel was asked for | cancelled |
 * | `Job.cancel` | | cancelled |
 * | `Job.discard` | | discarded |
 * | snooze | | scheduled, attempt given back |
 * | a wait for new jobs | | blocked, attempt given back |
 * | failure | attempts left and a delay | retryable |
 * | failure | no attempt left, or the schedule ended | discarded |
 * | interruption by the node | | available, attempt given back |
 */
import type { NewJob, OnFailure } from "./internal/newJob.ts"
import type { AttemptFailure } from "./JobRow.ts"

/**
 * How an attempt ended.
 *
 * @category models
 */
export type Ending =
  | {
      readonly _tag: "Succeeded"
      /** The encoded result as JSON text, or undefined for none. */
      readonly result: string | undefined
    }
  | { readonly _tag: "Snoozed"; readonly delayMillis: number }
  | ForkedEnding
  | { readonly _tag: "DiscardAsked"; readonly failure: AttemptFailure }
  | { readonly _tag: "CancelAsked"; readonly reason: string }
  | {
      readonly _tag: "Failed"
      readonly failure: AttemptFailure
      /** The wait before the next attempt; undefined where the retry schedule has ended. */
      readonly delayMillis: number | undefined
      /** False where the worker's circuit breaker does not count it. */
      readonly counted?: boolean | undefined
      /** False where it is no reason for an adaptive concurrency to fall. */
      readonly strains?: boolean | undefined
    }
  | { readonly _tag: "Interrupted" }

/**
 * The transition that settles an attempt.
 *
 * @category models
 */
export type Outcome =
  | { readonly _tag: "Completed"; readonly result: string | undefined }
  | { readonly _tag: "Retryable"; readonly failure: AttemptFailure; readonly delayMillis: number }
  | { readonly _tag: "Discarded"; readonly failure: AttemptFailure }
  | { readonly _tag: "Cancelled"; readonly reason: string | undefined; readonly failure: AttemptFailure | undefined }
  | { readonly _tag: "Snoozed"; readonly delayMillis: number }
  | {
      readonly _tag: "Released"
      /** What turned the job away as it was to start; undefined where the node leaves. */
      readonly deferredBy?: "circuit" | undefined
    }
  | ForkedEnding

/**
 * The job waits for new jobs, and runs again once they have ended.
 *
 * @category models
 */
export interface ForkedEnding {
  readonly _tag: "Forked"
  /** What the job calls the group. */
  readonly name: string
  readonly onFailure: OnFailure
  readonly children: ReadonlyArray<NewJob>
}

/**
 * Decides the outcome of an attempt.
 *
 * @category rules
 */
export const decide = (
  ending: Ending,
  job: {
    readonly attempt: number
    readonly maxAttempts: number
    readonly cancel: { readonly reason?: string } | undefined
  }
): Outcome => {
  const cancelled = (failure?: AttemptFailure): Outcome => ({ _tag: "Cancelled", reason: job.cancel?.reason, failure })
  switch (ending._tag) {
    case "Succeeded":
      return { _tag: "Completed", result: ending.result }
    case "CancelAsked":
      return { _tag: "Cancelled", reason: ending.reason, failure: undefined }
    case "DiscardAsked":
      return { _tag: "Discarded", failure: ending.failure }
    case "Snoozed":
      return job.cancel === undefined ? { _tag: "Snoozed", delayMillis: ending.delayMillis } : cancelled()
    case "Forked":
      return job.cancel === undefined ? ending : cancelled()
    case "Interrupted":
      return job.cancel === undefined ? { _tag: "Released" } : cancelled()
    case "Failed":
      if (job.cancel !== undefined) return cancelled(ending.failure)
      return job.attempt < job.maxAttempts && ending.delayMillis !== undefined
        ? { _tag: "Retryable", failure: ending.failure, delayMillis: ending.delayMillis }
        : { _tag: "Discarded", failure: ending.failure }
  }
}

/**
 * Says whether an outcome ends the job's life.
 *
 * @category rules
 */
export const isTerminal = (outcome: Outcome): boolean =>
  outcome._tag === "Completed" || outcome._tag === "Discarded" || outcome._tag === "Cancelled"
