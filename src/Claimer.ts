/**
 * Looks for work and claims it: by demand, in the order of priority, time and id, several jobs in one statement.
 *
 * Two kinds of loop. One *look* per node reads what became due and which queues have work. One *claim* loop per queue
 * sleeps until something says that there may be work.
 *
 * | a queue's loop is | it leaves by |
 * |---|---|
 * | idle | a hint, a look that found work, a registered worker, a changed queue: hungry |
 * | hungry | a claim that brought less than it asked for: idle; no free slot or room: full |
 * | full | a slot that becomes free: hungry |
 *
 * While claims come back full, each starts where the one before ended, so that it does not read the index entries of
 * rows that were claimed before: they pile up when some session holds a snapshot. A claim that comes back short is
 * repeated from the beginning, so a queue is never taken for empty by what lies above a bound.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberMap from "effect/FiberMap"
import * as Layer from "effect/Layer"
import * as PubSub from "effect/PubSub"
import * as Random from "effect/Random"
import { Executor } from "./Executor.ts"
import { Heartbeat } from "./Heartbeat.ts"
import { Admission } from "./internal/admission.ts"
import { type Appetite, hungry, isBusy, claimSize } from "./internal/appetite.ts"
import { makeBroadcast } from "./internal/broadcast.ts"
import { Events } from "./internal/events.ts"
import { waitMillis } from "./internal/herd.ts"
import { makeHolds } from "./internal/holds.ts"
import { forever, pause, warn } from "./internal/loop.ts"
import type { ClaimRequest } from "./internal/sql/claim.ts"
import type { Claimed } from "./internal/sql/claimed.ts"
import type { LimitedClaim } from "./internal/sql/limit.ts"
import { makeLook } from "./internal/look.ts"
import { makePlans } from "./internal/plans.ts"
import { makeSuccessions } from "./internal/succession.ts"
import { JobStore } from "./JobStore.ts"
import { type Hint, Notifier } from "./Notifier.ts"
import { Queues } from "./Queues.ts"
import { ShigotoConfig } from "./ShigotoConfig.ts"
import { Workers } from "./Workers.ts"

/**
 * The most jobs claimed by one statement.
 *
 * @category constants
 */
export const claimLimit = 1000

/**
 * Whether claims may be made; open unless somebody holds it, as tests do that say when work is to be done.
 *
 * @category references
 */
export const Gate = Context.Reference<{
  readonly isOpen: () => boolean
  /** Calls back whenever it opens. */
  readonly onOpen: (callback: () => void) => void
}>("effect-shigoto/Claimer/Gate", {
  defaultValue: () => ({ isOpen: () => true, onOpen: () => {} })
})

/**
 * Claims jobs for this node until the scope closes; a claim under way is finished first, so that none is lost.
 *
 * @category layers
 */
export const layer: Layer.Layer<
  never,
  never,
  Executor | Heartbeat | Workers | Queues | Notifier | JobStore | ShigotoConfig | Events | Admission
> = Layer.effectDiscard(
  Effect.gen(function* () {
    const config = yield* ShigotoConfig
    const store = yield* JobStore
    const executor = yield* Executor
    const admission = yield* Admission
    const heartbeat = yield* Heartbeat
    const workers = yield* Workers
    const queues = yield* Queues
    const notifier = yield* Notifier
    const events = yield* Events
    const clock = yield* Clock.Clock
    const gate = yield* Gate
    const loops = yield* FiberMap.make<string>()
    const waits = yield* FiberMap.make<string>()
    const appetites = new Map<string, Appetite>()
    const holds = makeHolds(events.publish, Duration.toMillis(config.idlePollInterval))
    const broadcast = makeBroadcast(config, store, notifier, events)
    const patience = Duration.toMillis(config.queryTimeout)
    let armed = false

    const monotonic = (): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
    const plans = makePlans(monotonic)
    const wake = (queue: string): void => {
      const appetite = appetites.get(queue)
      if (appetite === undefined) return
      appetite.below = true
      appetite.latch.openUnsafe()
    }
    const wakeAll = (): void => {
      for (const queue of appetites.keys()) wake(queue)
    }
    const look = makeLook({
      broadcast,
      config,
      events,
      executor,
      heartbeat,
      notifier,
      queues,
      store,
      workers,
      now: monotonic,
      follow: Effect.suspend(() => follow),
      isBusy: (queue) => {
        const appetite = appetites.get(queue)
        return appetite !== undefined && isBusy(appetite)
      },
      wake
    })

    /** Goes back to the beginning of the claim order when something may have come up below, and now and then. */
    const rewind = (appetite: Appetite): void => {
      const age = monotonic() - appetite.rewoundAt
      if (age < (appetite.below ? rewindMillis : Duration.toMillis(config.pollInterval))) return
      appetite.from = undefined
      appetite.below = false
      appetite.rewoundAt = monotonic()
    }
    /** Whether it was for slots that jobs of a queue waited, by worker, and not for what their worker is bounded by. */
    const slotsWereScarce = (queue: string, able: Asking["able"], claimed: ReadonlyArray<Claimed>) => {
      const taken = new Map<string, number>()
      for (const { worker } of claimed) taken.set(worker, (taken.get(worker) ?? 0) + 1)
      const scarce = new Set(
        able
          .filter(({ name, room }) => {
            const worker = workers.get(name)
            return (
              worker !== undefined &&
              worker.governed === undefined &&
              worker.circuit === undefined &&
              room > (taken.get(name) ?? 0)
            )
          })
          .map(({ name }) => name)
      )
      return ({ worker }: Claimed): boolean => !config.rates.has(queue) && scarce.has(worker)
    }
    const wakeEach = (names: Iterable<string>): void => {
      for (const name of names) appetites.get(name)?.latch.openUnsafe()
    }
    const candidatesNow = (): Asking["able"] =>
      [...workers.all()].map((worker) => ({ name: worker.name, room: executor.room(worker) }))
    const unheld = (roomy: Asking["able"]): Asking["able"] =>
      roomy.filter((worker) => {
        const left = holds.left(worker.name, monotonic())
        if (left > 0) look.within(left)
        return left === 0
      })
    /** Claims once; says whether another claim may bring more. */
    const claimOnce = Effect.fnUntraced(function* (queue: string, appetite: Appetite) {
      const node = heartbeat.current()
      const state = queues.get(queue)
      if (!gate.isOpen()) {
        if (!armed) events.publish({ _tag: "TestModeArmed" })
        armed = true
        return false
      }
      if (node === undefined || state === undefined || state.paused || !executor.isAccepting()) return false
      const open = admission.slots(queue, state.concurrency) - executor.running(queue)
      const slots = claimSize(claimLimit, open, executor.waiting(queue))
      const candidates = candidatesNow()
      const roomy = candidates.filter((worker) => worker.room > 0)
      if (slots <= 0) appetite.stage = "outOfSlots"
      appetite.full = slots <= 0 || roomy.length < candidates.length
      const able = unheld(roomy)
      if (slots <= 0 || able.length === 0) return false
      const isWhole = able.length === candidates.length
      appetite.held = false
      appetite.freed = false
      const { shedder } = admission
      if (shedder === undefined)
        return yield* claimWithin(queue, appetite, { node, able, isWhole, limit: slots, claimed: 0 })
      const { floor, room } = shedder.reserve(queue, slots, monotonic())
      if (room === 0) return false
      const asking: Asking = { node, able, isWhole, limit: room, floor, claimed: 0 }
      return yield* Effect.ensuring(
        claimWithin(queue, appetite, asking),
        Effect.sync(() => wakeEach(shedder.release(queue, room, asking.claimed)))
      )
    })
    /** Claims at most so many jobs, of a priority not below the floor. */
    const claimWithin = Effect.fnUntraced(function* (queue: string, appetite: Appetite, asking: Asking) {
      const { able, floor, isWhole, limit, node } = asking
      rewind(appetite)
      const { from } = appetite
      const sent = monotonic()
      const aging = config.aging.get(queue)
      const asked = { node, nodeName: config.nodeName, queue, limit, floor, workers: able, from, aging }
      const own = broadcast.partitions(queue, node, limit)
      const isPrepared = appetite.emptied && plans.areTrusted()
      const request: ClaimRequest = {
        ...asked,
        isPrepared,
        encrypted: workers.encrypted(),
        ...(own !== undefined && { partitions: own, makesCopies: true })
      }
      const governed = able.flatMap((worker) => workers.get(worker.name)?.governed ?? [])
      const partitions = config.partitions.get(queue)
      const rate = config.rates.get(queue)
      const unlimited = partitions === undefined && rate === undefined
      // A queue that has nothing of limited workers is claimed from as if they were not there.
      const plain = unlimited && (governed.length === 0 || !appetite.limited)
      const stopAt = governed.map(({ worker }) => worker)
      const exit = yield* Effect.exit(
        !plain
          ? Effect.map(store.limits.claim(request, governed, partitions, rate), (claim) => ({
              ...claim,
              stopped: false
            }))
          : Effect.map(
              stopAt.length === 0
                ? Effect.map(store.claim(request), (jobs) => ({ jobs, stopped: false }))
                : store.limits.scout(request, stopAt),
              (claim): LimitedClaim & { readonly stopped: boolean } => ({ ...claim, ...nothingHeld })
            )
      )
      if (isPrepared) plans.took(monotonic() - sent)
      if (exit._tag === "Failure") {
        heartbeat.claimLost()
        appetite.latch.openUnsafe()
        return yield* Effect.failCause(exit.cause)
      }
      // A reply as late as this may be of jobs that were given back meanwhile; the next beats find out.
      if (monotonic() - sent > patience || heartbeat.current() !== node) {
        heartbeat.claimLost()
        return true
      }
      const { halfOpened, held, jobs: claimed, saturated, stopped } = exit.value
      appetite.limited = stopped || (!plain && claimed.some(({ worker }) => stopAt.includes(worker)))
      for (const worker of halfOpened) events.publish({ _tag: "CircuitHalfOpened", worker })
      if (events.isHeard()) events.publish({ _tag: "QueuePolled", queue, asked: limit, claimed: claimed.length })
      asking.claimed = claimed.length
      executor.start(claimed, node)
      const bounded = able.some((worker) => worker.room < limit)
      appetite.emptied =
        claimed.length < limit && from === undefined && !bounded && !saturated && held.length === 0 && !stopped
      if (admission.shedder !== undefined && !stopped) {
        const waited = claimed.filter(slotsWereScarce(queue, able, claimed))
        admission.shedder.learn(queue, waited, isWhole && appetite.emptied, monotonic())
      }
      // A request to cancel one of them is found by then, should its notification be lost.
      if (claimed.length > 0) look.within(Duration.toMillis(config.pollInterval))
      if (stopped) return true
      if (!plain) {
        holds.learn(
          queue,
          able.map((worker) => worker.name),
          held,
          monotonic()
        )
        // Whoever holds a place wakes itself as it settles; should it die, a look comes upon it.
        if (saturated || held.some(({ freesInMillis }) => freesInMillis === undefined)) {
          appetite.held = true
          look.within(Duration.toMillis(config.pollInterval))
        }
        for (const { freesInMillis = Infinity } of held) look.within(freesInMillis)
        appetite.from = undefined
        return (
          (appetite.held && appetite.freed) ||
          (claimed.length > 0 && held.filter(({ only }) => only === undefined || only === "queue").length < able.length)
        )
      }
      // Where waits count as priority, the order is not that of the index, and a bound in it would hide some.
      if (
        claimed.length === limit &&
        !bounded &&
        aging === undefined &&
        own === undefined &&
        config.timeSource === "database"
      ) {
        appetite.from = claimed.at(-1)
      } else if (from !== undefined) {
        appetite.from = undefined
        return true
      }
      return claimed.length > 0 && (claimed.length === limit || bounded)
    })
    const serve = (queue: string, appetite: Appetite) => {
      let failures = 0
      const round = Effect.gen(function* () {
        yield* appetite.latch.await
        appetite.latch.closeUnsafe()
        appetite.stage = "claiming"
        while (yield* Effect.uninterruptible(claimOnce(queue, appetite))) failures = 0
        failures = 0
      }).pipe(
        Effect.ensuring(
          Effect.sync(() => {
            if (appetite.stage === "claiming") appetite.stage = "waiting"
          })
        )
      )
      return Effect.forever(
        Effect.catchCause(round, (cause) =>
          Effect.andThen(
            failures === 0 ? warn(`Shigoto cannot claim from the queue "${queue}"`, cause) : Effect.void,
            Effect.suspend(() => pause(failures++))
          )
        )
      )
    }
    const follow = Effect.gen(function* () {
      for (const name of [...appetites.keys()]) {
        if (queues.get(name) !== undefined) continue
        appetites.delete(name)
        yield* FiberMap.remove(loops, name)
      }
      for (const name of queues.names()) {
        if (appetites.has(name)) continue
        const appetite = hungry()
        appetites.set(name, appetite)
        yield* FiberMap.run(loops, name, serve(name, appetite))
      }
    })

    executor.onLeave(
      makeSuccessions({
        config,
        admission,
        executor,
        heartbeat,
        queues,
        workers,
        isOpen: gate.isOpen,
        able: () => unheld(candidatesNow().filter(({ room }) => room > 0)),
        now: monotonic,
        started: (queue, claimed) => {
          if (events.isHeard()) events.publish({ _tag: "QueuePolled", queue, asked: claimed, claimed })
          if (claimed > 0) look.within(Duration.toMillis(config.pollInterval))
        }
      })
    )
    executor.onFree((queue, what) => {
      if (queue === undefined) wakeAll()
      else {
        // The queue that had the place asks last: else others that wait for it would never have it.
        if (what === "place")
          wakeEach([...appetites].flatMap(([name, { held }]) => (held && name !== queue ? [name] : [])))
        const appetite = appetites.get(queue)
        if (appetite !== undefined && what === "place") appetite.freed = true
        if (appetite?.full === true || (what === "place" && appetite?.held === true)) appetite.latch.openUnsafe()
        if (what === "slot" && admission.shedder !== undefined) wakeEach(admission.shedder.waiting())
      }
    })
    workers.onRegister(() => {
      wakeAll()
      if (config.broadcast.size > 0) look.within(0)
    })
    queues.onChange(wakeAll)
    gate.onOpen(() => {
      armed = false
      wakeAll()
      look.within(0)
    })

    /** Wakes a queue in its turn; what is heard until then is served by the same claim. */
    const wakeInTurn = Effect.fnUntraced(function* (queue: string) {
      const turn = waitMillis(heartbeat.listeners(queue), yield* Random.next)
      const appetite = appetites.get(queue)
      if (turn === 0 || appetite === undefined) return wake(queue)
      // A claim that is made for another reason meanwhile is to come upon it.
      appetite.below = true
      const wait = Effect.andThen(
        Effect.sleep(turn),
        Effect.sync(() => wake(queue))
      )
      yield* FiberMap.run(waits, queue, wait, { onlyIfMissing: true })
    })
    const hear = (hint: Hint): Effect.Effect<void> => {
      switch (hint._tag) {
        case "Available":
          return broadcast.has(hint.queue)
            ? Effect.sync(() => look.within(0))
            : hint.isHeard === true
              ? wakeInTurn(hint.queue)
              : Effect.sync(() => wake(hint.queue))
        case "Due":
          return hint.isHeard === true ? look.inTurn(hint.inMillis) : Effect.sync(() => look.within(hint.inMillis))
        case "Cancel":
          return hint.node === heartbeat.current() ? Effect.ignore(look.cancelRequested) : Effect.void
        case "Cron":
        case "Settled":
          return Effect.void
        case "Queues":
          return Effect.sync(() => {
            holds.forget()
            look.within(0)
          })
        case "CatchUp":
          return Effect.sync(() => {
            wakeAll()
            look.within(0)
          })
      }
    }
    const hints = yield* notifier.hints
    yield* forever("hints", Effect.flatMap(PubSub.take(hints), hear))
    yield* follow
    yield* forever("look for work", look.step)
  })
)

// internal

/**
 * How long a claim may start where the last one ended although something came up below, in milliseconds: how late a job
 * of higher priority may be noticed in a backlog, and how often the entries of dead rows are read while another session
 * keeps them alive.
 */
const rewindMillis = 100

/** What a claim asks for. */
interface Asking {
  readonly node: number
  readonly able: ReadonlyArray<{ readonly name: string; readonly room: number }>
  /** Whether these are all workers of the node. */
  readonly isWhole: boolean
  readonly limit: number
  readonly floor?: number | undefined
  /** How many jobs it brought. */
  claimed: number
}

const nothingHeld: Pick<LimitedClaim, "held" | "saturated" | "halfOpened"> = {
  held: [],
  saturated: false,
  halfOpened: []
}
