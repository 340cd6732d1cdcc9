/**
 * What Effect's circuit breakers keep for a key, as arithmetic: what is stored, what happens and an instant in; an answer
 * and what is to be stored out.
 *
 * The rules are those of Effect's Redis store, so that a breaker does the same on both: one probe at a time, which holds
 * a lease; generations fence what was admitted before a change.
 */
import type { Admission, State, Transition, TripPolicy } from "effect/persistence/CircuitBreaker"
import * as Duration from "effect/Duration"

/** A circuit; instants and durations in milliseconds. */
export interface Breaker {
  readonly state: "Closed" | "Open" | "HalfOpen"
  readonly generation: number
  /** How many calls failed one after the other, as the last ones. */
  readonly streak: number
  /** The last calls, oldest first: `1` failed, `0` did not. */
  readonly ring: string
  readonly openUntil: number
  readonly openings: number
  readonly lastOpenFor: number
  readonly resetAt: number
  /** Until when the probe holds its place. */
  readonly leaseUntil: number
  /** From when on it is forgotten. */
  readonly idleAt: number
}

/** How long the probe's lease and an idle circuit last. */
export interface Spans {
  readonly leaseMillis: number
  readonly idleMillis: number
}

/** An answer, and what is to be stored where that is something else. */
export interface Step<A> {
  readonly answer: A
  readonly next?: { readonly value: Breaker; readonly idleAt: number } | undefined
}

/** What became of a call that asks to be admitted. */
export type Admitted =
  | { readonly _tag: "Admitted"; readonly admission: Admission }
  | { readonly _tag: "Open"; readonly retryMillis: number }
  | { readonly _tag: "HalfOpen" }

/** Admits a call, or says why not. */
export const admit = (stored: Breaker | undefined, key: string, spans: Spans, now: number): Step<Admitted> => {
  const breaker = living(stored, now)
  const { idleMillis, leaseMillis } = spans
  if (breaker === undefined) {
    const made = { ...unused, generation: generationAfter(0, now), idleAt: now + idleMillis }
    return { answer: admitted(made, undefined), next: keep(made) }
  }
  if (breaker.state === "Closed") {
    const isReset = breaker.openings > 0 && now >= breaker.resetAt
    const used = { ...breaker, openings: isReset ? 0 : breaker.openings, idleAt: now + idleMillis }
    // One that is used all the time need not say so each time.
    const isFresh = !isReset && used.idleAt - breaker.idleAt < idleMillis / 100
    return { answer: admitted(used, undefined), next: isFresh ? undefined : keep(used) }
  }
  if (breaker.state === "Open" && now < breaker.openUntil) {
    return { answer: { _tag: "Open", retryMillis: breaker.openUntil - now } }
  }
  if (breaker.state === "HalfOpen" && breaker.leaseUntil > now) return { answer: { _tag: "HalfOpen" } }
  const probing: Breaker = {
    ...breaker,
    state: "HalfOpen",
    generation: generationAfter(breaker.generation, now),
    leaseUntil: now + leaseMillis,
    idleAt: now + leaseMillis + idleMillis
  }
  const transition: Transition | undefined =
    breaker.state === "Open" ? { key, from: "Open", to: "HalfOpen" } : undefined
  return { answer: admitted(probing, transition), next: keep(probing) }
}

/** Takes note of an outcome; one of an older generation changes nothing. */
export const record = (
  stored: Breaker | undefined,
  told: {
    readonly key: string
    readonly generation: number
    readonly outcome: "Success" | "Failure" | "Ignored"
    readonly tripPolicy: TripPolicy
    readonly openForMillis: number
  },
  { idleMillis }: Spans,
  now: number
): Step<Transition | undefined> => {
  const { key, openForMillis, outcome, tripPolicy } = told
  const breaker = living(stored, now)
  if (breaker === undefined || breaker.generation !== told.generation) return { answer: undefined }
  const generation = generationAfter(breaker.generation, now)
  const idleAt = now + idleMillis
  const open = (from: "Closed" | "HalfOpen"): Step<Transition> => {
    const openings = breaker.openings + 1
    return {
      answer: {
        key,
        from,
        to: "Open",
        retryAfter: Duration.millis(openForMillis),
        consecutiveOpenings: openings
      },
      next: keep({
        ...unused,
        state: "Open",
        generation,
        openings,
        openUntil: now + openForMillis,
        lastOpenFor: openForMillis,
        idleAt: idleAt + openForMillis
      })
    }
  }
  if (breaker.state === "HalfOpen") {
    switch (outcome) {
      case "Ignored":
        // A new generation fences a renewal of the lease that is on its way, so that the place stays free.
        return { answer: undefined, next: keep({ ...breaker, generation, leaseUntil: 0, idleAt }) }
      case "Failure":
        return open("HalfOpen")
      case "Success":
        return {
          answer: { key, from: "HalfOpen", to: "Closed" },
          next: keep({
            ...unused,
            generation,
            openings: breaker.openings,
            lastOpenFor: breaker.lastOpenFor,
            resetAt: now + breaker.lastOpenFor,
            idleAt
          })
        }
    }
  }
  if (breaker.state === "Open") return { answer: undefined }
  if (outcome === "Ignored") return { answer: undefined, next: keep({ ...breaker, idleAt }) }
  const failed = outcome === "Failure"
  const streak = failed ? breaker.streak + 1 : 0
  const ring =
    tripPolicy._tag === "Rate" ? `${breaker.ring}${failed ? "1" : "0"}`.slice(-tripPolicy.size) : breaker.ring
  return trips(tripPolicy, streak, ring)
    ? open("Closed")
    : { answer: undefined, next: keep({ ...breaker, streak, ring, idleAt }) }
}

/** Prolongs the lease of a probe; false where it is not the probe any more. */
export const renew = (
  stored: Breaker | undefined,
  generation: number,
  { idleMillis, leaseMillis }: Spans,
  now: number
): Step<boolean> =>
  stored?.state !== "HalfOpen" || stored.generation !== generation
    ? { answer: false }
    : {
        answer: true,
        next: keep({ ...stored, leaseUntil: now + leaseMillis, idleAt: now + leaseMillis + idleMillis })
      }

/** Tells the state as it is stored. */
export const stateOf = (stored: Breaker | undefined, key: string, now: number): State => {
  const breaker = living(stored, now)
  switch (breaker?.state) {
    case "Open":
      return {
        _tag: "Open",
        key,
        retryAfter: Duration.millis(Math.max(0, breaker.openUntil - now)),
        consecutiveOpenings: breaker.openings
      }
    case "HalfOpen":
      return { _tag: "HalfOpen", key, probing: breaker.leaseUntil > now, consecutiveOpenings: breaker.openings }
    default:
      return { _tag: "Closed", key }
  }
}

// internal

const unused: Breaker = {
  state: "Closed",
  generation: 0,
  streak: 0,
  ring: "",
  openUntil: 0,
  openings: 0,
  lastOpenFor: 0,
  resetAt: 0,
  leaseUntil: 0,
  idleAt: 0
}

const keep = (value: Breaker): { readonly value: Breaker; readonly idleAt: number } => ({ value, idleAt: value.idleAt })

const living = (stored: Breaker | undefined, now: number): Breaker | undefined =>
  stored === undefined || stored.idleAt <= now ? undefined : stored

/** Above all that were given out for a key before it was forgotten. */
const generationAfter = (generation: number, now: number): number => Math.max(generation + 1, now * 1000)

const admitted = (breaker: Breaker, transition: Transition | undefined): Admitted => ({
  _tag: "Admitted",
  admission: {
    generation: breaker.generation,
    probe: breaker.state === "HalfOpen",
    consecutiveOpenings: breaker.openings,
    transition
  }
})

const trips = (policy: TripPolicy, streak: number, ring: string): boolean => {
  if (policy._tag === "Consecutive") return streak >= policy.failures
  const failures = ring.replaceAll("0", "").length
  return ring.length >= policy.minimumCalls && failures > 0 && failures / ring.length >= policy.threshold
}
