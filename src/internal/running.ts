/** A running attempt, as the executor keeps it. Classes for the reason that `Claimed` gives. */
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type { Attempt } from "../CurrentJob.ts"
import type { JobId } from "../JobRow.ts"
import type { Outcome } from "../Outcome.ts"
import type { Ended, Succession } from "../Settler.ts"
import { AttemptTimeout } from "../ShigotoError.ts"
import type { Stopped, Worker } from "../Workers.ts"
import { nowhere } from "./bag.ts"
import type { Permit } from "./circuit.ts"
import { concerned } from "./newJob.ts"
import { type Quoting, quotingOf } from "./quotes.ts"
import type { Claimed } from "./sql/claimed.ts"

/** An attempt that runs, or whose outcome is being settled. */
export class Running {
  readonly claimed: Claimed
  readonly node: number
  readonly worker: Worker
  readonly attempt: Attempt
  /** By the monotonic clock, in milliseconds, as is the deadline. */
  readonly startedAt: number
  deadline: number
  /** What its worker's circuit let it through with. */
  readonly permit: Permit | undefined
  /** How many attempts of its worker and of its queue ran as it started, itself included. */
  readonly ofWorker: number
  readonly ofQueue: number
  /** What its texts quote of what its row does not hold: at first of what its args are computed from. */
  quoting: Quoting | undefined
  /** The admission knows of its end. */
  left = false
  /** Its slot is kept until its outcome is settled, for the job that takes its place. */
  leaves = false
  /** Its outcome has been handed to the settler. */
  concluded = false
  /** Its places among those that run and those that are being settled. */
  runningAt: number = nowhere
  settlingAt: number = nowhere
  fiber: Fiber.Fiber<string | undefined, unknown> | undefined = undefined
  stopped: Stopped | undefined = undefined
  cancel: { readonly reason?: string } | undefined = undefined

  constructor(
    claimed: Claimed,
    node: number,
    worker: Worker,
    attempt: Attempt,
    startedAt: number,
    permit: Permit | undefined,
    ofWorker: number,
    ofQueue: number
  ) {
    this.claimed = claimed
    this.node = node
    this.worker = worker
    this.attempt = attempt
    this.startedAt = startedAt
    this.deadline = startedAt + worker.timeoutMillis
    this.permit = permit
    this.ofWorker = ofWorker
    this.ofQueue = ofQueue
    this.quoting = quotingOf(claimed.flow?.input, attempt)
  }
}

/** What the settler is told of an attempt that has ended. */
export class Conclusion implements Ended {
  readonly id: JobId
  readonly worker: string
  readonly queue: string
  readonly epoch: number
  readonly linked: boolean
  readonly telling: boolean
  readonly encrypted: boolean
  readonly attempt: number
  readonly outcome: Outcome
  readonly holder: number
  readonly endedAt: string
  readonly node: string
  readonly runMillis: number | undefined
  readonly succession: Succession | undefined
  readonly settled: Ended["settled"]

  constructor(
    { claimed, node: holder, worker }: Running,
    outcome: Outcome,
    node: string,
    endedAt: string,
    runMillis: number | undefined,
    succession: Succession | undefined,
    settled: Ended["settled"]
  ) {
    this.id = claimed.id
    this.worker = claimed.worker
    this.queue = claimed.queue
    this.epoch = claimed.epoch
    this.linked = isMarked(claimed.links)
    this.telling = worker.isTold
    this.encrypted = claimed.encrypted
    this.attempt = claimed.attempt
    this.outcome = outcome
    this.holder = holder
    this.endedAt = endedAt
    this.node = node
    this.runMillis = runMillis
    this.succession = succession
    this.settled = settled
  }
}

/** Whether its end concerns other jobs or a batch, as far as its claim could tell. */
export const isMarked = (links: number): boolean => (links & concerned) !== 0

/** How an attempt ends that does not yield to its interruption. */
export const timedOut = (worker: Worker): Exit.Exit<never, AttemptTimeout> =>
  Exit.fail(
    new AttemptTimeout({
      timeoutMillis: worker.timeoutMillis,
      message: `The attempt took longer than ${worker.timeoutMillis} ms and did not yield to its interruption.`
    })
  )
