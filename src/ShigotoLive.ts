/**
 * The layer that an application provides: every part of Shigoto on its PostgreSQL.
 */
import type { PgClient } from "@effect/sql-pg/PgClient"
import type * as Layer from "effect/Layer"
import type { Audit } from "./Audit.ts"
import type { Batches } from "./Batches.ts"
import type { CronJobs } from "./CronJobs.ts"
import type { Encryption } from "./Encryption.ts"
import type { Flows } from "./Flows.ts"
import type { History } from "./History.ts"
import type { Jobs } from "./Jobs.ts"
import type { Limits } from "./Limits.ts"
import type { Resilience } from "./Resilience.ts"
import type { Queues } from "./Queues.ts"
import * as Shigoto from "./Shigoto.ts"
import type { ShigotoConfig } from "./ShigotoConfig.ts"
import type { Workers } from "./Workers.ts"

/**
 * Everything, on the application's own `PgClient`: claimer, queues, executor, settler, heartbeat, cron, pruner.
 *
 * **Details**
 *
 * Put worker layers on top with `Layer.provideMerge(ShigotoLive)`. Start-up brings the schema up to date, unless
 * `ShigotoConfig.migrate` is off, and fails where the database cannot be reached.
 *
 * @category layers
 */
export const ShigotoLive: Layer.Layer<
  Jobs | Queues | CronJobs | Batches | Flows | Limits | Audit | History | Encryption | Resilience | Workers,
  Shigoto.StartError,
  PgClient | ShigotoConfig
> = Shigoto.layer
