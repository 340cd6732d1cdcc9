/** What every measured system is to the driver: the same six verbs, each peer at its best documented settings. */

/** The args of a job: a number, and the instant of its enqueue on the machine's monotonic clock, in microseconds. */
export interface Payload {
  readonly i: number
  readonly t: number
}

/** Where and how a system is to run. */
export interface Target {
  /** The URL of an empty database of its own. */
  readonly url: string
  /** The port of the Redis server on 127.0.0.1; 0 where there is none. */
  readonly redisPort: number
  /** Whether finished jobs stay as history, for systems that can do both. */
  readonly keep: boolean
  /** The size of the pool for statements. */
  readonly connections: number
  /** Whether jobs have to start at once: where not, a system that pays for its wake-ups goes without. */
  readonly prompt: boolean
  /** Ours alone: which features are in use, `plain` for none. */
  readonly variant: string
  /** Ours alone: over how many queues and partition keys jobs are spread, and how many nodes a worker's process is. */
  readonly queues: number
  readonly keys: number
  readonly nodes: number
}

/** One system in one process. */
export interface Adapter {
  /** Makes tables and queues; called once for each database, before any other process opens it. */
  readonly setup: () => Promise<void>
  /** Resolves when the job is stored. */
  readonly enqueueOne: (payload: Payload) => Promise<unknown>
  /** Resolves when all are stored. */
  readonly enqueueMany: (payloads: ReadonlyArray<Payload>) => Promise<unknown>
  /** Starts to run jobs in this process, up to `concurrency` at once; resolves when the worker is up. */
  readonly startWorkers: (handler: (payload: Payload) => void, concurrency: number) => Promise<void>
  /** Whether no job waits or runs any more. */
  readonly drained: () => Promise<boolean>
  /** Stops workers, closes connections. */
  readonly stop: () => Promise<void>
}

/** Builds a system's adapter; nothing is connected yet. */
export type MakeAdapter = (target: Target) => Adapter

/** A system that can be measured. */
export interface Peer {
  readonly name: string
  readonly title: string
  /** Its file in `peers`; undefined for pgbench, which is a program of its own. */
  readonly file: string | undefined
  /** The npm package whose version is printed. */
  readonly package: string | undefined
  readonly store: "postgres" | "redis"
  /** Whether it is a limit, not a job system. */
  readonly limit: boolean
  /** Takes a tenth of the jobs in bulk and drains, and no part in the longest ones: they would take it an hour. */
  readonly slow: boolean
  readonly variant: string
  /** The workloads that it takes part in; all that are for every system where undefined. */
  readonly only: ReadonlyArray<string> | undefined
}

const system = { limit: false, only: undefined, slow: false, store: "postgres", variant: "plain" } as const

/** Ours with a feature: for the workloads that compare us with ourselves. */
const ours = (variant: string, title: string, only: ReadonlyArray<string> = ["features"]): Peer => ({
  ...system,
  name: `shigoto-${variant}`,
  title: `Shigoto, ${title}`,
  file: "shigoto.ts",
  package: undefined,
  variant,
  only
})

/** All systems, ours first. */
export const peers: ReadonlyArray<Peer> = [
  { ...system, name: "shigoto", title: "Shigoto", file: "shigoto.ts", package: undefined },
  ours("unused", "all options on, unused", ["features", "unused"]),
  ours("unique", "unique jobs"),
  ours("batch", "members of batches"),
  ours("dependency", "each second job waits for one"),
  ours("rate", "rate limited"),
  ours("encrypted", "encrypted"),
  {
    ...system,
    name: "graphile-worker",
    title: "graphile-worker",
    file: "graphileWorker.ts",
    package: "graphile-worker"
  },
  { ...system, name: "pg-boss", title: "pg-boss", file: "pgBoss.ts", package: "pg-boss" },
  { ...system, name: "bullmq", title: "BullMQ on Redis", file: "bullmq.ts", package: "bullmq", store: "redis" },
  {
    ...system,
    name: "effect-mq",
    title: "effect-mq",
    file: "effectMq.ts",
    package: "effect-mq",
    slow: true
  },
  {
    ...system,
    name: "persisted-queue",
    title: "Effect PersistedQueue",
    file: "persistedQueue.ts",
    package: "effect",
    slow: true
  },
  { ...system, name: "raw", title: "raw SQL (limit)", file: "raw.ts", package: "@effect/sql-pg", limit: true },
  {
    ...system,
    name: "raw-single",
    title: "raw SQL, a row each",
    file: "rawSingle.ts",
    package: "@effect/sql-pg",
    limit: true,
    only: ["singles", "latency"]
  },
  {
    ...system,
    name: "pgbench",
    title: "pgbench (limit)",
    file: undefined,
    package: undefined,
    limit: true,
    only: ["singles", "bulk", "bulk-4", "drain", "drain-4"]
  }
]
