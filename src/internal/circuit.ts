/** The state of one circuit. It has no clock: whoever owns it says what time it is, and when it has been open enough. */
import type { Rule } from "../CircuitBreaker.ts"
import type { Ending } from "../Outcome.ts"

/** What an attempt tells of what the worker depends on. */
export type Verdict = "succeeded" | "failed" | "ignored"

/** What lets one attempt through; what happened to the circuit since makes it void. */
export interface Permit {
  readonly generation: number
  readonly enteredAt: number
}

/** A circuit. */
export interface Circuit {
  readonly rule: Rule
  readonly state: () => "closed" | "open" | "half-open"
  /** How many more attempts may start. */
  readonly room: () => number
  /** Lets an attempt through, or not. */
  readonly enter: (now: number) => Permit | undefined
  /** Takes note of an attempt's end; says what has become of the circuit by it. */
  readonly leave: (permit: Permit, verdict: Verdict, now: number) => "opened" | "closed" | undefined
  /** Rises with each change of its state. */
  readonly generation: () => number
  /** Lets probes through, if nothing has happened to it since a generation; says whether it does. */
  readonly probe: (generation: number) => boolean
  /** Closes it, whatever happened; says whether it was not closed. */
  readonly close: () => boolean
}

/** Makes a closed circuit. */
export const makeCircuit = (rule: Rule): Circuit => {
  let state: "closed" | "open" | "half-open" = "closed"
  let generation = 0
  let probing = 0
  let passed = 0
  let calls: Array<{ readonly failed: boolean; readonly slow: boolean }> = []
  let failures = 0
  let slow = 0

  const become = (next: typeof state): void => {
    state = next
    generation++
    probing = 0
    passed = 0
    calls = []
    failures = 0
    slow = 0
  }
  const room = (): number =>
    state === "closed" ? Infinity : state === "open" ? 0 : Math.max(rule.probes - passed - probing, 0)
  const note = (call: { readonly failed: boolean; readonly slow: boolean }): boolean => {
    calls.push(call)
    if (call.failed) failures++
    if (call.slow) slow++
    if (calls.length > rule.window) {
      const oldest = calls.shift()
      if (oldest?.failed === true) failures--
      if (oldest?.slow === true) slow--
    }
    return (
      calls.length >= rule.window &&
      (failures / calls.length >= rule.failureRate || (slow > 0 && slow / calls.length >= rule.slowRate))
    )
  }
  return {
    rule,
    state: () => state,
    room,
    enter: (now) => {
      if (room() === 0) return undefined
      if (state === "half-open") probing++
      return { generation, enteredAt: now }
    },
    leave: (permit, verdict, now) => {
      if (permit.generation !== generation) return undefined
      if (state === "half-open") probing--
      if (verdict === "ignored") return undefined
      const call = { failed: verdict === "failed", slow: now - permit.enteredAt > rule.slowMillis }
      if (state === "half-open") {
        if (call.failed || call.slow) {
          become("open")
          return "opened"
        }
        if (++passed < rule.probes) return undefined
        become("closed")
        return "closed"
      }
      if (!note(call)) return undefined
      become("open")
      return "opened"
    },
    generation: () => generation,
    probe: (since) => {
      if (state !== "open" || since !== generation) return false
      become("half-open")
      return true
    },
    close: () => {
      const was = state
      become("closed")
      return was !== "closed"
    }
  }
}

/** Reads an ending: failures count unless the worker says otherwise, signals and interruptions do not. */
export const verdictOf = (ending: Ending): Verdict =>
  ending._tag === "Succeeded"
    ? "succeeded"
    : ending._tag === "Failed" && ending.counted !== false
      ? "failed"
      : "ignored"
