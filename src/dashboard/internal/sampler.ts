/**
 * One look for all viewers: whoever asks takes what was last seen, or looks again once that is old enough.
 *
 * Nothing runs while nobody asks. A look that takes long is repeated the more rarely, so that a dashboard takes at most
 * a tenth of a connection.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Semaphore from "effect/Semaphore"

/** What was seen, and when. */
export interface Seen<A, E> {
  readonly at: number
  readonly exit: Exit.Exit<A, E>
}

/** A look that is shared. */
export interface Shared<A, E> {
  readonly seen: Effect.Effect<Seen<A, E>>
  /** Has the next one look anew, as after a change. */
  readonly forget: Effect.Effect<void>
}

/** Makes a look that is no more than `atLeast` milliseconds old, or ten times what it took. */
export const shared = <A, E>(look: Effect.Effect<A, E>, atLeast: number): Effect.Effect<Shared<A, E>> =>
  Effect.map(Semaphore.make(1), (one) => {
    let last: (Seen<A, E> & { readonly until: number }) | undefined
    let changes = 0
    return {
      seen: one.withPermit(
        Effect.gen(function* () {
          const at = yield* Clock.currentTimeMillis
          if (last !== undefined && at < last.until) return last
          const before = changes
          // Who leaves while it looks takes the look along: the next one looks anew.
          const exit = yield* Effect.exit(look)
          const done = yield* Clock.currentTimeMillis
          const seen = { at: done, exit, until: done + Math.max(atLeast, 10 * (done - at)) }
          last = before === changes ? seen : undefined
          return seen
        })
      ),
      forget: Effect.sync(() => {
        changes++
        last = undefined
      })
    }
  })

/** Shares looks by a key, such as the filter that they are about; those that nobody has asked for the longest are let go. */
export const keyed = <A, E>(
  atLeast: number,
  most: number
): ((key: string, look: Effect.Effect<A, E>) => Effect.Effect<A, E>) => {
  const known = new Map<string, Shared<A, E>>()
  return (key, look) =>
    Effect.gen(function* () {
      const found = known.get(key) ?? (yield* shared(look, atLeast))
      // The order of a map is that of its insertions.
      known.delete(key)
      known.set(key, found)
      for (const oldest of known.keys()) {
        if (known.size <= most) break
        known.delete(oldest)
      }
      return yield* (yield* found.seen).exit
    })
}
