/**
 * How long a failed attempt waits for the next: pure rules over the attempt's number, the same on every node and after
 * every restart.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Pull from "effect/Pull"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"

/**
 * The longest wait of the default rule, in milliseconds: 30 minutes.
 *
 * @category constants
 */
export const defaultCapMillis = 1_800_000

/**
 * The longest wait of any rule, in milliseconds: ten years.
 *
 * @category constants
 */
export const maxDelayMillis = 315_360_000_000

/**
 * The default wait after a failed attempt: `min(attempt^4 + jitter, 1800)` seconds, with a jitter of 1 to 30.
 *
 * **Details**
 *
 * The jitter follows from the job's id and the attempt, so that it differs between jobs and repeats in tests.
 * The shape is Sidekiq's and Oban's.
 *
 * @category rules
 */
export const defaultDelayMillis = (id: number, attempt: number): number =>
  Math.min((Math.max(attempt, 1) ** 4 + 1 + (mix(id, attempt) % 30)) * 1000, defaultCapMillis)

/**
 * The wait that a `Schedule` gives for an attempt, in milliseconds; undefined where the schedule has ended.
 *
 * **Details**
 *
 * The schedule is replayed from its start to this attempt on a simulated clock, so it survives restarts and moves
 * between nodes. The clock is set so that the replay ends at `now`: what a schedule reads off the calendar, as
 * `Schedule.cron` does, holds for the real instant. Each replayed step sees the error of the current attempt. Random
 * parts are seeded by the job's id.
 *
 * **Gotchas**
 *
 * Fails with whatever the schedule fails with; a delay that is no finite number from 0 to ten years is the caller's to
 * refuse with {@link isUsable}. Effect makes zero of a duration of NaN before anybody sees it; a schedule that has waited
 * and then gives zero is taken to have meant NaN. One that never waits, as `Schedule.recurs`, cannot be told apart.
 *
 * @category rules
 */
export const fromSchedule = <Input, Error, R>(
  schedule: Schedule.Schedule<unknown, Input, Error, R>,
  options: { readonly id: number; readonly attempt: number; readonly error: Input; readonly now: number }
): Effect.Effect<number | undefined, Error, R> => {
  const { attempt, error, id, now } = options
  const replay = (start: number, attempts: number): Effect.Effect<Replay | undefined, Error, R> =>
    Effect.gen(function* () {
      const step = yield* Schedule.toStep(schedule)
      let at = start
      let delay = 0
      for (let i = 1; i <= attempts; i++) {
        const instant = i === attempt ? now : at
        const next = yield* Pull.catchDone(step(instant, error), () => Effect.undefined)
        if (next === undefined) return undefined
        delay = Duration.toMillis(next[1])
        if (isUsable(delay)) at += delay
      }
      return { delay, elapsed: at - start }
    }).pipe(Random.withSeed(`job-${id}`))
  return Effect.flatMap(replay(now, attempt - 1), (before) =>
    before === undefined
      ? Effect.undefined
      : Effect.map(replay(now - before.elapsed, attempt), (replayed) =>
          replayed?.delay === 0 && replayed.elapsed > 0 ? Number.NaN : replayed?.delay
        )
  )
}

/**
 * Says whether a delay can be stored: finite, from 0 to ten years.
 *
 * @category rules
 */
export const isUsable = (delayMillis: number): boolean =>
  Number.isFinite(delayMillis) && delayMillis >= 0 && delayMillis <= maxDelayMillis

// internal

/** The last wait of a replay, and all its waits together. */
interface Replay {
  readonly delay: number
  readonly elapsed: number
}

/** A small integer hash (the finalizer of MurmurHash3), so that neighbouring ids do not retry together. */
const mix = (id: number, attempt: number): number => {
  let hash = (id % 0x100000000) ^ Math.imul(attempt, 0x9e3779b1)
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}
