/** How many there are of each key; keys are names of queues and workers, so few that none is forgotten. */

/** Counts by key. */
export interface Counts {
  /** Counts so many more, or less; returns how many there are now. */
  readonly add: (key: string, change: number) => number
  readonly of: (key: string) => number
}

/** Makes counts that begin at zero. */
export const makeCounts = (): Counts => {
  // A count is kept in a cell, so that a change is one look at the table.
  const cells = new Map<string, { count: number }>()
  return {
    add: (key, change) => {
      let cell = cells.get(key)
      if (cell === undefined) cells.set(key, (cell = { count: 0 }))
      return (cell.count += change)
    },
    of: (key) => cells.get(key)?.count ?? 0
  }
}
