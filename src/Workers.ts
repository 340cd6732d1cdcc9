/**
 * The workers of this node: which job names it can run, and how.
 *
 * A worker registers as its layer is built and leaves as its layer's scope closes, after its running attempts have
 * ended or the grace is over. Only registered names are claimed, so it does not matter whether workers or the claiming
 * loops start first.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { Rule as AdaptiveRule } from "./AdaptiveConcurrency.ts"
import type { Attempt, CurrentJob } from "./CurrentJob.ts"
import type { Circuit } from "./internal/circuit.ts"
import { rateClash } from "./internal/definition.ts"
import type { Governed } from "./internal/sql/limit.ts"
import type { Quoting } from "./internal/quotes.ts"
import type { AttemptFailure } from "./JobRow.ts"
import type { Ending } from "./Outcome.ts"
import { type DependencyError, FlowArgsError } from "./ShigotoError.ts"
import { Snooze } from "./Signal.ts"

/**
 * A worker with its types erased: what the executor needs to run attempts of one name.
 *
 * @category models
 */
export interface Worker {
  readonly name: string
  /** How many attempts may run on this node at once; undefined for as many as the queue allows, or if it adapts. */
  readonly concurrency: number | undefined
  /** How that number finds itself; undefined where it is fixed. */
  readonly adaptive: AdaptiveRule | undefined
  /** What holds for its attempts on all nodes together; undefined where nothing does. */
  readonly governed: Governed | undefined
  /** Its circuit on this node; undefined where it has none. */
  readonly circuit: Circuit | undefined
  /** How long one attempt may take, in milliseconds; Infinity for as long as it likes. */
  readonly timeoutMillis: number
  /** The context that an attempt runs in: that of its layer over that of the node, with the job in it. */
  readonly inside: (node: Context.Context<never>, job: CurrentJob["Service"]) => Context.Context<never>
  /** Decodes the args, runs the handler, encodes the result as JSON text; to be run `inside`. */
  readonly run: (
    args: unknown,
    job: CurrentJob["Service"],
    quoting?: Quoting
  ) => Effect.Effect<string | undefined, unknown>
  /** Reads how a run ended that did not succeed; never fails. */
  readonly ending: (
    exit: Exit.Exit<string | undefined, unknown>,
    attempt: Attempt,
    stopped: Stopped | undefined,
    node: string,
    quoting?: Quoting
  ) => Effect.Effect<Ending>
  /** Whether its jobs are encrypted, where its definition says. */
  readonly encrypted?: boolean | undefined
  /** The JSON Schema of its args, for those who enqueue without its code; undefined where there is none. */
  readonly argsSchema?: (() => unknown) | undefined
  /** The fields of its args, result and error that its schemas say are `Redacted`. Defaults to none. */
  readonly secretFields?: (() => ReadonlyArray<string>) | undefined
  /** Whether there is anybody to be told that a job was given up. */
  readonly isTold: boolean
  /** Called after the database has accepted it, on a node that has the worker. */
  readonly discarded: (args: unknown, attempt: Attempt, errors: ReadonlyArray<AttemptFailure>) => Effect.Effect<void>
}

/**
 * A flow with its types erased: what the executor needs to compute the args of its nodes.
 *
 * @category models
 */
export interface RegisteredFlow {
  readonly name: string
  /** The encoded args of a node, from the flow's encoded input and what the node waited for. */
  readonly argsOf: (
    step: string,
    input: unknown,
    attempt: Attempt
  ) => Effect.Effect<unknown, FlowArgsError | DependencyError>
}

/**
 * Why the node interrupted an attempt.
 *
 * @category models
 */
export type Stopped = "timeout" | "cancel" | "shutdown" | "lease"

/**
 * The registry of workers, and of the flows that this node computes args for.
 *
 * @category services
 */
export class Workers extends Context.Service<
  Workers,
  {
    /**
     * Adds a worker until the scope closes.
     *
     * Dies where another worker of that name is registered, or one that says different things of a rate that both share.
     */
    readonly register: (worker: Worker) => Effect.Effect<void, never, Scope.Scope>
    /** The worker of a name, if this node has it. */
    readonly get: (name: string) => Worker | undefined
    /** The registered workers. */
    readonly all: () => Iterable<Worker>
    /** Whether their jobs are encrypted, of those that say; undefined where none does. */
    readonly encrypted: () => ReadonlyMap<string, boolean> | undefined
    /**
     * Adds a flow until the scope closes.
     *
     * Dies where another flow of that name is registered.
     */
    readonly registerFlow: (flow: RegisteredFlow) => Effect.Effect<void, never, Scope.Scope>
    /**
     * The encoded args of a flow's node. Where this node does not have the flow the job is left to others for some
     * minutes, at no attempt's cost: a deployment may be under way. Then it fails.
     */
    readonly argsOf: (
      of: { readonly name: string; readonly input: unknown; readonly step: string },
      attempt: Attempt
    ) => Effect.Effect<unknown, FlowArgsError | DependencyError | Snooze>
    /** Calls back on every registration. */
    readonly onRegister: (callback: () => void) => void
    /** Sets what is to happen with the running attempts of a worker that leaves. */
    readonly onLeave: (drain: (worker: Worker) => Effect.Effect<void>) => void
  }
>()("effect-shigoto/Workers") {}

/**
 * Provides an empty registry.
 *
 * @category layers
 */
export const layer: Layer.Layer<Workers> = Layer.sync(Workers, () => {
  // A Map, not an object: a job named "constructor" is just unknown.
  const workers = new Map<string, Worker>()
  const flows = new Map<string, RegisteredFlow>()
  const callbacks: Array<() => void> = []
  let drain = (_worker: Worker): Effect.Effect<void> => Effect.void
  return Workers.of({
    get: (name) => workers.get(name),
    all: () => workers.values(),
    encrypted: () => {
      const said = [...workers.values()].flatMap(({ encrypted, name }) =>
        encrypted === undefined ? [] : [[name, encrypted] as const]
      )
      return said.length === 0 ? undefined : new Map(said)
    },
    registerFlow: (flow) =>
      Effect.acquireRelease(
        Effect.suspend(() =>
          flows.has(flow.name)
            ? Effect.die(
                new Error(
                  `Two flows "${flow.name}" are registered on one node. Provide its layer once, or give one flow another name.`
                )
              )
            : Effect.sync(() => void flows.set(flow.name, flow))
        ),
        () => Effect.sync(() => flows.delete(flow.name))
      ),
    argsOf: ({ input, name, step }, attempt) =>
      flows.get(name)?.argsOf(step, input, attempt) ?? strange(name, step, attempt),
    onRegister: (callback) => {
      callbacks.push(callback)
    },
    onLeave: (effect) => {
      drain = effect
    },
    register: (worker) =>
      Effect.acquireRelease(
        Effect.suspend(() => {
          if (workers.has(worker.name)) {
            return Effect.die(
              new Error(
                `Two workers are registered for the job "${worker.name}" on one node. Provide its layer once, or give one job another name.`
              )
            )
          }
          const clash = rateClash(worker, workers.values())
          if (clash !== undefined) return Effect.die(clash)
          workers.set(worker.name, worker)
          for (const callback of callbacks) callback()
          return Effect.void
        }),
        () =>
          Effect.suspend(() => {
            workers.delete(worker.name)
            return drain(worker)
          })
      )
  })
})

// internal

/** How often a node passes on a job whose flow it does not have: for four minutes in all. */
const patience = 12

const strange = (
  flow: string,
  step: string,
  { id, snoozes }: Attempt
): Effect.Effect<never, FlowArgsError | Snooze> => {
  const why = `The args of "${step}" are computed by the flow "${flow}", which this node does not have: provide its layer beside the worker.`
  return snoozes < patience
    ? Effect.andThen(
        Effect.logWarning(`Job ${id} is left to other nodes. ${why}`),
        Effect.fail(new Snooze({ duration: `${Math.min(2 ** snoozes, 30)} seconds` }))
      )
    : Effect.fail(new FlowArgsError({ flow, step, message: why }))
}
