/**
 * The config module of the command line: what it cannot know of an application from its database alone.
 *
 * `work`, `enqueue` and `prune` look for `shigoto.config.ts` (or `.mts`, `.js`, `.mjs`) in the working directory; all
 * other commands need none, and use one only where `--config` names it.
 */
import type * as PgClient from "@effect/sql-pg/PgClient"
import type * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Schema from "effect/Schema"
import type { SqlClient } from "effect/sql/SqlClient"
import type { Batches } from "../Batches.ts"
import type { Cipher } from "../Cipher.ts"
import type { CronJobs } from "../CronJobs.ts"
import type { Flows } from "../Flows.ts"
import type { DefinitionOptions } from "../Job.ts"
import type { EnqueueResult, Jobs } from "../Jobs.ts"
import type { Limits } from "../Limits.ts"
import type { Queues } from "../Queues.ts"
import type * as ShigotoConfig from "../ShigotoConfig.ts"
import type { EnqueueError } from "../ShigotoError.ts"
import type { Workers } from "../Workers.ts"

/**
 * A definition as the command line needs it; every one made by `Job.make` is one, if its args need no services.
 *
 * @category models
 */
export interface Definition {
  readonly name: string
  readonly args: Schema.Top
  readonly options: DefinitionOptions
  /** Stores a job with these args, checked by the schema. */
  readonly enqueue: (args: never, options?: never) => Effect.Effect<EnqueueResult, EnqueueError, Jobs>
}

/**
 * What is there for the layer of the workers.
 *
 * @category models
 */
export type WorkerServices =
  | Batches
  | CronJobs
  | Flows
  | Jobs
  | Limits
  | PgClient.PgClient
  | Queues
  | ShigotoConfig.ShigotoConfig
  | SqlClient
  | Workers

/**
 * What a config module exports as its default.
 *
 * @category models
 */
export interface Config {
  /** The database, where neither a flag nor the environment names one. Defaults to none. */
  readonly url?: string | undefined
  /** The pool of `shigoto work`, such as `maxConnections` or, behind PgBouncer, `prepare: false`. Defaults to the client's own. */
  readonly pool?: Omit<PgClient.PgPoolConfig, "url" | "host" | "port" | "path" | "database"> | undefined
  /** The settings of the application: queues, retention, schema and all else. Defaults to the library's. */
  readonly settings?: ShigotoConfig.Options | undefined
  /** The definitions that `shigoto enqueue` checks args by. Defaults to none. */
  readonly jobs?: ReadonlyArray<Definition> | undefined
  /** What `shigoto work` runs: worker layers, cron entries, and what they need. Defaults to nothing. */
  readonly workers?: Layer.Layer<never, unknown, WorkerServices> | undefined
  /** What args and results are encrypted with. Defaults to none. */
  readonly cipher?: Layer.Layer<Cipher, unknown> | undefined
  /** Names whose values are hidden, besides the usual ones. Defaults to none. */
  readonly redactKeys?: ReadonlyArray<string> | undefined
}

/**
 * Types a config module; returns what it is given.
 *
 * @category constructors
 */
export const defineConfig = (config: Config): Config => config
