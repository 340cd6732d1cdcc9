/**
 * What holds back work on this node, and what circuits are in: to be looked at, and to be put right by hand.
 *
 * Why one job does not run is for `Jobs.explain` to tell.
 */
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Executor } from "./Executor.ts"
import { Admission } from "./internal/admission.ts"
import { JobStore } from "./JobStore.ts"
import { Queues } from "./Queues.ts"
import { ShigotoConfig } from "./ShigotoConfig.ts"
import type { StorageFailure } from "./ShigotoError.ts"
import { Workers } from "./Workers.ts"

/**
 * How much of a queue or of a worker runs on this node, and may run.
 *
 * @category models
 */
export interface Places {
  readonly name: string
  readonly running: number
  /** Undefined for a worker whose attempts are as many as the queue allows. */
  readonly concurrency: number | undefined
  /** Whether that number finds itself. */
  readonly adaptive: boolean
}

/**
 * What this node does, and does without.
 *
 * @category models
 */
export interface NodeLoad {
  /** How many attempts run. */
  readonly running: number
  /** How many may, over all queues; undefined for what these allow. */
  readonly maxInFlight: number | undefined
  /** Below which priority no job starts, since others wait too long; undefined for none. */
  readonly shedBelow: number | undefined
  readonly queues: ReadonlyArray<Places>
  readonly workers: ReadonlyArray<Places>
}

/**
 * The circuit of a worker.
 *
 * @category models
 */
export interface CircuitState {
  readonly worker: string
  /** Whether all nodes share it; else it is this node's own. */
  readonly shared: boolean
  readonly state: "closed" | "open" | "half-open"
  /** Since when a shared one is so; undefined where nothing has happened to it, and for this node's own. */
  readonly since: DateTime.Utc | undefined
}

/**
 * What holds back work.
 *
 * @category services
 */
export class Resilience extends Context.Service<
  Resilience,
  {
    /** The load of this node now. */
    readonly load: Effect.Effect<NodeLoad>
    /** The circuits of this node's workers, those of all nodes as the database has them. */
    readonly circuits: Effect.Effect<ReadonlyArray<CircuitState>, StorageFailure>
    /**
     * Closes the circuit of a worker, for all nodes if they share it, and forgets what led to it; says whether this node
     * has such a circuit. For when what it waits for is known to work again.
     */
    readonly close: (worker: string) => Effect.Effect<boolean, StorageFailure>
  }
>()("effect-shigoto/Resilience") {}

/**
 * Provides the view of what holds back work.
 *
 * @category layers
 */
export const layer: Layer.Layer<Resilience, never, Executor | Admission | Workers | Queues | JobStore | ShigotoConfig> =
  Layer.effect(
    Resilience,
    Effect.gen(function* () {
      const config = yield* ShigotoConfig
      const executor = yield* Executor
      const admission = yield* Admission
      const workers = yield* Workers
      const queues = yield* Queues
      const store = yield* JobStore
      const maxInFlight = config.shedding?.maxInFlight
      return Resilience.of({
        load: Effect.sync(() => ({
          running: executor.total(),
          maxInFlight: maxInFlight === Infinity ? undefined : maxInFlight,
          shedBelow: admission.shedBelow(),
          queues: queues.states().map(({ concurrency, name }) => ({
            name,
            running: executor.running(name),
            concurrency: admission.slots(name, concurrency),
            adaptive: config.adaptive.has(name)
          })),
          workers: [...workers.all()].map((worker) => {
            const places = admission.places(worker)
            return {
              name: worker.name,
              running: executor.runningOf(worker),
              concurrency: places === Infinity ? undefined : places,
              adaptive: worker.adaptive !== undefined
            }
          })
        })),
        circuits: Effect.gen(function* () {
          const found: Array<CircuitState> = []
          for (const { circuit, governed, name } of workers.all()) {
            if (circuit !== undefined) {
              found.push({ worker: name, shared: false, state: circuit.state(), since: undefined })
            } else if (governed?.circuit !== undefined) {
              const { phase, since } = yield* store.circuits.get({ worker: name, rule: governed.circuit })
              found.push({
                worker: name,
                shared: true,
                state: phase,
                since: since === 0 ? undefined : DateTime.makeUnsafe(since)
              })
            }
          }
          return found
        }),
        close: Effect.fnUntraced(function* (name) {
          const worker = workers.get(name)
          return worker === undefined ? false : yield* admission.close(worker)
        })
      })
    })
  )
