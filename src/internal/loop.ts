/** Background work that never ends by itself: a failure is logged, waited out, and tried again. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import { isTagged } from "effect/Predicate"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"

/** The shortest and the longest wait after failures in a row, in milliseconds. */
const shortest = 100
const longest = 5000

/**
 * Repeats a step for as long as the scope is open.
 *
 * A failure or a defect of the step is logged; waits grow from a tenth of a second to five seconds, with jitter, until
 * a step succeeds again.
 */
export const forever = <E, R>(
  name: string,
  step: Effect.Effect<void, E, R>
): Effect.Effect<void, never, R | Scope.Scope> =>
  Effect.suspend(() => {
    let failures = 0
    const round = Effect.matchCauseEffect(step, {
      onSuccess: () => {
        const recovered = failures > 0
        failures = 0
        return recovered ? Effect.logInfo(`Shigoto's ${name} works again`) : Effect.void
      },
      onFailure: (cause) =>
        Cause.hasInterruptsOnly(cause)
          ? Effect.interrupt
          : Effect.andThen(
              // Repeating the same line each second helps nobody.
              (failures & (failures - 1)) === 0
                ? warn(`Shigoto's ${name} failed and will be tried again`, cause)
                : Effect.void,
              pause(failures++)
            )
    })
    return Effect.asVoid(Effect.forkScoped(Effect.forever(round)))
  })

/** Logs what failed; of a database that is away by its message alone, since where in the code that is met tells nobody more. */
export const warn = (text: string, cause: Cause.Cause<unknown>): Effect.Effect<void> => {
  const [reason, ...others] = cause.reasons
  return reason !== undefined &&
    others.length === 0 &&
    Cause.isFailReason(reason) &&
    reason.error instanceof Error &&
    isTagged(reason.error, "StorageUnavailable")
    ? Effect.logWarning(`${text}: ${reason.error.message}`)
    : Effect.logWarning(text, cause)
}

/** A wait that grows with the failures in a row. */
export const pause = (failures: number): Effect.Effect<void> =>
  Effect.flatMap(Random.nextBetween(0.75, 1.25), (jitter) =>
    Effect.sleep(Math.min(shortest * 2 ** Math.min(failures, 10), longest) * jitter)
  )
