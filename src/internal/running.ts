/** A running attempt, as the executor keeps it. */
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type { Attempt } from "../CurrentJob.ts"
import { AttemptTimeout } from "../ShigotoError.ts"
import type { Stopped, Worker } from "../Workers.ts"
import type { Permit } from "./circuit.ts"
import { concerned } from "./newJob.ts"
import type { Quoting } from "./quotes.ts"
import type { Claimed } from "./sql/claimed.ts"

/** An attempt that runs, or whose outcome is being settled. */
export interface Running {
  readonly claimed: Claimed
  readonly node: number
  readonly worker: Worker
  readonly attempt: Attempt
  /** By the monotonic clock, in milliseconds, as is the deadline. */
  readonly startedAt: number
  deadline: number
  /** What its worker's circuit let it through with. */
  readonly permit: Permit | undefined
  /** What its texts quote of what its row does not hold: at first of what its args are computed from. */
  quoting: Quoting | undefined
  /** How many attempts of its worker and of its queue ran as it started, itself included. */
  readonly ofWorker: number
  readonly ofQueue: number
  /** The admission knows of its end. */
  left: boolean
  /** Its slot is kept until its outcome is settled, for the job that takes its place. */
  leaves: boolean
  /** Its outcome has been handed to the settler. */
  concluded: boolean
  fiber?: Fiber.Fiber<string | undefined, unknown>
  stopped?: Stopped
  cancel?: { readonly reason?: string }
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
