/**
 * What the dashboard's API tells of jobs, as schemas.
 */
import * as Schema from "effect/Schema"
import { states } from "../JobRow.ts"

/**
 * A moment as ISO 8601 in UTC.
 *
 * @category schemas
 */
export const Moment = Schema.String

/**
 * A job in a list, without what it carries.
 *
 * @category schemas
 */
export const JobSummary = Schema.Struct({
  id: Schema.Int,
  worker: Schema.String,
  queue: Schema.String,
  state: Schema.Literals(states),
  priority: Schema.Int,
  attempt: Schema.Int,
  maxAttempts: Schema.Int,
  tags: Schema.Array(Schema.String),
  /** The beginning of its args, redacted; null where they are long, and where they are told in full. */
  preview: Schema.NullOr(Schema.String),
  progress: Schema.NullOr(Schema.Number),
  runAt: Moment,
  insertedAt: Moment,
  claimedAt: Schema.NullOr(Moment),
  finishedAt: Schema.NullOr(Moment)
})

/**
 * A job with what it carries, redacted.
 *
 * @category schemas
 */
export const JobDetail = Schema.Struct({
  ...JobSummary.fields,
  args: Schema.Unknown,
  result: Schema.Unknown,
  meta: Schema.Unknown,
  errors: Schema.Array(
    Schema.Struct({
      attempt: Schema.Int,
      at: Moment,
      node: Schema.String,
      tag: Schema.String,
      message: Schema.String,
      cause: Schema.NullOr(Schema.String)
    })
  ),
  fingerprint: Schema.NullOr(Schema.String),
  batch: Schema.NullOr(Schema.Int),
  step: Schema.NullOr(Schema.String),
  partitionKey: Schema.NullOr(Schema.String),
  /** The W3C `traceparent` of the span that enqueued it. */
  trace: Schema.NullOr(Schema.String),
  /** The incarnation of the node that holds it or held it last. */
  node: Schema.NullOr(Schema.Int),
  epoch: Schema.Int,
  snoozes: Schema.Int,
  scheduledFor: Moment,
  cancelRequestedAt: Schema.NullOr(Moment),
  cancelReason: Schema.NullOr(Schema.String),
  /** What its state and the viewer's permissions allow. */
  can: Schema.Struct({ retry: Schema.Boolean, cancel: Schema.Boolean, delete: Schema.Boolean })
})

/**
 * A page of jobs; `next` goes on after it.
 *
 * @category schemas
 */
export const JobPage = Schema.Struct({ jobs: Schema.Array(JobSummary), next: Schema.NullOr(Schema.String) })

/**
 * A count, or at least so many.
 *
 * @category schemas
 */
export const CountView = Schema.Struct({ count: Schema.Int, isExact: Schema.Boolean })

/**
 * Counts by state; null where counting took too long.
 *
 * @category schemas
 */
export const StateCounts = Schema.Struct({
  counts: Schema.Array(
    Schema.Struct({
      state: Schema.Literals(states),
      count: Schema.NullOr(Schema.Int),
      isExact: Schema.Boolean
    })
  )
})

/**
 * Something that holds, for people.
 *
 * @category schemas
 */
export const ReasonView = Schema.Struct({ tag: Schema.String, message: Schema.String })

/**
 * Why a job does not run.
 *
 * @category schemas
 */
export const ExplainView = Schema.Struct({
  status: Schema.Literals(["runnable", "waiting", "running", "finished"]),
  /** Its place in its queue, from 1. */
  position: Schema.NullOr(Schema.Int),
  reasons: Schema.Array(ReasonView)
})

/**
 * What a job's handlers logged; `next` goes on after it.
 *
 * @category schemas
 */
export const LogPage = Schema.Struct({
  lines: Schema.Array(
    Schema.Struct({
      attempt: Schema.Int,
      epoch: Schema.Int,
      line: Schema.Int,
      at: Moment,
      level: Schema.String,
      message: Schema.String
    })
  ),
  next: Schema.NullOr(Schema.String)
})

/**
 * A job that another one waits for, or that waits for it.
 *
 * @category schemas
 */
export const RelatedJob = Schema.Struct({
  id: Schema.Int,
  /** Null where no row of it is kept. */
  worker: Schema.NullOr(Schema.String),
  state: Schema.NullOr(Schema.String),
  /** What the one that waits calls it. */
  name: Schema.NullOr(Schema.String),
  onFailure: Schema.String
})

/**
 * What a job waits for, and what waits for it; `isComplete` is false where there is more than is shown.
 *
 * @category schemas
 */
export const RelatedView = Schema.Struct({
  parents: Schema.Array(RelatedJob),
  children: Schema.Array(RelatedJob),
  isComplete: Schema.Boolean
})

/**
 * What one node makes of a job of a broadcast queue; state and attempt are null where nothing of it is kept.
 *
 * @category schemas
 */
export const CopyView = Schema.Struct({
  id: Schema.Int,
  node: Schema.Int,
  nodeName: Schema.String,
  live: Schema.Boolean,
  state: Schema.NullOr(Schema.Literals(states)),
  attempt: Schema.NullOr(Schema.Int)
})
