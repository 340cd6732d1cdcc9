/** The fault plan: what strikes when, drawn from the seed before the run begins. */
import { makeRandom, type Random } from "./random.ts"
import { timing } from "./settings.ts"

/** What may strike. `skew` and `poison` are switches of the whole run, the others are drawn one by one. */
export const kinds = [
  "kill",
  "stop",
  "term",
  "deploy",
  "restart",
  "terminate",
  "lost-reply",
  "blackhole",
  "freeze",
  "latency",
  "reset",
  "lock",
  "timeouts",
  "read-only",
  "disk-full",
  "race",
  "snapshot",
  "pause",
  "pooler",
  "skew",
  "poison"
] as const

export type FaultKind = (typeof kinds)[number]

export interface Fault {
  readonly id: number
  readonly kind: Exclude<FaultKind, "skew" | "poison">
  /** When it strikes, in milliseconds from the beginning. */
  readonly at: number
  /** How long it lasts, in milliseconds; 0 for an instant. */
  readonly millis: number
  /** Chooses among workers, members or statements, by the remainder. */
  readonly choice: number
}

/** How likely each is, and how long it lasts. */
const shapes: ReadonlyArray<readonly [weight: number, kind: Fault["kind"], millis: readonly [number, number]]> = [
  [14, "kill", [0, 0]],
  [12, "stop", [timing.leaseTtl * 0.5, timing.leaseTtl * 2.5]],
  [6, "term", [0, 0]],
  [3, "deploy", [0, 0]],
  [5, "restart", [0, 0]],
  [14, "terminate", [0, 0]],
  [20, "lost-reply", [2000, 2000]],
  [6, "blackhole", [500, timing.leaseTtl * 3]],
  [5, "freeze", [2000, 5000]],
  [6, "latency", [2000, 6000]],
  [6, "reset", [0, 0]],
  [4, "lock", [300, 2500]],
  [4, "timeouts", [1500, 3000]],
  [3, "read-only", [1000, 3000]],
  [3, "disk-full", [1000, 4000]],
  [4, "race", [1000, 4000]],
  [2, "snapshot", [10_000, 30_000]],
  [5, "pause", [3000, 7000]],
  [3, "pooler", [0, 0]]
]

/** One fault about every `pace` milliseconds, of the kinds asked for, for ever. */
export function* makePlan(seed: number, pace: number, chosen: ReadonlyArray<FaultKind>): Generator<Fault> {
  const random = makeRandom(seed, "faults")
  const allowed = shapes.filter(([, kind]) => chosen.includes(kind))
  if (allowed.length === 0) return
  let at = 2000
  for (let id = 0; true; id++) {
    yield strike(random, allowed, id, at)
    at += random.int(Math.round(pace * 0.3), Math.round(pace * 1.7))
  }
}

// internal

const strike = (random: Random, allowed: typeof shapes, id: number, at: number): Fault => {
  const [kind, [shortest, longest]] = random.weighted(
    allowed.map(([weight, kind, millis]) => [weight, [kind, millis]] as const)
  )
  return { id, kind, at, millis: random.int(Math.round(shortest), Math.round(longest)), choice: random.int(0, 1 << 30) }
}
