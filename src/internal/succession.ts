/**
 * Who takes the places of workers whose concurrency over all nodes is limited, as the attempts that hold them are
 * settled: the next jobs of the same worker, while they are the first of their queue.
 *
 * A place that went by a claim would be free from the settle to the claim, and each claim waits for the limit's lock.
 * Now and then one goes by a claim all the same, so that other queues and nodes that wait for it come to their turn.
 */
import * as Duration from "effect/Duration"
import type { Heartbeat } from "../Heartbeat.ts"
import type { Executor } from "../Executor.ts"
import type { Queues } from "../Queues.ts"
import type { Succession } from "../Settler.ts"
import type { ShigotoConfig } from "../ShigotoConfig.ts"
import type { Worker, Workers } from "../Workers.ts"
import type { Admission } from "./admission.ts"

/** What the successions of a node need to know of it. */
export interface Place {
  readonly config: ShigotoConfig["Service"]
  readonly admission: Admission["Service"]
  readonly executor: Executor["Service"]
  readonly heartbeat: Heartbeat["Service"]
  readonly queues: Queues["Service"]
  readonly workers: Workers["Service"]
  /** Whether claims may be made at all. */
  readonly isOpen: () => boolean
  /** The workers that may be claimed now. */
  readonly able: () => ReadonlyArray<{ readonly name: string; readonly room: number }>
  /** Monotonic milliseconds. */
  readonly now: () => number
  /** Takes note of so many jobs that have started. */
  readonly started: (queue: string, jobs: number) => void
}

/** Builds the successions of a node, one for each worker in each queue. */
export const makeSuccessions = (node: Place) => {
  const { admission, config, executor, heartbeat, queues, workers } = node
  const turnMillis = Duration.toMillis(config.pollInterval)
  const patienceMillis = Duration.toMillis(config.queryTimeout)
  const made = new WeakMap<Worker, Map<string, Succession | undefined>>()
  /** Whatever else is asked of a claim is for a claim to find out. */
  const isPlain = (queue: string, { governed }: Worker): boolean =>
    governed?.rate === undefined &&
    governed?.circuit === undefined &&
    config.shedding === undefined &&
    ![config.partitions, config.rates, config.aging, config.broadcast].some((rules) => rules.has(queue))
  const make = (queue: string, worker: Worker): Succession => {
    const { name } = worker
    const concurrency = worker.governed?.concurrency ?? 1
    let claimAt = -Infinity
    let sent = 0
    return {
      heirs: (places) => {
        const id = heartbeat.current()
        const state = queues.get(queue)
        sent = node.now()
        if (!node.isOpen() || !executor.isAccepting() || id === undefined || state === undefined || state.paused) return
        if (workers.get(name) !== worker) return
        if (sent >= claimAt) {
          claimAt = sent + turnMillis
          return
        }
        // The places that are left are counted as taken still.
        const spare = Math.min(
          admission.slots(queue, state.concurrency) - executor.running(queue),
          admission.places(worker) - executor.runningOf(worker)
        )
        const limit = Math.min(places + Math.min(spare, 0), worker.circuit?.room() ?? Infinity)
        if (limit <= 0) return
        const others = node.able().filter((one) => one.name !== name)
        const request = {
          node: id,
          nodeName: config.nodeName,
          queue,
          limit,
          workers: [...others, { name, room: limit }],
          encrypted: workers.encrypted()
        }
        return { worker: name, concurrency, request }
      },
      start: (jobs, { request }) => {
        // A reply as late as this may be of jobs that were given back meanwhile; the next beats find out.
        if (node.now() - sent > patienceMillis || heartbeat.current() !== request.node) return heartbeat.claimLost()
        executor.start(jobs, request.node)
        node.started(queue, jobs.length)
      },
      lost: heartbeat.claimLost
    }
  }
  return (queue: string, worker: Worker): Succession | undefined => {
    // Asked of every attempt, and most workers have no such limit.
    if (worker.governed?.concurrency === undefined) return undefined
    const ofWorker = made.get(worker) ?? new Map<string, Succession | undefined>()
    made.set(worker, ofWorker)
    if (!ofWorker.has(queue)) ofWorker.set(queue, isPlain(queue, worker) ? make(queue, worker) : undefined)
    return ofWorker.get(queue)
  }
}
