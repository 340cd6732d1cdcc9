/** A job on its way into the database, and what ties it to others. */
import type * as Effect from "effect/Effect"
import type { AttemptFailure, BatchId, JobId, JobState } from "../JobRow.ts"
import type { ArgsTooLarge, DecryptionError, InvalidArgs } from "../ShigotoError.ts"
import type { UniqueRule } from "../Unique.ts"

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
  /** Whether it is encrypted where there is a cipher; undefined for what the cipher says. */
  readonly encrypted?: boolean | undefined
  /** The args are an envelope that could not be read: they are stored as they are, and fail the attempt. */
  readonly sealed?: boolean | undefined
  readonly priority: number
  readonly maxAttempts: number
  /** An absolute instant, or a delay from the database's now. */
  readonly due: { readonly at: Date } | { readonly delayMillis: number }
  /** The instant before which an attempt has to start, or how long it may wait once it is due; undefined for no matter. */
  readonly expires?: { readonly at: Date } | { readonly afterMillis: number } | undefined
  /** What becomes of it if none has: cancelled, or replaced by another job; discarded where undefined. */
  readonly onExpire?: "cancel" | { readonly run: NewJob } | undefined
  /** The instant that the job stands for, where that is not when it is due: a cron tick. */
  readonly scheduledFor?: Date | undefined
  readonly tags: ReadonlyArray<string> | undefined
  /** JSON text of an object. */
  readonly meta: string | undefined
  readonly partitionKey: string | undefined
  /** What makes it the same as another job; undefined for one that is like no other. */
  readonly unique?: UniqueRequest | undefined
  /** The jobs that it waits for. */
  readonly dependsOn?: ReadonlyArray<NewEdge> | undefined
  /** The open batch that it joins. */
  readonly batch?: BatchId | undefined
  /** Its name in a flow. */
  readonly step?: string | undefined
  /** The W3C `traceparent` of the span that enqueues it. */
  readonly trace?: string | undefined
  /** Its flow computes its args from the results that it waits for. */
  readonly computed?: boolean | undefined
  /** Somebody waits for its result. */
  readonly watched?: boolean | undefined
}

/** What makes a new job unique. */
export interface UniqueRequest {
  readonly rule: UniqueRule
  /** The text whose hash is the key. */
  readonly text: string
  /** What both args make together, as JSON text; for `debounce` with a function. */
  readonly merge: (waiting: unknown) => Effect.Effect<string, MergeRefusal>
}

/** Why two args make no third. */
export type MergeRefusal = InvalidArgs | ArgsTooLarge | DecryptionError

/** The bits of a job's `links`. */
export const link = { awaited: 1, member: 2, waits: 4, cascaded: 8, computed: 16, watched: 32 } as const

/** The bits of a job whose end concerns anybody else. */
export const concerned = link.awaited | link.member | link.watched

/** Says whether inserting a job concerns anything but its own row. */
export const isLinked = (job: NewJob): boolean =>
  (job.dependsOn !== undefined && job.dependsOn.length > 0) || job.batch !== undefined

/** In how many milliseconds from its insert a job expires; undefined for one that does not. */
export const expiresIn = (
  { expires }: NewJob,
  row: { readonly runAt: Date; readonly insertedAt: Date }
): number | undefined =>
  expires === undefined
    ? undefined
    : ("at" in expires ? expires.at.getTime() : row.runAt.getTime() + expires.afterMillis) - row.insertedAt.getTime()

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
  /** What the waiting job calls it: the name in its definition or flow, the group's name of a fan-out. */
  readonly name: string | undefined
  /** Whether the waiting job has added it itself, while it ran. */
  readonly added: boolean
  /** The name of its definition; undefined where nothing of it is kept. */
  readonly worker: string | undefined
  /** How it ended; `pruned` for one that ended so long ago that nothing of it is kept. */
  readonly state: "completed" | "discarded" | "cancelled" | "pruned"
  /** The encoded result of a completed job, null for none; undefined where it is no longer kept. */
  readonly result: unknown
  /** Its last failure, where it failed and is still kept. */
  readonly failure: AttemptFailure | undefined
  /** Why it was cancelled, where that is still kept. */
  readonly reason: string | undefined
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
  readonly inserted: ReadonlyArray<{
    readonly id: JobId
    readonly worker: string
    readonly queue: string
    readonly state: JobState
    readonly dueMillis: number
    /** In how many milliseconds it expires. */
    readonly expiresMillis?: number | undefined
  }>
  /** Batches that have finished. */
  readonly finished: ReadonlyArray<BatchSummary>
  /** Jobs that have ended and whose result somebody waits for. */
  readonly watched: ReadonlyArray<JobId>
}

/** An end that concerned nobody else. */
export const nothing: Aftermath = { freed: [], cancelled: [], inserted: [], finished: [], watched: [] }

/** Two of them together. */
export const merge = (a: Aftermath, b: Aftermath): Aftermath => ({
  freed: [...a.freed, ...b.freed],
  cancelled: [...a.cancelled, ...b.cancelled],
  inserted: [...a.inserted, ...b.inserted],
  finished: [...a.finished, ...b.finished],
  watched: [...a.watched, ...b.watched]
})
