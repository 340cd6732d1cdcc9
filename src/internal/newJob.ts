/** A job on its way into the database, and what ties it to others. */
import type * as Brand from "effect/Brand"
import type { JobId } from "../JobRow.ts"

/** The id of a batch: a positive integer, unique in its database for ever. */
export type BatchId = number & Brand.Brand<"effect-shigoto/BatchId">

/** What a job does when one that it waits for fails: is cancelled too, runs all the same, or stays where it is. */
export type OnFailure = "cancel" | "run" | "hold"

/** All of them. */
export const onFailures: ReadonlyArray<OnFailure> = ["cancel", "run", "hold"]

/** One job that another waits for: by its id, or by its position in the same call. */
export interface NewEdge {
  readonly parent: { readonly id: JobId } | { readonly position: number }
  readonly onFailure: OnFailure
  /** What the waiting job calls it. */
  readonly name?: string | undefined
}

/** A job to insert, checked and encoded. */
export interface NewJob {
  readonly worker: string
  readonly queue: string
  /** JSON text. */
  readonly args: string
  readonly priority: number
  readonly maxAttempts: number
  /** An absolute instant, or a delay from the database's now. */
  readonly due: { readonly at: Date } | { readonly delayMillis: number }
  /** The instant that the job stands for, where that is not when it is due: a cron tick. */
  readonly scheduledFor?: Date | undefined
  readonly tags: ReadonlyArray<string> | undefined
  /** JSON text of an object. */
  readonly meta: string | undefined
  readonly partitionKey: string | undefined
  /** The jobs that it waits for. */
  readonly dependsOn?: ReadonlyArray<NewEdge> | undefined
  /** The open batch that it joins. */
  readonly batch?: BatchId | undefined
  /** Its name in a flow. */
  readonly step?: string | undefined
  /** Its flow computes its args from the results that it waits for. */
  readonly computed?: boolean | undefined
}

/** The bits of a job's `links`. */
export const link = { awaited: 1, member: 2, waits: 4, cascaded: 8, computed: 16 } as const

/** Says whether inserting a job concerns anything but its own row. */
export const isLinked = (job: NewJob): boolean =>
  (job.dependsOn !== undefined && job.dependsOn.length > 0) || job.batch !== undefined

/** How a batch stands. */
export interface BatchSummary {
  readonly id: BatchId
  readonly name: string
  /** Members: jobs and nested batches. */
  readonly total: number
  /** Members that have not ended. */
  readonly pending: number
  readonly completed: number
  readonly discarded: number
  readonly cancelled: number
  /** The worst end of a member so far: `discarded`, then `cancelled`, then `completed`. */
  readonly outcome: "completed" | "discarded" | "cancelled"
}

/** The occasions on which a batch inserts a job. */
export type Occasion = "finished" | "succeeded" | "failed"

/** A job that another one waited for, as its handler sees it. */
export interface Dependency {
  readonly id: JobId
  /** What the waiting job calls it: the node's name in a flow, the group's name of a fan-out. */
  readonly name: string | undefined
  /** How it ended; `pruned` for one that ended so long ago that nothing of it is kept. */
  readonly state: "completed" | "discarded" | "cancelled" | "pruned"
  /** The encoded result of a completed job; undefined where it had none or is no longer kept. */
  readonly result: unknown
}

/** What an end, or an insert, brought about beside itself. */
export interface Aftermath {
  /** Jobs that no longer wait for others. */
  readonly freed: ReadonlyArray<{
    readonly id: JobId
    readonly worker: string
    readonly queue: string
    readonly state: "available" | "scheduled"
    readonly dueMillis: number
  }>
  /** Jobs that were cancelled since one that they waited for had failed. */
  readonly cancelled: ReadonlyArray<{
    readonly id: JobId
    readonly worker: string
    readonly queue: string
    readonly attempt: number
    readonly reason: string
  }>
  /** Callbacks of batches, and children of fan-outs. */
  readonly inserted: ReadonlyArray<{ readonly id: JobId; readonly worker: string; readonly queue: string }>
  /** Batches that have finished. */
  readonly finished: ReadonlyArray<BatchSummary>
}

/** An end that concerned nobody else. */
export const nothing: Aftermath = { freed: [], cancelled: [], inserted: [], finished: [] }
