/** The load of a node: what it sheds now, by its attempts and by the waits of its queues. */
import type { JobEvent } from "../JobEvent.ts"
import type { Rule } from "../LoadShedding.ts"
import { capacityOf, type Contender, floorOf, neverShed, noteWait, noWaits, turnsOf, type Waits } from "./shed.ts"
import type { Claimed } from "./sql/claimed.ts"

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
    /** How many attempts run, of all queues or of one. */
    readonly running: (queue?: string) => number
    readonly publish: (event: JobEvent) => void
    /** What is shed by waits has changed. */
    readonly changed: () => void
    /** How long places are left to a queue that wanted them: one that has work asks again with each look. */
    readonly patienceMillis: number
    /** How large the parts of queues are that do not weigh 1. */
    readonly weights: ReadonlyMap<string, number>
  }
) => {
  const byQueue = new Map<string, Waits>()
  /** Places of claims that have not come back, of all queues and of each. */
  let reserved = 0
  const reservedOf = new Map<string, number>()
  /** Queues that got no place, and when; one whose claim is under way asks again by itself if it wants more. */
  const hungry = new Map<string, number>()
  /** Up to how many places queues would hold that have not been seen without work, and when they said so. */
  const wants = new Map<string, { readonly places: number; readonly at: number }>()
  /** How many jobs each queue has started by its weight, and when it last asked for places. */
  const turns = new Map<string, { pass: number; askedAt: number }>()
  /** Queues whose low priorities the number of attempts held back. */
  const floored = new Set<string>()
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
  const weightOf = (queue: string): number => node.weights.get(queue) ?? 1
  const heldBy = (queue: string): number => node.running(queue) + (reservedOf.get(queue) ?? 0)
  const contender = (queue: string): Contender => ({
    weight: weightOf(queue),
    held: heldBy(queue),
    pass: turns.get(queue)?.pass ?? 0
  })
  /** Takes note that a queue asks; one that comes back has saved nothing up. */
  const asks = (queue: string, now: number): void => {
    const known = turns.get(queue)
    if (known === undefined || (now - known.askedAt > node.patienceMillis && heldBy(queue) === 0)) {
      const active = [...turns].filter(
        ([other, { askedAt }]) => other !== queue && now - askedAt <= node.patienceMillis
      )
      const least = Math.min(...active.map(([, { pass }]) => pass))
      turns.set(queue, { pass: Math.max(known?.pass ?? 0, active.length === 0 ? 0 : least), askedAt: now })
    } else known.askedAt = now
  }
  return {
    /** Below which priority nothing starts by waits; undefined for none. */
    floor: byWaits,
    /**
     * Reserves places for a claim, until it is taken back. Of scarce places, a queue takes no more than its part while
     * others go hungry: else whichever has filled the node would keep it.
     */
    reserve: (queue: string, wanted: number, now: number): Grant => {
      const running = node.running() + reserved
      const capacity = capacityOf(rule, running)
      hungry.delete(queue)
      asks(queue, now)
      floored.delete(queue)
      wants.delete(queue)
      const others = [...wants]
        .filter(([other, { at, places }]) => now - at < node.patienceMillis && heldBy(other) < places)
        .map(([other]) => contender(other))
      wants.set(queue, { places: heldBy(queue) + wanted, at: now })
      const most = Math.min(wanted, capacity.room)
      const room = others.length > 0 ? turnsOf(contender(queue), others, most) : most
      if (room === 0) hungry.set(queue, now)
      if (capacity.floor !== undefined) floored.add(queue)
      if (capacity.room <= 0) tell("full", now, { _tag: "BulkheadFull", running })
      const shed = byWaits(now)
      if (room > 0 && capacity.floor !== undefined && (shed === undefined || capacity.floor > shed)) {
        tell("shed", now, { _tag: "LoadShed", below: capacity.floor, by: "attempts" })
      }
      reserved += room
      reservedOf.set(queue, (reservedOf.get(queue) ?? 0) + room)
      return {
        room,
        floor: shed === undefined ? capacity.floor : Math.max(shed, capacity.floor ?? shed)
      }
    },
    /**
     * Takes back what a claim reserved, whose jobs are counted as running by now; says which queues are to ask again,
     * since it left places unused.
     */
    release: (queue: string, room: number, used: number): Iterable<string> => {
      const turn = turns.get(queue)
      if (turn !== undefined) turn.pass += used / weightOf(queue)
      reserved -= room
      reservedOf.set(queue, (reservedOf.get(queue) ?? 0) - room)
      if (used === room) return []
      wants.delete(queue)
      return hungry.keys()
    },
    /** Which queues are to ask again, since an attempt has ended. */
    waiting: (): Iterable<string> =>
      hungry.size === 0 && floored.size === 0 ? nobody : new Set([...hungry.keys(), ...floored]),
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

// internal

const nobody: ReadonlyArray<string> = []
