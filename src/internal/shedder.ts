/** The load of a node: what it sheds now, by its attempts and by the waits of its queues. */
import type { JobEvent } from "../JobEvent.ts"
import type { Rule } from "../LoadShedding.ts"
import { capacityOf, floorOf, neverShed, noteWait, noWaits, type Waits } from "./shed.ts"
import type { Claimed } from "./sql/claim.ts"

/** What a claim may take. */
export interface Grant {
  /** How many jobs. */
  readonly room: number
  /** Of which priority at least; undefined for any. */
  readonly floor: number | undefined
}

/** Builds the shedder of a node; instants are monotonic milliseconds. */
export const makeShedder = (
  rule: Rule,
  node: {
    /** How many attempts run. */
    readonly running: () => number
    readonly publish: (event: JobEvent) => void
    /** What is shed by waits has changed. */
    readonly changed: () => void
  }
) => {
  const byQueue = new Map<string, Waits>()
  /** Places of claims that have not come back. */
  let reserved = 0
  let refused = false
  let told: number | undefined
  const toldAt = { full: -Infinity, shed: -Infinity }

  const byWaits = (now: number): number | undefined =>
    [...byQueue.values()].reduce<number | undefined>((highest, waits) => {
      const floor = floorOf(rule, waits, now)
      return floor === undefined ? highest : Math.max(floor, highest ?? floor)
    }, undefined)
  /** Tells what comes and goes with each attempt at most once a second. */
  const tell = (what: keyof typeof toldAt, now: number, event: JobEvent): void => {
    if (now - toldAt[what] < 1000) return
    toldAt[what] = now
    node.publish(event)
  }
  return {
    /** Below which priority nothing starts by waits; undefined for none. */
    floor: byWaits,
    /** Reserves places for a claim, until it is taken back. */
    reserve: (wanted: number, now: number): Grant => {
      const running = node.running() + reserved
      const capacity = capacityOf(rule, running)
      const room = Math.min(wanted, capacity.room)
      if (room < wanted || capacity.floor !== undefined) refused = true
      if (room <= 0) tell("full", now, { _tag: "BulkheadFull", running })
      const shed = byWaits(now)
      if (room > 0 && capacity.floor !== undefined && (shed === undefined || capacity.floor > shed)) {
        tell("shed", now, { _tag: "LoadShed", below: capacity.floor, by: "attempts" })
      }
      reserved += room
      return {
        room,
        floor: shed === undefined ? capacity.floor : Math.max(shed, capacity.floor ?? shed)
      }
    },
    /** Takes back what a claim reserved, whose jobs are counted as running by now. */
    release: (room: number): void => {
      reserved -= room
    },
    /** Whether a claim was refused places since this was last asked: a place that is free now is worth a claim. */
    wasRefused: (): boolean => {
      const was = refused
      refused = false
      return was
    },
    /**
     * Takes note of what a claim found. Jobs that may be shed do not count, nor do those that limits or circuits of
     * their workers held back; one that brought less than it could shows that none of the others waits.
     */
    learn: (queue: string, jobs: ReadonlyArray<Claimed>, isDrained: boolean, now: number): void => {
      if (rule.targetMillis === Infinity) return
      const least = neverShed(rule)
      let waits = byQueue.get(queue) ?? noWaits
      for (const { claimedAt, priority, runAt } of jobs) {
        if (priority >= least) waits = noteWait(rule, waits, claimedAt.getTime() - runAt.getTime(), now)
      }
      if (isDrained) waits = noteWait(rule, waits, 0, now)
      byQueue.set(queue, waits)
      const below = byWaits(now)
      if (below === told) return
      if (below === undefined) node.publish({ _tag: "LoadRestored" })
      else if (told === undefined || below > told) node.publish({ _tag: "LoadShed", below, by: "waits", queue })
      told = below
      node.changed()
    }
  }
}

/** The shedder. */
export type Shedder = ReturnType<typeof makeShedder>
