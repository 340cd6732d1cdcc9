/**
 * Whether jobs flow, and if not, why: one verdict with reasons, from a few reads that cost the same at any number of
 * jobs.
 *
 * | verdict | when |
 * |---|---|
 * | down | the database does not answer, is read-only, or has tables that this code cannot use |
 * | degraded | jobs may flow, and something needs a person: a reason says what |
 * | ok | none of these |
 *
 * Each read is under a time limit. One that fails makes the verdict no worse
 * than degraded, while the database answers at all.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { countLimit, type CountColumns, type QueueColumns, type ServerColumns } from "./internal/sql/health.ts"
import type { JobStore } from "./JobStore.ts"
import { latest } from "./Migrations.ts"
import { fromColumns, type NodeRow } from "./Nodes.ts"
import type { Notifier } from "./Notifier.ts"

/**
 * How jobs flow.
 *
 * @category models
 */
export type HealthStatus = "ok" | "degraded" | "down"

/**
 * One thing that is not as it should be.
 *
 * @category models
 */
export type HealthReason =
  | { readonly _tag: "DatabaseUnavailable"; readonly problem: string }
  | { readonly _tag: "DatabaseReadOnly" }
  | { readonly _tag: "SchemaVersion"; readonly found: number; readonly expected: number }
  /** A read took too long or failed, so that the rest is not known. */
  | { readonly _tag: "Unreadable"; readonly what: string; readonly problem: string }
  /** Jobs wait or run, and no node is alive. */
  | { readonly _tag: "NoNode" }
  /** Nodes without a live lease still hold jobs; the next look of a live node rescues them. */
  | { readonly _tag: "StaleJobs"; readonly count: number }
  /** A live node has not renewed its lease for more than half of it. */
  | { readonly _tag: "NodeSilent"; readonly node: string; readonly silentMillis: number }
  /** The event loop of a node was late by a quarter of its lease, or more. */
  | { readonly _tag: "NodeLagging"; readonly node: string; readonly lagMillis: number }
  /** Jobs wait in a queue that no live node runs. */
  | { readonly _tag: "QueueWithoutNode"; readonly queue: string; readonly waiting: number }
  /** Jobs wait for a worker that no live node has. */
  | { readonly _tag: "WorkerWithoutNode"; readonly worker: string }
  /** Jobs have been due for long. */
  | { readonly _tag: "OldJob"; readonly queue: string; readonly waitingMillis: number }
  /** Due jobs are not made available. */
  | { readonly _tag: "DueJobs"; readonly count: number }
  /** A transaction keeps dead rows from being removed. */
  | {
      readonly _tag: "LongTransaction"
      readonly seconds: number
      readonly pid: number | undefined
      readonly what: string
    }
  /** The server's queue of notifications fills up: some session listens and sits in a transaction. */
  | { readonly _tag: "NotificationQueue"; readonly usage: number }
  /** This node is to hear notifications and does not, so it polls. */
  | { readonly _tag: "NotListening" }

/**
 * How the whole stands.
 *
 * @category models
 */
export interface Health {
  readonly status: HealthStatus
  /** What is not as it should be, the weightiest first. */
  readonly reasons: ReadonlyArray<HealthReason>
  readonly database: { readonly reachable: boolean; readonly version: string | undefined }
  readonly schema: { readonly found: number | undefined; readonly expected: number }
  /** Live jobs, each kind counted up to 10,000: a count of 10,000 means that many or more. */
  readonly counts: Counts | undefined
  /** Queues with jobs that wait for a slot. */
  readonly queues: ReadonlyArray<{
    readonly queue: string
    /** Up to 10,000. */
    readonly available: number
    /** How long the one that waits longest has been due. */
    readonly oldestMillis: number
  }>
  readonly nodes: ReadonlyArray<NodeRow>
  /** The longest transaction that keeps dead rows from being removed, as far as this role may see it, in seconds. */
  readonly oldestTransactionSeconds: number | undefined
  readonly deadRows: number | undefined
  readonly notifications: {
    /** Whether this node hears them; else it polls. */
    readonly listening: boolean
    /** How full the server's queue of them is, from 0 to 1. */
    readonly queueUsage: number | undefined
  }
}

/**
 * How many live jobs there are, each kind counted up to 10,000.
 *
 * @category models
 */
export interface Counts {
  readonly available: number
  readonly executing: number
  readonly blocked: number
  /** Scheduled or retryable, and not due. */
  readonly waiting: number
  /** Scheduled or retryable, due, and not yet made available. */
  readonly due: number
  /** Executing under a lease that has run out. */
  readonly stale: number
  /** The planner's idea of all of them together. */
  readonly estimate: number
}

/**
 * From when on something is a reason, for whoever asks: `Effect.provideService(jobs.health, Health.Thresholds, { … })`.
 *
 * @category references
 */
export const Thresholds: Context.Reference<HealthThresholds> = Context.Reference("effect-shigoto/Health/Thresholds", {
  defaultValue: () => ({
    oldJobMillis: 300_000,
    dueJobs: countLimit,
    transactionSeconds: 300,
    notificationUsage: 0.5
  })
})

/**
 * What is too much.
 *
 * @category models
 */
export interface HealthThresholds {
  /** How long a job has been due. Defaults to 300,000. */
  readonly oldJobMillis: number
  /** How many due jobs are not yet available, at most 10,000. Defaults to 10,000. */
  readonly dueJobs: number
  /** How old a transaction is that has a snapshot. Defaults to 300. */
  readonly transactionSeconds: number
  /** How full the server's queue of notifications is, from 0 to 1. Defaults to 0.5. */
  readonly notificationUsage: number
}

/**
 * What the reads brought; undefined for one that failed.
 *
 * @category models
 */
export interface Readings {
  readonly ping: { readonly version: number; readonly readOnly: boolean } | undefined
  readonly server: ServerColumns | undefined
  readonly standing:
    | {
        readonly counts: CountColumns
        readonly queues: ReadonlyArray<QueueColumns>
        readonly workers: ReadonlyArray<string>
      }
    | undefined
  readonly nodes: ReadonlyArray<NodeRow> | undefined
  readonly listening: boolean
  /** Whether this process is to hear notifications. */
  readonly listens: boolean
  readonly problems: ReadonlyArray<{ readonly what: string; readonly problem: string }>
}

/**
 * Judges what the reads brought.
 *
 * @category rules
 */
export const assess = (readings: Readings, thresholds: HealthThresholds): Health => {
  const { listening, listens, nodes, ping, server, standing } = readings
  const version = ping?.version
  const fatal: Array<HealthReason> = []
  const [first] = readings.problems
  if (version === undefined && first !== undefined) {
    fatal.push({ _tag: "DatabaseUnavailable", problem: first.problem })
  }
  if (ping?.readOnly === true) fatal.push({ _tag: "DatabaseReadOnly" })
  const schema = { _tag: "SchemaVersion" as const, found: version ?? 0, expected: latest }
  if (version !== undefined && version < latest) fatal.push(schema)
  const reasons = [
    ...fatal,
    // A newer schema works: steps only add. This node is the old one of a rolling deployment.
    ...(version !== undefined && version > latest ? [schema] : []),
    ...(version === undefined ? [] : readings.problems.map((problem) => ({ _tag: "Unreadable" as const, ...problem }))),
    ...fleetReasons(readings, thresholds),
    ...serverReasons(server, thresholds),
    // Where the database is away, nobody hears anything.
    ...(version !== undefined && listens && !listening ? [{ _tag: "NotListening" as const }] : [])
  ]
  return {
    status: fatal.length > 0 ? "down" : reasons.length > 0 ? "degraded" : "ok",
    reasons,
    database: { reachable: version !== undefined, version: server?.version },
    schema: { found: version, expected: latest },
    counts: standing?.counts,
    queues:
      standing?.queues.map(({ available, oldest_millis, queue }) => ({
        queue,
        available,
        oldestMillis: oldest_millis
      })) ?? [],
    nodes: nodes ?? [],
    oldestTransactionSeconds: server?.oldest_transaction ?? undefined,
    deadRows: server?.dead_rows,
    notifications: { listening, queueUsage: server?.notification_usage }
  }
}

/**
 * Tells a reason to people.
 *
 * @category rules
 */
export const tell = (reason: HealthReason): string => {
  switch (reason._tag) {
    case "DatabaseUnavailable":
      return `The database does not answer: ${reason.problem}`
    case "DatabaseReadOnly":
      return "The database is read-only: a standby, or default_transaction_read_only is on."
    case "SchemaVersion":
      return `The schema is at version ${reason.found}, this code works with ${reason.expected}.`
    case "Unreadable":
      return `${reason.what} could not be read: ${reason.problem}`
    case "NoNode":
      return "No node is alive, and there are jobs to run."
    case "StaleJobs":
      return `${many(reason.count, "job is", "jobs are")} held by nodes that are silent; a live node rescues what they hold.`
    case "NodeSilent":
      return `Node ${reason.node} has been silent for ${millis(reason.silentMillis)}.`
    case "NodeLagging":
      return `The event loop of node ${reason.node} was ${millis(reason.lagMillis)} late; move CPU-bound work to a worker thread.`
    case "QueueWithoutNode":
      return `${many(reason.waiting, "job waits", "jobs wait")} in the queue "${reason.queue}", which no live node runs.`
    case "WorkerWithoutNode":
      return `Jobs wait for the worker "${reason.worker}", which no live node has.`
    case "OldJob":
      return `A job of the queue "${reason.queue}" has been due for ${millis(reason.waitingMillis)}.`
    case "DueJobs":
      return `${many(reason.count, "job is", "jobs are")} due and not made available.`
    case "LongTransaction":
      return `A transaction of ${reason.what}${reason.pid === undefined ? "" : ` (pid ${reason.pid})`} has kept dead rows for ${Math.round(reason.seconds)} s.`
    case "NotificationQueue":
      return `The server's notification queue is ${Math.round(reason.usage * 100)} % full: a session listens inside a transaction.`
    case "NotListening":
      return "This node hears no notifications and polls instead."
  }
}

/**
 * Reads and judges; never fails.
 *
 * @category constructors
 */
export const make = (store: JobStore["Service"], notifier: Notifier["Service"]): Effect.Effect<Health> =>
  Effect.gen(function* () {
    const problems: Array<{ readonly what: string; readonly problem: string }> = []
    const attempt = <A>(what: string, read: Effect.Effect<A, { readonly message: string }>) =>
      Effect.catch(read, ({ message }) =>
        Effect.sync((): A | undefined => {
          problems.push({ what, problem: message })
          return undefined
        })
      )
    const { insight } = store
    const ping = yield* attempt("The schema's version", insight.ping)
    const silent = ping === undefined
    const server = silent ? undefined : yield* attempt("The server's state", insight.server)
    const nodes = silent ? undefined : yield* attempt("The list of nodes", insight.fleet)
    const standing = silent ? undefined : yield* attempt("The jobs", insight.standing)
    const readings: Readings = {
      ping,
      server,
      standing,
      nodes: nodes?.map(fromColumns),
      listening: notifier.isListening(),
      listens: notifier.listens,
      problems
    }
    return assess(readings, yield* Thresholds)
  })

/**
 * Says whether the database answers and has tables that this code can use.
 *
 * @category constructors
 */
export const isReady = (store: JobStore["Service"]): Effect.Effect<boolean> =>
  Effect.match(store.insight.ping, {
    onFailure: () => false,
    onSuccess: ({ readOnly, version }) => !readOnly && version >= latest
  })

// internal

const many = (count: number, one: string, more: string): string =>
  count === 1 ? `1 ${one}` : `${count >= countLimit ? `${countLimit} or more` : count} ${more}`

const millis = (value: number): string => Duration.format(Duration.millis(Math.round(value)))

const fleetReasons = (
  { nodes, standing }: Readings,
  { dueJobs, oldJobMillis }: HealthThresholds
): ReadonlyArray<HealthReason> => {
  if (nodes === undefined) return []
  const live = nodes.filter((node) => node.live)
  const reasons: Array<HealthReason> = []
  for (const { lagMillis, leaseTtlMillis, name, silentMillis } of live) {
    if (silentMillis > leaseTtlMillis / 2) reasons.push({ _tag: "NodeSilent", node: name, silentMillis })
    if (lagMillis >= leaseTtlMillis / 4) reasons.push({ _tag: "NodeLagging", node: name, lagMillis })
  }
  if (standing === undefined) return reasons
  const { counts, queues, workers } = standing
  if (counts.stale > 0) reasons.push({ _tag: "StaleJobs", count: counts.stale })
  if (live.length === 0) {
    return counts.available + counts.due + counts.executing > 0 ? [{ _tag: "NoNode" }, ...reasons] : reasons
  }
  for (const { available, oldest_millis, queue } of queues) {
    if (!live.some((node) => node.queues.some((one) => one.name === queue))) {
      reasons.push({ _tag: "QueueWithoutNode", queue, waiting: available })
    } else if (oldest_millis >= oldJobMillis) {
      reasons.push({ _tag: "OldJob", queue, waitingMillis: oldest_millis })
    }
  }
  for (const worker of workers) {
    if (!live.some((node) => node.workers.includes(worker))) reasons.push({ _tag: "WorkerWithoutNode", worker })
  }
  if (counts.due >= dueJobs) reasons.push({ _tag: "DueJobs", count: counts.due })
  return reasons
}

const serverReasons = (
  server: ServerColumns | undefined,
  { notificationUsage, transactionSeconds }: HealthThresholds
): ReadonlyArray<HealthReason> => {
  if (server === undefined) return []
  const reasons: Array<HealthReason> = []
  const { notification_usage, oldest_pid, oldest_transaction, oldest_what } = server
  if (oldest_transaction !== null && oldest_transaction >= transactionSeconds) {
    reasons.push({
      _tag: "LongTransaction",
      seconds: oldest_transaction,
      pid: oldest_pid ?? undefined,
      what: oldest_what ?? "another role"
    })
  }
  if (notification_usage >= notificationUsage) {
    reasons.push({ _tag: "NotificationQueue", usage: notification_usage })
  }
  return reasons
}
