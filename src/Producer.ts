/**
 * The layer of a process that enqueues and looks: a file of its own, so that its bundle holds no claimer.
 */
import type { PgClient } from "@effect/sql-pg/PgClient"
import * as Layer from "effect/Layer"
import * as Audit from "./Audit.ts"
import * as Batches from "./Batches.ts"
import * as CronJobs from "./CronJobs.ts"
import * as Encryption from "./Encryption.ts"
import * as Flows from "./Flows.ts"
import * as History from "./History.ts"
import * as Events from "./internal/events.ts"
import * as Jobs from "./Jobs.ts"
import * as JobStore from "./JobStore.ts"
import * as Limits from "./Limits.ts"
import * as Migrations from "./Migrations.ts"
import * as Notifier from "./Notifier.ts"
import * as Queues from "./Queues.ts"
import type { ShigotoConfig } from "./ShigotoConfig.ts"
import * as ShigotoMetrics from "./ShigotoMetrics.ts"

/**
 * What start-up may fail with.
 *
 * @category errors
 */
export type StartError = Migrations.MigrationError

/**
 * Enqueues and looks, and nothing else: no loops, no listening, no lease, no handlers.
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
  | Encryption.Encryption,
  StartError,
  PgClient | ShigotoConfig
> = Layer.mergeAll(Audit.layer, History.layer, CronJobs.layer, Flows.layer, Limits.layer, Encryption.layer).pipe(
  Layer.provideMerge(Batches.layer),
  Layer.provideMerge(Layer.mergeAll(Jobs.layer, Queues.layer)),
  Layer.provide(Notifier.layerSend),
  Layer.provide(ShigotoMetrics.layer),
  Layer.provide([JobStore.layer, Events.layer]),
  Layer.provide(Migrations.layerConfigured)
)
