/**
 * Claimed jobs that have not begun.
 *
 * What a claim brings begins in slices, and other work of the process has a turn between two of them: the next claim
 * and the settles of the first slices are under way while the later ones begin, and no batch keeps the event loop from
 * a renewal of the lease.
 */
import * as Effect from "effect/Effect"
import { makeCounts } from "./counts.ts"
import type { Claimed } from "./sql/claimed.ts"

/** The backlog of a node. */
export interface Backlog {
  /** Begins the first of these jobs at once and the others in turns of their own. */
  readonly add: (jobs: ReadonlyArray<Claimed>, node: number) => void
  /** Begins all that wait, in this turn. */
  readonly flush: () => void
  readonly total: () => number
  readonly ofQueue: (queue: string) => number
  readonly ofWorker: (worker: string) => number
  /** The jobs that wait, of those that were claimed under a lease. */
  readonly held: (node: number) => ReadonlyArray<Claimed>
}

/** Makes a backlog that begins jobs by `begin` and tells by `moved` when some of a queue have begun in a later turn. */
export const makeBacklog = (
  fork: (effect: Effect.Effect<void>) => unknown,
  begin: (job: Claimed, node: number) => void,
  moved: (queue: string) => void
): Backlog => {
  const byQueue = makeCounts()
  const byWorker = makeCounts()
  let waiting: Array<{ readonly job: Claimed; readonly node: number }> = []
  let turning = false

  const take = (most: number): ReadonlySet<string> => {
    const taken = waiting.slice(0, most)
    waiting = waiting.slice(most)
    const queues = new Set<string>()
    for (const { job, node } of taken) {
      byQueue.add(job.queue, -1)
      byWorker.add(job.worker, -1)
      queues.add(job.queue)
      begin(job, node)
    }
    return queues
  }
  const turns = Effect.gen(function* () {
    while (waiting.length > 0) {
      yield* Effect.yieldNow
      take(slice).forEach(moved)
    }
  }).pipe(
    // In the same turn as the last look above: what comes later starts turns of its own.
    Effect.ensuring(
      Effect.sync(() => {
        turning = false
      })
    )
  )
  return {
    add: (jobs, node) => {
      for (const job of jobs) {
        byQueue.add(job.queue, 1)
        byWorker.add(job.worker, 1)
        waiting.push({ job, node })
      }
      if (turning) return
      take(slice)
      if (waiting.length === 0) return
      turning = true
      fork(turns)
    },
    flush: () => {
      while (waiting.length > 0) take(slice)
    },
    total: () => waiting.length,
    ofQueue: byQueue.of,
    ofWorker: byWorker.of,
    held: (node) => waiting.flatMap((entry) => (entry.node === node ? [entry.job] : []))
  }
}

// internal

/** How many jobs begin in one turn: a quarter of a claim. Slices of 50 made settles so small that a job took a third more CPU. */
const slice = 250
