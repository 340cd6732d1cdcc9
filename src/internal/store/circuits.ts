/** The store's verbs for circuits that all nodes share. */
import type * as Effect from "effect/Effect"
import type { StorageFailure } from "../../ShigotoError.ts"
import { asOf, type Call, closeCircuit, noteCall, type SharedCircuit, sharedCircuit } from "../sharedCircuit.ts"
import { circuitCell, circuitIdleMillis, type Guarded } from "../sql/circuit.ts"
import type { CellVerbs } from "./cells.ts"

/** Builds the verbs. */
export const circuitVerbs = ({ change }: CellVerbs) => ({
  /** Takes note of a call; says what has become of the circuit by it. */
  note: ({ rule, worker }: Guarded, call: Call): Effect.Effect<"opened" | "closed" | undefined, StorageFailure> =>
    change(circuitCell(worker), (value, now) => {
      const before = sharedCircuit(value)
      const after = noteCall(rule, before, call, now)
      return {
        answer: after.phase === before.phase ? undefined : after.phase === "open" ? "opened" : "closed",
        next: after === before ? undefined : { value: after, idleAt: now + circuitIdleMillis }
      }
    }),
  /** A worker's circuit as of now. */
  get: ({ rule, worker }: Guarded): Effect.Effect<SharedCircuit, StorageFailure> =>
    change(circuitCell(worker), (value, now) => ({ answer: asOf(rule, sharedCircuit(value), now) })),
  /** Closes a worker's circuit; says whether it was not closed. */
  close: (worker: string): Effect.Effect<boolean, StorageFailure> =>
    change(circuitCell(worker), (value, now) => {
      const before = sharedCircuit(value)
      return {
        answer: before.phase !== "closed",
        next: { value: closeCircuit(before, now), idleAt: now + circuitIdleMillis }
      }
    })
})

/** The verbs. */
export type CircuitVerbs = ReturnType<typeof circuitVerbs>
