/**
 * The dashboard's API as a value: for its server, for typed clients (`HttpApiClient.make`) and for OpenAPI.
 *
 * Every endpoint names the permission that it asks for; a middleware of the whole group checks it.
 */
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import * as OpenApi from "effect/http-api/OpenApi"
import * as Schema from "effect/Schema"
import { states } from "../JobRow.ts"
import { type CurrentAccess, permissions, Requires } from "./Access.ts"

/**
 * Nobody asks, or somebody who may not.
 *
 * @category errors
 */
export class Forbidden extends Schema.TaggedError<Forbidden>()(
  "Forbidden",
  { message: Schema.String },
  { httpApiStatus: 403 }
) {}

/**
 * It does not exist, or not for this viewer.
 *
 * @category errors
 */
export class NotFound extends Schema.TaggedError<NotFound>()(
  "NotFound",
  { message: Schema.String },
  { httpApiStatus: 404 }
) {}

/**
 * The request makes no sense; the message says why.
 *
 * @category errors
 */
export class Invalid extends Schema.TaggedError<Invalid>()(
  "Invalid",
  { message: Schema.String },
  { httpApiStatus: 400 }
) {}

/**
 * The database did not answer, or not in time.
 *
 * @category errors
 */
export class Unavailable extends Schema.TaggedError<Unavailable>()(
  "Unavailable",
  { message: Schema.String },
  { httpApiStatus: 503 }
) {}

/**
 * Lets through who may, and provides who it is.
 *
 * @category middleware
 */
export class Authorization extends HttpApiMiddleware.Service<Authorization, { provides: CurrentAccess }>()(
  "effect-shigoto/dashboard/Authorization",
  { error: Forbidden }
) {}

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
  snoozes: Schema.Int,
  scheduledFor: Moment,
  cancelReason: Schema.NullOr(Schema.String)
})

/**
 * A queue: its live jobs by state, and how this process runs it, if it does.
 *
 * @category schemas
 */
export const QueueView = Schema.Struct({
  name: Schema.String,
  counts: Schema.Record(Schema.String, Schema.Int),
  here: Schema.NullOr(Schema.Struct({ concurrency: Schema.Int, paused: Schema.Boolean }))
})

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
  paused: Schema.Boolean,
  nextTick: Schema.NullOr(Moment),
  workerKnown: Schema.Boolean,
  problem: Schema.NullOr(Schema.String)
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
  lastSeen: Moment,
  count: Schema.Int,
  isExact: Schema.Boolean
})

/**
 * What became of a wish, in one word and, where it was not granted, why.
 *
 * @category schemas
 */
export const Answer = Schema.Struct({ outcome: Schema.String, detail: Schema.NullOr(Schema.String) })

const id = { id: Schema.Int }
const name = { name: Schema.String }
const failures = [NotFound, Unavailable] as const
const filter = { q: Schema.optional(Schema.String) }

/**
 * The endpoints.
 *
 * @category endpoints
 */
export class DashboardGroup extends HttpApiGroup.make("dashboard")
  .add(
    HttpApiEndpoint.get("me", "/me", {
      success: Schema.Struct({ user: Schema.String, can: Schema.Array(Schema.Literals(permissions)) })
    }).annotate(Requires, "jobs:view"),
    HttpApiEndpoint.get("jobs", "/jobs", {
      query: {
        ...filter,
        limit: Schema.optional(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 200 }))),
        after: Schema.optional(Schema.Int)
      },
      success: Schema.Struct({ jobs: Schema.Array(JobSummary), next: Schema.NullOr(Schema.Int) }),
      error: [Invalid, ...failures]
    }).annotate(Requires, "jobs:view"),
    HttpApiEndpoint.get("count", "/count", {
      query: filter,
      success: Schema.Struct({ count: Schema.Int, isExact: Schema.Boolean }),
      error: [Invalid, ...failures]
    }).annotate(Requires, "jobs:view"),
    HttpApiEndpoint.get("job", "/jobs/:id", { params: id, success: JobDetail, error: failures }).annotate(
      Requires,
      "jobs:view"
    ),
    HttpApiEndpoint.post("retryJob", "/jobs/:id/retry", { params: id, success: Answer, error: failures }).annotate(
      Requires,
      "jobs:retry"
    ),
    HttpApiEndpoint.post("cancelJob", "/jobs/:id/cancel", { params: id, success: Answer, error: failures }).annotate(
      Requires,
      "jobs:cancel"
    ),
    HttpApiEndpoint.get("queues", "/queues", {
      success: Schema.Struct({ sampledAt: Moment, queues: Schema.Array(QueueView) }),
      error: failures
    }).annotate(Requires, "jobs:view"),
    HttpApiEndpoint.post("pauseQueue", "/queues/:name/pause", {
      params: name,
      success: Answer,
      error: [Invalid, ...failures]
    }).annotate(Requires, "queues:pause"),
    HttpApiEndpoint.post("resumeQueue", "/queues/:name/resume", {
      params: name,
      success: Answer,
      error: [Invalid, ...failures]
    }).annotate(Requires, "queues:pause"),
    HttpApiEndpoint.post("scaleQueue", "/queues/:name/scale", {
      params: name,
      payload: Schema.Struct({ concurrency: Schema.Int }),
      success: Answer,
      error: [Invalid, ...failures]
    }).annotate(Requires, "queues:scale"),
    HttpApiEndpoint.get("cron", "/cron", { success: Schema.Array(CronView), error: failures }).annotate(
      Requires,
      "jobs:view"
    ),
    HttpApiEndpoint.post("runCron", "/cron/:name/run", { params: name, success: Answer, error: failures }).annotate(
      Requires,
      "cron:run"
    ),
    HttpApiEndpoint.post("pauseCron", "/cron/:name/pause", { params: name, success: Answer, error: failures }).annotate(
      Requires,
      "cron:pause"
    ),
    HttpApiEndpoint.post("resumeCron", "/cron/:name/resume", {
      params: name,
      success: Answer,
      error: failures
    }).annotate(Requires, "cron:pause"),
    HttpApiEndpoint.get("failures", "/failures", { success: Schema.Array(FailureView), error: failures }).annotate(
      Requires,
      "jobs:view"
    )
  )
  .middleware(Authorization)
  .prefix("/api") {}

/**
 * The API.
 *
 * @category endpoints
 */
export class DashboardApi extends HttpApi.make("shigoto-dashboard")
  .add(DashboardGroup)
  .annotateMerge(OpenApi.annotations({ title: "Shigoto" })) {}
