/**
 * Flows in the database: how they stand, and control over all nodes of one at once.
 *
 * A flow is stored in one transaction, as a sealed batch whose members are its nodes. It has finished once every node
 * has ended, and every job that a node has added while it ran.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { type BatchError, Batches, type BatchStatus } from "./Batches.ts"
import type { NewJob } from "./internal/newJob.ts"
import type { FlowNode } from "./internal/sql/flow.ts"
import { type BatchId, type JobId, type JobState, states } from "./JobRow.ts"
import { JobStore } from "./JobStore.ts"
import type { BatchNotFound, StorageFailure } from "./ShigotoError.ts"

export type { FlowNode } from "./internal/sql/flow.ts"

/**
 * A flow that was stored.
 *
 * @category models
 */
export interface EnqueuedFlow {
  readonly id: BatchId
  /** The jobs of its nodes, those of nested flows by the path of their names: `pay/charge`. */
  readonly nodes: Readonly<Record<string, JobId>>
}

/**
 * How a flow stands.
 *
 * @category models
 */
export interface FlowStatus extends Omit<BatchStatus, "callbacks" | "sealed"> {
  /** How many of its jobs are in each state, those included that nodes have added. */
  readonly counts: Readonly<Record<JobState, number>>
  /** Its nodes, parents first, as far as the retention keeps them. */
  readonly nodes: ReadonlyArray<FlowNode>
}

/**
 * The flows, and control over them.
 *
 * @category services
 */
export class Flows extends Context.Service<
  Flows,
  {
    /** Stores a flow with its prepared nodes, parents first, all or nothing; `Flow.enqueue` is the door to this. */
    readonly enqueue: (flow: {
      readonly name: string
      /** JSON text. */
      readonly input: string
      readonly nodes: ReadonlyArray<NewJob & { readonly step: string }>
      /** The open batch that it becomes a member of. */
      readonly parent?: BatchId | undefined
    }) => Effect.Effect<EnqueuedFlow, BatchError>
    /** How a flow stands. */
    readonly status: (id: BatchId) => Effect.Effect<FlowStatus, BatchNotFound | StorageFailure>
    /**
     * Cancels all jobs of a flow that have not ended: waiting ones at once, running ones by interrupting their handlers.
     * Returns how many it met; jobs that the end of another takes along meanwhile are not among them.
     */
    readonly cancel: (id: BatchId, reason?: string) => Effect.Effect<number, BatchNotFound | StorageFailure>
    /**
     * Makes the nodes of a flow that failed run again, and with them those that were cancelled because of them. Returns
     * how many failed. What was completed stays as it is.
     */
    readonly retry: (id: BatchId) => Effect.Effect<number, BatchNotFound | StorageFailure>
  }
>()("effect-shigoto/Flows") {}

/**
 * Provides the flows over the batches.
 *
 * @category layers
 */
export const layer: Layer.Layer<Flows, never, Batches | JobStore> = Layer.effect(
  Flows,
  Effect.gen(function* () {
    const batches = yield* Batches
    const store = yield* JobStore
    return Flows.of({
      enqueue: Effect.fn("Flows.enqueue")(function* ({ input, name, nodes, parent }) {
        const { id, jobs } = yield* batches.create({ name, input, parent, sealed: true, members: nodes })
        return { id, nodes: Object.fromEntries(nodes.map(({ step }, i) => [step, jobs[i]?.id as JobId])) } // one for each
      }),
      status: Effect.fn("Flows.status")(function* (id) {
        const { callbacks: _, sealed: __, ...batch } = yield* batches.get(id)
        const { counts, nodes } = yield* store.composition.flow(id)
        const byState = Object.fromEntries(states.map((state) => [state, counts.get(state) ?? 0]))
        return { ...batch, nodes, counts: byState as Readonly<Record<JobState, number>> } // all states
      }),
      cancel: batches.cancel,
      retry: batches.retryFailed
    })
  })
)
