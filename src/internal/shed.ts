/**
 * When load is shed, as arithmetic: how many attempts run, or how long jobs waited and when, in; what may start out.
 *
 * The waits are judged as CoDel judges packets: one that is short enough shows that nothing stands for long, so only an
 * interval without any counts, and the longer it lasts the sooner the next step follows.
 */
import type { Rule } from "../LoadShedding.ts"

/** What may start with so many attempts under way: how many before this has to be asked again, and of which priority. */
export interface Capacity {
  readonly room: number
  /** Undefined for any priority. */
  readonly floor: number | undefined
}

/** Says what may start. */
export const capacityOf = ({ levels, maxInFlight }: Rule, running: number): Capacity => {
  if (maxInFlight === Infinity) return { room: Infinity, floor: undefined }
  const marks = levels.map(({ below, share }) => ({ below, at: Math.ceil(share * maxInFlight) }))
  const crossed = marks.filter(({ at }) => at <= running)
  const next = marks.find(({ at }) => at > running)?.at ?? maxInFlight
  return { room: Math.max(Math.min(next, maxInFlight) - running, 0), floor: crossed.at(-1)?.below }
}

/** A queue that could fill the places of a node that are free. */
export interface Contender {
  /** How large its part is beside those of the others. */
  readonly weight: number
  /** How many places it holds. */
  readonly held: number
  /** How many jobs it has started by its weight; lower is further behind. */
  readonly pass: number
}

/**
 * How many of the free places a queue takes before it leaves the next to another one.
 *
 * Each place goes to whoever is short of its part by a whole place or more, else, since parts are no whole numbers, to
 * the one of those short of it that has started least by its weight: so that over time the parts come out, and none
 * starves whatever it weighs.
 */
export const turnsOf = (queue: Contender, others: ReadonlyArray<Contender>, free: number): number => {
  const all = [queue, ...others]
  const weight = all.reduce((sum, one) => sum + one.weight, 0)
  const places = all.reduce((sum, one) => sum + one.held, free)
  const shortOf = ({ held, weight: own }: Contender, taken: number): number => (places * own) / weight - held - taken
  let taken = 0
  while (taken < free) {
    const own = shortOf(queue, taken)
    const pass = queue.pass + taken / queue.weight
    const goesFirst = (other: Contender): boolean => {
      const short = shortOf(other, 0)
      if (short >= 1 || own >= 1) return short > own && short >= 1
      return short > 0 && (own <= 0 || other.pass < pass)
    }
    if (others.some(goesFirst)) break
    taken++
  }
  return taken
}

/** What is known of a queue's waits; instants in milliseconds. */
export interface Waits {
  /** Since when all jobs have waited too long; undefined while they have not. */
  readonly longSince: number | undefined
  /** How many levels are shed. */
  readonly depth: number
  /** When one more is. */
  readonly deeperAt: number
  readonly seenAt: number
}

/** Where a queue begins. */
export const noWaits: Waits = { longSince: undefined, depth: 0, deeperAt: 0, seenAt: 0 }

/** Takes note of how long a job waited, or of zero where none waits. */
export const noteWait = (rule: Rule, waits: Waits, millis: number, now: number): Waits => {
  if (millis < rule.targetMillis) return { ...noWaits, seenAt: now }
  const { depth, deeperAt, longSince = now } = waits
  const isDue = depth === 0 ? now - longSince >= rule.intervalMillis : now >= deeperAt
  const deeper = isDue ? Math.min(depth + 1, rule.levels.length) : depth
  return {
    longSince,
    depth: deeper,
    deeperAt: isDue ? now + rule.intervalMillis / Math.sqrt(deeper + 1) : deeperAt,
    seenAt: now
  }
}

/** Below which priority no job starts by a queue's waits; a queue that nothing was heard of for long sheds nothing. */
export const floorOf = (rule: Rule, { depth, seenAt }: Waits, now: number): number | undefined =>
  now - seenAt > rule.intervalMillis * 10 ? undefined : rule.levels[depth - 1]?.below

/** From which priority on jobs are never shed. */
export const neverShed = ({ levels }: Rule): number => levels.at(-1)?.below ?? -32_768
