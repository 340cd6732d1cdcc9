/**
 * The rule of a circuit that all nodes share, as arithmetic: a state, what happened and an instant in; a new state out.
 *
 * The same rule as a circuit of one node, on a value that can be stored. Probes that run are not part of it: they are
 * counted from live rows, so that the place of a dead prober is free as soon as its job is rescued.
 */
import type { Rule } from "../CircuitBreaker.ts"

/** A shared circuit. */
export interface SharedCircuit {
  readonly phase: "closed" | "open" | "half-open"
  /** Rises with each change of phase; what was let through under another says nothing of this one. */
  readonly generation: number
  /** When the phase began, in milliseconds. */
  readonly since: number
  /** The last calls while closed, oldest first: `s` for a success, `l` for a slow one, `f` failed, `x` failed slowly. */
  readonly calls: string
  /** How many probes have succeeded. */
  readonly passed: number
}

/** What an attempt told of what the worker depends on. */
export interface Call {
  /** Of the circuit that let it through. */
  readonly generation: number
  readonly failed: boolean
  readonly slow: boolean
}

/** A circuit that nothing is known of. */
export const unknownCircuit: SharedCircuit = { phase: "closed", generation: 0, since: 0, calls: "", passed: 0 }

/** Reads what is stored. */
export const sharedCircuit = (value: unknown): SharedCircuit => (value as SharedCircuit | undefined) ?? unknownCircuit // written here alone

/**
 * The circuit as of an instant: one that has been open for long enough is half-open. So is one that opened in the future:
 * the server's clock was set back, and nobody knows how long it has been open.
 */
export const asOf = (rule: Rule, circuit: SharedCircuit, now: number): SharedCircuit =>
  circuit.phase === "open" && (now >= circuit.since + rule.openMillis || now < circuit.since)
    ? become(circuit, "half-open", now)
    : circuit

/** How many attempts may start, with so many running that started since it became half-open. */
export const roomOf = (rule: Rule, circuit: SharedCircuit, running: number): number =>
  circuit.phase === "closed"
    ? Infinity
    : circuit.phase === "open"
      ? 0
      : Math.max(rule.probes - circuit.passed - running, 0)

/** Takes note of a call. */
export const noteCall = (rule: Rule, circuit: SharedCircuit, call: Call, now: number): SharedCircuit => {
  if (call.generation !== circuit.generation || circuit.phase === "open") return circuit
  if (circuit.phase === "half-open") {
    if (call.failed || call.slow) return become(circuit, "open", now)
    const passed = circuit.passed + 1
    return passed < rule.probes ? { ...circuit, passed } : become(circuit, "closed", now)
  }
  const calls = `${circuit.calls}${call.failed ? (call.slow ? "x" : "f") : call.slow ? "l" : "s"}`.slice(-rule.window)
  const share = (marks: string): number => calls.split("").filter((mark) => marks.includes(mark)).length / calls.length
  const opens =
    calls.length >= rule.window &&
    (share("fx") >= rule.failureRate || (share("lx") > 0 && share("lx") >= rule.slowRate))
  return opens ? become(circuit, "open", now) : { ...circuit, calls }
}

/** Closes it, whatever happened. */
export const closeCircuit = (circuit: SharedCircuit, now: number): SharedCircuit => become(circuit, "closed", now)

// internal

const become = ({ generation }: SharedCircuit, phase: SharedCircuit["phase"], now: number): SharedCircuit => ({
  phase,
  // Above that of a circuit that was forgotten meanwhile.
  generation: Math.max(generation + 1, now),
  since: now,
  calls: "",
  passed: 0
})
