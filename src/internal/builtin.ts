/** Middlewares that log and measure attempts; what they tell quotes no args, results or messages. */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Metric from "effect/Metric"
import type { Attempt } from "../CurrentJob.ts"
import { Cancel, Discard, Fork, Snooze } from "../Signal.ts"
import { failureOf } from "./failure.ts"

/** What a handler said instead of succeeding or failing, where it is no failure. */
export const signalOf = (cause: Cause.Cause<unknown>): "snooze" | "cancel" | "fork" | undefined => {
  for (const reason of cause.reasons) {
    if (reason._tag !== "Fail") continue
    const { error } = reason
    if (error instanceof Snooze) return "snooze"
    if (error instanceof Cancel) return "cancel"
    if (error instanceof Fork) return "fork"
  }
  return undefined
}

/** What a failure is called. */
export const nameOf = (cause: Cause.Cause<unknown>): string =>
  failureOf(Cause.squash(cause), undefined, { attempt: 0, at: new Date(0), node: "", worker: "" }).tag

/** Logs the start and the end of attempts. */
export const logAttempt = <A, E, R>(_job: Attempt, next: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.andThen(
    Effect.logDebug("The attempt starts"),
    timed(next, (exit, seconds) => {
      const took = Duration.format(Duration.millis(Math.round(seconds * 1000)))
      const end = endOf(exit)
      return end === "failed" && Exit.isFailure(exit)
        ? Effect.logWarning(`The attempt failed with ${nameOf(exit.cause)} after ${took}`)
        : Effect.logInfo(`The attempt ${said[end]} after ${took}`)
    })
  )

/** Measures how long handlers take, and how they end. */
export const measureAttempt = <A, E, R>(job: Attempt, next: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  timed(next, (exit, seconds) => Metric.update(handlerSeconds(job.worker, endOf(exit)), seconds))

// internal

type End = keyof typeof said

const said = {
  completed: "completed",
  failed: "failed",
  discarded: "gave its job up",
  cancelled: "called its job off",
  snoozed: "snoozed",
  blocked: "waits for other jobs",
  interrupted: "was interrupted"
}

const ends = { snooze: "snoozed", cancel: "cancelled", fork: "blocked" } as const

const endOf = (exit: Exit.Exit<unknown, unknown>): End => {
  if (Exit.isSuccess(exit)) return "completed"
  const signal = signalOf(exit.cause)
  if (signal !== undefined) return ends[signal]
  const isDiscard = exit.cause.reasons.some((reason) => reason._tag === "Fail" && reason.error instanceof Discard)
  return isDiscard ? "discarded" : Cause.hasInterruptsOnly(exit.cause) ? "interrupted" : "failed"
}

const timed = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  told: (exit: Exit.Exit<A, E>, seconds: number) => Effect.Effect<void>
): Effect.Effect<A, E, R> =>
  Effect.clockWith((clock) => {
    const started = clock.monotonicTimeNanosUnsafe()
    return Effect.onExit(effect, (exit) =>
      Effect.suspend(() => told(exit, Number(clock.monotonicTimeNanosUnsafe() - started) / 1e9))
    )
  })

const handlerSeconds = (worker: string, end: End) =>
  Metric.histogram("shigoto_handler_seconds", {
    description: "How long handlers took, with the middlewares inside of this one",
    attributes: { worker, end, unit: "seconds" },
    boundaries: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1200]
  })
