/**
 * Spans by the OpenTelemetry conventions for messaging, where a tracer listens; else nothing is made.
 *
 * An enqueue is a producer's span whose W3C trace context travels in the job's row; an attempt is a consumer's span that
 * is linked to it, or its child. Handlers' own spans are children of the attempt's.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HttpTraceContext from "effect/http/HttpTraceContext"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as Tracer from "effect/Tracer"
import type { Attempt } from "../CurrentJob.ts"
import { nameOf, signalOf } from "./builtin.ts"
import type { NewJob } from "./newJob.ts"

/** Whether spans of this context go anywhere. */
export const isTraced = (context: Context.Context<never>): boolean =>
  Context.get(context, Tracer.Tracer) !== Tracer.nativeTracer && Context.get(context, References.TracerEnabled)

/** The W3C `traceparent` of the current span, where a tracer listens. */
export const traceOf: Effect.Effect<string | undefined> = Effect.contextWith((context: Context.Context<never>) =>
  isTraced(context)
    ? Effect.match(Effect.currentSpan, { onFailure: () => undefined, onSuccess: traceparent })
    : Effect.undefined
)

/** Sends jobs inside a span, with its trace context in each of them. */
export const traceEnqueue = <A, E>(
  jobs: ReadonlyArray<NewJob>,
  send: (jobs: ReadonlyArray<NewJob>) => Effect.Effect<A, E>,
  idsOf: (sent: A) => ReadonlyArray<number>
): Effect.Effect<A, E> =>
  Effect.contextWith((context: Context.Context<never>) => {
    const [first] = jobs
    if (first === undefined || !isTraced(context)) return send(jobs)
    const queue = jobs.every((job) => job.queue === first.queue) ? first.queue : undefined
    const sending = Effect.gen(function* () {
      const span = yield* Effect.orDie(Effect.currentSpan)
      const trace = traceparent(span)
      const sent = yield* send(jobs.map((job) => ({ ...job, trace })))
      const [id, ...more] = idsOf(sent)
      if (id !== undefined && more.length === 0) span.attribute("messaging.message.id", String(id))
      return sent
    })
    return Effect.withSpan(sending, `enqueue ${queue ?? "several queues"}`, {
      kind: "producer",
      attributes: {
        "messaging.system.name": "shigoto",
        "messaging.operation.name": "enqueue",
        "messaging.operation.type": "send",
        ...(queue !== undefined && { "messaging.destination.name": queue }),
        ...(jobs.length === 1 ? { "shigoto.worker": first.worker } : { "messaging.batch.message_count": jobs.length })
      }
    })
  })

/** Runs an attempt inside a span; a middleware like any other. */
export const traceAttempt =
  (how: "link" | "child") =>
  <A, E, R>(job: Attempt, next: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.flatMap(Effect.makeSpan(`process ${job.queue}`, optionsOf(job, how)), (span) =>
      Effect.onExit(Effect.withParentSpan(next, span), (exit) =>
        Effect.map(Clock.currentTimeNanos, (now) => {
          const signal = Exit.isFailure(exit) ? signalOf(exit.cause) : undefined
          if (signal !== undefined) span.attribute("shigoto.signal", signal)
          else if (Exit.isFailure(exit)) span.attribute("error.type", nameOf(exit.cause))
          // A handler that snoozes, waits or cancels has not failed.
          span.end(now, signal !== undefined ? Exit.void : job.encrypted ? withoutText(exit) : exit)
        })
      )
    )

// internal

const traceparent = (span: Tracer.Span): string =>
  `00-${span.traceId.padStart(32, "0")}-${span.spanId}-${span.sampled ? "01" : "00"}`

const optionsOf = (job: Attempt, how: "link" | "child"): Tracer.SpanOptions => {
  const origin =
    job.trace === undefined
      ? undefined
      : Option.getOrUndefined(HttpTraceContext.w3c({ traceparent: job.trace } as never)) // it reads this header alone
  return {
    kind: "consumer",
    attributes: {
      "messaging.system.name": "shigoto",
      "messaging.operation.name": "process",
      "messaging.operation.type": "process",
      "messaging.destination.name": job.queue,
      "messaging.message.id": String(job.id),
      "shigoto.worker": job.worker,
      "shigoto.attempt": job.attempt,
      "shigoto.max_attempts": job.maxAttempts
    },
    ...(origin !== undefined && how === "child"
      ? { parent: origin }
      : { root: true, links: origin === undefined ? [] : [{ span: origin, attributes: {} }] })
  }
}

/** What quotes nobody's data: what a failure is called. */
const withoutText = (exit: Exit.Exit<unknown, unknown>): Exit.Exit<unknown, unknown> => {
  if (Exit.isSuccess(exit)) return exit
  const error = new Error("(encrypted)")
  error.name = nameOf(exit.cause)
  delete error.stack
  return Exit.fail(error)
}
