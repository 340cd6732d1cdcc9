/**
 * How a concurrency adapts, as arithmetic: what it is and how an attempt ended in, what it is to be out.
 *
 * An attempt that began before the last fall says nothing of what it led to, so attempts that fail together make it
 * fall once. How long attempts usually take is the best average of late, let go of by a thousandth with each average. A
 * fall goes below where attempts began to wait for each other, so that the best is met again, and a service that stays
 * overloaded does not become what is usual.
 */
import type { Rule } from "../AdaptiveConcurrency.ts"
import type { Ending } from "../Outcome.ts"

/** A concurrency, with what it was learned from. */
export interface Adaptive {
  /** Its floor is how many attempts may run. */
  readonly limit: number
  readonly fellAt: number
  /** How many attempts the average under way is of, and how long they took together, in milliseconds. */
  readonly count: number
  readonly total: number
  /** How long attempts usually take; Infinity while that is not known. */
  readonly usual: number
}

/** An attempt that ended; instants in milliseconds. */
export interface Sample {
  readonly startedAt: number
  readonly endedAt: number
  /** How many ran as it started or as it ended, itself included. */
  readonly running: number
  readonly end: "succeeded" | "failed" | "timed out" | "ignored"
}

/** Where a rule begins. */
export const startOf = (rule: Rule): Adaptive => ({
  limit: rule.initial,
  fellAt: -Infinity,
  count: 0,
  total: 0,
  usual: Infinity
})

/** Takes note of an attempt's end. */
export const adapt = (rule: Rule, state: Adaptive, sample: Sample): Adaptive => {
  if (sample.end === "ignored") return state
  const millis = sample.endedAt - sample.startedAt
  if (rule.algorithm === "aimd") {
    return sample.end === "succeeded" && millis <= rule.slowMillis
      ? rise(rule, state, sample)
      : fall(rule, state, sample, rule.backoff)
  }
  if (sample.end === "timed out") return fall(rule, state, sample, rule.backoff)
  if (sample.end === "failed") return state
  if (sample.startedAt < state.fellAt) return state
  const count = state.count + 1
  const total = state.total + millis
  if (count < Math.max(rule.window, state.limit)) return rise(rule, { ...state, count, total }, sample)
  const average = total / count
  const next = { ...state, count: 0, total: 0, usual: Math.min(average, state.usual * 1.001) }
  return average <= next.usual * rule.tolerance
    ? rise(rule, next, sample)
    : fall(rule, next, sample, Math.max(next.usual / average, 0.5) * rule.backoff)
}

/** Reads an ending: failures count unless the worker says otherwise, signals and interruptions do not. */
export const endOf = (ending: Ending): Sample["end"] =>
  ending._tag === "Succeeded"
    ? "succeeded"
    : ending._tag !== "Failed" || ending.strains === false
      ? "ignored"
      : ending.failure.tag === "AttemptTimeout"
        ? "timed out"
        : "failed"

// internal

const rise = ({ max }: Rule, state: Adaptive, { running }: Sample): Adaptive =>
  running * 2 < Math.floor(state.limit) ? state : { ...state, limit: Math.min(max, state.limit + 1 / state.limit) }

const fall = ({ min }: Rule, state: Adaptive, { endedAt, startedAt }: Sample, ratio: number): Adaptive =>
  startedAt < state.fellAt ? state : { ...state, limit: Math.max(min, state.limit * ratio), fellAt: endedAt }
