/**
 * What the dashboard's API answers with, as schemas.
 *
 * Moments are ISO 8601 in UTC; what is absent is null, so that every field is there.
 */
import * as Schema from "effect/Schema"
import { states } from "../JobRow.ts"
import { permissions } from "./Access.ts"

/**
 * A moment as ISO 8601 in UTC.
 *
 * @category schemas
 */
export const Moment = Schema.String

/**
 * Who looks, and what they may.
 *
 * @category schemas
 */
export const MeView = Schema.Struct({
  user: Schema.String,
  can: Schema.Array(Schema.Literals(permissions)),
  queues: Schema.NullOr(Schema.Array(Schema.String))
})

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
 * A reason why the whole is not well.
 *
 * @category schemas
 */
export const ProblemView = Schema.Struct({
  tag: Schema.String,
  message: Schema.String,
  queue: Schema.NullOr(Schema.String),
  worker: Schema.NullOr(Schema.String),
  node: Schema.NullOr(Schema.String)
})

const status = Schema.Literals(["ok", "degraded", "down"])
const total = Schema.NullOr(Schema.Int)

/**
 * Whether work flows, at one glance; a number is null where counting took too long.
 *
 * @category schemas
 */
export const OverviewView = Schema.Struct({
  sampledAt: Moment,
  status,
  reasons: Schema.Array(ProblemView),
  waiting: total,
  running: total,
  slots: total,
  scheduled: total,
  retryable: total,
  blocked: total,
  oldestMillis: Schema.NullOr(Schema.Number),
  nodes: Schema.Struct({ live: Schema.Int, silent: Schema.Int })
})

/**
 * A queue: its live jobs by state, what operators asked of it, who runs it, and how this process does, if it does.
 *
 * @category schemas
 */
export const QueueView = Schema.Struct({
  name: Schema.String,
  counts: Schema.Record(Schema.String, Schema.Int),
  /** False where counting took too long: only those that wait for a slot are told then, up to 10,000. */
  isExact: Schema.Boolean,
  here: Schema.NullOr(Schema.Struct({ concurrency: Schema.Int, paused: Schema.Boolean })),
  paused: Schema.Boolean,
  nodes: Schema.Int,
  slots: Schema.Int,
  oldestMillis: Schema.NullOr(Schema.Number),
  wishes: Schema.Array(
    Schema.Struct({
      node: Schema.NullOr(Schema.String),
      concurrency: Schema.NullOr(Schema.Int),
      paused: Schema.Boolean,
      removed: Schema.Boolean
    })
  ),
  pausedKeys: Schema.Array(Schema.String),
  serving: Schema.Array(Schema.Struct({ node: Schema.String, concurrency: Schema.Int }))
})

/**
 * All queues as of a moment.
 *
 * @category schemas
 */
export const QueuesView = Schema.Struct({ sampledAt: Moment, queues: Schema.Array(QueueView) })

/**
 * A cron entry.
 *
 * @category schemas
 */
export const CronView = Schema.Struct({
  name: Schema.String,
  source: Schema.Literals(["code", "database"]),
  cron: Schema.String,
  timezone: Schema.String,
  worker: Schema.String,
  queue: Schema.String,
  overlap: Schema.String,
  args: Schema.Unknown,
  paused: Schema.Boolean,
  nextTick: Schema.NullOr(Moment),
  workerKnown: Schema.Boolean,
  problem: Schema.NullOr(Schema.String)
})

/**
 * A cron entry with its next five ticks.
 *
 * @category schemas
 */
export const CronDetail = Schema.Struct({ ...CronView.fields, next: Schema.Array(Moment) })

/**
 * Jobs that failed alike.
 *
 * @category schemas
 */
export const FailureView = Schema.Struct({
  fingerprint: Schema.String,
  worker: Schema.String,
  queue: Schema.String,
  sample: Schema.Int,
  tag: Schema.String,
  message: Schema.String,
  /** Null where it would tell of queues that the viewer does not see. */
  firstSeen: Schema.NullOr(Moment),
  lastSeen: Moment,
  count: Schema.Int,
  isExact: Schema.Boolean
})

/**
 * A batch, or a flow, which is one.
 *
 * @category schemas
 */
export const BatchView = Schema.Struct({
  id: Schema.Int,
  name: Schema.String,
  parent: Schema.NullOr(Schema.Int),
  sealed: Schema.Boolean,
  finished: Schema.Boolean,
  total: Schema.Int,
  pending: Schema.Int,
  completed: Schema.Int,
  discarded: Schema.Int,
  cancelled: Schema.Int,
  outcome: Schema.Literals(["completed", "discarded", "cancelled"]),
  /** The jobs that were inserted at its end, by occasion. */
  callbacks: Schema.Record(Schema.String, Schema.Int)
})

/**
 * A page of batches; `next` goes on after it.
 *
 * @category schemas
 */
export const BatchPage = Schema.Struct({ batches: Schema.Array(BatchView), next: Schema.NullOr(Schema.Int) })

/**
 * A batch with its members by state, and, of a flow, its nodes.
 *
 * @category schemas
 */
export const BatchDetail = Schema.Struct({
  ...BatchView.fields,
  counts: Schema.Record(Schema.String, Schema.Int),
  nodes: Schema.Array(
    Schema.Struct({
      id: Schema.Int,
      step: Schema.String,
      worker: Schema.String,
      state: Schema.Literals(states),
      attempt: Schema.Int,
      maxAttempts: Schema.Int,
      progress: Schema.NullOr(Schema.Number),
      after: Schema.Array(Schema.Int),
      children: Schema.Int,
      /** The `_tag` of its last failure; what it says is with the job. */
      failure: Schema.NullOr(Schema.String)
    })
  )
})

/**
 * A process that runs jobs.
 *
 * @category schemas
 */
export const NodeView = Schema.Struct({
  id: Schema.Int,
  name: Schema.String,
  startedAt: Moment,
  beatAt: Moment,
  live: Schema.Boolean,
  silentMillis: Schema.Number,
  lagMillis: Schema.Number,
  listening: Schema.Boolean,
  /** Null where it would tell of queues that the viewer does not see. */
  executing: total,
  workers: Schema.Array(Schema.String),
  queues: Schema.Array(Schema.Struct({ name: Schema.String, concurrency: Schema.Int }))
})

/**
 * A limit over all nodes, and how it stands.
 *
 * @category schemas
 */
export const LimitView = Schema.Struct({
  worker: Schema.String,
  running: Schema.Int,
  concurrency: total,
  rate: Schema.NullOr(
    Schema.Struct({
      name: Schema.String,
      limit: Schema.Number,
      windowMillis: Schema.Number,
      algorithm: Schema.String,
      cost: Schema.Number,
      room: Schema.Number,
      heldUntil: Schema.NullOr(Moment)
    })
  )
})

/**
 * The circuit of a worker.
 *
 * @category schemas
 */
export const BreakerView = Schema.Struct({
  worker: Schema.String,
  shared: Schema.Boolean,
  state: Schema.Literals(["closed", "open", "half-open"]),
  since: Schema.NullOr(Moment)
})

/**
 * A kind of job that live nodes run.
 *
 * @category schemas
 */
export const WorkerView = Schema.Struct({ name: Schema.String, nodes: Schema.Array(Schema.String) })

/**
 * A kind of job, with the JSON Schema of its args.
 *
 * @category schemas
 */
export const WorkerDetail = Schema.Struct({ ...WorkerView.fields, schema: Schema.Unknown })

/**
 * Something that a search found.
 *
 * @category schemas
 */
export const Hit = Schema.Struct({
  kind: Schema.Literals(["job", "queue", "worker", "node", "cron", "batch"]),
  id: Schema.String,
  label: Schema.String
})

/**
 * The database and the schema in it.
 *
 * @category schemas
 */
export const SystemView = Schema.Struct({
  status,
  reasons: Schema.Array(ProblemView),
  postgres: Schema.NullOr(Schema.String),
  schema: Schema.Struct({ found: total, expected: Schema.Int }),
  deadRows: Schema.NullOr(Schema.Number),
  oldestTransactionSeconds: Schema.NullOr(Schema.Number),
  listening: Schema.Boolean
})

/**
 * What became of a wish, in one word and, where it was not granted, why.
 *
 * @category schemas
 */
export const Answer = Schema.Struct({ outcome: Schema.String, detail: Schema.NullOr(Schema.String) })
