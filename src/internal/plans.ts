/**
 * Says whether claims may use plans that the server has kept, which saves it a millisecond for each.
 *
 * A plan that was made when the table was small may sort all of a backlog, until the server next looks at its statistics.
 * One long claim may have many reasons, a plan that has become wrong makes all of them long.
 */

/** What a node thinks of the plans that the server keeps. */
export interface Plans {
  readonly areTrusted: () => boolean
  /** How long a claim by such a plan took, in milliseconds. */
  readonly took: (millis: number) => void
}

/** Builds the opinion of a node; `now` tells monotonic milliseconds. */
export const makePlans = (now: () => number): Plans => {
  let long = 0
  let trustedAt = -Infinity
  return {
    areTrusted: () => now() >= trustedAt,
    took: (millis) => {
      long = millis > longMillis ? long + 1 : 0
      if (long < patience) return
      long = 0
      trustedAt = now() + distrustMillis
    }
  }
}

// internal

/** A claim of a few jobs takes some milliseconds, most of them for its commit. */
const longMillis = 25

/** After how many long claims in a row plans are not used. */
const patience = 3

/** As long as the server may take until it looks at a table's statistics and makes its plans anew. */
const distrustMillis = 60_000
