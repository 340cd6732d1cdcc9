/**
 * A schedule as a layer: while a node that provides it lives, each tick of the expression inserts exactly one job.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { type CatchUp, type CronError, CronJobs, type CronOptions } from "./CronJobs.ts"

/**
 * Makes the layer of an entry; it is refused as the layer is built where anything about it cannot be used.
 *
 * **Details**
 *
 * The expression has five fields (minute, hour, day of month, month, day of week), six with seconds first, or is a
 * nickname: `@yearly`, `@monthly`, `@weekly`, `@daily`, `@hourly`. Names, lists, ranges and steps work; `7` is Sunday.
 * Where both days are restricted, either is enough. Without a `timezone` it is UTC.
 *
 * @see {@link CronOptions} for what else an entry says
 * @category constructors
 */
export const make = <Args, R>(options: CronOptions<Args, R>): Layer.Layer<never, CronError, CronJobs | R> =>
  Layer.effectDiscard(Effect.flatMap(CronJobs, (cronJobs) => cronJobs.register(options)))

/**
 * Catches up on the last `max` ticks that were missed, none older than `window`.
 *
 * @category constructors
 */
export const all = (options: {
  readonly max: number
  readonly window: Extract<CatchUp, object>["window"]
}): CatchUp => ({
  _tag: "all",
  ...options
})
