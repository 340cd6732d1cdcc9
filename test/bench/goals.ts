/** What is to be reached, as ratios to peers and limits of the same run or as bounds; the report says what was. */

/** At least so many times as good as another system, or within a bound of its own. */
export interface Goal {
  readonly workload: string
  readonly metric: string
  /** The system that ours is compared with; undefined for a bound. */
  readonly than: string | undefined
  /** Ours over theirs, whichever way better lies; or the bound itself. */
  readonly wanted: number
  /** The other workload that theirs is taken from, where a goal spans two. */
  readonly thatOf?: string
  /** Whether the ratio is to stay below `wanted`. */
  readonly most?: boolean
}

const times = (workload: string, metric: string, goals: Readonly<Record<string, number>>): ReadonlyArray<Goal> =>
  Object.entries(goals).map(([than, wanted]) => ({ workload, metric, than, wanted }))

const bound = (workload: string, metric: string, wanted: number): Goal => ({
  workload,
  metric,
  than: undefined,
  wanted
})

/** BullMQ's latency may be two thirds of ours. */
const near = 1 / 1.5

export const goals: ReadonlyArray<Goal> = [
  ...times("singles", "rate", { "graphile-worker": 30, "pg-boss": 30, bullmq: 1.3, raw: 0.7 }),
  ...times("bulk", "rate", { "graphile-worker": 1.8, raw: 0.75 }),
  ...times("bulk-4", "rate", { "graphile-worker": 1.8, raw: 0.75 }),
  ...times("drain", "rate", { "graphile-worker": 1.2, bullmq: 3, raw: 0.8 }),
  ...times("drain-kept", "rate", { "graphile-worker": 1, "pg-boss": 1.3 }),
  { workload: "drain-4", metric: "rate", than: "shigoto", wanted: 1, thatOf: "drain" },
  ...times("drain-4", "rate", { "graphile-worker": 1 }),
  ...times("latency", "p50", {
    "graphile-worker": 1,
    "pg-boss": 1,
    "effect-mq": 1,
    "persisted-queue": 1,
    bullmq: near
  }),
  bound("latency", "p50", 3),
  ...times("latency", "p99", { "graphile-worker": 1, "pg-boss": 1, bullmq: near }),
  bound("latency", "p99", 10),
  ...times("steady", "rate", { "graphile-worker": 1.2 }),
  { workload: "million", metric: "rate", than: "shigoto", wanted: 0.9, thatOf: "drain" },
  bound("million", "grown", 1.1),
  bound("snapshot", "kept", 0.7),
  bound("idle", "statements", 0.5),
  bound("idle", "cpu", 0.5),
  bound("idle-10", "statements", 0.5),
  ...times("drain", "memory", { "graphile-worker": 1, "pg-boss": 1, bullmq: 1 }),
  ...times("drain", "life", { "graphile-worker": 1 / 0.8 }),
  ...times("drain-kept", "life", { "pg-boss": 1 / 0.6 }),
  // Here ours is the plain one, and may be so much better than the one with everything on.
  { workload: "unused", metric: "rate", than: "shigoto-unused", wanted: 1 / 0.97, most: true },
  { workload: "unused", metric: "client", than: "shigoto-unused", wanted: 1.03, most: true }
]
