/** What JSON output looks like: names and types that scripts rely on. An instant is ISO 8601 in UTC, an absent value null. */
import * as DateTime from "effect/DateTime"
import type { FailureGroup } from "../../Jobs.ts"
import type { LimitStanding } from "../../Limits.ts"
import type { JobRow } from "../../JobRow.ts"
import type { LogLine } from "../../JobLog.ts"
import type { NodeRow } from "../../Nodes.ts"
import type { QueueOverview } from "../../Queues.ts"
import type { Carried } from "../../Redaction.ts"

/** An instant. */
export const instant = (at: DateTime.Utc | undefined): string | null =>
  at === undefined ? null : DateTime.formatIso(at)

/** A job in a list. */
export const jobSummary = (job: JobRow) => ({
  id: job.id as number, // without its brand
  worker: job.worker,
  queue: job.queue,
  state: job.state,
  priority: job.priority,
  attempt: job.attempt,
  maxAttempts: job.maxAttempts,
  progress: job.progress ?? null,
  tags: job.tags,
  partitionKey: job.partitionKey ?? null,
  batch: job.batch ?? null,
  step: job.step ?? null,
  runAt: instant(job.runAt),
  insertedAt: instant(job.insertedAt),
  claimedAt: instant(job.claimedAt),
  finishedAt: instant(job.finishedAt)
})

/** A job with what it carries. */
export const jobDetail = (job: JobRow, carried: Carried) => ({
  ...jobSummary(job),
  scheduledFor: instant(job.scheduledFor),
  startBefore: instant(job.startBefore),
  snoozes: job.snoozes,
  fingerprint: job.fingerprint ?? null,
  cancelRequestedAt: instant(job.cancelRequestedAt),
  cancelReason: carried.cancelReason ?? null,
  args: carried.args ?? null,
  result: carried.result ?? null,
  meta: carried.meta,
  errors: carried.errors
})

/** A queue over all nodes. */
export const queue = (overview: QueueOverview) => ({
  name: overview.name,
  paused: overview.paused,
  nodes: overview.nodes,
  slots: overview.slots,
  counts: overview.counts,
  atLeast: overview.atLeast,
  wishes: overview.wishes.map((wish) => ({
    node: wish.node ?? null,
    concurrency: wish.concurrency ?? null,
    paused: wish.paused,
    removed: wish.removed
  })),
  pausedKeys: overview.pausedKeys
})

/** A node. */
export const node = (row: NodeRow) => ({
  id: row.id,
  name: row.name,
  live: row.live,
  startedAt: instant(row.startedAt),
  beatAt: instant(row.beatAt),
  leaseUntil: instant(row.leaseUntil),
  lagMillis: row.lagMillis,
  listening: row.listening,
  executing: row.executing,
  queues: row.queues,
  workers: row.workers
})

/** A group of failures. */
export const failureGroup = (group: FailureGroup, message: string) => ({
  fingerprint: group.fingerprint,
  worker: group.worker,
  queue: group.queue,
  count: group.count,
  isExact: group.isExact,
  sample: group.sample as number, // without its brand
  tag: group.failure.tag,
  message,
  firstSeen: instant(group.firstSeen),
  lastSeen: instant(group.lastSeen)
})

/** A line of a job's logs. */
export const logLine = (line: LogLine, message: string) => ({
  attempt: line.attempt,
  epoch: line.epoch,
  line: line.line,
  at: instant(line.at),
  level: line.level,
  message
})

/** The limits of a worker or of a queue. */
export const limit = ({ concurrency, queue, rate, running, worker }: LimitStanding) => ({
  worker,
  queue: queue ?? null,
  running,
  concurrency: concurrency ?? null,
  rate:
    rate === undefined
      ? null
      : {
          ...rate,
          heldUntil: rate.heldUntil?.toISOString() ?? null,
          keys: rate.keys.map((key) => ({ ...key, heldUntil: key.heldUntil?.toISOString() ?? null }))
        }
})
