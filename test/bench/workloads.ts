/** What is measured: each workload drives one system on a fresh database and returns numbers by metric. */
import * as pg from "pg"
import type { Peer } from "./Adapter.ts"
import type { Process } from "./processes.ts"
import type { Postgres, Redis } from "./servers.ts"

/** What a workload works with. */
export interface Bench {
  readonly peer: Peer
  readonly postgres: Postgres
  readonly redis: Redis | undefined
  readonly quick: boolean
  /** The URL of this measurement's database. */
  readonly url: string
  /** Opens the system in a process of its own; the run ends it. */
  readonly spawn: () => Promise<Process>
  /** The same for a process that runs jobs, which a profile may be taken of. */
  readonly worker: () => Promise<Process>
}

export interface Metric {
  readonly title: string
  readonly unit: string
  readonly better: "higher" | "lower"
}

export interface Workload {
  readonly name: string
  readonly title: string
  /** Whether finished jobs are to stay. */
  readonly keep: boolean
  readonly metrics: Readonly<Record<string, Metric>>
  readonly run: (bench: Bench) => Promise<Readonly<Record<string, number>>>
}

const rate: Metric = { title: "jobs", unit: "/s", better: "higher" }
const millis = (title: string): Metric => ({ title, unit: "ms", better: "lower" })
const bytes = (title: string): Metric => ({ title, unit: "bytes/job", better: "lower" })
const memory: Metric = { title: "worker's memory", unit: "MB", better: "lower" }

/** Jobs at once in one process where the point is to drain; what a system makes of it is written in its adapter. */
const concurrency = 500

const size = ({ quick }: Bench, full: number, small: number): number => (quick ? small : full)

const enqueue = (title: string, produce: (producer: Process, bench: Bench) => ReturnType<Process["bulk"]>) =>
  ({
    title,
    keep: false,
    metrics: { rate, wal: bytes("WAL") },
    run: async (bench: Bench) => {
      const producer = await bench.spawn()
      await producer.bulk(100, 100, 1)
      const wal = await walOf(bench)
      const { jobs, millis } = await produce(producer, bench)
      return { rate: (jobs / millis) * 1000, wal: (await wal()) / jobs }
    }
  }) as const

/** Loads a backlog, then has `processes` processes drain it; the time counts from the first job's start to the last settled. */
const drain = async (bench: Bench, total: number, processes: number) => {
  const producer = await bench.spawn()
  await producer.bulk(total, 1000, 4)
  await settle(bench)
  const workers = await Promise.all(Array.from({ length: processes }, bench.worker))
  const wal = await walOf(bench)
  const { first } = await runThrough(workers, total)
  const end = await producer.drained()
  const perJob = (await wal()) / total
  const usage = await Promise.all(workers.map((worker) => worker.usage()))
  return {
    rate: (total / (end - first)) * 1e6,
    wal: perJob,
    memory: Math.max(...usage.map((used) => used.memory)) / 1e6
  }
}

const drained = (title: string, processes: number, keep: boolean): Omit<Workload, "name"> => ({
  title,
  keep,
  metrics: { rate, wal: bytes("WAL of claim and settle"), memory, ...(keep && { table: bytes("tables") }) },
  run: async (bench) => {
    const total = size(bench, 50_000, 10_000)
    const measured = await drain(bench, total, processes)
    return keep ? { ...measured, table: (await tablesOf(bench)) / total } : measured
  }
})

const latency: Workload["metrics"] = { p50: millis("p50"), p99: millis("p99") }

/** All workloads by name, in the order of the report. */
export const workloads: ReadonlyArray<Workload> = [
  {
    name: "singles",
    ...enqueue("Single awaited enqueues, 50 producers", (producer, bench) =>
      producer.singles(50, size(bench, 5000, 1500))
    )
  },
  {
    name: "bulk",
    ...enqueue("Bulk enqueue, 1,000 at a time", (producer, bench) =>
      producer.bulk(size(bench, 100_000, 20_000), 1000, 1)
    )
  },
  {
    name: "bulk-4",
    ...enqueue("Bulk enqueue, 1,000 at a time in four lanes", (producer, bench) =>
      producer.bulk(size(bench, 100_000, 20_000), 1000, 4)
    )
  },
  { name: "drain", ...drained("Drain, one process, nothing kept", 1, false) },
  { name: "drain-kept", ...drained("Drain, one process, history kept", 1, true) },
  { name: "drain-4", ...drained("Drain, four processes, nothing kept", 4, false) },
  {
    name: "latency",
    title: "Enqueue to start, 50 jobs/s, idle worker",
    keep: false,
    metrics: latency,
    run: async (bench) => {
      const producer = await bench.spawn()
      const worker = await bench.worker()
      await worker.work(10)
      await producer.paced(50, 1000, false)
      await worker.latencies()
      const { jobs } = await producer.paced(50, size(bench, 20_000, 4000), false)
      await producer.drained()
      return percentiles(await worker.latencies(), jobs)
    }
  },
  {
    name: "latency-half",
    title: "Enqueue to start at half of the own drain rate",
    keep: false,
    metrics: { ...latency, rate: { ...rate, title: "offered" } },
    run: async (bench) => {
      const total = size(bench, 50_000, 10_000)
      const producer = await bench.spawn()
      await producer.bulk(total, 1000, 4)
      await settle(bench)
      const worker = await bench.worker()
      const { first } = await runThrough([worker], total)
      const perSecond = ((total / ((await producer.drained()) - first)) * 1e6) / 2
      await worker.latencies()
      const { jobs, millis } = await producer.paced(perSecond, size(bench, 8000, 2000), true)
      await producer.drained()
      return { ...percentiles(await worker.latencies(), jobs), rate: (jobs / millis) * 1000 }
    }
  },
  {
    name: "steady",
    title: "Steady state, producer and worker in separate processes",
    keep: false,
    metrics: { rate },
    run: async (bench) => {
      const producer = await bench.spawn()
      const worker = await bench.worker()
      worker.onProgress = ({ handled }) => void producer.handled(handled).catch(() => undefined)
      await worker.work(concurrency)
      await producer.ahead(500, 500, 5000)
      const before = worker.progress
      await producer.ahead(size(bench, 8000, 2000), 500, 5000)
      const after = worker.progress
      return { rate: ((after.handled - before.handled) / (after.at - before.at)) * 1e6 }
    }
  },
  {
    name: "million",
    title: "The first 100,000 out of a backlog of a million",
    keep: false,
    metrics: { rate, shallow: { ...rate, title: "the last 100,000" } },
    run: async (bench) => {
      const total = size(bench, 1_000_000, 100_000)
      const part = total / 10
      const producer = await bench.spawn()
      await producer.bulk(total, 5000, 4)
      await settle(bench)
      const { timeline } = await runThrough([await bench.worker()], total)
      return { rate: rateOf(timeline, 0, part), shallow: rateOf(timeline, total - part, total) }
    }
  },
  {
    name: "snapshot",
    title: "Drain of 200,000 while another session holds a snapshot",
    keep: false,
    metrics: {
      rate: { ...rate, title: "the last tenth" },
      first: { ...rate, title: "the first tenth" },
      whole: { ...rate, title: "all" }
    },
    run: async (bench) => {
      const total = size(bench, 200_000, 50_000)
      const producer = await bench.spawn()
      await producer.bulk(total, 5000, 4)
      await settle(bench)
      const release = await holdSnapshot(bench)
      const { timeline } = await runThrough([await bench.worker()], total)
      await release()
      return {
        rate: rateOf(timeline, total * 0.9, total),
        first: rateOf(timeline, 0, total * 0.1),
        whole: rateOf(timeline, 0, total)
      }
    }
  },
  { name: "idle", title: "Idle, one node", ...idle(1) },
  { name: "idle-10", title: "Idle, ten nodes", ...idle(10) }
]

// internal

function idle(nodes: number): Omit<Workload, "name" | "title"> {
  return {
    keep: false,
    metrics: {
      statements: { title: "transactions of a node", unit: "/s", better: "lower" },
      cpu: { title: "CPU of a node", unit: "% of a core", better: "lower" }
    },
    run: async (bench) => {
      const workers = await Promise.all(Array.from({ length: nodes }, bench.worker))
      for (const worker of workers) await worker.work(10)
      await pause(size(bench, 10_000, 6000))
      for (const worker of workers) await worker.usage()
      const before = await transactionsOf(bench)
      const span = size(bench, 60_000, 15_000)
      await pause(span)
      const usage = await Promise.all(workers.map((worker) => worker.usage()))
      // The server's counters come up to a second late.
      const after = await transactionsOf(bench)
      const cpu = usage.reduce((sum, used) => sum + used.cpuMillis, 0)
      return { statements: ((after - before) / span / nodes) * 1000, cpu: (cpu / span / nodes) * 100 }
    }
  }
}

interface Moment {
  readonly at: number
  readonly handled: number
}

/** Starts the workers and waits until they have handled all jobs. */
const runThrough = async (workers: ReadonlyArray<Process>, total: number) => {
  const timeline: Array<Moment> = []
  const all = new Promise<void>((resolve) => {
    for (const worker of workers) {
      worker.onProgress = ({ at }) => {
        const handled = workers.reduce((sum, each) => sum + each.progress.handled, 0)
        timeline.push({ at, handled })
        if (handled >= total) resolve()
      }
    }
  })
  await Promise.all(workers.map((worker) => worker.work(concurrency)))
  await all
  const first = Math.min(...workers.map((worker) => worker.progress.first).filter((at) => at > 0))
  return { first, timeline: [{ at: first, handled: 0 }, ...timeline] }
}

/** Jobs per second between two counts. */
const rateOf = (timeline: ReadonlyArray<Moment>, from: number, to: number): number => {
  const start = timeline.findLast(({ handled }) => handled <= from) ?? timeline[0]
  const end = timeline.find(({ handled }) => handled >= to) ?? timeline.at(-1)
  return start === undefined || end === undefined
    ? Number.NaN
    : ((end.handled - start.handled) / (end.at - start.at)) * 1e6
}

const percentiles = (
  micros: ReadonlyArray<number>,
  expected: number
): { readonly p50: number; readonly p99: number } => {
  const sorted = micros.toSorted((a, b) => a - b)
  // A job that never started is no fast job.
  const at = (share: number) =>
    sorted.length < expected * 0.99 ? Number.NaN : (sorted[Math.floor(share * sorted.length)] ?? Number.NaN) / 1000
  return { p50: at(0.5), p99: at(0.99) }
}

const pause = (millis: number) => new Promise((resolve) => setTimeout(resolve, millis))

/** Gives every system the statistics that autovacuum would have made by now, and an empty log to write to. */
const settle = async ({ peer, postgres, url }: Bench): Promise<void> => {
  if (peer.store === "redis") return
  await inDatabase(url, "ANALYZE")
  await postgres.query("CHECKPOINT")
}

/** Counts the bytes of WAL from now on; NaN where there are none. */
const walOf = async ({ peer, postgres }: Bench): Promise<() => Promise<number>> => {
  const lsn = async () =>
    Number((await postgres.query<{ at: string }>("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn AS at"))[0]?.at)
  const start = await lsn()
  return async () => (peer.store === "redis" ? Number.NaN : (await lsn()) - start)
}

const tablesOf = async ({ peer, url }: Bench): Promise<number> => {
  if (peer.store === "redis") return Number.NaN
  const [row] = await inDatabase<{ bytes: string }>(
    url,
    `SELECT sum(pg_total_relation_size(c.oid)) AS bytes
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')`
  )
  return Number(row?.bytes)
}

const transactionsOf = async ({ peer, postgres, redis, url }: Bench): Promise<number> => {
  if (peer.store === "redis") return redis === undefined ? Number.NaN : redis.commands()
  const [row] = await postgres.query<{ count: string }>(
    `SELECT xact_commit + xact_rollback AS count FROM pg_stat_database WHERE datname = '${new URL(url).pathname.slice(1)}'`
  )
  return Number(row?.count)
}

const inDatabase = async <Row extends pg.QueryResultRow>(url: string, text: string): Promise<ReadonlyArray<Row>> => {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    return (await client.query<Row>(text)).rows
  } finally {
    await client.end()
  }
}

/** Holds a snapshot as a long report or a forgotten transaction does; nothing that dies meanwhile can be vacuumed. */
const holdSnapshot = async ({ peer, url }: Bench): Promise<() => Promise<void>> => {
  if (peer.store === "redis") return async () => undefined
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  await client.query("BEGIN ISOLATION LEVEL REPEATABLE READ")
  await client.query("SELECT count(*) FROM pg_class")
  return () => client.end()
}
