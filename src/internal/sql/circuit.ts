/** Circuits that all nodes share: how many attempts they let through at a claim, and what becomes of them by an end. */
import * as Effect from "effect/Effect"
import type { Rule } from "../../CircuitBreaker.ts"
import { asOf, roomOf, type SharedCircuit, sharedCircuit } from "../sharedCircuit.ts"
import { lockCells, readCells, writeCell } from "./cell.ts"
import type { Db } from "./db.ts"

/** A worker whose circuit is shared. */
export interface Guarded {
  readonly worker: string
  readonly rule: Rule
}

/** What a circuit lets through at a claim. */
export interface Passage {
  readonly worker: string
  readonly generation: number
  /** How many attempts may start; Infinity while it is closed. */
  readonly room: number
  /** In how many milliseconds probes may start; undefined unless it is open. */
  readonly opensInMillis: number | undefined
  /** Whether this claim found it open for long enough, so that probes may start now. */
  readonly halfOpened: boolean
}

/** Under which name a worker's circuit is kept. */
export const circuitCell = (worker: string): string => `circuit:${worker}`

/** How long a circuit is kept that nobody uses, in milliseconds. */
export const circuitIdleMillis = 86_400_000

/**
 * Says what the circuits let through; the caller has a transaction, in which it claims that much in a later statement.
 *
 * A closed circuit costs one look without a lock. The row of one that is not is held until the end of the claim, so two
 * claims never take the same place; probes are counted from executing rows, after the lock.
 */
export const passages = Effect.fnUntraced(function* (db: Db, guarded: ReadonlyArray<Guarded>) {
  const found = yield* read(db, guarded)
  const troubled = [...found].filter(([, circuit]) => circuit.phase !== "closed").map(([worker]) => circuitCell(worker))
  if (troubled.length === 0) return guarded.map(({ worker }) => passageOf(worker, found.get(worker)))
  const locked = yield* lockCells(db, troubled)
  const now = (yield* db.instant).getTime()
  return yield* Effect.forEach(
    guarded,
    Effect.fnUntraced(function* ({ rule, worker }) {
      const cell = locked.get(circuitCell(worker))
      if (cell === undefined) return passageOf(worker, undefined)
      const before = sharedCircuit(cell.value)
      const circuit = asOf(rule, before, now)
      const halfOpened = circuit !== before
      if (halfOpened) {
        yield* writeCell(db, circuitCell(worker), cell.version, { value: circuit, idleAt: now + circuitIdleMillis })
      }
      return yield* measure(db, { rule, worker }, circuit, now, halfOpened)
    })
  )
})

/** Says the same without a lock and without a change: as a claim of this instant would find it. */
export const lookAtPassages = Effect.fnUntraced(function* (db: Db, guarded: ReadonlyArray<Guarded>) {
  const found = yield* read(db, guarded)
  const now = (yield* db.instant).getTime()
  return yield* Effect.forEach(guarded, ({ rule, worker }) => {
    const stored = found.get(worker)
    if (stored === undefined) return Effect.succeed(passageOf(worker, undefined))
    const circuit = asOf(rule, stored, now)
    return measure(db, { rule, worker }, circuit, now, circuit !== stored)
  })
})

// internal

const read = Effect.fnUntraced(function* (db: Db, guarded: ReadonlyArray<Guarded>) {
  const cells = yield* readCells(
    db,
    guarded.map(({ worker }) => circuitCell(worker))
  )
  return new Map(
    guarded.flatMap(({ worker }) => {
      const cell = cells.get(circuitCell(worker))
      return cell === undefined ? [] : [[worker, sharedCircuit(cell.value)] as const]
    })
  )
})

const passageOf = (worker: string, circuit: SharedCircuit | undefined): Passage => ({
  worker,
  generation: circuit?.generation ?? 0,
  room: Infinity,
  opensInMillis: undefined,
  halfOpened: false
})

const measure = Effect.fnUntraced(function* (
  db: Db,
  { rule, worker }: Guarded,
  circuit: SharedCircuit,
  now: number,
  halfOpened: boolean
) {
  const running = circuit.phase === "half-open" && !halfOpened ? yield* probesOf(db, worker, circuit.since) : 0
  return {
    worker,
    generation: circuit.generation,
    room: roomOf(rule, circuit, running),
    opensInMillis: circuit.phase === "open" ? Math.max(1, circuit.since + rule.openMillis - now) : undefined,
    halfOpened
  } satisfies Passage
})

const probesOf = Effect.fnUntraced(function* (db: Db, worker: string, since: number) {
  const [row] = yield* db.sql<{ readonly count: number }>`
    SELECT count(*)::integer AS count
    FROM ${db.jobs}
    WHERE state = 'executing'
      AND worker = ${worker}
      AND claimed_at >= ${new Date(since)}::timestamptz(3)`
  return row?.count ?? 0
})
