/**
 * What a handler may say instead of succeeding or failing: not yet, never, called off, or after others.
 *
 * Each is a typed failure of the handler's effect, so it ends the handler at once and shows in its type.
 */
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { NewJob, OnFailure } from "./internal/newJob.ts"
import type { DependencyError, FanOutError } from "./ShigotoError.ts"

/**
 * Asks for the job to run again later, without costing an attempt.
 *
 * @category models
 */
export class Snooze extends Data.TaggedError("Snooze")<{ readonly duration: Duration.Input }> {}

/**
 * Asks for the job to be given up.
 *
 * @category models
 */
export class Discard extends Data.TaggedError("Discard")<{ readonly reason: string }> {}

/**
 * Asks for the job to be called off.
 *
 * @category models
 */
export class Cancel extends Data.TaggedError("Cancel")<{ readonly reason: string }> {}

/**
 * Asks for new jobs to be inserted, and for the job to wait until they have ended and then run again; no attempt is
 * spent.
 *
 * @category models
 */
export class Fork extends Data.TaggedError("Fork")<{
  readonly name: string
  readonly onFailure: OnFailure
  readonly children: ReadonlyArray<NewJob>
}> {}

/**
 * What waiting for new jobs may end an attempt with: the wait itself, children that cannot be inserted, a result that is
 * not there.
 *
 * @category models
 */
export type Waits = Fork | FanOutError | DependencyError

/**
 * Any of them.
 *
 * @category models
 */
export type Signal = Snooze | Discard | Cancel | Waits

/**
 * Ends the attempt and schedules the job after a duration above zero and up to ten years; the attempt is given back.
 *
 * **Gotchas**
 *
 * Another duration counts as a failed attempt that says so.
 *
 * @category constructors
 */
export const snooze = (duration: Duration.Input): Effect.Effect<never, Snooze> => Effect.fail(new Snooze({ duration }))

/**
 * Ends the attempt and discards the job, however many attempts are left.
 *
 * @category constructors
 */
export const discard = (reason: string): Effect.Effect<never, Discard> => Effect.fail(new Discard({ reason }))

/**
 * Ends the attempt and cancels the job.
 *
 * @category constructors
 */
export const cancel = (reason: string): Effect.Effect<never, Cancel> => Effect.fail(new Cancel({ reason }))
