/**
 * Lets hints go with the statement that inserts their jobs: nodes hear of them as it commits, and not a statement later.
 *
 * A commit that notifies holds a lock that all such commits of a server share until it is on the disk, and on its
 * replicas where they are waited for. So a process has one under way for a fifth of the time, however long they take:
 * where others, or the disk, make them longer, they become rarer by that alone, and a single one that the disk held up
 * does not. All other hints follow their commit.
 */
import type { NewJob } from "./newJob.ts"

/** What decides whether the hints of jobs go with their statement. */
export interface Piggyback {
  /**
   * The payloads of the jobs' queues, for a statement that is about to insert them; none where they are to follow.
   * `arrived` is to be called once where there are any.
   */
  readonly payloadsFor: (jobs: ReadonlyArray<NewJob>) => ReadonlyArray<string>
  /** Says that the statement with the last payloads is over. */
  readonly arrived: () => void
}

/** Builds what decides for a process; `now` tells monotonic milliseconds. */
export const makePiggyback = (origin: string, now: () => number): Piggyback => {
  let freeAt = -Infinity
  let sentAt = 0
  let usual: number | undefined
  return {
    payloadsFor: (jobs) => {
      if (now() < freeAt || !jobs.every(isDueAtOnce)) return []
      sentAt = now()
      freeAt = Infinity
      return [...new Set(jobs.map(({ queue }) => availablePayload(origin, queue)))]
    },
    arrived: () => {
      const took = now() - sentAt
      usual = usual === undefined ? took : usual + (took - usual) * weight
      freeAt = now() + pauses * usual
    }
  }
}

/** What tells listeners that a queue has work; `origin` names the sending process. */
export const availablePayload = (origin: string, queue: string): string => `available ${origin} ${queue}`

// internal

/** How many times as long as such a statement usually takes none may follow it. */
const pauses = 4

/**
 * How much the last one says of what is usual: the pause after one that was late is longer by as much as it was late, and
 * some ten of them make it what is usual.
 */
const weight = 1 / pauses

const isDueAtOnce = ({ due }: NewJob): boolean => "delayMillis" in due && due.delayMillis === 0
