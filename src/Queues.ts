/**
 * The queues of this node and what operators ask of them, for one node's name or for all.
 *
 * Wishes are stored and outlive restarts; every node applies them as a notification tells it, at the latest with its
 * next look at the database. A pause holds for the next claim on every node at once, since the claim itself reads it.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Events } from "./internal/events.ts"
import { nameProblem, shown } from "./internal/names.ts"
import type { QueueCount } from "./internal/sql/count.ts"
import type { QueueColumns } from "./internal/sql/promote.ts"
import type { NodeColumns } from "./internal/sql/node.ts"
import { partitionCountLimit, type PausedKey, type QueueChange } from "./internal/sql/queue.ts"
import { type JobState, states as jobStates } from "./JobRow.ts"
import { JobStore } from "./JobStore.ts"
import { Notifier } from "./Notifier.ts"
import { maxConcurrency, ShigotoConfig } from "./ShigotoConfig.ts"
import { InvalidConcurrency, InvalidQueueName, type StorageFailure } from "./ShigotoError.ts"

/**
 * A queue as this node runs it.
 *
 * @category models
 */
export interface QueueState {
  readonly name: string
  /** How many of its jobs run here at once. */
  readonly concurrency: number
  readonly paused: boolean
}

/**
 * Where a wish holds.
 *
 * @category models
 */
export interface Where {
  /** The name of a node. Defaults to all nodes. */
  readonly node?: string | undefined
}

/**
 * What a pause holds for.
 *
 * @category models
 */
export type What =
  | (Where & { readonly partitionKey?: undefined })
  /** One partition key of a fair queue, on all nodes. */
  | { readonly partitionKey: string; readonly node?: undefined }

/**
 * A queue over all nodes: what operators asked of it, who runs it, and what is in it.
 *
 * @category models
 */
export interface QueueOverview {
  readonly name: string
  /** Whether it is paused on all nodes. */
  readonly paused: boolean
  /** How many live nodes run it. */
  readonly nodes: number
  /** How many of its jobs those run at once. */
  readonly slots: number
  /** Its live jobs by state, as `Jobs.counts` has them; a state without any is left out. */
  readonly counts: Readonly<Partial<Record<JobState, number>>>
  /** The states in which there may be more than were counted, as in a very large table. */
  readonly atLeast: ReadonlyArray<JobState>
  /** What holds for the nodes of a name, or, without one, for all. */
  readonly wishes: ReadonlyArray<{
    readonly node: string | undefined
    readonly concurrency: number | undefined
    readonly paused: boolean
    readonly removed: boolean
  }>
  /** The partition keys that are paused. */
  readonly pausedKeys: ReadonlyArray<string>
}

/**
 * The jobs of one partition key of a queue.
 *
 * @category models
 */
export interface Partition {
  readonly key: string
  /** How many wait for a slot; counts up to 1,000. */
  readonly available: number
  readonly isExact: boolean
  readonly executing: number
  /** How long the one that waits longest has been due; undefined where none waits. */
  readonly oldestMillis: number | undefined
  readonly paused: boolean
}

/**
 * What changing a queue may fail with.
 *
 * @category errors
 */
export type QueueError = InvalidQueueName | InvalidConcurrency | StorageFailure

/**
 * The queues of this node, and control over those of all.
 *
 * @category services
 */
export class Queues extends Context.Service<
  Queues,
  {
    /** Runs a queue with a concurrency of its own, beside those of the configuration or in place of one. */
    readonly add: (name: string, options: Where & { readonly concurrency: number }) => Effect.Effect<void, QueueError>
    /** Stops running a queue, and waits until none of its jobs is executing any more. Its waiting jobs stay. */
    readonly remove: (name: string, options?: Where) => Effect.Effect<void, QueueError>
    /** Starts no further job of a queue, or of one key of a fair queue; those that run go on. */
    readonly pause: (name: string, options?: What) => Effect.Effect<void, QueueError>
    /** Takes a pause back. */
    readonly resume: (name: string, options?: What) => Effect.Effect<void, QueueError>
    /** Changes how many jobs of a queue run at once on each node. */
    readonly scale: (name: string, concurrency: number, options?: Where) => Effect.Effect<void, QueueError>
    /**
     * All queues that have jobs, nodes or wishes, by name. Counts live jobs: for people, not for loops.
     */
    readonly overview: Effect.Effect<ReadonlyArray<QueueOverview>, StorageFailure>
    /**
     * The twenty partition keys of a queue with the most waiting jobs, after those that are paused. Looks at 500 keys, and
     * gives up after two seconds; `isComplete` is false where there may be more.
     */
    readonly partitions: (
      name: string
    ) => Effect.Effect<{ readonly partitions: ReadonlyArray<Partition>; readonly isComplete: boolean }, StorageFailure>
    /** The queues that this node runs, as last read. */
    readonly list: Effect.Effect<ReadonlyArray<QueueState>>
    /** The queue of a name, if this node runs it. */
    readonly get: (name: string) => QueueState | undefined
    /** The queues that this node runs. */
    readonly states: () => ReadonlyArray<QueueState>
    /** The names of the queues that this node runs. */
    readonly names: () => ReadonlyArray<string>
    /** Takes over what the database says; for the claimer. */
    readonly apply: (rows: ReadonlyArray<QueueColumns>) => void
    /** Calls back with the queues whenever they have changed; for the claimer. */
    readonly onChange: (callback: () => void) => void
  }
>()("effect-shigoto/Queues") {}

/**
 * Joins configuration and wishes: what is asked for the node comes before what is asked for all, and that before the
 * configuration; a pause of either holds.
 *
 * @category rules
 */
export const effective = (
  configured: ReadonlyMap<string, number>,
  wishes: ReadonlyArray<QueueColumns>,
  node: string
): ReadonlyMap<string, QueueState> => {
  const everywhere = new Map(wishes.filter((wish) => wish.node === "").map((wish) => [wish.name, wish]))
  const here = new Map(wishes.filter((wish) => wish.node === node && node !== "").map((wish) => [wish.name, wish]))
  const states = new Map<string, QueueState>()
  for (const name of new Set([...configured.keys(), ...everywhere.keys(), ...here.keys()])) {
    const own = here.get(name)
    const all = everywhere.get(name)
    const removed = own?.removed === true || (all?.removed === true && own?.concurrency == null)
    const concurrency = own?.concurrency ?? all?.concurrency ?? configured.get(name)
    if (removed || concurrency === undefined) continue
    states.set(name, { name, concurrency, paused: own?.paused === true || all?.paused === true })
  }
  return states
}

/**
 * Provides the queues of the configuration and the control over all.
 *
 * @category layers
 */
export const layer: Layer.Layer<Queues, never, JobStore | Notifier | ShigotoConfig | Events> = Layer.effect(
  Queues,
  Effect.gen(function* () {
    const config = yield* ShigotoConfig
    const store = yield* JobStore
    const notifier = yield* Notifier
    const events = yield* Events
    let states = effective(config.queues, [], config.nodeName)
    let seen = ""
    const callbacks: Array<() => void> = []

    const change = Effect.fnUntraced(function* (wish: QueueChange): Effect.fn.Return<void, QueueError> {
      const problem = nameProblem(wish.name) ?? (wish.node === "" ? undefined : nameProblem(wish.node))
      if (problem !== undefined) {
        return yield* new InvalidQueueName({
          value: shown(wish.name),
          message: `${shown(wish.name)} cannot name a queue: ${problem}.`
        })
      }
      const { concurrency } = wish
      if (
        concurrency !== undefined &&
        !(Number.isInteger(concurrency) && concurrency >= 1 && concurrency <= maxConcurrency)
      ) {
        return yield* new InvalidConcurrency({
          field: "concurrency",
          value: shown(concurrency),
          min: 1,
          max: maxConcurrency,
          message: `A queue's concurrency is an integer from 1 to ${maxConcurrency}, not ${shown(concurrency)}. To stop a queue, pause it.`
        })
      }
      yield* store.changeQueue(wish)
      yield* store.afterCommit(notifier.send({ _tag: "Queues" }))
    })
    const changeKey = Effect.fnUntraced(function* (
      name: string,
      key: string,
      paused: boolean
    ): Effect.fn.Return<void, QueueError> {
      const unfair = config.queues.has(name) && !config.partitions.has(name)
      const problem = nameProblem(name) ?? (unfair ? "it is not fair: give it `fair: true`" : undefined)
      const keyProblem = nameProblem(key)
      if (problem !== undefined || keyProblem !== undefined) {
        return yield* new InvalidQueueName({
          value: shown(problem === undefined ? key : name),
          message:
            problem === undefined
              ? `${shown(key)} cannot be a partitionKey: ${keyProblem}.`
              : `No partitionKey of the queue ${shown(name)} can be paused: ${problem}.`
        })
      }
      yield* store.limits.pause(name, key, paused)
      yield* store.afterCommit(notifier.send({ _tag: "Queues" }))
    })
    const at = (options: Where | undefined): string => options?.node ?? ""
    return Queues.of({
      add: (name, options) => change({ name, node: at(options), concurrency: options.concurrency, removed: false }),
      remove: Effect.fnUntraced(function* (name, options) {
        yield* change({ name, node: at(options), removed: true })
        while ((yield* store.executing(name, at(options))) > 0) yield* Effect.sleep("250 millis")
      }),
      pause: (name, options) =>
        options?.partitionKey !== undefined
          ? changeKey(name, options.partitionKey, true)
          : Effect.andThen(
              change({ name, node: at(options), paused: true }),
              Effect.sync(() => events.publish({ _tag: "QueuePaused", queue: name }))
            ),
      resume: (name, options) =>
        options?.partitionKey !== undefined
          ? changeKey(name, options.partitionKey, false)
          : Effect.andThen(
              change({ name, node: at(options), paused: false }),
              Effect.sync(() => events.publish({ _tag: "QueueResumed", queue: name }))
            ),
      scale: (name, concurrency, options) => change({ name, node: at(options), concurrency }),
      overview: Effect.gen(function* () {
        const [counts, nodes, { keys, wishes }] = yield* Effect.all([store.counts, store.insight.nodes, store.wishes])
        return overviewOf(
          counts,
          nodes.filter((node) => node.live),
          wishes,
          keys
        )
      }),
      partitions: Effect.fn("Queues.partitions")(function* (name) {
        const { isComplete, rows } = yield* store.partitions(name)
        return {
          partitions: rows.map(({ available, executing, key, oldest_millis, paused }) => ({
            key,
            available: Math.min(available, partitionCountLimit),
            isExact: available <= partitionCountLimit,
            executing,
            oldestMillis: oldest_millis === null ? undefined : Math.max(0, oldest_millis),
            paused
          })),
          isComplete
        }
      }),
      list: Effect.sync(() => [...states.values()]),
      states: () => [...states.values()],
      get: (name) => states.get(name),
      names: () => [...states.keys()],
      apply: (rows) => {
        const text = JSON.stringify(rows)
        if (text === seen) return
        seen = text
        states = effective(config.queues, rows, config.nodeName)
        for (const callback of callbacks) callback()
      },
      onChange: (callback) => {
        callbacks.push(callback)
      }
    })
  })
)

// internal

/** States that are counted together. */
const alike = (state: JobState): JobState => (state === "retryable" ? "scheduled" : state)

const overviewOf = (
  counts: ReadonlyArray<QueueCount>,
  nodes: ReadonlyArray<NodeColumns>,
  wishes: ReadonlyArray<QueueColumns>,
  keys: ReadonlyArray<PausedKey>
): ReadonlyArray<QueueOverview> => {
  const names = new Set([
    ...counts.map((row) => row.queue),
    ...nodes.flatMap((node) => node.queues),
    ...wishes.map((wish) => wish.name),
    ...keys.map((row) => row.queue)
  ])
  const inexact = counts.filter(({ isExact }) => !isExact)
  return [...names].toSorted().map((name) => {
    const own = wishes.filter((wish) => wish.name === name)
    const serving = nodes.filter((node) => node.queues.includes(name))
    return {
      name,
      paused: own.some((wish) => wish.node === "" && wish.paused),
      nodes: serving.length,
      slots: serving.reduce((sum, node) => sum + (node.slots[node.queues.indexOf(name)] ?? 0), 0),
      counts: Object.fromEntries(counts.filter((row) => row.queue === name).map((row) => [row.state, row.count])),
      // All but the available ones are counted for all queues together: whatever one lacks may lie beyond the limit.
      atLeast: jobStates.filter((state) =>
        inexact.some((row) => alike(row.state) === alike(state) && (state !== "available" || row.queue === name))
      ),
      wishes: own.map((wish) => ({
        node: wish.node === "" ? undefined : wish.node,
        concurrency: wish.concurrency ?? undefined,
        paused: wish.paused,
        removed: wish.removed
      })),
      pausedKeys: keys.filter((row) => row.queue === name).map((row) => row.key)
    }
  })
}
