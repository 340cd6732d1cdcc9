/** What the handler of a claimed job is told about it. */
import type * as DateTime from "effect/DateTime"
import type { Attempt } from "../CurrentJob.ts"
import type { BatchId, AttemptFailure, JobId } from "../JobRow.ts"
import type { Dependency } from "./newJob.ts"

/** What is told about a job as it stands in its row. */
export type Told = Omit<Attempt, "scheduledFor" | "insertedAt" | "startBefore" | "dependencies" | "encrypted"> & {
  readonly encrypted?: boolean | undefined
}

/** The attempt of a job whose times have been read already. A class for the reason that `Claimed` gives. */
export class CurrentAttempt implements Attempt {
  readonly id: JobId
  readonly worker: string
  readonly queue: string
  readonly attempt: number
  readonly maxAttempts: number
  readonly priority: number
  readonly epoch: number
  readonly errors: ReadonlyArray<AttemptFailure>
  readonly meta: Readonly<Record<string, unknown>>
  readonly tags: ReadonlyArray<string>
  readonly partitionKey: string | undefined
  readonly snoozes: number
  readonly scheduledFor: DateTime.Utc
  readonly insertedAt: DateTime.Utc
  readonly startBefore: DateTime.Utc | undefined
  readonly trace: string | undefined
  readonly encrypted: boolean
  readonly batch: BatchId | undefined
  readonly dependencies: ReadonlyMap<JobId, Dependency>

  constructor(
    job: Told,
    scheduledFor: DateTime.Utc,
    insertedAt: DateTime.Utc,
    startBefore: DateTime.Utc | undefined,
    dependencies: ReadonlyArray<Dependency>
  ) {
    this.id = job.id
    this.worker = job.worker
    this.queue = job.queue
    this.attempt = job.attempt
    this.maxAttempts = job.maxAttempts
    this.priority = job.priority
    this.epoch = job.epoch
    this.errors = job.errors
    this.meta = job.meta
    this.tags = job.tags
    this.partitionKey = job.partitionKey
    this.snoozes = job.snoozes
    this.scheduledFor = scheduledFor
    this.insertedAt = insertedAt
    this.startBefore = startBefore
    this.trace = job.trace
    this.encrypted = job.encrypted ?? false
    this.batch = job.batch
    this.dependencies =
      dependencies.length === 0 ? none : new Map(dependencies.map((dependency) => [dependency.id, dependency]))
  }
}

// internal

/** Most jobs wait for none: they share this. */
const none: Attempt["dependencies"] = new Map()
