/** Waiting for what must come, without guessing how long it takes. */
import * as Effect from "effect/Effect"
import { live } from "./run.ts"

/**
 * Looks again until the condition holds, and returns what it saw then; dies with the last sight after two minutes, which
 * no machine needs.
 */
export const eventually = <A, E, R>(
  look: Effect.Effect<A, E, R>,
  holds: (seen: A) => boolean
): Effect.Effect<A, E, R> =>
  Effect.gen(function* () {
    let seen = yield* look
    for (const started = performance.now(); !holds(seen); seen = yield* look) {
      if (performance.now() - started > 120_000) {
        return yield* Effect.die(new Error(`it never came true; last seen: ${shown(seen)}`))
      }
      yield* live(Effect.sleep(20))
    }
    return seen
  })

// internal

const shown = (seen: unknown): string =>
  JSON.stringify(seen, (_, value: unknown) => (typeof value === "bigint" ? Number(value) : value)).slice(0, 4000)
