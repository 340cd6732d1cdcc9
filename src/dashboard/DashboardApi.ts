/**
 * The dashboard's API as a value: for its server, for typed clients (`HttpApiClient.make`) and for OpenAPI.
 *
 * Every endpoint names the permission that it asks for; a middleware of all groups checks it.
 */
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as OpenApi from "effect/http-api/OpenApi"
import * as Schema from "effect/Schema"
import { type CurrentAccess, Requires } from "./Access.ts"
import * as Views from "./Views.ts"

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
 * Things are not as they were when the viewer decided.
 *
 * @category errors
 */
export class Conflict extends Schema.TaggedError<Conflict>()(
  "Conflict",
  { message: Schema.String },
  { httpApiStatus: 409 }
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

export * from "./Views.ts"

const id = { id: Schema.Int }
const name = { name: Schema.String }
const filter = { q: Schema.optional(Schema.String) }
const limit = Schema.optional(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 200 })))
const span = Schema.optional(Schema.Literals(["1h", "6h", "24h", "7d", "90d"]))
const failures = [NotFound, Unavailable] as const
const refusals = [Invalid, ...failures] as const

/**
 * The whole at one glance, and what lies behind it.
 *
 * @category endpoints
 */
export class OverviewGroup extends HttpApiGroup.make("overview")
  .add(
    HttpApiEndpoint.get("me", "/me", { success: Views.MeView }).annotate(Requires, "jobs:view"),
    HttpApiEndpoint.get("overview", "/overview", { success: Views.OverviewView }).annotate(Requires, "jobs:view"),
    HttpApiEndpoint.get("history", "/history", {
      query: {
        span,
        queue: Schema.optional(Schema.String),
        worker: Schema.optional(Schema.String)
      },
      success: Views.HistoryView,
      error: failures
    }).annotate(Requires, "jobs:view"),
    HttpApiEndpoint.get("historyBy", "/history-by", {
      query: { span, by: Schema.Literals(["queue", "worker"]) },
      success: Views.HistoryByView,
      error: failures
    }).annotate(Requires, "jobs:view"),
    HttpApiEndpoint.get("activity", "/activity", {
      query: { by: Schema.Literals(["queue", "worker"]) },
      success: Schema.Array(Views.ActivityView),
      error: failures
    }).annotate(Requires, "jobs:view"),
    HttpApiEndpoint.get("system", "/system", { success: Views.SystemView }).annotate(Requires, "jobs:view"),
    HttpApiEndpoint.get("search", "/search", {
      query: { text: Schema.String },
      success: Schema.Array(Views.Hit),
      error: failures
    }).annotate(Requires, "jobs:view"),
    HttpApiEndpoint.get("openapi", "/openapi.json", { success: Schema.Unknown }).annotate(Requires, "jobs:view")
  )
  .middleware(Authorization)
  .prefix("/api") {}

/**
 * Jobs: found, looked at, and changed one by one.
 *
 * @category endpoints
 */
export class JobsGroup extends HttpApiGroup.make("jobs")
  .add(
    HttpApiEndpoint.get("jobs", "/jobs", {
      query: {
        ...filter,
        limit,
        order: Schema.optional(Schema.Literals(["newest", "due", "finished"])),
        after: Schema.optional(Schema.String)
      },
      success: Views.JobPage,
      error: refusals
    }).annotate(Requires, "jobs:view"),
    HttpApiEndpoint.get("count", "/count", { query: filter, success: Views.CountView, error: refusals }).annotate(
      Requires,
      "jobs:view"
    ),
    HttpApiEndpoint.get("states", "/states", { query: filter, success: Views.StateCounts, error: refusals }).annotate(
      Requires,
      "jobs:view"
    ),
    HttpApiEndpoint.get("failures", "/failures", {
      success: Schema.Array(Views.FailureView),
      error: failures
    }).annotate(Requires, "jobs:view"),
    HttpApiEndpoint.get("job", "/jobs/:id", {
      params: id,
      query: { reveal: Schema.optional(Schema.Literal("true")) },
      success: Views.JobDetail,
      error: [Forbidden, ...failures]
    }).annotate(Requires, "jobs:view"),
    HttpApiEndpoint.get("explain", "/jobs/:id/explain", {
      params: id,
      success: Views.ExplainView,
      error: failures
    }).annotate(Requires, "jobs:view"),
    HttpApiEndpoint.get("logs", "/jobs/:id/logs", {
      params: id,
      query: { after: Schema.optional(Schema.String) },
      success: Views.LogPage,
      error: refusals
    }).annotate(Requires, "jobs:view"),
    HttpApiEndpoint.get("related", "/jobs/:id/dependencies", {
      params: id,
      success: Views.RelatedView,
      error: failures
    }).annotate(Requires, "jobs:view"),
    HttpApiEndpoint.get("copies", "/jobs/:id/copies", {
      params: id,
      success: Schema.Array(Views.CopyView),
      error: failures
    }).annotate(Requires, "jobs:view"),
    HttpApiEndpoint.post("retryJob", "/jobs/:id/retry", {
      params: id,
      success: Views.Answer,
      error: failures
    }).annotate(Requires, "jobs:retry"),
    HttpApiEndpoint.post("cancelJob", "/jobs/:id/cancel", {
      params: id,
      success: Views.Answer,
      error: failures
    }).annotate(Requires, "jobs:cancel"),
    HttpApiEndpoint.post("deleteJob", "/jobs/:id/delete", {
      params: id,
      success: Views.Answer,
      error: failures
    }).annotate(Requires, "jobs:delete")
  )
  .middleware(Authorization)
  .prefix("/api") {}

/**
 * Queues, and what operators ask of them.
 *
 * @category endpoints
 */
export class QueuesGroup extends HttpApiGroup.make("queues")
  .add(
    HttpApiEndpoint.get("queues", "/queues", { success: Views.QueuesView, error: failures }).annotate(
      Requires,
      "jobs:view"
    ),
    HttpApiEndpoint.get("partitions", "/queues/:name/partitions", {
      params: name,
      success: Views.PartitionsView,
      error: failures
    }).annotate(Requires, "jobs:view"),
    HttpApiEndpoint.post("pauseQueue", "/queues/:name/pause", {
      params: name,
      query: { node: Schema.optional(Schema.String), key: Schema.optional(Schema.String) },
      success: Views.Answer,
      error: refusals
    }).annotate(Requires, "queues:pause"),
    HttpApiEndpoint.post("resumeQueue", "/queues/:name/resume", {
      params: name,
      query: { node: Schema.optional(Schema.String), key: Schema.optional(Schema.String) },
      success: Views.Answer,
      error: refusals
    }).annotate(Requires, "queues:pause"),
    HttpApiEndpoint.post("scaleQueue", "/queues/:name/scale", {
      params: name,
      query: { node: Schema.optional(Schema.String) },
      payload: Schema.Struct({ concurrency: Schema.Int }),
      success: Views.Answer,
      error: refusals
    }).annotate(Requires, "queues:scale")
  )
  .middleware(Authorization)
  .prefix("/api") {}

/**
 * Cron entries.
 *
 * @category endpoints
 */
export class CronGroup extends HttpApiGroup.make("cron")
  .add(
    HttpApiEndpoint.get("cron", "/cron", { success: Schema.Array(Views.CronView), error: failures }).annotate(
      Requires,
      "jobs:view"
    ),
    HttpApiEndpoint.get("cronRuns", "/cron-runs", {
      success: Schema.Array(Views.CronRunsView),
      error: failures
    }).annotate(Requires, "jobs:view"),
    HttpApiEndpoint.get("cronEntry", "/cron/:name", {
      params: name,
      success: Views.CronDetail,
      error: failures
    }).annotate(Requires, "jobs:view"),
    HttpApiEndpoint.post("runCron", "/cron/:name/run", {
      params: name,
      success: Views.Answer,
      error: failures
    }).annotate(Requires, "cron:run"),
    HttpApiEndpoint.post("pauseCron", "/cron/:name/pause", {
      params: name,
      success: Views.Answer,
      error: failures
    }).annotate(Requires, "cron:pause"),
    HttpApiEndpoint.post("resumeCron", "/cron/:name/resume", {
      params: name,
      success: Views.Answer,
      error: failures
    }).annotate(Requires, "cron:pause")
  )
  .middleware(Authorization)
  .prefix("/api") {}

/**
 * Batches and flows.
 *
 * @category endpoints
 */
export class BatchesGroup extends HttpApiGroup.make("batches")
  .add(
    HttpApiEndpoint.get("batches", "/batches", {
      query: {
        limit,
        finished: Schema.optional(Schema.Literals(["true", "false"])),
        after: Schema.optional(Schema.Int)
      },
      success: Views.BatchPage,
      error: refusals
    }).annotate(Requires, "jobs:view"),
    HttpApiEndpoint.get("batch", "/batches/:id", {
      params: id,
      success: Views.BatchDetail,
      error: failures
    }).annotate(Requires, "jobs:view"),
    HttpApiEndpoint.post("retryBatch", "/batches/:id/retry", {
      params: id,
      success: Views.Answer,
      error: failures
    }).annotate(Requires, "batches:retry"),
    HttpApiEndpoint.post("cancelBatch", "/batches/:id/cancel", {
      params: id,
      success: Views.Answer,
      error: failures
    }).annotate(Requires, "batches:cancel")
  )
  .middleware(Authorization)
  .prefix("/api") {}

/**
 * The processes that run jobs, the kinds of jobs that they run, and what holds these back.
 *
 * @category endpoints
 */
export class FleetGroup extends HttpApiGroup.make("fleet")
  .add(
    HttpApiEndpoint.get("nodes", "/nodes", { success: Schema.Array(Views.NodeView), error: failures }).annotate(
      Requires,
      "jobs:view"
    ),
    HttpApiEndpoint.get("workers", "/workers", { success: Schema.Array(Views.WorkerView), error: failures }).annotate(
      Requires,
      "jobs:view"
    ),
    HttpApiEndpoint.get("worker", "/workers/:name", {
      params: name,
      success: Views.WorkerDetail,
      error: failures
    }).annotate(Requires, "jobs:view"),
    HttpApiEndpoint.post("enqueue", "/workers/:name/enqueue", {
      params: name,
      payload: Schema.Struct({
        /** Encoded, as the JSON Schema of the worker has them. */
        args: Schema.Json,
        queue: Schema.optional(Schema.String),
        priority: Schema.optional(Schema.Int),
        delayMillis: Schema.optional(Schema.Int),
        maxAttempts: Schema.optional(Schema.Int),
        tags: Schema.optional(Schema.Array(Schema.String))
      }),
      success: Views.Answer,
      error: refusals
    }).annotate(Requires, "jobs:enqueue"),
    HttpApiEndpoint.get("limits", "/limits", { success: Schema.Array(Views.LimitView), error: failures }).annotate(
      Requires,
      "jobs:view"
    ),
    HttpApiEndpoint.post("changePlaces", "/limits/:name/concurrency", {
      params: name,
      /** Null for what the code says. */
      payload: Schema.Struct({ concurrency: Schema.NullOr(Schema.Int) }),
      success: Views.Answer,
      error: refusals
    }).annotate(Requires, "limits:change"),
    HttpApiEndpoint.post("changeRate", "/limits/:name/rate", {
      params: name,
      /** Null for what the code says. */
      payload: Schema.Struct({
        rate: Schema.NullOr(Schema.Struct({ limit: Schema.Int, windowMillis: Schema.Int }))
      }),
      success: Views.Answer,
      error: refusals
    }).annotate(Requires, "limits:change"),
    HttpApiEndpoint.get("breakers", "/breakers", {
      success: Schema.Array(Views.BreakerView),
      error: failures
    }).annotate(Requires, "jobs:view"),
    HttpApiEndpoint.post("closeBreaker", "/breakers/:name/close", {
      params: name,
      success: Views.Answer,
      error: failures
    }).annotate(Requires, "breakers:close")
  )
  .middleware(Authorization)
  .prefix("/api") {}

const preview = (action: "retry" | "cancel" | "delete") =>
  HttpApiEndpoint.post(`${action}Preview`, `/operations/${action}/preview`, {
    payload: Schema.Struct(filter),
    success: Views.PreviewView,
    error: refusals
  })
const start = (action: "retry" | "cancel" | "delete") =>
  HttpApiEndpoint.post(`${action}All`, `/operations/${action}`, {
    payload: Schema.Struct({
      ...filter,
      token: Schema.String,
      confirm: Schema.optional(Schema.String)
    }),
    success: Views.OperationView,
    error: [Conflict, ...refusals]
  })
const stop = (action: "retry" | "cancel" | "delete") =>
  HttpApiEndpoint.post(`${action}Stop`, `/operations/${action}/:id/stop`, {
    params: id,
    success: Views.Answer,
    error: failures
  })

/**
 * What is done to all jobs that match, in the background, and who did what.
 *
 * @category endpoints
 */
export class OperationsGroup extends HttpApiGroup.make("operations")
  .add(
    preview("retry").annotate(Requires, "jobs:retry"),
    preview("cancel").annotate(Requires, "jobs:cancel"),
    preview("delete").annotate(Requires, "jobs:delete"),
    start("retry").annotate(Requires, "jobs:retry"),
    start("cancel").annotate(Requires, "jobs:cancel"),
    start("delete").annotate(Requires, "jobs:delete"),
    stop("retry").annotate(Requires, "jobs:retry"),
    stop("cancel").annotate(Requires, "jobs:cancel"),
    stop("delete").annotate(Requires, "jobs:delete"),
    HttpApiEndpoint.get("operations", "/operations", {
      success: Schema.Array(Views.OperationView),
      error: failures
    }).annotate(Requires, "jobs:view"),
    HttpApiEndpoint.get("operation", "/operations/:id", {
      params: id,
      success: Views.OperationView,
      error: failures
    }).annotate(Requires, "jobs:view"),
    HttpApiEndpoint.get("audit", "/audit", {
      query: { limit, after: Schema.optional(Schema.Int) },
      success: Views.AuditPage,
      error: refusals
    }).annotate(Requires, "audit:view")
  )
  .middleware(Authorization)
  .prefix("/api") {}

/**
 * What is new, as a stream of hints, or asked for now and then.
 *
 * @category endpoints
 */
export class LiveGroup extends HttpApiGroup.make("live")
  .add(
    HttpApiEndpoint.get("events", "/events", {
      query: { topics: Schema.String },
      success: HttpApiSchema.StreamSse({ events: Views.LiveEvent }),
      error: [Invalid, Unavailable]
    }).annotate(Requires, "jobs:view"),
    HttpApiEndpoint.get("pulse", "/pulse", {
      query: { topics: Schema.String },
      success: Views.PulseView,
      error: [Invalid, Unavailable]
    }).annotate(Requires, "jobs:view")
  )
  .middleware(Authorization)
  .prefix("/api") {}

/**
 * The API.
 *
 * @category endpoints
 */
export class DashboardApi extends HttpApi.make("shigoto-dashboard")
  .add(OverviewGroup, JobsGroup, QueuesGroup, CronGroup, BatchesGroup, FleetGroup, OperationsGroup, LiveGroup)
  .annotateMerge(OpenApi.annotations({ title: "Shigoto" })) {}
