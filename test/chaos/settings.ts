/** What the runner and its processes have in common. */
import type { ShigotoConfig } from "effect-shigoto"

/** Leases are short so that a run of minutes sees many of them end. */
export const timing = {
  leaseTtl: 3000,
  leaseBeat: 800,
  pollInterval: 250,
  queryTimeout: 1500,
  shutdownGrace: 1000,
  interruptGrace: 500,
  /** The promise is lease + sweep + poll; a shared machine gets five seconds on top. */
  slack: 5000
}

/** How often each process says that its event loop turns, in milliseconds. */
export const pulseMillis = 100

/** How long a caller waits for an enqueue, a cancel or a retry, in milliseconds. */
export const callerPatience = 4000

/** How long after a network went silent its connections are ended, in milliseconds. */
export const burialDelay = 2000

/** The longest that a slow network holds a byte back, in milliseconds. */
export const longestDelay = 600

/** Lease, sweep (a lease long at most), poll and slack, in milliseconds. */
export const rescueBound = timing.leaseTtl * 2 + timing.pollInterval + timing.slack

/** Seventy slots a worker, and six where tenants take turns or have two places each. */
export const queues = {
  fast: 40,
  slow: 16,
  pausable: 8,
  limited: 6,
  fair: { concurrency: 3, fair: true },
  sites: { concurrency: 3, partitionConcurrency: 2 }
}

/** Connections of one worker's pool; its listener has one more. */
export const workerConnections = 6
export const producerConnections = 4

export const configOf = (nodeName: string): ShigotoConfig.Options => ({
  nodeName,
  queues,
  migrate: false,
  leaseTtl: timing.leaseTtl,
  leaseBeat: timing.leaseBeat,
  pollInterval: timing.pollInterval,
  idlePollInterval: timing.pollInterval * 4,
  queryTimeout: timing.queryTimeout,
  shutdownGrace: timing.shutdownGrace,
  interruptGrace: timing.interruptGrace,
  pruneInterval: "5 seconds"
})

/** What a child process is told, as JSON in the variable CHAOS. */
export interface ProcessSettings {
  /** Unique among all processes of the run; the name of the node, too. */
  readonly name: string
  readonly url: string
  readonly truthUrl: string
  readonly seed: number
  /** Where it writes what is kept beside the event log. */
  readonly directory: string
  /** Milliseconds that the process's clock is wrong by. */
  readonly skew: number
  /** Which workers it has: the old deploy lacks one. */
  readonly version: 1 | 2
  /** Jobs a second, for producers. */
  readonly rate: number
  /** Whether jobs may kill or block the process that runs them. */
  readonly poison: boolean
}

export const processSettings = (): ProcessSettings => JSON.parse(process.env["CHAOS"] ?? "{}") as ProcessSettings
