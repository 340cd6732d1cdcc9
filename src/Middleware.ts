/**
 * What wraps attempts: code that runs around handlers, for every worker of a node or for one.
 *
 * A middleware runs after the args have been decoded and before the result is encoded, so whatever it answers in the
 * handler's place is checked like a handler's own answer. Where there is none, an attempt costs what it cost before.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { ParentSpan } from "effect/Tracer"
import { type Attempt, CurrentJob } from "./CurrentJob.ts"
import { logAttempt, measureAttempt } from "./internal/builtin.ts"
import { traceAttempt } from "./internal/tracing.ts"

/**
 * Wraps attempts: runs `next`, which is the rest of the chain and at last the handler, or answers in its place.
 *
 * **Details**
 *
 * It may run `next` never, once or more often, and read or change how that ends. Its own success is the attempt's
 * result, its failure the attempt's failure, and `Job.snooze`, `Job.discard` and `Job.cancel` mean what they mean in a
 * handler. It is part of the attempt: the timeout, a cancel and a shutdown interrupt it as well.
 *
 * One that leaves `A` and `E` open fits every worker.
 *
 * @category models
 */
export type Middleware<A, E, R = never> = (job: Attempt, next: Effect.Effect<A, E>) => Effect.Effect<A, E, R>

/**
 * A middleware of whatever kind.
 *
 * @category models
 */
export type Any = (job: Attempt, next: never) => Effect.Effect<unknown, unknown, unknown>

/**
 * What middlewares need.
 *
 * @category models
 */
export type Services<M extends Any> = Exclude<Effect.Services<ReturnType<M>>, CurrentJob | Scope.Scope>

/**
 * The middlewares of all workers whose layers are built over this, outermost first.
 *
 * @category references
 */
export const Global: Context.Reference<ReadonlyArray<Middleware<unknown, unknown>>> = Context.Reference<
  ReadonlyArray<Middleware<unknown, unknown>>
>("effect-shigoto/Middleware/Global", { defaultValue: () => [] })

/**
 * Wraps the attempts of every worker whose layer is built over this one, the first middleware outermost.
 *
 * **Details**
 *
 * Over another layer of this kind, its middlewares run inside of those. They run outside of a worker's own. What they
 * need, the layer needs; a `Scope` lives for one attempt, and `CurrentJob` is there.
 *
 * **Gotchas**
 *
 * A success in the handler's place has to fit the job's schema, or the job is discarded with a `ResultEncodeError`.
 *
 * @category layers
 */
export const layer = <const All extends ReadonlyArray<Middleware<unknown, unknown, unknown>>>(
  ...middlewares: All
): Layer.Layer<never, never, Services<All[number]>> =>
  Layer.effectContext(
    Effect.contextWith((built: Context.Context<Services<All[number]>>) =>
      Effect.sync(() => {
        // Those of the attempt count, not those of the moment when the layer was built.
        const own = Context.omit(Scope.Scope, CurrentJob, ParentSpan)(built as Context.Context<never>) // what was built for them
        const bound = middlewares.map((middleware) => bind(middleware as Middleware<unknown, unknown>, own)) // types erased
        return Context.make(Global, [...Context.get(built, Global), ...bound])
      })
    )
  )

/**
 * Logs the start (debug) and the end of each attempt with how long it took; a failure as a warning, by its tag alone.
 *
 * @category middlewares
 */
export const logging: <A, E>(job: Attempt, next: Effect.Effect<A, E>) => Effect.Effect<A, E> = logAttempt

/**
 * Measures handlers as `shigoto_handler_seconds`, by worker and by how they ended, whatever `ShigotoConfig.metrics` says.
 *
 * @category middlewares
 */
export const metrics: <A, E>(job: Attempt, next: Effect.Effect<A, E>) => Effect.Effect<A, E> = measureAttempt

/**
 * Runs attempts in a span by the OpenTelemetry conventions for messaging, linked to the enqueuing one or its child.
 *
 * **Details**
 *
 * Nodes put it around every worker themselves where a tracer was there as its layer was built. It is for workers whose
 * tracer comes later, from a middleware outside of this one.
 *
 * @category middlewares
 */
export const tracing: (
  how?: "link" | "child"
) => <A, E>(job: Attempt, next: Effect.Effect<A, E>) => Effect.Effect<A, E> = (how = "link") => traceAttempt(how)

/**
 * The whole of a chain as one effect: the first middleware outermost, `run` at its end.
 *
 * @category combinators
 */
export const chain = <A, E>(
  middlewares: ReadonlyArray<Middleware<A, E>>,
  job: Attempt,
  run: Effect.Effect<A, E>
): Effect.Effect<A, E> =>
  middlewares.reduceRight((next, middleware) => Effect.suspend(() => middleware(job, next)), run)

// internal

/** Gives a middleware its services, and what it wraps the services that were there before. */
const bind =
  (middleware: Middleware<unknown, unknown>, own: Context.Context<never>): Middleware<unknown, unknown> =>
  (job, next) =>
    Effect.contextWith((outer: Context.Context<never>) =>
      Effect.provideContext(
        middleware(
          job,
          Effect.updateContext(next, (inner: Context.Context<never>) => without(inner, own, outer))
        ),
        own
      )
    )

/** A context with the services of `own` as they were in `outer`, save those that the middleware has replaced itself. */
const without = (
  inner: Context.Context<never>,
  own: Context.Context<never>,
  outer: Context.Context<never>
): Context.Context<never> => {
  const services = new Map(inner.mapUnsafe)
  for (const [key, service] of own.mapUnsafe) {
    if (services.get(key) !== service) continue
    if (outer.mapUnsafe.has(key)) services.set(key, outer.mapUnsafe.get(key))
    else services.delete(key)
  }
  return Context.makeUnsafe(services)
}
