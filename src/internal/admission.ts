/**
 * What decides on a node how much may start, and learns from how attempts end: circuits, of the node in memory and of
 * all nodes in the database, and concurrencies that find themselves.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Rule } from "../AdaptiveConcurrency.ts"
import { Heartbeat } from "../Heartbeat.ts"
import { JobStore } from "../JobStore.ts"
import { Notifier } from "../Notifier.ts"
import type { Ending } from "../Outcome.ts"
import { ShigotoConfig } from "../ShigotoConfig.ts"
import type { StorageFailure } from "../ShigotoError.ts"
import { type Worker, Workers } from "../Workers.ts"
import { adapt, type Adaptive, endOf, type Sample, startOf } from "./adaptive.ts"
import { type Permit, type Verdict, verdictOf } from "./circuit.ts"
import { Events } from "./events.ts"
import { makeShedder, type Shedder } from "./shedder.ts"
import type { Claimed } from "./sql/claimed.ts"

/** An attempt that ends. */
export interface Leaving {
  readonly worker: Worker
  readonly claimed: Claimed
  /** By the monotonic clock, in milliseconds. */
  readonly startedAt: number
  /** What the circuit of this node let it through with. */
  readonly permit: Permit | undefined
  /** How many attempts of its worker and of its queue ran on this node beside it at most, itself included. */
  readonly ofWorker: number
  readonly ofQueue: number
}

/** The admission of a node. */
export class Admission extends Context.Service<
  Admission,
  {
    /** How many attempts of a worker may run at once, by its concurrency; Infinity for as many as the queue allows. */
    readonly places: (worker: Worker) => number
    /** How many attempts of a queue may run at once, of those that it is given. */
    readonly slots: (queue: string, given: number) => number
    /**
     * Takes note of an attempt's end. What it gives back has to be waited for before the outcome is settled: the place
     * of a probe, and of an attempt that failed, must not be free before all nodes know.
     */
    readonly leave: (leaving: Leaving, ending: Ending) => Effect.Effect<void> | undefined
    /** Closes a worker's circuit, by hand; says whether it has one. */
    readonly close: (worker: Worker) => Effect.Effect<boolean, StorageFailure>
    /** Below which priority no job starts, by waits; undefined for none. */
    readonly shedBelow: () => number | undefined
    /** What the node sheds; undefined where it is not told to. */
    readonly shedder: Shedder | undefined
    /** Tells how many attempts run; for the executor. */
    readonly attach: (running: (queue?: string) => number) => void
    /** Calls back when more may start, other than by an attempt that ends. */
    readonly onWake: (callback: () => void) => void
  }
>()("effect-shigoto/internal/Admission") {}

/** Provides the admission. */
export const layer: Layer.Layer<Admission, never, Workers | Heartbeat | JobStore | Notifier | Events | ShigotoConfig> =
  Layer.effect(
    Admission,
    Effect.gen(function* () {
      const config = yield* ShigotoConfig
      const workers = yield* Workers
      const heartbeat = yield* Heartbeat
      const store = yield* JobStore
      const notifier = yield* Notifier
      const events = yield* Events
      const clock = yield* Clock.Clock
      const scope = yield* Effect.scope
      const fork = Effect.runForkWith(yield* Effect.context<never>())
      const callbacks: Array<() => void> = []
      // By the worker itself: one that leaves and comes back begins anew.
      const ofWorkers = new WeakMap<Worker, Adaptive>()
      const ofQueues = new Map<string, Adaptive>()
      let running = (_queue?: string): number => 0

      const monotonic = (): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
      const wakeAll = (): void => {
        for (const callback of callbacks) callback()
      }
      const opened = (worker: string, openMillis: number, where: string): Effect.Effect<void> => {
        events.publish({ _tag: "CircuitOpened", worker, openMillis })
        return Effect.logWarning(
          `The circuit of ${worker} is open${where}: its attempts keep failing. Jobs wait for ${openMillis} ms.`
        )
      }
      const leaveOwn = ({ permit, worker }: Leaving, verdict: Verdict): void => {
        const { circuit } = worker
        if (circuit === undefined || permit === undefined || workers.get(worker.name) !== worker) return
        const change = circuit.leave(permit, verdict, monotonic())
        if (change !== undefined) heartbeat.republish()
        if (change === "closed") events.publish({ _tag: "CircuitClosed", worker: worker.name })
        if (change === "opened") {
          const { openMillis } = circuit.rule
          const generation = circuit.generation()
          fork(
            Effect.forkIn(
              Effect.andThen(
                opened(worker.name, openMillis, " on this node"),
                Effect.andThen(
                  Effect.sleep(openMillis),
                  Effect.sync(() => {
                    if (workers.get(worker.name) !== worker || !circuit.probe(generation)) return
                    heartbeat.republish()
                    events.publish({ _tag: "CircuitHalfOpened", worker: worker.name })
                    wakeAll()
                  })
                )
              ),
              scope
            )
          )
        } else if (change === "closed" || circuit.room() < Infinity) wakeAll()
      }
      const closedForAll = (worker: Worker): Effect.Effect<void> => {
        events.publish({ _tag: "CircuitClosed", worker: worker.name })
        wakeAll()
        return notifier.send({ _tag: "Queues" })
      }
      const note = Effect.fnUntraced(
        function* ({ claimed, startedAt, worker }: Leaving, verdict: Verdict) {
          const rule = worker.governed?.circuit
          if (rule === undefined || claimed.passage === undefined) return
          const { generation } = claimed.passage
          const slow = monotonic() - startedAt > rule.slowMillis
          const change = yield* store.circuits.note(
            { worker: worker.name, rule },
            { generation, failed: verdict === "failed", slow }
          )
          if (change === "opened") yield* opened(worker.name, rule.openMillis, "")
          if (change === "closed") yield* closedForAll(worker)
        },
        // An end that is not told leaves the circuit as it is; the next ends tell.
        Effect.catch((error) => Effect.logDebug("Shigoto could not tell a circuit how an attempt ended", error))
      )
      const leaveShared = (leaving: Leaving, verdict: Verdict): Effect.Effect<void> | undefined => {
        const { claimed, worker } = leaving
        if (claimed.passage === undefined || worker.governed?.circuit === undefined || verdict === "ignored") return
        if (claimed.passage.probe || verdict === "failed") return note(leaving, verdict)
        fork(Effect.forkIn(note(leaving, verdict), scope))
        return
      }
      const learn = (leaving: Leaving, ending: Ending): void => {
        const { claimed, ofQueue, ofWorker, startedAt, worker } = leaving
        const ofThis = config.adaptive.get(claimed.queue)
        if (worker.adaptive === undefined && ofThis === undefined) return
        const end = endOf(ending)
        const sample = (running: number): Sample => ({ startedAt, endedAt: monotonic(), running, end })
        const change = (rule: Rule, before: Adaptive, running: number, named: { worker?: string; queue?: string }) => {
          const after = adapt(rule, before, sample(running))
          const limit = Math.floor(after.limit)
          if (limit !== Math.floor(before.limit)) events.publish({ _tag: "ConcurrencyAdapted", ...named, limit })
          return after
        }
        if (worker.adaptive !== undefined) {
          const before = ofWorkers.get(worker) ?? startOf(worker.adaptive)
          ofWorkers.set(worker, change(worker.adaptive, before, ofWorker, { worker: worker.name }))
        }
        if (ofThis !== undefined) {
          const { queue } = claimed
          ofQueues.set(queue, change(ofThis, ofQueues.get(queue) ?? startOf(ofThis), ofQueue, { queue }))
        }
      }
      const shedder =
        config.shedding === undefined
          ? undefined
          : makeShedder(config.shedding, {
              running: (queue) => running(queue),
              publish: events.publish,
              weights: config.weights,
              patienceMillis: 2 * Duration.toMillis(config.pollInterval),
              changed: () => {
                heartbeat.republish()
                wakeAll()
              }
            })
      return Admission.of({
        shedder,
        shedBelow: () => shedder?.floor(monotonic()),
        close: Effect.fnUntraced(function* (worker) {
          const { circuit, governed } = worker
          if (circuit?.close() === true) {
            events.publish({ _tag: "CircuitClosed", worker: worker.name })
            heartbeat.republish()
            wakeAll()
          }
          const isShared = governed?.circuit !== undefined
          if (isShared && (yield* store.circuits.close(worker.name))) yield* closedForAll(worker)
          return isShared || circuit !== undefined
        }),
        attach: (count) => {
          running = count
        },
        places: (worker) =>
          worker.adaptive === undefined
            ? (worker.concurrency ?? Infinity)
            : Math.floor((ofWorkers.get(worker) ?? startOf(worker.adaptive)).limit),
        slots: (queue, given) => {
          const rule = config.adaptive.get(queue)
          return rule === undefined ? given : Math.min(given, Math.floor((ofQueues.get(queue) ?? startOf(rule)).limit))
        },
        leave: (leaving, ending) => {
          const verdict = verdictOf(ending)
          learn(leaving, ending)
          leaveOwn(leaving, verdict)
          return leaveShared(leaving, verdict)
        },
        onWake: (callback) => {
          callbacks.push(callback)
        }
      })
    })
  )
