/** What the ends of a node's attempts do to circuits: its own, in memory, and those that all nodes share. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { Heartbeat } from "../Heartbeat.ts"
import { JobStore } from "../JobStore.ts"
import { Notifier } from "../Notifier.ts"
import { type Worker, Workers } from "../Workers.ts"
import type { Permit, Verdict } from "./circuit.ts"
import { Events } from "./events.ts"
import type { Claimed } from "./sql/claim.ts"

/** An attempt that ends. */
export interface Leaving {
  readonly worker: Worker
  readonly claimed: Claimed
  /** By the monotonic clock, in milliseconds. */
  readonly startedAt: number
  /** What the circuit of this node let it through with. */
  readonly permit: Permit | undefined
}

/** Builds the keeper of a node's circuits; `wakeAll` wakes the claims of the node. */
export const makeCircuits = Effect.fnUntraced(function* (wakeAll: () => void) {
  const workers = yield* Workers
  const heartbeat = yield* Heartbeat
  const store = yield* JobStore
  const notifier = yield* Notifier
  const events = yield* Events
  const clock = yield* Clock.Clock
  const scope = yield* Effect.scope
  const fork = Effect.runForkWith(yield* Effect.context<never>())
  const monotonic = (): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6

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
      fork(
        Effect.forkIn(
          Effect.andThen(
            opened(worker.name, openMillis, " on this node"),
            Effect.andThen(
              Effect.sleep(openMillis),
              Effect.sync(() => {
                if (workers.get(worker.name) !== worker) return
                circuit.probe()
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
      if (change === "closed") {
        events.publish({ _tag: "CircuitClosed", worker: worker.name })
        wakeAll()
        yield* notifier.send({ _tag: "Queues" })
      }
    },
    // An end that is not told leaves the circuit as it is; the next ends tell.
    Effect.catch((error) => Effect.logDebug("Shigoto could not tell a circuit how an attempt ended", error))
  )
  return {
    /**
     * Takes note of an attempt's end. What it gives back has to be waited for before the outcome is settled: the place
     * of a probe, and of an attempt that failed, must not be free before all nodes know.
     */
    leave: (leaving: Leaving, verdict: Verdict): Effect.Effect<void> | undefined => {
      leaveOwn(leaving, verdict)
      const { claimed, worker } = leaving
      if (claimed.passage === undefined || worker.governed?.circuit === undefined || verdict === "ignored") return
      if (claimed.passage.probe || verdict === "failed") return note(leaving, verdict)
      fork(Effect.forkIn(note(leaving, verdict), scope))
      return
    }
  }
})
