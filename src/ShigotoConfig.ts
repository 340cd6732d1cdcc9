/**
 * The settings of a node: every one has a default, and every bad value is refused at start with its field's name.
 */
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type * as AdaptiveConcurrency from "./AdaptiveConcurrency.ts"
import type * as Limit from "./Limit.ts"
import * as LoadShedding from "./LoadShedding.ts"
import { nameProblem, schemaProblem, shown } from "./internal/names.ts"
import { strayOption } from "./internal/options.ts"
import {
  century,
  day,
  duration,
  hour,
  integer,
  invalid,
  makeQueues,
  maxConcurrency,
  minute,
  type Partitions,
  type QueueOptions
} from "./internal/queueOptions.ts"
import type { InvalidConfig } from "./ShigotoError.ts"
import { InvalidSchemaName } from "./ShigotoError.ts"

export { maxConcurrency, type Partitions, type QueueOptions } from "./internal/queueOptions.ts"

/**
 * How long finished jobs are kept, by the state they ended in.
 *
 * **Details**
 *
 * History is dropped a whole partition at a time, so a job stays at least this long and at most an eighth longer (or
 * an hour, whichever is more). Zero keeps nothing: the job's row is deleted as it ends, and the history that is there
 * is dropped by the next pruning. After any other change, partitions that are there keep their width: each goes as a
 * whole once all of its jobs are past the retention in force.
 *
 * Set it alike on all nodes. Where they differ, history is dropped by the longest of those that are up, and whoever says
 * less is warned; a node with zero for a state still keeps no row of what it ends itself.
 *
 * @category models
 */
export interface Retention {
  /** How long completed jobs are kept. Defaults to 14 days. */
  readonly completed: Duration.Duration
  /** How long discarded jobs are kept. Defaults to 90 days. */
  readonly discarded: Duration.Duration
  /** How long cancelled jobs are kept. Defaults to 14 days. */
  readonly cancelled: Duration.Duration
}

/**
 * The settings, with every default filled in; `Options` says what each is.
 *
 * @category services
 */
export class ShigotoConfig extends Context.Service<
  ShigotoConfig,
  {
    readonly schema: string
    readonly migrate: boolean
    /** The queues of this node and how many jobs of each run at once. */
    readonly queues: ReadonlyMap<string, number>
    /** Which of them find their concurrency themselves, up to that number. Defaults to none. */
    readonly adaptive: ReadonlyMap<string, AdaptiveConcurrency.Rule>
    readonly shedding: LoadShedding.Rule | undefined
    /** How large the parts of those are that do not weigh 1. Defaults to none. */
    readonly weights: ReadonlyMap<string, number>
    /** In which of them a wait counts as priority, and how many milliseconds of it as one. Defaults to none. */
    readonly aging: ReadonlyMap<string, number>
    /** Which of them are fair, and by what rule. Defaults to none. */
    readonly partitions: ReadonlyMap<string, Partitions>
    /** Which of them start only so many jobs in a time. Defaults to none. */
    readonly rates: ReadonlyMap<string, Limit.Limit>
    /** Which of them every node runs all jobs of, and for how long after a job was due. Defaults to none. */
    readonly broadcast: ReadonlyMap<string, Duration.Duration>
    readonly nodeName: string
    readonly pollInterval: Duration.Duration
    readonly idlePollInterval: Duration.Duration
    readonly shutdownGrace: Duration.Duration
    readonly interruptGrace: Duration.Duration
    readonly leaseTtl: Duration.Duration
    readonly leaseBeat: Duration.Duration
    readonly queryTimeout: Duration.Duration
    readonly retention: Retention
    readonly pruneInterval: Duration.Duration
    readonly maxArgsBytes: number
    readonly maxResultBytes: number
    readonly tracing: "link" | "child"
    readonly captureLogs: boolean
    readonly logRetention: Duration.Duration
    readonly metrics: boolean
    readonly metricsInterval: Duration.Duration
    readonly history: boolean
    readonly listen: boolean
    readonly listenUrl: Redacted.Redacted | undefined
    readonly timeSource: "database" | "clock"
  }
>()("effect-shigoto/ShigotoConfig") {}

/**
 * What may be set; everything is optional.
 *
 * @category models
 */
export interface Options {
  /** The PostgreSQL schema that holds the tables. Defaults to `shigoto`. */
  readonly schema?: string | undefined
  /** Whether start-up brings the schema up to date; false only checks it. Defaults to true. */
  readonly migrate?: boolean | undefined
  /** Which queues this node runs, and how many jobs of each at once. Defaults to `{ default: 10 }`. */
  readonly queues?: Readonly<Record<string, number | QueueOptions>> | undefined
  /** What this node does without while it has too much to do. Defaults to nothing. */
  readonly shedding?: LoadShedding.Options | undefined
  /** The name by which people know this node; several may share one. Defaults to the HOSTNAME variable, else `node`. */
  readonly nodeName?: string | undefined
  /** The longest time between two looks for work while notifications do not arrive. Defaults to 1 second. */
  readonly pollInterval?: Duration.Input | undefined
  /** The longest time between two looks while notifications arrive and nothing runs. Defaults to 5 seconds. */
  readonly idlePollInterval?: Duration.Input | undefined
  /** How long a stopping node lets running handlers finish before it interrupts them. Defaults to 20 seconds. */
  readonly shutdownGrace?: Duration.Input | undefined
  /** How long an interrupted handler may run its finalizers before it is given up. Defaults to 5 seconds. */
  readonly interruptGrace?: Duration.Input | undefined
  /** How long a node's lease lasts after its last renewal. Defaults to 30 seconds. */
  readonly leaseTtl?: Duration.Input | undefined
  /** How often the lease is renewed; at most a third of `leaseTtl`. Defaults to 8 seconds. */
  readonly leaseBeat?: Duration.Input | undefined
  /** How long one statement of the library's loops may take. Defaults to 10 seconds. */
  readonly queryTimeout?: Duration.Input | undefined
  /**
   * How long finished jobs are kept, by the state they ended in; zero keeps nothing. Defaults to 14 days for completed and
   * cancelled ones, 90 days for discarded ones.
   */
  readonly retention?:
    | {
        readonly completed?: Duration.Input | undefined
        readonly discarded?: Duration.Input | undefined
        readonly cancelled?: Duration.Input | undefined
      }
    | undefined
  /** How often old history is dropped and new partitions are made. Defaults to 10 minutes. */
  readonly pruneInterval?: Duration.Input | undefined
  /** The largest encoded args, in bytes. Defaults to 1 MiB, at most 64 MiB. */
  readonly maxArgsBytes?: number | undefined
  /** The largest encoded result, in bytes. Defaults to 1 MiB, at most 64 MiB. */
  readonly maxResultBytes?: number | undefined
  /**
   * How an attempt's span hangs on the span that enqueued its job: linked to it, in a trace of its own, or as its
   * child. Defaults to `link`.
   */
  readonly tracing?: "link" | "child" | undefined
  /** Whether what handlers log is kept with their jobs. Defaults to false; a worker may say otherwise. */
  readonly captureLogs?: boolean | undefined
  /** How long captured logs are kept. Defaults to 7 days. */
  readonly logRetention?: Duration.Input | undefined
  /** Whether this node keeps metrics. Defaults to false. */
  readonly metrics?: boolean | undefined
  /** How often the gauges that ask the database are read, where metrics are kept. Defaults to 15 seconds. */
  readonly metricsInterval?: Duration.Input | undefined
  /** Whether this node records what happens, for charts: see `History`. Defaults to false. */
  readonly history?: boolean | undefined
  /** Whether this node listens for notifications. Defaults to true; polling alone is enough for correctness. */
  readonly listen?: boolean | undefined
  /** Where to listen when the client's own URL leads to a pooler in transaction mode. Defaults to the client's. */
  readonly listenUrl?: Redacted.Redacted | undefined
  /**
   * Whose clock decides due times, leases and retention: the database's, or the `Clock` of the fibers (for tests with
   * virtual time, on one process). Defaults to `database`.
   */
  readonly timeSource?: "database" | "clock" | undefined
}

/**
 * Every default, in one place.
 *
 * @category constants
 */
export const defaults = {
  schema: "shigoto",
  migrate: true,
  queues: { default: 10 },
  nodeName: "node",
  pollInterval: "1 second",
  idlePollInterval: "5 seconds",
  shutdownGrace: "20 seconds",
  interruptGrace: "5 seconds",
  leaseTtl: "30 seconds",
  leaseBeat: "8 seconds",
  queryTimeout: "10 seconds",
  retention: { completed: "14 days", discarded: "90 days", cancelled: "14 days" },
  pruneInterval: "10 minutes",
  maxArgsBytes: 1024 * 1024,
  maxResultBytes: 1024 * 1024,
  tracing: "link",
  captureLogs: false,
  logRetention: "7 days",
  metrics: false,
  metricsInterval: "15 seconds",
  history: false,
  listen: true,
  timeSource: "database"
} as const satisfies Options

/**
 * Fills in the defaults and checks every value.
 *
 * @category constructors
 */
export const make = Effect.fnUntraced(function* (
  options: Options = {}
): Effect.fn.Return<ShigotoConfig["Service"], InvalidConfig | InvalidSchemaName> {
  const schema = options.schema ?? defaults.schema
  const problem = schemaProblem(schema)
  if (problem !== undefined) {
    return yield* new InvalidSchemaName({
      value: shown(schema),
      message: `The schema name ${shown(schema)} cannot be used: ${problem}. Use a name such as "shigoto".`
    })
  }
  const { adaptive, aging, broadcast, partitions, queues, rates, weights } = yield* makeQueues(
    options.queues ?? defaults.queues
  )
  const stray = strayOption(options, [...Object.keys(defaults), "shedding", "listenUrl"])
  if (stray !== undefined) {
    return yield* invalid(stray.name, (options as Readonly<Record<string, unknown>>)[stray.name], stray.why) // its own key
  }
  const misspelt = strayOption(options.retention ?? {}, Object.keys(defaults.retention))
  if (misspelt !== undefined) return yield* invalid("retention", misspelt.name, misspelt.why)
  const hostname = yield* Effect.orElseSucceed(Config.option(Config.String("HOSTNAME")), Option.none<string>)
  const nodeName = options.nodeName ?? Option.getOrElse(hostname, () => defaults.nodeName)
  const nodeProblem = nameProblem(nodeName)
  if (nodeProblem !== undefined) return yield* invalid("nodeName", nodeName, nodeProblem)

  const leaseTtl = yield* duration("leaseTtl", options.leaseTtl ?? defaults.leaseTtl, minute / 60, day)
  const leaseBeat = yield* duration("leaseBeat", options.leaseBeat ?? defaults.leaseBeat, 50, day)
  if (Duration.toMillis(leaseBeat) * 3 > Duration.toMillis(leaseTtl)) {
    return yield* invalid(
      "leaseBeat",
      Duration.format(leaseBeat),
      "it must be at most a third of leaseTtl, so that a lost beat does not lose the lease"
    )
  }
  const retention = options.retention ?? {}
  return {
    schema,
    migrate: yield* oneOf("migrate", options.migrate ?? defaults.migrate, [true, false]),
    queues,
    adaptive,
    shedding: yield* makeShedding(options.shedding, weights),
    weights,
    aging,
    partitions,
    rates,
    broadcast,
    nodeName,
    pollInterval: yield* duration("pollInterval", options.pollInterval ?? defaults.pollInterval, 10, day),
    idlePollInterval: yield* duration(
      "idlePollInterval",
      options.idlePollInterval ?? defaults.idlePollInterval,
      10,
      day
    ),
    shutdownGrace: yield* duration("shutdownGrace", options.shutdownGrace ?? defaults.shutdownGrace, 0, day),
    interruptGrace: yield* duration("interruptGrace", options.interruptGrace ?? defaults.interruptGrace, 0, hour),
    leaseTtl,
    leaseBeat,
    queryTimeout: yield* duration("queryTimeout", options.queryTimeout ?? defaults.queryTimeout, 100, hour),
    retention: {
      completed: yield* duration(
        "retention.completed",
        retention.completed ?? defaults.retention.completed,
        0,
        century
      ),
      discarded: yield* duration(
        "retention.discarded",
        retention.discarded ?? defaults.retention.discarded,
        0,
        century
      ),
      cancelled: yield* duration("retention.cancelled", retention.cancelled ?? defaults.retention.cancelled, 0, century)
    },
    pruneInterval: yield* duration("pruneInterval", options.pruneInterval ?? defaults.pruneInterval, 100, day),
    maxArgsBytes: yield* integer("maxArgsBytes", options.maxArgsBytes ?? defaults.maxArgsBytes, 1, maxBytes),
    maxResultBytes: yield* integer("maxResultBytes", options.maxResultBytes ?? defaults.maxResultBytes, 1, maxBytes),
    tracing: yield* oneOf<"link" | "child">("tracing", options.tracing ?? defaults.tracing, ["link", "child"]),
    captureLogs: yield* oneOf("captureLogs", options.captureLogs ?? defaults.captureLogs, [true, false]),
    logRetention: yield* duration("logRetention", options.logRetention ?? defaults.logRetention, 0, century),
    metrics: yield* oneOf("metrics", options.metrics ?? defaults.metrics, [true, false]),
    metricsInterval: yield* duration("metricsInterval", options.metricsInterval ?? defaults.metricsInterval, 100, day),
    history: yield* oneOf("history", options.history ?? defaults.history, [true, false]),
    listen: yield* oneOf("listen", options.listen ?? defaults.listen, [true, false]),
    listenUrl: yield* redacted("listenUrl", options.listenUrl),
    timeSource: yield* oneOf<"database" | "clock">("timeSource", options.timeSource ?? defaults.timeSource, [
      "database",
      "clock"
    ])
  }
})

/**
 * Provides the settings, with defaults for all that is left out.
 *
 * @category layers
 */
export const layer = (options: Options = {}): Layer.Layer<ShigotoConfig, InvalidConfig | InvalidSchemaName> =>
  Layer.effect(ShigotoConfig, make(options))

/**
 * Provides the settings from the environment, over the given ones.
 *
 * **Details**
 *
 * Reads SHIGOTO_SCHEMA, SHIGOTO_QUEUES (such as `default=10,emails=5`), SHIGOTO_NODE_NAME, SHIGOTO_MIGRATE,
 * SHIGOTO_POLL_INTERVAL, SHIGOTO_SHUTDOWN_GRACE, SHIGOTO_LISTEN and SHIGOTO_LISTEN_URL through the current
 * `ConfigProvider`.
 *
 * @category layers
 */
export const layerFromEnv = (
  options: Options = {}
): Layer.Layer<ShigotoConfig, InvalidConfig | InvalidSchemaName | Config.ConfigError> =>
  Layer.effect(
    ShigotoConfig,
    Effect.flatMap(optionsFromEnv, (given) => make({ ...options, ...given }))
  )

/**
 * Reads what the environment says, as `layerFromEnv` does; what it leaves out is absent.
 *
 * @category constructors
 */
export const optionsFromEnv: Effect.Effect<Options, InvalidConfig | Config.ConfigError> = Effect.suspend(() =>
  Effect.gen(function* () {
    const env = yield* fromEnv
    const queues = env.queues === undefined ? undefined : yield* parseQueues(env.queues)
    return Object.fromEntries(Object.entries({ ...env, queues }).filter(([, value]) => value !== undefined))
  })
)

// internal

const maxBytes = 64 * 1024 * 1024

const optional = <A>(config: Config.Config<A>): Config.Config<A | undefined> =>
  Config.map(Config.option(config), Option.getOrUndefined)

const fromEnv = Config.all({
  schema: optional(Config.String("SHIGOTO_SCHEMA")),
  queues: optional(Config.String("SHIGOTO_QUEUES")),
  nodeName: optional(Config.String("SHIGOTO_NODE_NAME")),
  migrate: optional(Config.Boolean("SHIGOTO_MIGRATE")),
  pollInterval: optional(Config.Duration("SHIGOTO_POLL_INTERVAL")),
  shutdownGrace: optional(Config.Duration("SHIGOTO_SHUTDOWN_GRACE")),
  listen: optional(Config.Boolean("SHIGOTO_LISTEN")),
  listenUrl: optional(Config.Redacted("SHIGOTO_LISTEN_URL"))
})

const parseQueues = Effect.fnUntraced(function* (text: string) {
  const queues = new Map<string, number>()
  for (const part of text.split(",")) {
    const [name, concurrency, ...rest] = part.split("=")
    if (name === undefined || concurrency === undefined || rest.length > 0 || !/^\s*\d+\s*$/.test(concurrency)) {
      return yield* invalid("SHIGOTO_QUEUES", text, "write it as name=concurrency, separated by commas")
    }
    if (queues.has(name.trim())) return yield* invalid("SHIGOTO_QUEUES", text, `${name.trim()} is there twice`)
    queues.set(name.trim(), Number(concurrency))
  }
  return Object.fromEntries(queues)
})

const oneOf = <A>(field: string, value: A, allowed: ReadonlyArray<A>): Effect.Effect<A, InvalidConfig> =>
  allowed.includes(value)
    ? Effect.succeed(value)
    : Effect.fail(invalid(field, value, `it must be one of ${allowed.join(", ")}`))

/** The value stays out of the message: it may hold a password. */
const redacted = (
  field: string,
  value: Redacted.Redacted | undefined
): Effect.Effect<Redacted.Redacted | undefined, InvalidConfig> =>
  value === undefined || (Redacted.isRedacted(value) && typeof Redacted.value(value) === "string")
    ? Effect.succeed(value)
    : Effect.fail(invalid(field, Redacted.make(value), "it must be a Redacted URL"))

const makeShedding = (
  options: LoadShedding.Options | undefined,
  weights: ReadonlyMap<string, number>
): Effect.Effect<LoadShedding.Rule | undefined, InvalidConfig> => {
  const [[queue, weight] = []] = weights
  if (queue !== undefined && options?.maxInFlight === undefined) {
    const why =
      "queues have nothing to share without shedding.maxInFlight, which says how many attempts run on the node"
    return Effect.fail(invalid(`queues.${queue}.weight`, weight, why))
  }
  if (options === undefined) return Effect.undefined
  if (typeof options !== "object" || options === null) {
    return Effect.fail(invalid("shedding", options, "it must be an object"))
  }
  const rule = LoadShedding.check(options, maxConcurrency)
  return Result.isSuccess(rule) ? Effect.succeed(rule.success) : Effect.fail(rule.failure)
}
