/** What the handler of a claimed job is told about it. */
import type * as DateTime from "effect/DateTime"
import type { Attempt } from "../CurrentJob.ts"
import type { Dependency } from "./newJob.ts"
import type { Claimed } from "./sql/claimed.ts"

/** The attempt of a job whose times have been read already. */
export const attemptOf = (
  job: Omit<Attempt, "scheduledFor" | "insertedAt" | "startBefore" | "dependencies" | "encrypted"> &
    Pick<Claimed, "encrypted">,
  scheduledFor: DateTime.Utc,
  insertedAt: DateTime.Utc,
  startBefore: DateTime.Utc | undefined,
  dependencies: ReadonlyArray<Dependency>
): Attempt => ({
  id: job.id,
  worker: job.worker,
  queue: job.queue,
  attempt: job.attempt,
  maxAttempts: job.maxAttempts,
  priority: job.priority,
  epoch: job.epoch,
  errors: job.errors,
  meta: job.meta,
  tags: job.tags,
  partitionKey: job.partitionKey,
  snoozes: job.snoozes,
  scheduledFor,
  insertedAt,
  startBefore,
  trace: job.trace,
  encrypted: job.encrypted ?? false,
  batch: job.batch,
  dependencies:
    dependencies.length === 0 ? none : new Map(dependencies.map((dependency) => [dependency.id, dependency]))
})

// internal

/** Most jobs wait for none: they share this. */
const none: Attempt["dependencies"] = new Map()
