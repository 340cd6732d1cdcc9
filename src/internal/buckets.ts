/** Times in fixed buckets, so that what many nodes measured adds up; percentiles of them are estimates. */

/** The upper bounds of the buckets in milliseconds; one more bucket takes what is longer. Never to be changed. */
export const bounds: ReadonlyArray<number> = [
  1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000, 300_000, 1_800_000, 7_200_000
]

/** Empty buckets. */
export const empty = (): Array<number> => Array.from({ length: bounds.length + 1 }, () => 0)

/** Counts a time. */
export const count = (buckets: Array<number>, millis: number): void => {
  const found = bounds.findIndex((bound) => millis <= bound)
  const place = found === -1 ? bounds.length : found
  buckets[place] = (buckets[place] ?? 0) + 1
}

/** The time that a share of all lies below, from 0 to 1, within its bucket as if all were spread evenly there. */
export const percentile = (buckets: ReadonlyArray<number>, share: number): number | undefined => {
  const total = buckets.reduce((sum, one) => sum + one, 0)
  if (total === 0) return undefined
  let below = 0
  for (const [i, inside] of buckets.entries()) {
    if (inside > 0 && below + inside >= share * total) {
      const lower = bounds[i - 1] ?? 0
      // Of what is longer than the last bound, no more is known than that.
      const upper = bounds[i] ?? lower
      return lower + (upper - lower) * Math.max(0, (share * total - below) / inside)
    }
    below += inside
  }
  return bounds.at(-1)
}
