/** The deadline of a job, checked before anything is sent. */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { InvalidDeadline } from "../ShigotoError.ts"
import { shown } from "./names.ts"
import type { NewJob } from "./newJob.ts"
import type { Claimed } from "./sql/claimed.ts"

/** When a job has to start, and what becomes of it if it does not. */
export interface DeadlineOptions {
  /**
   * How long it may wait for its first attempt, and between attempts, from when it is due: an attempt that has not
   * started by then never does. Defaults to the definition's, else for ever. Not together with `startBefore`.
   */
  readonly expiresIn?: Duration.Input | undefined
  /** Before when each of its attempts has to start. Defaults to no deadline. Not together with `expiresIn`. */
  readonly startBefore?: DateTime.DateTime | Date | undefined
  /**
   * What becomes of it if none has: it is discarded, cancelled, or cancelled for another job that runs in its place, as
   * `prepare` of a definition returns it. Defaults to the definition's, else `discard`.
   */
  readonly onExpire?: OnExpire | undefined
}

/** What becomes of a job that has not started before its deadline; a job that was prepared runs instead of it. */
export type OnExpire = "discard" | "cancel" | NewJob

/** The deadline that a producer sets and what follows from it, or why it is none. */
export const deadlineOf = (
  options: DeadlineOptions & { readonly runAt?: DateTime.DateTime | Date | undefined },
  index: { readonly index?: number } = {}
): Result.Result<Pick<NewJob, "expires" | "onExpire">, InvalidDeadline> => {
  const { expiresIn, onExpire, runAt, startBefore } = options
  const refuse = (field: InvalidDeadline["field"], value: unknown, why: string) =>
    Result.fail(
      new InvalidDeadline({
        field,
        value: shown(value),
        message: `${field} cannot be ${shown(value)}: ${why}.`,
        ...index
      })
    )
  const isJob = typeof onExpire === "object" && onExpire !== null && "worker" in onExpire
  if (onExpire !== undefined && onExpire !== "discard" && onExpire !== "cancel" && !isJob) {
    return refuse("onExpire", onExpire, 'it is "discard", "cancel", or what `prepare` of another job returns')
  }
  if (isJob && typeof onExpire.onExpire === "object") {
    return refuse("onExpire", onExpire.worker, "that job has an onExpire job of its own")
  }
  const then: Pick<NewJob, "onExpire"> = isJob
    ? { onExpire: { run: { ...onExpire, unique: undefined, dependsOn: undefined, batch: undefined } } }
    : { onExpire: onExpire === "cancel" ? onExpire : undefined }
  if (expiresIn !== undefined && startBefore !== undefined) {
    return refuse("startBefore", startBefore, "give expiresIn or startBefore, not both")
  }
  if (expiresIn !== undefined) {
    const millis = Option.match(safeDuration(expiresIn), { onNone: () => Number.NaN, onSome: Duration.toMillis })
    return millis >= 1 && millis <= maxDelayMillis
      ? Result.succeed({ expires: { afterMillis: millis }, ...then })
      : refuse("expiresIn", expiresIn, "it is a duration from a millisecond to 1,000 years")
  }
  if (startBefore === undefined) {
    return onExpire === undefined || onExpire === "discard"
      ? Result.succeed({})
      : refuse("onExpire", isJob ? onExpire.worker : onExpire, "without expiresIn or startBefore the job never expires")
  }
  const instant = (value: unknown): number =>
    value instanceof Date ? value.getTime() : DateTime.isDateTime(value) ? value.epochMilliseconds : Number.NaN
  const at = instant(startBefore)
  if (Number.isNaN(at)) return refuse("startBefore", startBefore, "it is no valid Date or DateTime")
  if (at < firstInstant || at > lastInstant) return refuse("startBefore", at, "it lies outside the years 1 to 9999")
  if (runAt !== undefined && instant(runAt) >= at) {
    return refuse("startBefore", startBefore, "the job is not due before that, by its runAt")
  }
  return Result.succeed({ expires: { at: new Date(at) }, ...then })
}

/** Says what is wrong with the deadline that a definition gives its jobs, if anything. */
export const expiryProblem = (options: DeadlineOptions): InvalidDeadline | undefined => {
  // Without one of its own it says what becomes of jobs whose enqueues set one.
  const checked = deadlineOf({ expiresIn: "1 second", ...options })
  return Result.isFailure(checked) ? checked.failure : undefined
}

/** How much time an attempt has left: until its timeout, or its deadline by the clock that claimed it. */
export const budgetOf = (
  { claimedAt, startBefore }: Claimed,
  timeoutMillis: number,
  elapsed: () => number
): Effect.Effect<Duration.Duration> =>
  Effect.sync(() => {
    const left = startBefore === undefined ? Infinity : startBefore.getTime() - claimedAt.getTime()
    return Duration.millis(Math.max(Math.min(left, timeoutMillis) - elapsed(), 0))
  })

/** The instants that PostgreSQL and JavaScript both hold exactly. */
export const firstInstant = -62_135_596_800_000
export const lastInstant = 253_402_300_799_999
export const maxDelayMillis = 1000 * 365.25 * 24 * 3_600_000

/** `Duration` reads NaN as zero, and an object without a unit, too. */
export const safeDuration = (input: Duration.Input): Option.Option<Duration.Duration> => {
  if (typeof input === "object" && input !== null && !Duration.isDuration(input)) {
    const values = Object.values(input).filter((value) => value !== undefined)
    if (values.length === 0 || values.some(Number.isNaN)) return Option.none()
  }
  return Number.isNaN(input) ? Option.none() : Duration.fromInput(input)
}
