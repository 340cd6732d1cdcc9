/**
 * What the dashboard's API answers with, as schemas.
 *
 * Moments are ISO 8601 in UTC; what is absent is null, so that every field is there.
 */
import * as Schema from "effect/Schema"
import { states } from "../JobRow.ts"
import { permissions } from "./Access.ts"
import { CountView, JobSummary, Moment } from "./JobViews.ts"

export * from "./HistoryViews.ts"
export * from "./JobViews.ts"

/**
 * Who looks, and what they may.
 *
 * @category schemas
 */
export const MeView = Schema.Struct({
  user: Schema.String,
  can: Schema.Array(Schema.Literals(permissions)),
  queues: Schema.NullOr(Schema.Array(Schema.String)),
  environment: Schema.NullOr(Schema.Struct({ name: Schema.String, tone: Schema.Literals(["calm", "warn", "danger"]) })),
  /** Which one this is of several, and all that exist for the viewer; null and none where there is one. */
  instance: Schema.NullOr(Schema.String),
  instances: Schema.Array(Schema.String)
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

/** The states in which there may be more than were counted. */
const atLeast = Schema.Array(Schema.Literals(states))

/**
 * Live jobs; a number is null where counting took too long.
 *
 * @category schemas
 */
export const Totals = Schema.Struct({
  atLeast,
  waiting: total,
  running: total,
  scheduled: total,
  retryable: total,
  blocked: total,
  oldestMillis: Schema.NullOr(Schema.Number)
})

/**
 * Whether work flows, at one glance; a number is null where counting took too long.
 *
 * @category schemas
 */
export const OverviewView = Schema.Struct({
  sampledAt: Moment,
  status,
  reasons: Schema.Array(ProblemView),
  ...Totals.fields,
  slots: total,
  nodes: Schema.Struct({ live: Schema.Int, silent: Schema.Int })
})

/**
 * A queue: its live jobs by state, what operators asked of it, who runs it, and how this process does, if it does.
 *
 * @category schemas
 */
export const QueueView = Schema.Struct({
  name: Schema.String,
  /** Where counting took too long, only of those that wait for a slot. */
  counts: Schema.Record(Schema.String, Schema.Int),
  atLeast,
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
  serving: Schema.Array(Schema.Struct({ node: Schema.String, concurrency: Schema.Int }))
})

/**
 * The partition keys of a queue that have the most jobs, and those that are paused; `isComplete` is false where there may
 * be more of them.
 *
 * @category schemas
 */
export const PartitionsView = Schema.Struct({
  partitions: Schema.Array(
    Schema.Struct({
      key: Schema.String,
      available: Schema.Int,
      isExact: Schema.Boolean,
      executing: Schema.Int,
      oldestMillis: Schema.NullOr(Schema.Number),
      paused: Schema.Boolean
    })
  ),
  isComplete: Schema.Boolean
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
 * The last jobs of a cron entry, the newest first.
 *
 * @category schemas
 */
export const CronRunsView = Schema.Struct({
  name: Schema.String,
  jobs: Schema.Array(Schema.Struct({ id: Schema.Int, state: Schema.Literals(states) }))
})

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
  /** How long it takes until its last member ends, at the pace of its last ends; null where nothing tells of one. */
  remainingMillis: Schema.NullOr(Schema.Number),
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

const account = {
  limit: Schema.Number,
  windowMillis: Schema.Number,
  room: Schema.Number,
  heldUntil: Schema.NullOr(Moment)
}

/**
 * A limit of a worker or a queue over all nodes, and how it stands.
 *
 * @category schemas
 */
export const LimitView = Schema.Struct({
  worker: Schema.NullOr(Schema.String),
  queue: Schema.NullOr(Schema.String),
  running: Schema.Int,
  concurrency: total,
  rate: Schema.NullOr(
    Schema.Struct({
      name: Schema.String,
      ...account,
      algorithm: Schema.String,
      /** Zero where it depends on the job. */
      cost: Schema.Number,
      perKey: Schema.Boolean,
      /** Whether an operator set it, in place of what the code says. */
      changed: Schema.Boolean,
      keys: Schema.Array(Schema.Struct({ partitionKey: Schema.String, ...account }))
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
  listening: Schema.Boolean,
  tables: Schema.Array(
    Schema.Struct({
      name: Schema.String,
      bytes: Schema.Number,
      rows: Schema.Number,
      deadRows: Schema.Number,
      vacuumedAt: Schema.NullOr(Moment)
    })
  ),
  /** Those of the process that serves the dashboard, without secrets. */
  settings: Schema.Record(Schema.String, Schema.Unknown)
})

/**
 * What a bulk operation would change; `token` has it start.
 *
 * @category schemas
 */
export const PreviewView = Schema.Struct({
  ...CountView.fields,
  /** Some of them, the newest. */
  sample: Schema.Array(JobSummary),
  token: Schema.String,
  /** What has to be typed as `confirm`; null for nothing. */
  confirm: Schema.NullOr(Schema.String)
})

/**
 * A bulk operation.
 *
 * @category schemas
 */
export const OperationView = Schema.Struct({
  id: Schema.Int,
  user: Schema.String,
  action: Schema.String,
  q: Schema.String,
  at: Moment,
  state: Schema.Literals(["running", "done", "stopped", "failed", "lost"]),
  expected: Schema.Int,
  matched: Schema.Int,
  changed: Schema.Int,
  requested: Schema.Int,
  skipped: Schema.Int,
  failed: Schema.Int,
  detail: Schema.NullOr(Schema.String),
  finishedAt: Schema.NullOr(Moment)
})

/**
 * Who did what, the newest first; `next` goes on after it.
 *
 * @category schemas
 */
export const AuditPage = Schema.Struct({
  entries: Schema.Array(
    Schema.Struct({
      id: Schema.Int,
      at: Moment,
      user: Schema.String,
      action: Schema.String,
      subject: Schema.String,
      outcome: Schema.NullOr(Schema.String),
      detail: Schema.NullOr(Schema.String)
    })
  ),
  next: Schema.NullOr(Schema.Int)
})

const event = <Name extends string, Data extends Schema.Top>(name: Name, data: Data) =>
  Schema.Struct({ event: Schema.Literal(name), data: Schema.fromJsonString(data) })

/**
 * What a stream tells: hints, upon which a viewer asks for what it shows.
 *
 * @category schemas
 */
export const LiveEvent = Schema.Union([
  event("hello", Schema.Struct({ serverTime: Moment, pollMillis: Schema.Int })),
  event("changed", Schema.Struct({ topics: Schema.Array(Schema.String) })),
  event("counts", Totals),
  /** So that whoever is in between sees life. */
  event("beat", Schema.Struct({})),
  /** The server ends the stream: another one goes on. */
  event("bye", Schema.Struct({}))
])

/**
 * A digest for each topic: where it is another than last time, there is something new.
 *
 * @category schemas
 */
export const PulseView = Schema.Struct({
  digests: Schema.Record(Schema.String, Schema.String),
  pollMillis: Schema.Int
})

/**
 * What became of a wish, in one word and, where it was not granted, why.
 *
 * @category schemas
 */
export const Answer = Schema.Struct({ outcome: Schema.String, detail: Schema.NullOr(Schema.String) })
