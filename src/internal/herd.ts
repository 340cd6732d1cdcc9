/**
 * Who of many nodes acts on what all of them hear, or see come due, at the same instant.
 *
 * If all did, an instant would cost the database a statement of each node, of which all but one find nothing. So the
 * nodes stand in a line that is drawn anew each time: some act at once, the others one after another, each for the case
 * that those before it have no slot free. What a node does meanwhile serves all that it hears while it waits.
 */

/** How many act at once, on average. With up to as many nodes all do, so a few nodes notice nothing of this. */
export const vanguard = 4

/** How many milliseconds after the one before each of the others acts. */
const spacing = 20

/** How many milliseconds the last one of ever so many waits. */
const longest = 500

/** How many milliseconds a node waits of which `place`, drawn from 0 up to 1, is where it stands in a line of `nodes`. */
export const waitMillis = (nodes: number, place: number): number => {
  const others = nodes - vanguard
  if (others <= 0) return 0
  return Math.max(0, Math.ceil((place * nodes - vanguard) * Math.min(spacing, longest / others)))
}
