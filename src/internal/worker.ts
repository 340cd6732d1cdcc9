/** From a handler to a worker: decode, wrap, handle, encode, and read every way in which that may end. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as Result from "effect/Result"
import type * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import type * as AdaptiveConcurrency from "../AdaptiveConcurrency.ts"
import * as Backoff from "../Backoff.ts"
import type * as CircuitBreaker from "../CircuitBreaker.ts"
import { type Attempt, CurrentJob } from "../CurrentJob.ts"
import type { AttemptFailure } from "../JobRow.ts"
import * as Limit from "../Limit.ts"
import { chain, Global, type Middleware } from "../Middleware.ts"
import type { Ending } from "../Outcome.ts"
import { defaults, ShigotoConfig } from "../ShigotoConfig.ts"
import {
  ArgsDecodeError,
  AttemptDefect,
  AttemptTimeout,
  DecryptionError,
  DependencyError,
  FanOutError,
  FlowArgsError,
  InvalidArgs,
  InvalidSnooze,
  ResultEncodeError
} from "../ShigotoError.ts"
import { Cancel, Discard, Fork, Snooze } from "../Signal.ts"
import type { Worker } from "../Workers.ts"
import { makeCircuit } from "./circuit.ts"
import { type Dependencies, readAll } from "../Dependency.ts"
import { Encrypted } from "./envelope.ts"
import { failureOf, maxErrorBytes } from "./failure.ts"
import { describe, maxDepth, type Problem, sanitize, stringify } from "./json.ts"
import { rateClash } from "./definition.ts"
import { type LogLimits, LogSink } from "./logSink.ts"
import { shown } from "./names.ts"
import { secretFields } from "./secretFields.ts"
import { isTraced, traceAttempt } from "./tracing.ts"
import type { Governed } from "./sql/limit.ts"

/** The part of a definition that a worker needs. */
export interface Definition {
  readonly name: string
  readonly args: Schema.Top
  readonly success: Schema.Top
  readonly error: Schema.Top
  readonly dependencies: Dependencies
  readonly options: { readonly timeout?: Duration.Input | undefined; readonly encrypted?: boolean | undefined }
}

/** A worker's options with their types erased. */
export interface Options {
  readonly retry?: Schedule.Schedule<unknown, never, unknown> | undefined
  readonly concurrency?: number | AdaptiveConcurrency.Options<never> | undefined
  readonly globalConcurrency?: number | undefined
  readonly rateLimit?: Limit.Limit<never> | Limit.Options<never> | undefined
  readonly circuitBreaker?: CircuitBreaker.Options<never> | undefined
  readonly middleware?: ReadonlyArray<Middleware<unknown, unknown>> | undefined
  readonly captureLogs?: boolean | LogLimits | undefined
  readonly onDiscard?:
    | ((discarded: {
        readonly args: Option.Option<never>
        readonly job: Attempt
        readonly errors: ReadonlyArray<AttemptFailure>
      }) => Effect.Effect<void>)
    | undefined
}

/** How long an attempt may take by default: 5 minutes. */
export const defaultTimeout: Duration.Input = "5 minutes"

/** Builds the worker in the context of its layer, which the handler keeps. */
export const makeWorker = Effect.fnUntraced(function* (
  definition: Definition,
  handler: (args: never, job: Attempt) => Effect.Effect<unknown, unknown, never>,
  options: Options,
  rule?: CircuitBreaker.Rule,
  adaptive?: AdaptiveConcurrency.Rule
) {
  const context = yield* Effect.context<never>()
  const config = yield* Effect.serviceOption(ShigotoConfig)
  const maxResultBytes = Option.match(config, {
    onNone: () => defaults.maxResultBytes,
    onSome: (service) => service.maxResultBytes
  })
  const decode = Schema.decodeUnknownEffect(Schema.toCodecJson(definition.args)) as Codec // see Codec
  const encode = Schema.encodeUnknownEffect(Schema.toCodecJson(definition.success)) as Codec // see Codec
  const read = (args: unknown): Effect.Effect<unknown, Schema.SchemaError | DecryptionError> =>
    args instanceof Encrypted ? Effect.fail(args.problem) : decode(args)
  const encodeError = Schema.encodeUnknownEffect(Schema.toCodecJson(definition.error)) as Codec // see Codec
  const { name } = definition
  const middlewares = [...(yield* Global), ...(options.middleware ?? [])]
  // Middlewares see the job as the node does, its handler with what its definition reads of others.
  const handle = (args: never, job: Attempt, forHandler: Attempt) =>
    middlewares.length === 0
      ? handler(args, forHandler)
      : chain(
          middlewares,
          job,
          Effect.suspend(() => handler(args, forHandler))
        )
  const reads = Object.keys(definition.dependencies).length > 0
  const attempt = (args: never, job: Attempt): Effect.Effect<unknown, unknown> =>
    reads
      ? Effect.flatMap(
          readAll(name, definition.dependencies, job.dependencies),
          (dependencies) =>
            // Typed by the definition, as the handler is.
            handle(args, job, { ...job, dependencies: dependencies as never }) // typed by the definition, as the handler is
        )
      : handle(args, job, job)

  const encodeResult = (value: unknown): Effect.Effect<string | undefined, ResultEncodeError> =>
    value === undefined && definition.success === (Schema.Void as Schema.Top) // to compare them
      ? Effect.undefined
      : Effect.matchEffect(encode(value), {
          onFailure: (error) => resultProblem(name, error.message),
          onSuccess: (encoded) => {
            const text = stringify(encoded, maxResultBytes)
            return Result.isFailure(text)
              ? resultProblem(name, `${text.failure.reason} at ${text.failure.path}`)
              : text.success._tag === "TooLarge"
                ? resultProblem(name, `it has at least ${text.success.size} bytes, the limit is ${maxResultBytes}`)
                : Effect.succeed(text.success.text)
          }
        })
  /** What is kept of a typed error, for who waits for it; a failure that cannot be kept whole is told all the same. */
  const keptError = (error: unknown): Effect.Effect<string | undefined> =>
    definition.error === (Schema.Never as Schema.Top) || error instanceof ArgsDecodeError // to compare them
      ? Effect.undefined
      : Effect.match(Effect.provideContext(encodeError(error), context), {
          onFailure: () => undefined,
          onSuccess: (encoded) => {
            const text = stringify(encoded, maxErrorBytes)
            return Result.isSuccess(text) && text.success._tag === "Text" ? text.success.text : undefined
          }
        }).pipe(Effect.catchDefect(() => Effect.undefined))
  let isToldOfNoWait = false
  const delayFor = (attempt: Attempt, error: unknown): Effect.Effect<number | undefined> => {
    const usual = Backoff.defaultDelayMillis(attempt.id, attempt.attempt)
    if (options.retry === undefined) return Effect.succeed(usual)
    const instead = (why: string) =>
      Effect.as(
        Effect.logWarning(`The retry schedule of ${name} ${why}; job ${attempt.id} waits ${usual} ms instead`),
        usual
      )
    const { retry } = options
    return Clock.currentTimeMillis.pipe(
      Effect.flatMap(
        (now) => Backoff.fromSchedule(retry, { id: attempt.id, attempt: attempt.attempt, error: error as never, now }) // its schedule's
      ),
      Effect.timeoutOption("5 seconds"),
      Effect.matchCauseEffect({
        onFailure: (cause) => instead(`failed (${describe(Cause.squash(cause))})`),
        onSuccess: Option.match({
          onNone: () => instead("did not answer within five seconds"),
          onSome: (delay) => {
            if (delay !== undefined && !Backoff.isUsable(delay)) return instead(`gave ${delay} ms`)
            if (delay !== 0 || isToldOfNoWait) return Effect.succeed(delay)
            isToldOfNoWait = true
            return Effect.as(
              Effect.logWarning(
                `The retry schedule of ${name} does not wait: failed attempts follow each other at once. If that is not meant, look for a NaN in it, of which Effect makes zero.`
              ),
              delay
            )
          }
        })
      })
    )
  }

  const settings = Option.getOrElse(config, () => defaults)
  const capture = options.captureLogs ?? settings.captureLogs
  const sink = yield* Effect.serviceOption(LogSink)
  // What nobody asked for is not in the way.
  const around: Array<Middleware<string | undefined, unknown>> = []
  if (isTraced(context)) around.push(traceAttempt(settings.tracing))
  const kept = capture === false ? Option.none() : sink
  const undecoded = (error: Schema.SchemaError | DecryptionError) =>
    Effect.fail(
      error instanceof DecryptionError
        ? error
        : new ArgsDecodeError({
            worker: name,
            message: `The stored args no longer match the schema of "${name}": ${sanitize(error.message, 2000)}`
          })
    )
  // Merged once and not for each attempt, which would copy all of it.
  let merged = { node: Context.empty(), context }
  const logger = Option.map(kept, (sink) => sink.logger(typeof capture === "boolean" ? {} : capture))
  const joined = (node: Context.Context<never>): Context.Context<never> => {
    const both = Context.merge(node, context)
    return logger._tag === "None"
      ? both
      : Context.add(both, Logger.CurrentLoggers, new Set([...Context.get(both, Logger.CurrentLoggers), logger.value]))
  }
  const governed = governedBy(name, options, rule, (args) => Effect.provideContext(read(args), context))
  const ofQueues = [...Option.match(config, { onNone: () => [], onSome: ({ rates }) => rates })].map(
    ([queue, rate]) => ({ name: `queue ${queue}`, governed: { rate } })
  )
  const clash = rateClash({ name, governed }, ofQueues)
  if (clash !== undefined) return yield* Effect.die(clash)
  const worker: Worker = {
    name,
    concurrency: typeof options.concurrency === "number" ? options.concurrency : undefined,
    adaptive,
    governed,
    circuit: rule?.state === "local" ? makeCircuit(rule) : undefined,
    encrypted: definition.options.encrypted,
    argsSchema: () => jsonSchemaOf(definition.args),
    secretFields: () => secretFields([definition.args.ast, definition.success.ast, definition.error.ast]),
    inside: (node, job) => {
      if (node !== merged.node) merged = { node, context: joined(node) }
      return inside(merged.context, job)
    },
    timeoutMillis: Duration.toMillis(Duration.fromInputUnsafe(definition.options.timeout ?? defaultTimeout)),
    run: (args, job, quoting) => {
      // Only the handler and what wraps it can be interrupted: after their success, during finalizers, a cancel is late.
      const handled = (decoded: unknown) =>
        Effect.flatMap(Effect.interruptible(attempt(decoded as never, job)), encodeResult) // typed by the definition
      const whole = Effect.suspend(() => {
        const decoding = read(args)
        // Most schemas answer at once.
        return Exit.isExit(decoding) && Exit.isSuccess(decoding)
          ? handled(decoding.value)
          : Effect.matchEffect(Effect.interruptible(decoding), { onFailure: undecoded, onSuccess: handled })
      })
      if (quoting !== undefined && kept._tag === "Some") kept.value.quoting(job, quoting)
      return chain(around, job, Effect.scoped(whole))
    },
    ending: Effect.fnUntraced(
      function* (exit, attempt, stopped, node, quoting): Effect.fn.Return<Ending> {
        if (Exit.isSuccess(exit)) return { _tag: "Succeeded", result: exit.value }
        const at = new Date(yield* Clock.currentTimeMillis)
        const told = (error: unknown, cause?: Cause.Cause<unknown>, encoded?: string) =>
          failureOf(error, cause, { attempt: attempt.attempt, at, node, worker: name }, encoded, quoting)
        const failed = Effect.fnUntraced(function* (
          error: unknown,
          shownError: unknown,
          cause?: Cause.Cause<unknown>,
          encoded?: string
        ) {
          return {
            _tag: "Failed",
            failure: told(shownError, cause, encoded),
            delayMillis: yield* delayFor(attempt, error),
            counted: isCounted(options.circuitBreaker, error),
            strains: isCounted(typeof options.concurrency === "object" ? options.concurrency : undefined, error)
          } satisfies Ending
        })
        const { cause } = exit
        if (stopped !== undefined && (Cause.hasInterrupts(cause) || stopped === "timeout")) {
          if (stopped !== "timeout") return { _tag: "Interrupted" }
          const error = new AttemptTimeout({
            timeoutMillis: worker.timeoutMillis,
            message: `The attempt took longer than ${Duration.format(Duration.millis(worker.timeoutMillis))}.`
          })
          return yield* failed(error, error)
        }
        const error = Cause.findErrorOption(cause)
        if (Option.isNone(error)) {
          const defect = Cause.hasDies(cause) ? Cause.squash(cause) : undefined
          const message = defect === undefined ? "The handler was interrupted from inside." : describe(defect)
          const attemptDefect = new AttemptDefect({ message: sanitize(message, 1000), cause: defect })
          return yield* failed(attemptDefect, defect ?? attemptDefect, cause)
        }
        const signal = error.value
        if (signal instanceof Snooze) return yield* snoozed(signal, failed)
        if (signal instanceof Fork) {
          const { children, name, onFailure } = signal
          return { _tag: "Forked", name, onFailure, children }
        }
        if (signal instanceof Cancel) {
          return { _tag: "CancelAsked", reason: sanitize(signal.reason, 1000) }
        }
        if (signal instanceof Discard) {
          return {
            _tag: "DiscardAsked",
            failure: { ...told(signal), message: sanitize(signal.reason, 4096) }
          }
        }
        if (signal instanceof ResultEncodeError) return { _tag: "DiscardAsked", failure: told(signal) }
        return yield* failed(signal, signal, cause, yield* keptError(signal))
      },
      (ending, _exit, attempt, _stopped, node) =>
        Effect.catchDefect(ending, (defect) => unreadable(defect, attempt, node))
    ),
    isTold: options.onDiscard !== undefined,
    discarded: (args, job, errors) => {
      const { onDiscard } = options
      if (onDiscard === undefined) return Effect.void
      return Effect.option(read(args)).pipe(
        Effect.flatMap((decoded) => onDiscard({ args: decoded as Option.Option<never>, job, errors })), // typed by the definition
        Effect.catchCause((cause) => Effect.logError(`The onDiscard of ${name} failed for job ${job.id}`, cause)),
        Effect.provideContext(context)
      )
    }
  }
  return worker
})

/** Tells why args do not match their schema, with the path of the first thing that does not. */
export const argsProblem = (
  worker: string,
  issue: SchemaIssue.Issue,
  value: unknown,
  index: { readonly index?: number }
): InvalidArgs => {
  const [first] = SchemaIssue.makeFormatterStandardSchemaV1()(issue).issues
  const keys = (first?.path ?? []).map((segment) => (typeof segment === "object" ? segment.key : segment))
  const path = keys.reduce<string>(
    (text, key) => (typeof key === "number" ? `${text}[${key}]` : `${text}.${shown(String(key)).slice(1, -1)}`),
    "$"
  )
  const reason = sanitize(first?.message ?? "it does not match", 500)
  // A schema that takes any JSON says only that it is none; the walk finds out where, and why.
  const inner = reason === "Expected JSON value" ? jsonProblem(value, keys) : undefined
  return invalidArgs(worker, `${path}${inner?.path.slice(1) ?? ""}`, inner?.reason ?? reason, index)
}

/** Tells that args could not even be read. */
export const unreadableArgs = (worker: string, defect: unknown, index: { readonly index?: number }): InvalidArgs =>
  invalidArgs(
    worker,
    "$",
    defect instanceof RangeError
      ? `depth: nested too deeply to be read, the limit is ${maxDepth}`
      : `reading the value threw: ${sanitize(describe(defect), 500)}`,
    index
  )

/** What limits a worker over all nodes, undefined for nothing; throws where a limit cannot be used. */
export const governedBy = (
  worker: string,
  { globalConcurrency: concurrency, rateLimit }: Options,
  circuit?: CircuitBreaker.Rule,
  read?: (args: unknown) => Effect.Effect<unknown, unknown>
): Governed | undefined => {
  if (concurrency === undefined && rateLimit === undefined && circuit?.state !== "shared") return undefined
  const rate: Limit.Limit<never> | undefined =
    rateLimit === undefined || isMade(rateLimit) ? rateLimit : Limit.make(worker, rateLimit)
  return {
    worker,
    concurrency,
    rate,
    costOf: read === undefined || rate?.costOf === undefined ? undefined : costBy(worker, rate, rate.costOf, read),
    circuit: circuit?.state === "shared" ? circuit : undefined
  }
}

// internal

const isMade = (given: Limit.Limit<never> | Limit.Options<never>): given is Limit.Limit<never> =>
  typeof given === "object" && given !== null && "rule" in given

/**
 * What a job takes of its rate. One whose args cannot be read fails its attempt soon and takes 1; where the function
 * has no answer the most is taken, for a rate is there to be kept.
 */
const costBy =
  (
    worker: string,
    { name, rule }: Limit.Limit<never>,
    costOf: (args: never) => number,
    read: (args: unknown) => Effect.Effect<unknown, unknown>
  ): NonNullable<Governed["costOf"]> =>
  (args) =>
    Effect.suspend(() => read(args)).pipe(
      Effect.flatMap((decoded) => {
        const answer = Result.try(() => costOf(decoded as never)) // as the definition's schema has read it
        if (Result.isSuccess(answer) && Number.isFinite(answer.success) && answer.success > 0) {
          return Effect.succeed(answer.success)
        }
        const what = Result.isSuccess(answer) ? `gave ${shown(answer.success)}` : `threw ${describe(answer.failure)}`
        return Effect.as(
          Effect.logWarning(`The cost of ${worker} for its rate ${name} ${what}: ${rule.burst} is taken instead`),
          rule.burst
        )
      }),
      Effect.catchCause(() => Effect.succeed(1))
    )

/** Some schemas cannot be told as JSON Schema. */
const jsonSchemaOf = (schema: Schema.Top): unknown => {
  try {
    return Schema.toJsonSchemaDocument(Schema.toCodecJson(schema))
  } catch {
    return undefined
  }
}

/** The context of an attempt: what it logs says which one it is. */
const inside = (context: Context.Context<never>, job: CurrentJob["Service"]): Context.Context<never> => {
  const { attempt, id, queue, worker } = job
  const annotations = { ...Context.get(context, References.CurrentLogAnnotations), jobId: id, worker, queue, attempt }
  return Context.add(Context.add(context, References.CurrentLogAnnotations, annotations), CurrentJob, job)
}

const invalidArgs = (worker: string, path: string, reason: string, index: { readonly index?: number }): InvalidArgs =>
  new InvalidArgs({
    worker,
    path,
    reason,
    message: `The args of "${worker}" do not match its schema at ${path}: ${reason}`,
    ...index
  })

const jsonProblem = (value: unknown, keys: ReadonlyArray<PropertyKey>): Problem | undefined => {
  const inner = keys.reduce((at, key) => (at as Record<PropertyKey, unknown> | undefined)?.[key], value) // asked for a key
  const text = stringify(inner, Infinity)
  return Result.isFailure(text) ? text.failure : undefined
}

/** An ending so hostile that reading it threw; the attempt has failed all the same. */
const unreadable = (defect: unknown, attempt: Attempt, node: string): Effect.Effect<Ending> =>
  Effect.map(Clock.currentTimeMillis, (millis) => ({
    _tag: "Failed",
    failure: failureOf(defect, undefined, {
      attempt: attempt.attempt,
      at: new Date(millis),
      node,
      worker: attempt.worker
    }),
    delayMillis: Backoff.defaultDelayMillis(attempt.id, attempt.attempt)
  }))

/** Failures of attempts that say nothing of what the handler depends on. */
const isOurs = [ArgsDecodeError, DecryptionError, InvalidSnooze, FlowArgsError, DependencyError, FanOutError]

/** Whether a circuit breaker or a concurrency counts an error; a predicate that throws has not said no. */
const isCounted = (
  options: { readonly counts?: ((error: never) => boolean) | undefined } | undefined,
  error: unknown
): boolean => {
  if (isOurs.some((ours) => error instanceof ours)) return false
  try {
    return options?.counts?.(error as never) ?? true // typed by the definition
  } catch {
    return true
  }
}

/** A codec with its services erased: they are in the worker's context, as its layer's type demands. */
type Codec = (input: unknown) => Effect.Effect<unknown, Schema.SchemaError>

const resultProblem = (worker: string, why: string): Effect.Effect<never, ResultEncodeError> =>
  Effect.fail(
    new ResultEncodeError({ worker, message: `The result of "${worker}" cannot be stored: ${sanitize(why, 2000)}` })
  )

const snoozed = (
  signal: Snooze,
  failed: (error: unknown, shownError: unknown) => Effect.Effect<Ending>
): Effect.Effect<Ending> => {
  const parsed = Duration.fromInput(signal.duration)
  const millis = Option.isSome(parsed) ? Duration.toMillis(parsed.value) : Number.NaN
  if (millis > 0 && millis <= Backoff.maxDelayMillis) return Effect.succeed({ _tag: "Snoozed", delayMillis: millis })
  const error = new InvalidSnooze({
    value: shown(signal.duration),
    message: `A job cannot snooze for ${shown(signal.duration)}: it takes a duration above zero and up to ten years.`
  })
  return failed(error, error)
}
