/** Time that moves only when it is told to, from one due sleeper to the next, with all that follows in between. */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import type { TestClock } from "effect/testing/TestClock"
import type { Activity } from "./activity.ts"

/** The virtual clock; it is a `TestClock` as well, so that `TestClock.adjust` moves it. */
export interface VirtualClock extends TestClock {
  /** Waits until nothing moves. */
  readonly settled: Effect.Effect<void>
  /** Lets time jump to the next sleeper whenever nothing moves, until the same number of calls of `hold`. */
  readonly release: () => void
  readonly hold: () => void
}

/**
 * Makes the clock. `around` wraps every advance.
 */
export const make = (
  activity: Activity,
  options: {
    readonly start: number
    readonly live: Clock.Clock
    readonly around: <A>(advance: Effect.Effect<A>) => Effect.Effect<A>
  }
): VirtualClock => {
  const { live, start } = options
  const sleepers: Array<Sleeper> = []
  const turn = Semaphore.makeUnsafe(1)
  let now = start
  let released = 0

  const wakeNext = (end: number): boolean => {
    const next = sleepers[0]
    if (next === undefined || next.at > end) return false
    sleepers.shift()
    now = Math.max(now, next.at)
    next.wake()
    return true
  }
  activity.onQuiet = () => released > 0 && wakeNext(Number.MAX_SAFE_INTEGER)

  const settled = Effect.callback<void>((resume) => {
    const forget = activity.whenQuiet(() => resume(Effect.void))
    return Effect.sync(forget)
  })
  const moveTo = (target: () => number): Effect.Effect<void> =>
    Effect.gen(function* () {
      const end = Math.max(target(), now)
      yield* settled
      while (wakeNext(end)) yield* settled
      now = end
    }).pipe(options.around, turn.withPermit)
  const sleep = (duration: Duration.Duration): Effect.Effect<void> => {
    // Whole milliseconds, as in PostgreSQL's timestamptz(3): a timer never fires before its instant.
    const millis = Math.ceil(Duration.toMillis(duration))
    if (millis <= 0) return Effect.yieldNow
    return Effect.callback<void>((resume) => {
      const sleeper: Sleeper = { at: now + millis, wake: () => resume(Effect.void) }
      sleepers.splice(placeOf(sleepers, sleeper.at), 0, sleeper)
      activity.kick()
      return Effect.sync(() => {
        const index = sleepers.indexOf(sleeper)
        if (index >= 0) sleepers.splice(index, 1)
      })
    })
  }
  const nanos = (): bigint => BigInt(now) * 1_000_000n
  // From zero, so that it stays exact as a number of milliseconds.
  const monotonic = (): bigint => BigInt(now - start) * 1_000_000n
  return {
    currentTimeMillisUnsafe: () => now,
    currentTimeMillis: Effect.sync(() => now),
    currentTimeNanosUnsafe: nanos,
    currentTimeNanos: Effect.sync(nanos),
    monotonicTimeNanosUnsafe: monotonic,
    monotonicTimeNanos: Effect.sync(monotonic),
    sleep,
    adjust: (duration) => {
      const millis = Math.ceil(Duration.toMillis(Duration.fromInputUnsafe(duration)))
      return Number.isSafeInteger(millis)
        ? moveTo(() => now + millis)
        : Effect.die(new RangeError(`Time cannot advance by ${Duration.format(Duration.fromInputUnsafe(duration))}.`))
    },
    setTime: (timestamp) =>
      Effect.suspend(() =>
        timestamp >= now && Number.isSafeInteger(timestamp)
          ? moveTo(() => timestamp)
          : Effect.die(new RangeError(`Time cannot go to ${timestamp}: it is ${now}, and it only moves forward.`))
      ),
    withLive: Effect.provideService(Clock.Clock, live),
    settled,
    release: () => {
      released++
      activity.kick()
    },
    hold: () => {
      released--
    }
  }
}

// internal

interface Sleeper {
  readonly at: number
  readonly wake: () => void
}

/** After all that wake at the same instant or before: who slept first wakes first. */
const placeOf = (sleepers: ReadonlyArray<Sleeper>, at: number): number => {
  let low = 0
  let high = sleepers.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((sleepers[middle] as Sleeper).at <= at) low = middle + 1 // within its bounds
    else high = middle
  }
  return low
}
