/** Which workers limits over all nodes keep from this node's claims, as its last claims learned. */
import type { JobEvent } from "../JobEvent.ts"
import type { Held } from "./sql/limit.ts"

/**
 * The holds of a node; instants are monotonic milliseconds. What people may change at any time is asked about again
 * after `recheckMillis`, should the news of it be lost.
 */
export const makeHolds = (publish: (event: JobEvent) => void, recheckMillis: number) => {
  const until = new Map<string, number>()
  const told = new Map<string, Held["why"]>()
  return {
    /** For how long a rate still keeps a worker's jobs from being claimed; zero where none does. */
    left: (worker: string, now: number): number => Math.max(0, (until.get(worker) ?? 0) - now),
    /** Forgets what was learned: it may have changed. */
    forget: (): void => until.clear(),
    /** Takes over what a claim learned of the workers it asked for, and tells what is new. */
    learn: (queue: string, asked: ReadonlyArray<string>, held: ReadonlyArray<Held>, now: number): void => {
      for (const worker of asked) {
        const hold = held.find((one) => one.worker === worker)
        // What holds some of its jobs leaves the others free; what people may change is asked about again.
        if (hold?.freesInMillis === undefined || hold.only !== undefined) until.delete(worker)
        else until.set(worker, now + Math.min(hold.freesInMillis, recheckMillis))
        // A circuit tells its changes itself.
        if (hold !== undefined && hold.why !== "circuit" && told.get(worker) !== hold.why) publish(eventOf(queue, hold))
        if (hold === undefined) told.delete(worker)
        else told.set(worker, hold.why)
      }
    }
  }
}

// internal

const eventOf = (queue: string, { freesInMillis, limit, only, worker }: Held): JobEvent => {
  if (freesInMillis === undefined) return { _tag: "ConcurrencyLimited", worker, queue }
  const partitionKey = typeof only === "object" && only.key !== "" ? only.key : undefined
  return { _tag: "RateLimited", worker, queue, limit, partitionKey, freesInMillis }
}
