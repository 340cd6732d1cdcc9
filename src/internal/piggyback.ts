/**
 * Lets a statement that inserts jobs carry their hints: nodes hear of them as it commits, and not a statement later.
 *
 * A commit that notifies holds a lock that all such commits of a server share until it is on the disk, and on its
 * replicas where they are waited for. So a process has one under way for at most a fifth of the time, however long it
 * takes: where others, or the disk, make it longer, it becomes rarer by that alone. All other hints follow their commit.
 */
import type { NewJob } from "./newJob.ts"

/** What decides whether a statement carries the hints of its jobs. */
export interface Carrier {
  /**
   * The payloads of the jobs' queues, for a statement that is about to insert them; none where they are to follow.
   * `delivered` is to be called once where there are any.
   */
  readonly load: (jobs: ReadonlyArray<NewJob>) => ReadonlyArray<string>
  /** Says that the statement with the last payloads is over. */
  readonly delivered: () => void
}

/** Builds the carrier of a process; `now` tells monotonic milliseconds. */
export const makeCarrier = (origin: string, now: () => number): Carrier => {
  let freeAt = -Infinity
  let loadedAt = 0
  return {
    load: (jobs) => {
      if (now() < freeAt || !jobs.every(isDueAtOnce)) return []
      loadedAt = now()
      freeAt = Infinity
      return [...new Set(jobs.map(({ queue }) => availablePayload(origin, queue)))]
    },
    delivered: () => {
      freeAt = now() + pauses * (now() - loadedAt)
    }
  }
}

/** What tells listeners that a queue has work; `origin` names the sending process. */
export const availablePayload = (origin: string, queue: string): string => `available ${origin} ${queue}`

// internal

/** How many times as long as such a statement took none may follow it. */
const pauses = 4

const isDueAtOnce = ({ due }: NewJob): boolean => "delayMillis" in due && due.delayMillis === 0
