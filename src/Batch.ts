/**
 * A batch: a group of jobs with callbacks for its end.
 *
 * A callback is a job like any other, made by `Job.prepare`. It is inserted exactly once in the transaction in which
 * its occasion came, and its handler may ask {@link summary} how the batch stood then.
 */
import * as Effect from "effect/Effect"
import { Batches, type BatchError, type CreatedBatch } from "./Batches.ts"
import { CurrentJob } from "./CurrentJob.ts"
import type { Refusal } from "./internal/enqueueing.ts"
import { shown } from "./internal/names.ts"
import type { BatchSummary, NewJob } from "./internal/newJob.ts"
import { strayOption } from "./internal/options.ts"
import type { BatchId } from "./JobRow.ts"
import type { EnqueueResult } from "./Jobs.ts"
import { InvalidBatch, InvalidDeadline } from "./ShigotoError.ts"

/**
 * A job that was checked and encoded, or will be: what `Job.prepare` returns.
 *
 * @category models
 */
export type Prepared<R = never> = Effect.Effect<NewJob, Refusal, R>

/**
 * The jobs to insert as a batch comes to its end.
 *
 * @category models
 */
export interface BatchOptions<R> {
  /** What is inserted once every member has ended, however. Defaults to nothing. */
  readonly onFinished?: Prepared<R> | undefined
  /** What is inserted once every member has been completed. Defaults to nothing. */
  readonly onSucceeded?: Prepared<R> | undefined
  /** What is inserted as the first member is discarded or cancelled, while others may still run. Defaults to nothing. */
  readonly onFirstFailure?: Prepared<R> | undefined
}

/**
 * A batch that can be enqueued, any number of times.
 *
 * @category models
 */
export interface Batch<R> {
  readonly name: string
  /**
   * Stores the batch with all its members, sealed, as part of the caller's transaction if there is one. A batch
   * without members is finished at once.
   */
  readonly enqueue: <R2 = never>(
    members: Iterable<Prepared<R2>>,
    options?: NestedIn
  ) => Effect.Effect<CreatedBatch, BatchError | Refusal, Batches | R | R2>
  /**
   * Stores the batch open: jobs enqueued with its id as `batch` become members, also from within members, until
   * `Batches.seal`.
   */
  readonly open: (options?: NestedIn) => Effect.Effect<BatchId, BatchError | Refusal, Batches | R>
}

/**
 * Where a batch is.
 *
 * @category models
 */
export interface NestedIn {
  /** The open batch that it becomes a member of, and counts in as one. Defaults to none. */
  readonly parent?: BatchId | undefined
}

/**
 * Makes a batch; nothing is stored yet.
 *
 * @category constructors
 */
export const make = <R = never>(name: string, options: BatchOptions<R> = {}): Batch<R> => {
  const create = Effect.fnUntraced(function* <R2>(
    members: Iterable<Prepared<R2>>,
    sealed: boolean,
    nestedIn: NestedIn
  ): Effect.fn.Return<CreatedBatch, BatchError | Refusal, Batches | R | R2> {
    const batches = yield* Batches
    const stray = strayOption(options, ["onFinished", "onSucceeded", "onFirstFailure"])
    if (stray !== undefined) {
      const message = `The batch ${shown(name)} cannot be given ${shown(stray.name)}: ${stray.why}.`
      return yield* new InvalidBatch({ value: shown(stray.name), message })
    }
    return yield* batches.create({
      name,
      sealed,
      parent: nestedIn.parent,
      members: yield* Effect.forEach(members, (member) => member),
      callbacks: {
        finished: yield* callback(options.onFinished),
        succeeded: yield* callback(options.onSucceeded),
        failed: yield* callback(options.onFirstFailure)
      }
    })
  })
  return {
    name,
    enqueue: (members, nestedIn = {}) => create(members, true, nestedIn),
    open: (nestedIn = {}) => Effect.map(create([], false, nestedIn), ({ id }) => id)
  }
}

/**
 * Adds members to the batch or flow of the running job, open or sealed: it cannot have finished before that job has.
 *
 * **Details**
 *
 * Nobody waits for them, as `Job.fanOut` does, but the batch. They are stored at once: should the attempt fail after
 * that, the next one adds them again. An attempt whose job was taken away adds nothing and fails with `BatchClosed`.
 *
 * @category constructors
 */
export const add = <R = never>(
  members: Iterable<Prepared<R>>
): Effect.Effect<ReadonlyArray<EnqueueResult>, BatchError | Refusal, Batches | CurrentJob | R> =>
  Effect.gen(function* () {
    const batches = yield* Batches
    const job = yield* CurrentJob
    return yield* batches.add(yield* Effect.forEach(members, (member) => member), job)
  })

/**
 * How the batch stood as it inserted the running callback; undefined in any other job.
 *
 * @category accessors
 */
export const summary: Effect.Effect<BatchSummary | undefined, never, CurrentJob> = Effect.map(
  CurrentJob,
  ({ meta }) => meta["batch"] as BatchSummary | undefined // put there by the batch
)

// internal

/** A callback is stored with its batch: it waits for nothing, and is like no other job. */
const callback = <R>(prepared: Prepared<R> | undefined): Effect.Effect<NewJob | undefined, Refusal, R> =>
  prepared === undefined
    ? Effect.undefined
    : Effect.flatMap(prepared, (job) =>
        typeof job.onExpire === "object"
          ? Effect.fail(
              new InvalidDeadline({
                field: "onExpire",
                value: job.onExpire.run.worker,
                message: `The callback "${job.worker}" cannot have a job that runs in its place: give it onExpire "discard" or "cancel".`
              })
            )
          : Effect.succeed({ ...job, unique: undefined, dependsOn: undefined, batch: undefined })
      )
