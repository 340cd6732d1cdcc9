/** Chance that can be had again: every number follows from the seed and the name of the stream. */

export interface Random {
  /** From 0 up to but not including 1. */
  readonly next: () => number
  /** Both ends included. */
  readonly int: (min: number, max: number) => number
  readonly chance: (probability: number) => boolean
  readonly pick: <A>(from: ReadonlyArray<A>) => A
  /** One of the weighted choices. */
  readonly weighted: <A>(choices: ReadonlyArray<readonly [weight: number, choice: A]>) => A
}

/** A stream of its own for each name, so that one part's draws do not move another's (mulberry32 over FNV-1a). */
export const makeRandom = (seed: number, stream: string): Random => {
  let state = 0x811c9dc5
  for (const char of `${seed}/${stream}`) state = Math.imul(state ^ char.charCodeAt(0), 0x01000193)
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x100000000
  }
  return {
    next,
    int: (min, max) => min + Math.floor(next() * (max - min + 1)),
    chance: (probability) => next() < probability,
    pick: <A>(from: ReadonlyArray<A>) => from[Math.floor(next() * from.length)] as A, // never asked of an empty list
    weighted: <A>(choices: ReadonlyArray<readonly [number, A]>) => {
      let left = next() * choices.reduce((sum, [weight]) => sum + weight, 0)
      for (const [weight, choice] of choices) {
        left -= weight
        if (left < 0) return choice
      }
      return (choices.at(-1) as readonly [number, A])[1]
    }
  }
}
