/**
 * The look of a node: one statement that reads what became due, which queues have work, what operators asked, whom to
 * cancel and who died. It sleeps until the next due instant, a hint, or the poll interval, whichever comes first.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Random from "effect/Random"
import type { Executor } from "../Executor.ts"
import type { Heartbeat } from "../Heartbeat.ts"
import type { JobStore } from "../JobStore.ts"
import { dueHorizonMillis, type Notifier } from "../Notifier.ts"
import type { Queues } from "../Queues.ts"
import type { ShigotoConfig } from "../ShigotoConfig.ts"
import type { StorageFailure } from "../ShigotoError.ts"
import type { Workers } from "../Workers.ts"
import { spread } from "./aftermath.ts"
import type { makeBroadcast } from "./broadcast.ts"
import type { Events } from "./events.ts"
import { expireJobs } from "./expiring.ts"
import { waitMillis } from "./herd.ts"
import { promoteLimit } from "./sql/promote.ts"

/** What the look of a node needs to know of it. */
export interface Eyes {
  readonly config: ShigotoConfig["Service"]
  readonly store: JobStore["Service"]
  readonly executor: Executor["Service"]
  readonly heartbeat: Heartbeat["Service"]
  readonly workers: Workers["Service"]
  readonly queues: Queues["Service"]
  readonly notifier: Notifier["Service"]
  readonly events: Events["Service"]
  readonly broadcast: ReturnType<typeof makeBroadcast>
  /** Monotonic milliseconds. */
  readonly now: () => number
  /** Has the queues that are served be those that are asked for. */
  readonly follow: Effect.Effect<void>
  /** Whether jobs of a queue are claimed all the time, so that it need not be looked whether there are any. */
  readonly isBusy: (queue: string) => boolean
  /** Says that a queue may have work. */
  readonly wake: (queue: string) => void
}

/** The look of a node. */
export interface Look {
  /** Looks in so many milliseconds at the latest. */
  readonly within: (millis: number) => void
  /** The same for what other nodes have heard as well: where they are many, not before it is this one's turn. */
  readonly inTurn: (millis: number) => Effect.Effect<void>
  /** Interrupts the attempts that somebody asked to cancel. */
  readonly cancelRequested: Effect.Effect<void, StorageFailure>
  /** Looks, and waits until it is time for the next one. */
  readonly step: Effect.Effect<void, StorageFailure>
}

/** Builds the look of a node, which is to look at once. */
export const makeLook = (node: Eyes): Look => {
  const { broadcast, config, events, executor, heartbeat, notifier, now, queues, store, wake, workers } = node
  const latch = Latch.makeUnsafe(true)
  let at = 0
  let sweepAt = 0
  let sweepFrom = 0

  const within = (millis: number): void => {
    const then = now() + Math.max(millis, 0)
    if (then >= at) return
    at = then
    latch.openUnsafe()
  }
  /** How long this node leaves to others what all know of; a queue that few serve waits for none that does not. */
  const turn = Effect.map(Random.next, (place) => {
    const listeners = queues.names().map(heartbeat.listeners)
    return listeners.length === 0 ? 0 : waitMillis(Math.min(...listeners), place)
  })
  const cancelRequested = Effect.gen(function* () {
    const holder = heartbeat.current()
    if (holder !== undefined) executor.cancel(yield* store.cancelRequests(holder))
  })
  const once = Effect.gen(function* () {
    const sweeps = now() >= sweepAt
    const names = [...workers.all()].map((worker) => worker.name)
    const found = yield* store.promote({
      id: heartbeat.current() ?? 0,
      queues: queues.names().map((name) => ({ name, isBusy: node.isBusy(name) })),
      workers: names,
      sweeps
    })
    let discards = found.discards || executor.missesDiscards()
    if (sweeps) sweepAt = now() + Duration.toMillis(config.leaseTtl)
    queues.apply(found.queues)
    yield* node.follow
    if (found.deadNodes || found.strays) {
      const { aftermath, rescued } = yield* heartbeat.rescue
      if (rescued.length > 0) within(0)
      discards ||= rescued.some(({ state }) => state === "discarded")
      yield* spread(events, notifier, aftermath)
    }
    if (found.blocked) {
      const swept = yield* store.composition.sweepBlocked(sweepFrom)
      sweepFrom = swept.next
      yield* spread(events, notifier, swept.aftermath)
    }
    if (found.cancels) yield* cancelRequested
    if ((found.nextExpiryMillis ?? 1) <= 0) {
      const { discarded, full } = yield* expireJobs(store, events, notifier, config.nodeName)
      if (full) within(0)
      discards ||= discarded
    }
    for (const queue of found.ready) wake(queue)
    if (discards && (yield* executor.tellDiscards)) within(0)
    const { more, ready } = yield* broadcast.round(heartbeat.current(), names)
    for (const queue of ready) wake(queue)
    if (more) within(0)
    return found
  })
  const interval = (): number =>
    Math.min(
      Duration.toMillis(
        notifier.isListening() && executor.total() === 0 ? config.idlePollInterval : config.pollInterval
      ),
      dueHorizonMillis(config)
    )
  return {
    within,
    inTurn: (millis) => Effect.map(turn, (wait) => within(Math.max(millis, wait))),
    cancelRequested,
    step: Effect.gen(function* () {
      // Set before looking: whatever arrives during the look may not be seen by it.
      at = Infinity
      latch.closeUnsafe()
      const found = yield* once
      const jitter = yield* Random.nextBetween(0.9, 1)
      const wait = yield* turn
      const due = Math.ceil(found.nextDueMillis ?? Infinity)
      // Due already: another node is promoting it, and may not run the queue that this one waits for.
      const next = found.promoted >= promoteLimit ? 0 : Math.max(due <= 0 ? contestedMillis : due, wait)
      const expiry = Math.ceil(found.nextExpiryMillis ?? Infinity)
      // Expired already: it has ended, or another node sees to it; what comes after that is looked for again.
      within(Math.min(next, Math.max(expiry <= 0 ? contestedMillis : expiry, wait), interval() * jitter))
      while (true) {
        latch.closeUnsafe()
        const left = at - now()
        if (left <= 0) return
        yield* Effect.raceFirst(latch.await, Effect.sleep(left))
      }
    })
  }
}

// internal

/** How soon to look again for due jobs that another transaction held locked. */
const contestedMillis = 50
