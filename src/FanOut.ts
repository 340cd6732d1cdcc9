/**
 * A handler that adds jobs and waits for them: its job gives up its slot, and runs again with their results.
 *
 * The children are inserted in the transaction that ends the attempt, under its fence: whoever dies before has added
 * none, whoever dies after has added all, each once.
 */
import * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import { CurrentJob } from "./CurrentJob.ts"
import { type ByPolicy, named, readOne } from "./Dependency.ts"
import { maxDependencies, type Options, type Refusal } from "./internal/enqueueing.ts"
import { nameProblem, shown } from "./internal/names.ts"
import { type NewJob, type OnFailure, onFailures } from "./internal/newJob.ts"
import type { Readable } from "./internal/settled.ts"
import { traceOf } from "./internal/tracing.ts"
import { Jobs } from "./Jobs.ts"
import { defaults, ShigotoConfig } from "./ShigotoConfig.ts"
import { type DependencyError, FanOutError } from "./ShigotoError.ts"
import { Fork } from "./Signal.ts"

/**
 * The definition of the children: one that reads no results itself.
 *
 * @category models
 */
export interface Child<Args extends Schema.Top, Success extends Schema.Top, Error extends Schema.Top> extends Readable<
  Success,
  Error
> {
  readonly args: Args
  /** Checks and encodes a child without storing it. */
  readonly prepare: (
    args: Args["~type.make.in"],
    options?: ChildOptions
  ) => Effect.Effect<NewJob, Refusal, Jobs | Args["EncodingServices"]>
}

/**
 * What may be said of all children: as of an enqueue.
 *
 * @category models
 */
export type ChildOptions = Omit<Options, "dependsOn" | "batch">

/**
 * What may be said of a fan-out.
 *
 * @category models
 */
export interface FanOutOptions<Policy extends OnFailure> extends ChildOptions {
  /**
   * What happens to the waiting job when a child is discarded or cancelled: `cancel` cancels it too, `hold` keeps it
   * waiting until that child has succeeded on a retry, `run` lets it go on and tells how each child ended. Defaults to
   * `cancel`.
   */
  readonly onFailure?: Policy | undefined
}

/**
 * What a fan-out gives: the children's results in their order, or under `run` how each of them ended.
 *
 * @category models
 */
export type FannedOut<Success, Error, Policy> = ReadonlyArray<ByPolicy<Policy, Success, Error>>

/**
 * Adds a job for each of the args and waits for them, without a slot and without spending an attempt.
 *
 * **Details**
 *
 * The first time it ends the attempt: the children are inserted, members of the job's batch or flow if it has one, and
 * once all have ended the job runs again **from its beginning**. Then this returns their results. `name` tells several
 * fan-outs of one handler apart. The args may be an Effect, which runs the first time only. No args: no wait.
 *
 * **Gotchas**
 *
 * It ends the attempt by a failure, as `Job.snooze` does: what catches every error of the handler catches it, too, and
 * then nothing is added. What stands before it in the handler runs again. Nothing may wait for the waiting job among its children, so they take
 * no `dependsOn`; nor are they unique. Cancelling the waiting job leaves its children as they are.
 *
 * @category constructors
 */
export const fanOut = <
  Args extends Schema.Top,
  Success extends Schema.Top,
  Error extends Schema.Top,
  E = never,
  R = never,
  const Policy extends OnFailure = "cancel"
>(
  name: string,
  job: Child<Args, Success, Error>,
  children: Iterable<Args["~type.make.in"]> | Effect.Effect<Iterable<Args["~type.make.in"]>, E, R>,
  options: FanOutOptions<Policy> = {}
): Effect.Effect<
  FannedOut<Success["Type"], Error["Type"], Policy>,
  Fork | FanOutError | DependencyError | E,
  CurrentJob | Args["EncodingServices"] | Success["DecodingServices"] | Error["DecodingServices"] | R
> =>
  Effect.gen(function* () {
    const current = yield* CurrentJob
    const { onFailure = "cancel", ...given }: ChildOptions & { readonly onFailure?: OnFailure | undefined } = options
    const problem = nameProblem(name)
    if (problem !== undefined) return yield* refused(name, `${shown(name)} is no name: ${problem}`)
    if (!onFailures.includes(onFailure)) {
      return yield* refused(name, `${shown(onFailure)} is no policy: they are ${onFailures.join(", ")}`)
    }
    const found = named(current.dependencies, name).filter(({ added }) => added)
    if (found.length > 0) {
      const readable = job as unknown as Readable<Schema.Top, Schema.Top> // by its own schemas, whose types the caller knows
      const results = yield* Effect.forEach(found, (one) =>
        readOne({ worker: current.worker, name }, readable, onFailure, one)
      )
      return results as unknown as FannedOut<Success["Type"], Error["Type"], Policy> // read by what the type is made of
    }
    const inputs = [...(Effect.isEffect(children) ? yield* children : children)]
    if (inputs.length === 0) return []
    if (inputs.length > maxDependencies) {
      return yield* refused(name, `there are ${inputs.length} children, the limit is ${maxDependencies}`)
    }
    const trace = yield* traceOf
    const prepared = yield* Effect.forEach(inputs, (input, index) =>
      job.prepare(input, given).pipe(
        Effect.mapError(({ message }) => new FanOutError({ fanOut: name, index, message })),
        Effect.filterOrFail(
          ({ batch, dependsOn }) => dependsOn === undefined && batch === undefined,
          () => refused(name, "children wait for nothing, and join the batch of the job that adds them")
        ),
        Effect.map((child): NewJob => ({ ...child, unique: undefined, ...(trace !== undefined && { trace }) }))
      )
    ).pipe(withLimits)
    return yield* new Fork({ name, onFailure, children: prepared })
  })

// internal

const refused = (name: string, why: string): FanOutError =>
  new FanOutError({ fanOut: name, message: `The fan-out ${shown(name)} cannot be made: ${why}.` })

/** Encoding asks of the service for no more than the limit; a handler needs no database for that. */
const withLimits = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, Exclude<R, Jobs>> =>
  Effect.gen(function* () {
    const config = yield* Effect.serviceOption(ShigotoConfig)
    const { maxArgsBytes } = config._tag === "Some" ? config.value : defaults
    // Whether its node has a cipher, the settle knows.
    const limits: Pick<Jobs["Service"], "encrypts" | "maxArgsBytes"> = { encrypts: true, maxArgsBytes }
    return yield* Effect.provideService(effect, Jobs, limits as Jobs["Service"]) // encoding asks for no more
  })
