/**
 * The whole of it as layers: everything on PostgreSQL, or the part that a producer needs.
 *
 * The order of the composition is the order of a stop, backwards: claiming ends first, running handlers end or are
 * interrupted, their outcomes are settled, the lease ends last, and the application's pool closes after all of it.
 */
import type { PgClient } from "@effect/sql-pg/PgClient"
import * as Layer from "effect/Layer"
import * as Audit from "./Audit.ts"
import * as Batches from "./Batches.ts"
import * as Claimer from "./Claimer.ts"
import * as CronJobs from "./CronJobs.ts"
import * as CronScheduler from "./CronScheduler.ts"
import * as Encryption from "./Encryption.ts"
import * as Executor from "./Executor.ts"
import * as Flows from "./Flows.ts"
import * as History from "./History.ts"
import * as Heartbeat from "./Heartbeat.ts"
import * as Admission from "./internal/admission.ts"
import * as Catalog from "./internal/catalog.ts"
import * as Events from "./internal/events.ts"
import * as LogSink from "./internal/logSink.ts"
import * as Jobs from "./Jobs.ts"
import * as JobStore from "./JobStore.ts"
import * as Limits from "./Limits.ts"
import * as Migrations from "./Migrations.ts"
import * as Notifier from "./Notifier.ts"
import type { StartError } from "./Producer.ts"
import * as Pruner from "./Pruner.ts"
import * as Queues from "./Queues.ts"
import * as Resilience from "./Resilience.ts"
import * as Settler from "./Settler.ts"
import type { ShigotoConfig } from "./ShigotoConfig.ts"
import * as ShigotoMetrics from "./ShigotoMetrics.ts"
import * as Workers from "./Workers.ts"

export { layer as layerProducer, type StartError } from "./Producer.ts"

/**
 * Everything: claims, runs, settles, schedules, rescues and prunes on this node. Workers are layers on top of it.
 *
 * @category layers
 */
export const layer: Layer.Layer<
  | Jobs.Jobs
  | Queues.Queues
  | CronJobs.CronJobs
  | Batches.Batches
  | Flows.Flows
  | Limits.Limits
  | Audit.Audit
  | History.History
  | Encryption.Encryption
  | Resilience.Resilience
  | Workers.Workers,
  StartError,
  PgClient | ShigotoConfig
> = /* @__PURE__ */ everything()

// internal

/** Hoisted, and called by a call that is marked: so a bundler may leave it out, with all loops, where only producers are. */
function everything() {
  return Layer.mergeAll(
    Claimer.layer,
    CronScheduler.layer,
    Pruner.layer,
    ShigotoMetrics.layerGauges,
    Catalog.layer
  ).pipe(
    Layer.provideMerge(Resilience.layer),
    Layer.provideMerge(Executor.layer),
    Layer.provideMerge(
      Layer.mergeAll(Audit.layer, History.layer, CronJobs.layer, Flows.layer, Limits.layer, Encryption.layer)
    ),
    Layer.provideMerge(Batches.layer),
    Layer.provideMerge(Layer.mergeAll(Settler.layer, Jobs.layer, Queues.layer, Admission.layer)),
    Layer.provideMerge(Layer.mergeAll(Notifier.layer, Heartbeat.layer, Workers.layer)),
    Layer.provideMerge(Layer.mergeAll(ShigotoMetrics.layer, History.layerRecorder, LogSink.layer)),
    Layer.provideMerge(Layer.mergeAll(JobStore.layer, Events.layer)),
    Layer.provide(Migrations.layerConfigured)
  )
}
