/** Which options there are: a misspelt one would be left out without a word. */

/** An option that there is not, and what to say of it. */
export interface Stray {
  readonly name: string
  readonly why: string
}

/** Finds the first option that there is not, with the name that it may have been meant for. */
export const strayOption = (given: object, known: ReadonlyArray<string>): Stray | undefined => {
  const name = Object.keys(given).find((key) => !known.includes(key))
  if (name === undefined) return undefined
  const [nearest] = known
    .map((option) => ({ option, distance: distance(name.toLowerCase(), option.toLowerCase()) }))
    .filter((one) => one.distance <= Math.max(2, Math.floor(one.option.length / 3)))
    .toSorted((a, b) => a.distance - b.distance)
  const hint = nearest === undefined ? `there are ${known.join(", ")}` : `the nearest is ${nearest.option}`
  return { name, why: `there is no such option; ${hint}` }
}

// internal

/** How many letters have to be put in, left out or replaced to make one word of another. */
const distance = (from: string, to: string): number => {
  let row = Array.from({ length: to.length + 1 }, (_, i) => i)
  for (const [i, letter] of from.split("").entries()) {
    const next = [i + 1]
    for (const [j, other] of to.split("").entries()) {
      next.push(Math.min((row[j] ?? 0) + (letter === other ? 0 : 1), (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1))
    }
    row = next
  }
  return row.at(-1) ?? 0
}
