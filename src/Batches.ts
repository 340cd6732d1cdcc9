/**
 * Batches in the database: groups of jobs that are waited for together.
 *
 * A member's end changes the counters of its batch in the same transaction. The end of the last member of a sealed
 * batch finishes it and inserts its callbacks, each exactly once in the batch's life; callbacks run like any job, at
 * least once. A batch may be a member of another.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { spread } from "./internal/aftermath.ts"
import { Events } from "./internal/events.ts"
import { nameProblem, shown } from "./internal/names.ts"
import { type BatchSummary, link, type MergeRefusal, type NewJob } from "./internal/newJob.ts"
import type { BatchRow, Callbacks } from "./internal/sql/batch.ts"
import { type BatchId, type JobId, type JobRow, type JobState, states } from "./JobRow.ts"
import { type EnqueueResult, Jobs } from "./Jobs.ts"
import { JobStore } from "./JobStore.ts"
import { Notifier } from "./Notifier.ts"
import {
  BatchNotFound,
  type CompositionError,
  InvalidBatch,
  InvalidFilter,
  type JobNotFound,
  type StorageFailure
} from "./ShigotoError.ts"

/**
 * A batch as stored.
 *
 * @category models
 */
export interface BatchStatus extends BatchSummary {
  /** The batch that it is a member of. */
  readonly parent: BatchId | undefined
  /** Whether it takes no more members. */
  readonly sealed: boolean
  /** Whether it is sealed and all members have ended. */
  readonly finished: boolean
  /** The callback jobs that were inserted so far, by occasion. */
  readonly callbacks: BatchRow["fired"]
}

/**
 * A batch as JSON, as the command line and the dashboard's API tell it: what is absent is null.
 *
 * @category encoding
 */
export const toJson = (
  batch: BatchStatus
): Omit<BatchStatus, "id" | "parent" | "callbacks"> & {
  readonly id: number
  readonly parent: number | null
  readonly callbacks: Readonly<Record<string, number>>
} => ({
  id: batch.id,
  name: batch.name,
  parent: batch.parent ?? null,
  sealed: batch.sealed,
  finished: batch.finished,
  outcome: batch.outcome,
  total: batch.total,
  pending: batch.pending,
  completed: batch.completed,
  discarded: batch.discarded,
  cancelled: batch.cancelled,
  callbacks: { ...batch.callbacks }
})

/**
 * A batch that was created, and its members.
 *
 * @category models
 */
export interface CreatedBatch {
  readonly id: BatchId
  readonly jobs: ReadonlyArray<EnqueueResult>
}

/**
 * Which batches to list.
 *
 * @category models
 */
export interface BatchListOptions {
  /** Only those that have, or have not, finished. Defaults to all. */
  readonly finished?: boolean | undefined
  /** Only those after this one: the last of the page before. Defaults to the beginning. */
  readonly after?: BatchId | undefined
  /** How many, from 1 to 1,000. Defaults to 100. */
  readonly limit?: number | undefined
}

/**
 * What creating a batch may fail with.
 *
 * @category errors
 */
export type BatchError = InvalidBatch | CompositionError | MergeRefusal | StorageFailure

/**
 * The batches, and control over them.
 *
 * @category services
 */
export class Batches extends Context.Service<
  Batches,
  {
    /** Stores a batch with prepared members, all or nothing; `Batch.make` is the door to this. */
    readonly create: (batch: {
      readonly name: string
      readonly members: ReadonlyArray<NewJob>
      /** Whether it takes no more members after these. */
      readonly sealed: boolean
      readonly callbacks?: Callbacks | undefined
      /** The open batch that it becomes a member of. */
      readonly parent?: BatchId | undefined
      /** JSON text of a flow's input. */
      readonly input?: string | undefined
    }) => Effect.Effect<CreatedBatch, BatchError>
    /**
     * Stores prepared members of the batch that a running job is in, open or sealed; `Batch.add` is the door to this.
     */
    readonly add: (
      members: ReadonlyArray<NewJob>,
      by: Pick<JobRow, "id" | "epoch">
    ) => Effect.Effect<ReadonlyArray<EnqueueResult>, BatchError>
    /** Closes a batch: it finishes as its last member ends, or at once where none is left. Again: changes nothing. */
    readonly seal: (id: BatchId) => Effect.Effect<void, CompositionError | StorageFailure>
    /** A page of batches, the newest first. */
    readonly list: (
      options?: BatchListOptions
    ) => Effect.Effect<ReadonlyArray<BatchStatus>, InvalidFilter | StorageFailure>
    /** How a batch stands. */
    readonly get: (id: BatchId) => Effect.Effect<BatchStatus, BatchNotFound | StorageFailure>
    /**
     * How many milliseconds it takes until the last member of a batch ends, if all end at the pace of the last thousand
     * that did. Undefined where all have ended, and where of those that did nothing is kept.
     */
    readonly remaining: (id: BatchId) => Effect.Effect<number | undefined, BatchNotFound | StorageFailure>
    /**
     * Cancels the members that have not ended, also those of nested batches: waiting ones at once, running ones by
     * interrupting their handlers. Returns how many it met, without those that the end of another takes along meanwhile.
     * Callbacks follow as after any end.
     */
    readonly cancel: (id: BatchId, reason?: string) => Effect.Effect<number, BatchNotFound | StorageFailure>
    /**
     * Makes the discarded and cancelled members run again, also those of nested batches, and returns how many. A
     * finished batch is open until they have ended; callbacks that were inserted are not inserted again.
     */
    readonly retryFailed: (id: BatchId) => Effect.Effect<number, BatchNotFound | StorageFailure>
    /** The members of a batch by rising id, without those of nested batches. */
    readonly members: (
      id: BatchId
    ) => Effect.Effect<
      ReadonlyArray<{ readonly id: JobId; readonly state: JobState; readonly step: string | undefined }>,
      BatchNotFound | StorageFailure
    >
  }
>()("effect-shigoto/Batches") {}

/**
 * Provides the batches over the store.
 *
 * @category layers
 */
export const layer: Layer.Layer<Batches, never, JobStore | Jobs | Notifier | Events> = Layer.effect(
  Batches,
  Effect.gen(function* () {
    const store = yield* JobStore
    const jobs = yield* Jobs
    const notifier = yield* Notifier
    const events = yield* Events

    const notFound = (id: BatchId): BatchNotFound =>
      new BatchNotFound({ batch: shown(id), message: `There is no batch ${shown(id)}.` })
    const found = (id: BatchId): Effect.Effect<BatchRow, BatchNotFound | StorageFailure> =>
      Number.isSafeInteger(id) && id > 0
        ? Effect.flatMap(store.composition.get(id), (row) =>
            row === undefined ? Effect.fail(notFound(id)) : Effect.succeed(row)
          )
        : Effect.fail(notFound(id))
    /** All members in some states, page by page, with those of the batches nested in it. */
    const everyMember = (
      id: BatchId,
      states: ReadonlyArray<JobState>,
      visit: (member: { readonly id: JobId; readonly links: number }) => Effect.Effect<boolean, StorageFailure>
    ): Effect.Effect<number, StorageFailure> =>
      Effect.gen(function* () {
        let met = 0
        for (let after = 0; ;) {
          const page = yield* store.composition.members({ batch: id, states, after, limit: pageSize })
          for (const member of page) if (yield* visit(member)) met++
          after = page.at(-1)?.id ?? 0
          if (page.length < pageSize) break
        }
        for (const inner of yield* store.composition.nested(id)) met += yield* everyMember(inner, states, visit)
        return met
      })

    return Batches.of({
      create: Effect.fn("Batches.create")(function* ({ callbacks = {}, input, members, name, parent, sealed }) {
        const problem = nameProblem(name)
        if (problem !== undefined) {
          return yield* new InvalidBatch({
            value: shown(name),
            message: `${shown(name)} cannot name a batch: ${problem}.`
          })
        }
        if (parent !== undefined) yield* found(parent)
        return yield* jobs.insertBatch({ name, input, parent, sealed, callbacks }, members)
      }),
      add: Effect.fn("Batches.add")((members, by) => jobs.insert(members, by)),
      seal: Effect.fn("Batches.seal")(function* (id) {
        yield* found(id)
        const aftermath = yield* store.composition.seal(id)
        yield* store.afterCommit(Effect.suspend(() => spread(events, notifier, aftermath)))
      }),
      list: Effect.fn("Batches.list")(function* ({ after, finished, limit = 100 } = {}) {
        if (!Number.isInteger(limit) || limit < 1 || limit > 1000) {
          return yield* new InvalidFilter({
            field: "limit",
            value: shown(limit),
            message: `limit cannot be ${shown(limit)}: it is an integer from 1 to 1000.`
          })
        }
        const rows = yield* store.composition.list({ before: after, finished, limit })
        return rows.map(({ fired, ...row }) => ({ ...row, callbacks: fired }))
      }),
      get: Effect.fn("Batches.get")(function* (id) {
        const { fired, input: _, ...row } = yield* found(id)
        return { ...row, callbacks: fired }
      }),
      remaining: Effect.fn("Batches.remaining")(function* (id) {
        const { pending } = yield* found(id)
        if (pending === 0) return undefined
        const { ended, millis } = yield* store.composition.pace(id)
        return ended === 0 ? undefined : (pending * millis) / ended
      }),
      cancel: Effect.fn("Batches.cancel")(function* (id, reason) {
        yield* found(id)
        return yield* everyMember(id, ["blocked", "scheduled", "available", "retryable", "executing"], (member) =>
          unlessGone(Effect.map(jobs.cancel(member.id, reason), (result) => result._tag !== "Finished"))
        )
      }),
      retryFailed: Effect.fn("Batches.retryFailed")(function* (id) {
        yield* found(id)
        // Those cancelled on another's account come back with that one.
        return yield* everyMember(id, ["discarded", "cancelled"], (member) =>
          (member.links & link.cascaded) !== 0
            ? Effect.succeed(false)
            : unlessGone(Effect.map(jobs.retry(member.id), (result) => result._tag === "Retried"))
        )
      }),
      members: Effect.fn("Batches.members")(function* (id) {
        yield* found(id)
        const all: Array<{ readonly id: JobId; readonly state: JobState; readonly step: string | undefined }> = []
        while (true) {
          const page = yield* store.composition.members({
            batch: id,
            states,
            after: all.at(-1)?.id ?? 0,
            limit: pageSize
          })
          all.push(...page.map((member) => ({ id: member.id, state: member.state, step: member.step })))
          if (page.length < pageSize) return all
        }
      })
    })
  })
)

// internal

const pageSize = 500

/** A member may be pruned between the page and its turn. */
const unlessGone = (
  effect: Effect.Effect<boolean, JobNotFound | StorageFailure>
): Effect.Effect<boolean, StorageFailure> => Effect.catchTag(effect, "JobNotFound", () => Effect.succeed(false))
