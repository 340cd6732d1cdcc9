/**
 * The jobs in the database: put some in, look at them, cancel them, run them again, hear what becomes of them.
 *
 * Every verb works from any node and joins the caller's transaction, if there is one.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Schema from "effect/Schema"
import type * as Stream from "effect/Stream"
import { type Explanation, explain } from "./Explain.ts"
import { type Health, isReady, make as makeHealth } from "./Health.ts"
import { spread } from "./internal/aftermath.ts"
import { makeAwaiting, makeExecute } from "./internal/awaiting.ts"
import { type BulkOptions, type BulkProgress, makeBulk } from "./internal/bulk.ts"
import { Events } from "./internal/events.ts"
import { type EnqueueResult, hintsFor, lastInstant, resultOf } from "./internal/inserting.ts"
import { sanitize } from "./internal/json.ts"
import type { Filter } from "./Filter.ts"
import {
  type FailureGroup,
  type JobCount,
  limitProblem,
  type ListOptions,
  makeSearch,
  type StateCount
} from "./internal/searching.ts"
import { shown } from "./internal/names.ts"
import { type Aftermath, isLinked, type MergeRefusal, type NewJob, nothing } from "./internal/newJob.ts"
import type { NewBatch } from "./internal/sql/batch.ts"
import type { QueueCount } from "./internal/sql/count.ts"
import type { Related } from "./internal/sql/related.ts"
import type { TableHealth } from "./internal/sql/tables.ts"
import type { Settled } from "./internal/sql/result.ts"
import { type JobResult, type Readable, standingOf } from "./internal/settled.ts"
import type { Stored } from "./internal/sql/unique.ts"
import { traceEnqueue } from "./internal/tracing.ts"
import type { JobEvent } from "./JobEvent.ts"
import { type LogLine, type LogOptions, read as readLogs } from "./JobLog.ts"
import type { BatchId, JobId, JobRow, JobState } from "./JobRow.ts"
import { JobStore } from "./JobStore.ts"
import { fromColumns, type NodeRow } from "./Nodes.ts"
import { dueHorizonMillis, type Hint, Notifier } from "./Notifier.ts"
import { ShigotoConfig } from "./ShigotoConfig.ts"
import {
  type AwaitInTransaction,
  type CompositionError,
  type InvalidFilter,
  JobNotFound,
  type ResultDecodeError,
  type StorageFailure
} from "./ShigotoError.ts"

export type { BulkOptions, BulkProgress } from "./internal/bulk.ts"
export type { EnqueueResult } from "./internal/inserting.ts"
export type { FailureGroup, JobCount, ListOptions, StateCount } from "./internal/searching.ts"
export type { QueueCount } from "./internal/sql/count.ts"
export type { TableHealth } from "./internal/sql/tables.ts"
export type { Related } from "./internal/sql/related.ts"
export type { JobResult } from "./internal/settled.ts"

/**
 * What became of the wish to cancel a job.
 *
 * **Details**
 *
 * `Requested` means that its handler is running: it is interrupted within two seconds, and the job is `cancelled` once
 * the handler has really ended; a handler that succeeds first wins. `Finished` changed nothing.
 *
 * @category models
 */
export type CancelResult =
  | { readonly _tag: "Cancelled" }
  | { readonly _tag: "Requested" }
  | { readonly _tag: "Finished"; readonly state: JobState }

/**
 * What became of the wish to run a job again; `Unchanged` tells the state in which it already is on its way,
 * `UniqueConflict` the job that holds its key now.
 *
 * @category models
 */
export type RetryResult =
  | { readonly _tag: "Retried" }
  | { readonly _tag: "Unchanged"; readonly state: JobState }
  | { readonly _tag: "UniqueConflict"; readonly holder: JobId }

/**
 * What became of the wish to delete a job; one that runs is to be cancelled first.
 *
 * @category models
 */
export type DeleteResult = { readonly _tag: "Deleted" } | { readonly _tag: "Executing" }

/**
 * What one node makes of a job of a broadcast queue.
 *
 * @category models
 */
export interface Copy {
  /** The job that the node runs. */
  readonly id: JobId
  /** The incarnation that runs it, and its name. */
  readonly node: number
  readonly nodeName: string
  /** Whether the node is alive. */
  readonly live: boolean
  /** Undefined, like its attempt, where nothing of it is kept. */
  readonly state: JobState | undefined
  readonly attempt: number | undefined
}

/**
 * The jobs in the database.
 *
 * @category services
 */
export class Jobs extends Context.Service<
  Jobs,
  {
    /** Stores prepared jobs; `Job.enqueue` and `Job.enqueueAll` are the doors to this. */
    readonly insert: (
      jobs: ReadonlyArray<NewJob>,
      /** The running job whose batch they join. */
      by?: Pick<JobRow, "id" | "epoch">
    ) => Effect.Effect<ReadonlyArray<EnqueueResult>, CompositionError | StorageFailure | MergeRefusal>
    /** Stores a batch with prepared members; `Batch.make` and `Flow.make` are the doors to this. */
    readonly insertBatch: (
      batch: NewBatch,
      members: ReadonlyArray<NewJob>
    ) => Effect.Effect<
      { readonly id: BatchId; readonly jobs: ReadonlyArray<EnqueueResult> },
      CompositionError | StorageFailure | MergeRefusal
    >
    /** Stores a prepared job and waits for its end; `Job.execute` is the door to this. */
    readonly execute: (
      job: NewJob,
      cancelOnInterrupt: boolean
    ) => Effect.Effect<Settled, AwaitInTransaction | CompositionError | StorageFailure | MergeRefusal>
    /**
     * How a job stands, by its definition: still on its way, or its typed result or error. Of a job whose history is
     * not kept this is known for five minutes, if it was waited for.
     */
    readonly result: <Success extends Schema.Top, Error extends Schema.Top>(
      definition: Readable<Success, Error>,
      id: JobId
    ) => Effect.Effect<
      JobResult<Success["Type"], Error["Type"]>,
      JobNotFound | ResultDecodeError | StorageFailure,
      Success["DecodingServices"] | Error["DecodingServices"]
    >
    /** The largest encoded args, in bytes. */
    readonly maxArgsBytes: number
    /** The settings of this process. */
    readonly settings: ShigotoConfig["Service"]
    /** Whether there is a cipher to encrypt with. */
    readonly encrypts: boolean
    /** The largest encoded result, in bytes. */
    readonly maxResultBytes: number
    /** One job, live or archived. */
    readonly get: (id: JobId) => Effect.Effect<JobRow, JobNotFound | StorageFailure>
    /**
     * A page of jobs. One that asks for args or meta reads the newest 100,000 jobs that match in all else, and any gives
     * up after two seconds.
     */
    readonly list: (options?: ListOptions) => Effect.Effect<ReadonlyArray<JobRow>, InvalidFilter | StorageFailure>
    /** How many jobs match; counts up to 10,000. */
    readonly count: (filter?: Filter) => Effect.Effect<JobCount, InvalidFilter | StorageFailure>
    /**
     * How many jobs match in each state; counts up to 10,000 of each, and gives up on one after two seconds. A search by
     * args or meta reads the newest 100,000 jobs that match in all else, once for all states.
     */
    readonly countStates: (filter?: Filter) => Effect.Effect<ReadonlyArray<StateCount>, InvalidFilter | StorageFailure>
    /** Failed jobs in groups, the group with the newest job first; at most `limit`, by default 100, up to 1,000. */
    readonly failures: (options?: {
      readonly limit?: number | undefined
    }) => Effect.Effect<ReadonlyArray<FailureGroup>, InvalidFilter | StorageFailure>
    /**
     * How many live jobs are in each queue and state, by queue; gives up after two seconds.
     *
     * **Details**
     *
     * All are counted where the table takes up to 512 MiB, well over a million jobs. Beyond that, 10,000 available jobs of
     * each queue, and of all queues together 50,000 that execute, that are scheduled or retryable, and that are blocked;
     * `isExact` is false where there may be more, and then such a state may be missing.
     */
    readonly counts: Effect.Effect<ReadonlyArray<QueueCount>, StorageFailure>
    /** Cancels a job: a waiting one at once, a running one by interrupting its handler wherever it runs. */
    readonly cancel: (id: JobId, reason?: string) => Effect.Effect<CancelResult, JobNotFound | StorageFailure>
    /**
     * Makes a finished, scheduled or retryable job available now, with room for one attempt more; also one that is
     * held, whatever became of what it waited for. Jobs cancelled on its account wait for it again.
     */
    readonly retry: (id: JobId) => Effect.Effect<RetryResult, JobNotFound | StorageFailure>
    /**
     * Whether jobs flow, and if not, why; never fails, and costs the same at any number of jobs. `Health.Thresholds` says
     * from when on something is a reason.
     */
    readonly health: Effect.Effect<Health>
    /** Whether the database answers and has tables that this code can use: one small read. */
    readonly isReady: Effect.Effect<boolean>
    /** Why a job is not running, in the words of the claim itself. */
    readonly explain: (id: JobId) => Effect.Effect<Explanation, JobNotFound | StorageFailure>
    /** What the handlers of a job logged, where its worker keeps that; the oldest first. */
    readonly logs: (
      id: JobId,
      options?: LogOptions
    ) => Effect.Effect<ReadonlyArray<LogLine>, InvalidFilter | JobNotFound | StorageFailure>
    /** What a job waits for, and what waits for it; of each the first `limit`, by default 100. */
    readonly related: (
      id: JobId,
      options?: { readonly limit?: number | undefined }
    ) => Effect.Effect<
      { readonly parents: ReadonlyArray<Related>; readonly children: ReadonlyArray<Related> },
      InvalidFilter | JobNotFound | StorageFailure
    >
    /** A job of a broadcast queue, node by node: the copies of its last run, also of nodes that are gone. */
    readonly copies: (id: JobId) => Effect.Effect<ReadonlyArray<Copy>, JobNotFound | StorageFailure>
    /** The JSON Schema of a worker's args, as the node that started last told it; undefined where none has. */
    readonly argsSchema: (worker: string) => Effect.Effect<unknown, StorageFailure>
    /**
     * The names of the fields that the schemas of a worker's args, result and error say are `Redacted`, by worker, as its
     * nodes told them; `*` where a secret has no name of its own.
     */
    readonly secretFields: Effect.Effect<ReadonlyMap<string, ReadonlyArray<string>>, StorageFailure>
    /** The tables of the schema, the largest first: what they take, and what has been left for vacuum. */
    readonly tables: Effect.Effect<ReadonlyArray<TableHealth>, StorageFailure>
    /** The nodes of the fleet, those with a live lease first. */
    readonly nodes: Effect.Effect<ReadonlyArray<NodeRow>, StorageFailure>
    /** Deletes a job that does not run; to those that wait for it, and to its batch, one that waits counts as cancelled. */
    readonly delete: (id: JobId) => Effect.Effect<DeleteResult, JobNotFound | StorageFailure>
    /** Cancels all jobs that match; without a state in the filter, those that have not finished. */
    readonly cancelBy: (
      filter: Filter,
      options?: BulkOptions & { readonly reason?: string | undefined }
    ) => Stream.Stream<BulkProgress, InvalidFilter | StorageFailure>
    /** Runs all jobs again that match; without a state in the filter, those that are retryable or discarded. */
    readonly retryBy: (
      filter: Filter,
      options?: BulkOptions
    ) => Stream.Stream<BulkProgress, InvalidFilter | StorageFailure>
    /** Deletes all jobs that match and do not run. */
    readonly deleteBy: (
      filter: Filter,
      options?: BulkOptions
    ) => Stream.Stream<BulkProgress, InvalidFilter | StorageFailure>
    /** What happens on this node from now on; a listener that falls 65,536 events behind loses the oldest. */
    readonly events: Stream.Stream<JobEvent>
  }
>()("effect-shigoto/Jobs") {}

/**
 * Provides the jobs over the store.
 *
 * @category layers
 */
export const layer: Layer.Layer<Jobs, never, JobStore | Notifier | Events | ShigotoConfig> = Layer.effect(
  Jobs,
  Effect.gen(function* () {
    const config = yield* ShigotoConfig
    const store = yield* JobStore
    const notifier = yield* Notifier
    const events = yield* Events

    const horizon = dueHorizonMillis(config)
    const instant = lastInstant()
    const send = (hints: ReadonlyArray<Hint>, notified: boolean): Effect.Effect<void> => {
      const sendOne = (hint: Hint): Effect.Effect<void> =>
        notified && hint._tag === "Available" ? Effect.sync(() => notifier.wake(hint)) : notifier.send(hint)
      const [only, ...others] = hints
      if (only === undefined) return Effect.void
      return others.length === 0 ? sendOne(only) : Effect.forEach(hints, sendOne, { discard: true })
    }
    // Each single enqueue goes this way, so it takes few steps of a fiber.
    const announce = (jobs: ReadonlyArray<NewJob>, stored: ReadonlyArray<Stored>, aftermath: Aftermath) => {
      const results = stored.map((result, i) => resultOf(jobs[i] as NewJob, result, instant)) // one for each job, in its order
      const tell = Effect.suspend(() => {
        for (const { _tag, job } of events.isHeard() ? results : []) {
          if (_tag !== "Inserted") continue
          events.publish({ _tag: "Inserted", id: job.id, worker: job.worker, queue: job.queue, state: job.state })
        }
        const notified = stored.every((one) => one._tag === "Inserted" && one.notified === true)
        const sent = send(hintsFor(results, jobs, horizon), notified)
        return aftermath === nothing ? sent : Effect.andThen(sent, spread(events, notifier, aftermath))
      })
      return Effect.as(store.afterCommit(tell), results)
    }
    const insertNow = (jobs: ReadonlyArray<NewJob>, by?: Pick<JobRow, "id" | "epoch">) =>
      by === undefined && !jobs.some(isLinked)
        ? Effect.flatMap(store.insert(jobs), (stored) => announce(jobs, stored, nothing))
        : Effect.flatMap(store.composition.insert(jobs, undefined, by), ({ aftermath, stored }) =>
            announce(jobs, stored, aftermath)
          )
    const insert = (jobs: ReadonlyArray<NewJob>, by?: Pick<JobRow, "id" | "epoch">) =>
      traceEnqueue(
        jobs,
        (traced) => insertNow(traced, by),
        (results) => results.map((result) => result.id)
      )
    const insertBatchNow = Effect.fnUntraced(function* (batch: NewBatch, members: ReadonlyArray<NewJob>) {
      const { aftermath, batch: created, stored } = yield* store.composition.insert(members, batch)
      const id = created as BatchId // one was asked for
      const jobs = yield* announce(
        members.map((member) => ({ ...member, batch: id })),
        stored,
        aftermath
      )
      return { id, jobs }
    })
    const insertBatch = (batch: NewBatch, members: ReadonlyArray<NewJob>) =>
      traceEnqueue(
        members,
        (traced) => insertBatchNow(batch, traced),
        ({ jobs }) => jobs.map((job) => job.id)
      )
    const notFound = (id: JobId): JobNotFound =>
      new JobNotFound({ id: shown(id), message: `There is no job ${shown(id)}, live or archived.` })
    const known = (id: JobId): Effect.Effect<void, JobNotFound> =>
      Number.isSafeInteger(id) && id > 0 ? Effect.void : Effect.fail(notFound(id))

    const cancel = Effect.fn("Jobs.cancel")(function* (id: JobId, reason?: string) {
      yield* known(id)
      const told = reason === undefined ? undefined : sanitize(reason, 1000)
      while (true) {
        const result = yield* store.cancel(id, told)
        switch (result._tag) {
          case "NotFound":
            return yield* notFound(id)
          case "Moved":
            continue
          case "Finished":
            return { _tag: "Finished", state: result.state } satisfies CancelResult
          case "Requested":
            yield* store.afterCommit(notifier.send({ _tag: "Cancel", node: result.node }))
            return { _tag: "Requested" } satisfies CancelResult
          case "Cancelled":
            yield* store.afterCommit(
              Effect.suspend(() => {
                const { aftermath, attempt, queue, worker } = result
                events.publish({ _tag: "Cancelled", id, worker, queue, attempt, reason: told, runMillis: undefined })
                return spread(events, notifier, aftermath)
              })
            )
            return { _tag: "Cancelled" } satisfies CancelResult
        }
      }
    })
    const retry = Effect.fn("Jobs.retry")(function* (id: JobId) {
      yield* known(id)
      const result = yield* store.retry(id)
      if (result._tag === "NotFound") return yield* notFound(id)
      if (result._tag === "Unchanged") return result
      if (result._tag === "Conflict") return { _tag: "UniqueConflict", holder: result.holder } satisfies RetryResult
      yield* store.afterCommit(
        Effect.suspend(() => {
          events.publish({ _tag: "Retried", id, worker: result.worker, queue: result.queue })
          return Effect.andThen(
            notifier.send({ _tag: "Available", queue: result.queue }),
            spread(events, notifier, result.aftermath)
          )
        })
      )
      return { _tag: "Retried" } satisfies RetryResult
    })
    const bulk = makeBulk(store, notifier, events)
    return Jobs.of({
      insert,
      insertBatch,
      execute: makeExecute(store, { insert, cancel, waitFor: yield* makeAwaiting }),
      result: (definition, id) => Effect.andThen(known(id), standingOf(store, definition, id)),
      ...makeSearch(store),
      settings: config,
      maxArgsBytes: config.maxArgsBytes,
      encrypts: store.encryption.keyId !== undefined,
      maxResultBytes: config.maxResultBytes,
      get: Effect.fn("Jobs.get")(function* (id) {
        yield* known(id)
        return (yield* store.get(id)) ?? (yield* notFound(id))
      }),
      counts: store.counts,
      health: makeHealth(store, notifier),
      isReady: isReady(store),
      explain: Effect.fn("Jobs.explain")(function* (id) {
        yield* known(id)
        const found = yield* store.insight.explain(id, {
          partitionLimit: (queue, key) => config.partitions.get(queue)?.concurrency(key) ?? Infinity,
          hasPausableKeys: (queue) => !config.queues.has(queue) || config.partitions.has(queue),
          aging: config.aging
        })
        return explain(found ?? (yield* notFound(id)))
      }),
      logs: Effect.fn("Jobs.logs")(function* (id, options = {}) {
        yield* known(id)
        return yield* readLogs(store, id, options)
      }),
      related: Effect.fn("Jobs.related")(function* (id, { limit = 100 } = {}) {
        const problem = limitProblem(limit)
        if (problem !== undefined) return yield* problem
        yield* known(id)
        return yield* store.composition.related(id, limit)
      }),
      copies: Effect.fn("Jobs.copies")(function* (id) {
        yield* known(id)
        const copies = yield* store.broadcast.copies(id)
        if (copies.length === 0 && (yield* store.get(id)) === undefined) return yield* notFound(id)
        return copies
      }),
      argsSchema: (worker) => store.insight.argsSchema(worker),
      secretFields: Effect.map(
        store.insight.secretFields,
        (rows) => new Map(rows.map(({ fields, name }) => [name, fields]))
      ),
      tables: store.insight.tables,
      nodes: Effect.map(store.insight.nodes, (rows) => rows.map(fromColumns)),
      cancel,
      retry,
      delete: Effect.fn("Jobs.delete")(function* (id) {
        yield* known(id)
        while (!(yield* bulk.remove(id))) {
          const row = yield* store.get(id)
          if (row === undefined) return yield* notFound(id)
          if (row.state === "executing") return { _tag: "Executing" } as const
        }
        return { _tag: "Deleted" } as const
      }),
      cancelBy: bulk.cancelBy,
      retryBy: bulk.retryBy,
      deleteBy: bulk.deleteBy,
      events: events.stream
    })
  })
)
