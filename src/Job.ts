/**
 * A job's definition: its name, the schemas of its args, success and error, and the defaults of its enqueues.
 *
 * A definition is a value. A producer needs nothing else; a worker is the same value with a handler, as a Layer. Both
 * sides share the schemas, so what a handler receives is what a producer sent, or a typed failure of that attempt.
 */
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as AdaptiveConcurrency from "./AdaptiveConcurrency.ts"
import * as CircuitBreaker from "./CircuitBreaker.ts"
import type { Attempt, CurrentJob } from "./CurrentJob.ts"
import { maxConcurrency } from "./ShigotoConfig.ts"
import {
  captureProblem,
  concurrencyProblem,
  definitionProblem,
  handlerProblem,
  strayProblem
} from "./internal/definition.ts"
import { type DeadlineOptions, expiryProblem } from "./internal/deadline.ts"
import type { Dependencies, Edges, ReadingServices, Results } from "./Dependency.ts"
import { checkDependencies, checkOptions, checkWorker, type DependsOnAll, type Refusal } from "./internal/enqueueing.ts"
import { encodeAll, makeEncoder } from "./internal/encoder.ts"
import { conclusionOf } from "./internal/settled.ts"
import type { NewJob } from "./internal/newJob.ts"
import { makeWorker, type Options } from "./internal/worker.ts"
import type { BatchId, AttemptFailure } from "./JobRow.ts"
import { type EnqueueResult, Jobs } from "./Jobs.ts"
import type { Limit, Options as RateLimitOptions } from "./Limit.ts"
import type { Any, Middleware, Services } from "./Middleware.ts"
import type { LogLimits } from "./internal/logSink.ts"
import { type AttemptError, type AwaitError, type EnqueueError } from "./ShigotoError.ts"
import type { Signal } from "./Signal.ts"
import type { UniqueOptions } from "./Unique.ts"
import { Workers } from "./Workers.ts"

export { CurrentJob, progress, remaining } from "./CurrentJob.ts"
export type { Dependencies, DependencyResult, Results } from "./Dependency.ts"
export { fanOut } from "./FanOut.ts"
export { cancel, discard, type Signal, snooze, type Waits } from "./Signal.ts"

/**
 * The runtime mark of definitions.
 *
 * @category type ids
 */
export const TypeId = "~effect-shigoto/Job"

/**
 * What may be said of one job as it is enqueued, beside its args; the definition's own values are the defaults.
 *
 * @category models
 */
export interface EnqueueOptions<Encoded = unknown, Args = unknown> extends DeadlineOptions {
  /** Which queue it waits in. Defaults to the definition's, else `default`. */
  readonly queue?: string | undefined
  /** Higher runs first; an integer from -32,768 to 32,767. Defaults to the definition's, else 0. */
  readonly priority?: number | undefined
  /** How long it waits before it may run, by the database's clock. Defaults to zero. Not together with `runAt`. */
  readonly delay?: Duration.Input | undefined
  /** When it may run; an instant in the past is now. Defaults to now. Not together with `delay`. */
  readonly runAt?: DateTime.DateTime | Date | undefined
  /** How many attempts may start, from 1 to 32,767. Defaults to the definition's, else 20. */
  readonly maxAttempts?: number | undefined
  /** At most 100 distinct names to find it by. Defaults to the definition's, else none. */
  readonly tags?: ReadonlyArray<string> | undefined
  /** A JSON object of at most 64 KiB that travels with it, unencrypted. Defaults to none. */
  readonly meta?: Readonly<Record<string, unknown>> | undefined
  /** The tenant, customer or resource that it belongs to. Defaults to what the definition makes of its args, else none. */
  readonly partitionKey?: string | undefined
  /**
   * Jobs that must have ended before it runs; at most 10,000, each once. When one of them is discarded or cancelled it
   * is cancelled too, or as `onFailure` says: `run` lets it run all the same, `hold` keeps it blocked until that job
   * has succeeded on a retry or this one is retried. In a list, or by names that its handler knows them by. Defaults to
   * none.
   */
  readonly dependsOn?: DependsOnAll | undefined
  /** The open batch that it becomes a member of. Defaults to none. */
  readonly batch?: BatchId | undefined
  /**
   * Whether it is encrypted; `true` takes a cipher, `false` a definition that says so too. Defaults to the definition's,
   * else what the cipher says.
   */
  readonly encrypted?: boolean | undefined
  /** What makes it the same as another job. Defaults to the definition's, else it is like no other. */
  readonly unique?: UniqueOptions<Encoded, Args> | undefined
}

/**
 * What may be said of a job that is waited for.
 *
 * @category models
 */
export interface ExecuteOptions<Encoded = unknown, Args = unknown> extends EnqueueOptions<Encoded, Args> {
  /** Whether the job is cancelled when nobody waits for it any more, if this call has put it in. Defaults to false. */
  readonly cancelOnInterrupt?: boolean | undefined
}

/**
 * What a definition says beside its schemas.
 *
 * @category models
 */
export interface DefinitionOptions<Encoded = unknown, Args = unknown> {
  /** Which queue its jobs wait in. Defaults to `default`. */
  readonly queue?: string | undefined
  /** Higher runs first; an integer from -32,768 to 32,767. Defaults to 0. */
  readonly priority?: number | undefined
  /** How long a job may wait to start once it is due. Defaults to for ever. */
  readonly expiresIn?: Duration.Input | undefined
  /** What becomes of a job that has waited longer. Defaults to `discard`. */
  readonly onExpire?: "discard" | "cancel" | undefined
  /** How many attempts of a job may start, from 1 to 32,767. Defaults to 20. */
  readonly maxAttempts?: number | undefined
  /** How long one attempt may take before it is interrupted; `Duration.infinity` for no limit. Defaults to 5 minutes. */
  readonly timeout?: Duration.Input | undefined
  /** At most 100 distinct names to find its jobs by. Defaults to none. */
  readonly tags?: ReadonlyArray<string> | undefined
  /** The tenant, customer or resource that a job belongs to, by its args; undefined for none. Defaults to none. */
  readonly partitionKey?: ((args: Args) => string | undefined) | undefined
  /**
   * Whether its jobs are encrypted: `true` refuses to store or run any that is not, `false` leaves them in the clear.
   * Defaults to `Cipher.Options.encryptByDefault` where there is a cipher, else false.
   */
  readonly encrypted?: boolean | undefined
  /** What makes two of its jobs the same. Defaults to nothing. */
  readonly unique?: UniqueOptions<Encoded, Args> | undefined
}

/**
 * What a worker says beside its handler.
 *
 * @category models
 */
export interface WorkerOptions<Args, Error, R, Wrap extends Any = never> {
  /**
   * How long a failed attempt waits for the next, by any schedule whose input is the error. It is replayed up to the
   * attempt, so it survives restarts; where it ends, the job is discarded. Defaults to `min(attempt^4 + jitter(1..30),
   * 1800)` seconds.
   */
  readonly retry?: Schedule.Schedule<unknown, Error | AttemptError, unknown> | undefined
  /**
   * How many attempts run at once on one node, at most what the queue allows: a number, or how it finds itself; `{}` for
   * its defaults. Defaults to what the queue allows.
   */
  readonly concurrency?: number | AdaptiveConcurrency.Options<Error> | undefined
  /**
   * Whether what the handler logs is kept with the job, and how much of it. Defaults to `ShigotoConfig.captureLogs`.
   */
  readonly captureLogs?: boolean | LogLimits | undefined
  /** How many attempts run at once on all nodes together; never more. Defaults to no limit. */
  readonly globalConcurrency?: number | undefined
  /**
   * How often attempts start on all nodes together: a rate of this worker's own, or a `Limit.make` that it shares with
   * others. Defaults to no limit.
   */
  readonly rateLimit?: Limit<Args> | RateLimitOptions<Args> | undefined
  /** What stops the worker on a node while its attempts keep failing; `{}` for the defaults. Defaults to none. */
  readonly circuitBreaker?: CircuitBreaker.Options<Error> | undefined
  /** What wraps each attempt, outermost first, inside of what `Middleware.layer` gives all workers. Defaults to none. */
  readonly middleware?: ReadonlyArray<Wrap> | undefined
  /**
   * Called at least once for each job that is discarded, after the database has accepted it, on a node that has the
   * worker; whoever discarded the job, as where its last attempt died with its node. While there is no such node it waits,
   * for as long as discarded jobs are kept and for a week at least. Once is the rule; it is called again where its
   * process dies before it has ended. A defect of its own is logged. `job.dependencies` is empty. Defaults to nothing.
   */
  readonly onDiscard?: ((discarded: Discarded<Args>) => Effect.Effect<void, never, R>) | undefined
}

/**
 * A job that has been given up.
 *
 * @category models
 */
export interface Discarded<Args> {
  /** The args; none where they no longer match the schema. */
  readonly args: Option.Option<Args>
  /** The last attempt. */
  readonly job: Attempt
  /** All failures that are kept, the last one included. */
  readonly errors: ReadonlyArray<AttemptFailure>
}

/**
 * The options of an enqueue, which name the jobs whose results the definition reads, where it reads any.
 *
 * @category models
 */
export type OptionsFor<Options, Needs extends Dependencies> = keyof Needs extends never
  ? [options?: Options]
  : [options: Omit<Options, "dependsOn"> & { readonly dependsOn: Edges<Needs> }]

/**
 * The running attempt, as a handler sees it: with the results that its definition reads, decoded.
 *
 * @category models
 */
export type AttemptFor<Needs extends Dependencies> = keyof Needs extends never
  ? Attempt
  : Omit<Attempt, "dependencies"> & { readonly dependencies: Results<Needs> }

/**
 * A handler: what it returns, what it may fail with, and what it needs.
 *
 * @category models
 */
export type Handler<
  Args extends Schema.Top,
  Success extends Schema.Top,
  Error extends Schema.Top,
  R,
  Needs extends Dependencies = {}
> = (args: Args["Type"], job: AttemptFor<Needs>) => Effect.Effect<Success["Type"], Error["Type"] | Signal, R>

/**
 * The definition of a job.
 *
 * @category models
 */
export interface Job<
  Name extends string,
  Args extends Schema.Top,
  Success extends Schema.Top = Schema.Void,
  Error extends Schema.Top = Schema.Never,
  Needs extends Dependencies = {}
> {
  readonly [TypeId]: typeof TypeId
  readonly name: Name
  readonly args: Args
  readonly success: Success
  readonly error: Error
  /** The jobs whose results its handler reads, by name. */
  readonly dependencies: Needs
  readonly options: DefinitionOptions
  /**
   * Puts one job into the database, as part of the caller's transaction if there is one.
   *
   * Takes what the schema's constructor takes, so fields with defaults may be left out.
   */
  readonly enqueue: (
    args: Args["~type.make.in"],
    ...options: OptionsFor<EnqueueOptions<Args["Encoded"], Args["Type"]>, Needs>
  ) => Effect.Effect<EnqueueResult, EnqueueError, Jobs | Args["EncodingServices"]>
  /**
   * Puts any number of jobs into the database, all or none, and returns them in the order given.
   *
   * Options hold for all, or are computed for each. An error names the position of the job that it is about.
   */
  readonly enqueueAll: (
    args: Iterable<Args["~type.make.in"]>,
    ...options: ManyOptions<Args, Needs, OptionsFor<EnqueueOptions<Args["Encoded"], Args["Type"]>, Needs>>
  ) => Effect.Effect<ReadonlyArray<EnqueueResult>, EnqueueError, Jobs | Args["EncodingServices"]>
  /**
   * Puts one job into the database and waits for what its handler returns or last fails with, on whichever node it runs.
   *
   * A job that is given up for any other reason fails with `JobDiscarded`, and one that is cancelled with
   * `JobCancelled`. Who stops waiting, also by a timeout, leaves the job as it is, unless `cancelOnInterrupt` is set.
   * A unique job that is there already is waited for. Refused inside of a transaction.
   */
  readonly execute: (
    args: Args["~type.make.in"],
    ...options: OptionsFor<ExecuteOptions<Args["Encoded"], Args["Type"]>, Needs>
  ) => Effect.Effect<
    Success["Type"],
    Error["Type"] | AwaitError | EnqueueError,
    Jobs | Args["EncodingServices"] | Success["DecodingServices"] | Error["DecodingServices"]
  >
  /**
   * Checks and encodes one job without storing it, for what stores jobs with others or later.
   *
   * A unique job is unique as the member of a batch, and like no other as anything else.
   */
  readonly prepare: (
    args: Args["~type.make.in"],
    ...options: OptionsFor<EnqueueOptions, Needs>
  ) => Effect.Effect<NewJob, Refusal, Jobs | Args["EncodingServices"]>
  /**
   * Makes the worker: a layer that runs the job's attempts on this node with the handler.
   *
   * What the handler needs, the layer needs; a `Scope` lives for one attempt. As the layer closes, running attempts
   * get the node's `shutdownGrace` to end.
   */
  readonly toLayer: <R, R2 = never, Wrap extends Middleware<Success["Type"], Error["Type"] | Signal, unknown> = never>(
    handler: Handler<Args, Success, Error, R, Needs>,
    // The second half of the union types the parameters of a function that is written in place.
    options?: WorkerOptions<
      Args["Type"],
      Error["Type"],
      R2,
      Wrap | Middleware<Success["Type"], Error["Type"] | Signal, unknown>
    >
  ) => Layer.Layer<
    never,
    never,
    | Workers
    | Exclude<R, CurrentJob | Scope.Scope>
    | R2
    | Services<Wrap>
    | Args["DecodingServices"]
    | Success["EncodingServices"]
    | Error["EncodingServices"]
    | ReadingServices<Needs>
  >
}

/**
 * The schema of args that are given as a schema or as the fields of a struct.
 *
 * @category models
 */
export type SchemaOf<Args> = Args extends Schema.Top
  ? Args
  : Args extends Schema.Struct.Fields
    ? Schema.Struct<Args>
    : never

/**
 * Defines a job; throws where its name or a default of its enqueues cannot be used.
 *
 * **Details**
 *
 * `args`, `success` and `error` are schemas; `args` may also be the fields of a struct. Without `args` a job takes
 * `{}`, without `success` it returns nothing, without `error` its handler may fail only by a defect or by
 * `Job.discard`, `Job.cancel` and `Job.snooze`.
 *
 * `dependencies` names the definitions whose results the handler reads as `job.dependencies`: `{ charge: Charge }` for
 * one job's result, `{ pages: [Page] }` for any number, `{ charge: { job: Charge, onFailure: "run" } }` for how it
 * ended, also where it failed. Its jobs are enqueued with the ids by the same names as `dependsOn`.
 *
 * @category constructors
 */
export const make = <
  const Name extends string,
  Args extends Schema.Struct.Fields | Schema.Top = {},
  Success extends Schema.Top = Schema.Void,
  Error extends Schema.Top = Schema.Never,
  const Needs extends Dependencies = {}
>(
  name: Name,
  definition: DefinitionOptions<SchemaOf<Args>["Encoded"], SchemaOf<Args>["Type"]> & {
    readonly args?: Args
    readonly success?: Success
    readonly error?: Error
    readonly dependencies?: Needs
  } = {}
): Job<Name, SchemaOf<Args>, Success, Error, Needs> => {
  const { args: argsOrFields, dependencies: needs = {}, error, success, ...options } = definition
  const problem =
    checkWorker(name) ??
    strayProblem(`The definition of "${name}"`, definition, definitionOptionNames) ??
    checkOptions({ ...options, partitionKey: undefined }) ??
    checkDependencies(name, needs) ??
    expiryProblem(options) ??
    definitionProblem(options)
  if (problem !== undefined) throw problem
  const fields = argsOrFields as Schema.Struct.Fields | undefined // where it is no schema
  const args = Schema.isSchema(argsOrFields) ? argsOrFields : Schema.Struct(fields ?? {})
  return makeErased(name, args, success ?? Schema.Void, error ?? Schema.Never, needs, options) as never // below, schemas are just schemas
}

// internal

const definitionOptionNames: Readonly<
  Record<keyof DefinitionOptions | "args" | "success" | "error" | "dependencies", true>
> = {
  args: true,
  success: true,
  error: true,
  dependencies: true,
  queue: true,
  priority: true,
  expiresIn: true,
  onExpire: true,
  maxAttempts: true,
  timeout: true,
  tags: true,
  partitionKey: true,
  encrypted: true,
  unique: true
}

const workerOptionNames: Readonly<Record<keyof WorkerOptions<never, never, never>, true>> = {
  retry: true,
  concurrency: true,
  captureLogs: true,
  globalConcurrency: true,
  rateLimit: true,
  circuitBreaker: true,
  middleware: true,
  onDiscard: true
}

/** The same options for many jobs, or those of each. */
type ManyOptions<
  Args extends Schema.Top,
  Needs extends Dependencies,
  One extends ReadonlyArray<unknown>
> = keyof Needs extends never
  ? [options?: One[0] | ((args: Args["~type.make.in"], index: number) => NonNullable<One[0]>)]
  : [options: One[0] | ((args: Args["~type.make.in"], index: number) => One[0])]

/** One job in, one result out. */
const firstOf = ([result]: ReadonlyArray<EnqueueResult>): EnqueueResult => result as EnqueueResult // of the one job

const makeErased = (
  name: string,
  args: Schema.Top,
  success: Schema.Top,
  error: Schema.Top,
  dependencies: Dependencies,
  options: DefinitionOptions
): Job<string, Schema.Top, Schema.Top, Schema.Top> => {
  const encode = makeEncoder(name, args, dependencies, options)
  return {
    [TypeId]: TypeId,
    name,
    args,
    success,
    error,
    dependencies,
    options,
    // What it waits for may be known only to what stores it.
    prepare: (input: unknown, given?: EnqueueOptions) =>
      Effect.flatMap(Jobs, (jobs) => encode(jobs, given, false)(input, {})),
    enqueue: (input: unknown, given?: EnqueueOptions) =>
      Effect.flatMap(Jobs, (jobs) =>
        Effect.flatMap(encode(jobs, given)(input, {}), (job) => Effect.map(jobs.insert([job]), firstOf))
      ),
    enqueueAll: Effect.fnUntraced(function* (
      inputs: Iterable<unknown>,
      given?: EnqueueOptions | ((args: unknown, index: number) => EnqueueOptions)
    ) {
      const jobs = yield* Jobs
      const alike = encode(jobs, typeof given === "function" ? {} : given)
      const prepared = yield* encodeAll(inputs, (input, index) =>
        (typeof given === "function" ? encode(jobs, given(input, index)) : alike)(input, { index })
      )
      return yield* jobs.insert(prepared)
    }),
    execute: Effect.fnUntraced(function* (
      input: unknown,
      { cancelOnInterrupt = false, ...given }: ExecuteOptions = {}
    ) {
      const jobs = yield* Jobs
      const prepared = yield* encode(jobs, given)(input, {})
      // Args and failures may quote what is encrypted: the span covers the wait, and they are no part of it.
      const settled = yield* Effect.withSpan(jobs.execute(prepared, cancelOnInterrupt), `${name}.execute`)
      return yield* conclusionOf({ name, success, error, options }, settled) as Effect.Effect<unknown, AwaitError> // as above
    }),
    toLayer: (handler, workerOptions = {}) => {
      const { circuitBreaker } = workerOptions
      const circuit = circuitBreaker === undefined ? undefined : CircuitBreaker.check(circuitBreaker)
      const { concurrency } = workerOptions
      const isFixed = typeof concurrency !== "object" || concurrency === null
      const adapts = isFixed ? undefined : AdaptiveConcurrency.check("concurrency", concurrency, maxConcurrency)
      const problem =
        strayProblem(`The worker of "${name}"`, workerOptions, workerOptionNames) ??
        handlerProblem(name, handler, workerOptions.retry) ??
        (adapts !== undefined && Result.isFailure(adapts) ? adapts.failure : undefined) ??
        (circuit !== undefined && Result.isFailure(circuit) ? circuit.failure : undefined) ??
        (isFixed ? concurrencyProblem(name, "concurrency", concurrency) : undefined) ??
        concurrencyProblem(name, "globalConcurrency", workerOptions.globalConcurrency) ??
        captureProblem(name, workerOptions.captureLogs)
      const rule = circuit !== undefined && Result.isSuccess(circuit) ? circuit.success : undefined
      const adaptive = adapts !== undefined && Result.isSuccess(adapts) ? adapts.success : undefined
      return Layer.effectDiscard(
        Effect.gen(function* () {
          if (problem !== undefined) return yield* Effect.die(problem)
          const workers = yield* Workers
          type Erased = [(args: never, job: Attempt) => Effect.Effect<unknown, unknown>, Options]
          const erased = [handler, workerOptions] as unknown as Erased // what it needs is in the layer's public type
          yield* workers.register(
            yield* makeWorker({ name, args, success, error, dependencies, options }, ...erased, rule, adaptive)
          )
        })
      )
    }
  }
}
