/** What is measured: each workload drives one system on a fresh database and returns numbers by metric. */
import type { Bench } from "./harness.ts"
import {
  analyze,
  askedOf,
  checkpoint,
  concurrency,
  countStatements,
  drain,
  holdSnapshot,
  pause,
  percentiles,
  rateOf,
  runThrough,
  serverTime,
  walOf
} from "./measures.ts"
import type { Process } from "./processes.ts"

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
  /** Whether jobs have to start at once, see `Target`. */
  readonly prompt?: boolean
  /** Whether it compares us with ourselves; other systems have no part in it. */
  readonly ours?: boolean
  /** Whether it is too long for a slow system. */
  readonly long?: boolean
  readonly metrics: Readonly<Record<string, Metric>>
  readonly run: (bench: Bench) => Promise<Readonly<Record<string, number>>>
}

const rate: Metric = { title: "jobs", unit: "/s", better: "higher" }
const millis = (title: string): Metric => ({ title, unit: "ms", better: "lower" })
const bytes = (title: string): Metric => ({ title, unit: "bytes/job", better: "lower" })
/** A busy machine blurs rates much more than what they cost. */
const cpu = (whose: string): Metric => ({ title: `CPU of the ${whose}`, unit: "µs/job", better: "lower" })
const memory: Metric = { title: "worker's memory", unit: "MB", better: "lower" }

/** Jobs of a run; a tenth of them where a system would take minutes, which does not change its rate. */
const size = ({ peer, quick }: Bench, full: number, small: number): number =>
  (quick ? small : full) / (peer.slow ? 10 : 1)

const enqueue = (title: string, produce: (producer: Process, bench: Bench) => ReturnType<Process["bulk"]>) =>
  ({
    title,
    keep: false,
    metrics: { rate, wal: bytes("WAL of an enqueue"), client: cpu("producer"), server: cpu("server") },
    run: async (bench: Bench) => {
      const producer = await bench.spawn()
      await producer.bulk(1000, 100, 4)
      await checkpoint(bench)
      const wal = await walOf(bench)
      await producer.usage()
      const served = serverTime(bench)
      const { jobs, millis } = await produce(producer, bench)
      const server = served()
      const { cpuMillis } = await producer.usage()
      return {
        rate: (jobs / millis) * 1000,
        wal: (await wal()) / jobs,
        client: (cpuMillis / jobs) * 1000,
        server: (server / jobs) * 1000
      }
    }
  }) as const

const drainMetrics: Workload["metrics"] = {
  rate,
  life: bytes("WAL, whole life"),
  wal: bytes("WAL of claim and settle"),
  memory,
  client: cpu("workers, start-up of their work included"),
  server: cpu("server"),
  table: bytes("tables and indexes at the end")
}

const drained = (title: string, processes: number, keep: boolean): Omit<Workload, "name"> => ({
  title,
  keep,
  metrics: drainMetrics,
  run: async (bench) => (await drain(bench, size(bench, 50_000, 10_000), processes)).figures
})

const latency: Workload["metrics"] = { p50: millis("p50"), p99: millis("p99") }

/** All workloads by name, in the order of the report. */
export const workloads: ReadonlyArray<Workload> = [
  {
    name: "singles",
    ...enqueue("Single awaited enqueues, 50 producers", (producer, bench) =>
      producer.singles(50, bench.quick ? 1500 : 5000)
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
  { name: "drain", ...drained("Drain of 50,000, one process, nothing kept", 1, false) },
  { name: "drain-kept", ...drained("Drain of 50,000, one process, history kept", 1, true) },
  { name: "drain-4", ...drained("Drain of 50,000, four processes, nothing kept", 4, false) },
  {
    name: "latency",
    title: "Enqueue to start, 50 jobs/s, idle worker",
    keep: false,
    prompt: true,
    metrics: latency,
    run: async (bench) => {
      const producer = await bench.spawn()
      const worker = await bench.worker()
      await worker.work(10)
      await producer.paced(50, 1000, false)
      await worker.latencies()
      const { jobs } = await producer.paced(50, bench.quick ? 4000 : 20_000, false)
      await producer.drained()
      return percentiles(await worker.latencies(), jobs)
    }
  },
  {
    name: "latency-half",
    title: "Enqueue to start at half of the own drain rate",
    keep: false,
    prompt: true,
    metrics: { ...latency, rate: { ...rate, title: "offered" } },
    run: async (bench) => {
      const total = size(bench, 50_000, 10_000)
      const producer = await bench.spawn()
      await producer.bulk(total, 1000, 4)
      await analyze(bench)
      const worker = await bench.worker()
      const { first } = await runThrough([worker], total)
      const perSecond = ((total / ((await producer.drained()) - first)) * 1e6) / 2
      await worker.latencies()
      const { jobs, millis } = await producer.paced(perSecond, bench.quick ? 2000 : 8000, true)
      await producer.drained()
      return { ...percentiles(await worker.latencies(), jobs), rate: (jobs / millis) * 1000 }
    }
  },
  {
    name: "steady",
    title: "Steady state, producer and worker in separate processes",
    keep: false,
    prompt: true,
    metrics: { rate },
    run: async (bench) => {
      const producer = await bench.spawn()
      const worker = await bench.worker()
      worker.onProgress = ({ handled }) => void producer.handled(handled).catch(() => undefined)
      await worker.work(concurrency)
      await producer.ahead(500, 500, 5000)
      const before = worker.progress
      await producer.ahead(bench.quick ? 2000 : 8000, 500, 5000)
      const after = worker.progress
      return { rate: ((after.handled - before.handled) / (after.at - before.at)) * 1e6 }
    }
  },
  {
    name: "million",
    title: "Drain out of a backlog of a million",
    keep: false,
    long: true,
    metrics: {
      rate: { ...rate, title: "the first 100,000" },
      shallow: { ...rate, title: "the last 100,000" },
      depth: { title: "first to last", unit: "ratio", better: "higher" },
      early: { ...memory, title: "worker's memory after 100,000" },
      half: { ...memory, title: "worker's memory after 500,000" },
      memory: { ...memory, title: "worker's memory after all" },
      grown: { title: "worker's memory after all to that after 100,000", unit: "ratio", better: "lower" }
    },
    run: async (bench) => {
      const total = size(bench, 1_000_000, 100_000)
      const part = total / 10
      const producer = await bench.spawn()
      await producer.bulk(total, 5000, 4)
      await analyze(bench)
      const { timeline } = await runThrough([await bench.worker()], total)
      const [deep, shallow] = [rateOf(timeline, 0, part), rateOf(timeline, total - part, total)]
      const memoryAt = (handled: number) => (timeline.find((at) => at.handled >= handled)?.memory ?? Number.NaN) / 1e6
      return {
        rate: deep,
        shallow,
        depth: deep / shallow,
        early: memoryAt(part),
        half: memoryAt(total / 2),
        memory: memoryAt(total),
        grown: memoryAt(total) / memoryAt(part)
      }
    }
  },
  {
    name: "snapshot",
    title: "Drain of 200,000 while another session holds a snapshot",
    keep: false,
    long: true,
    metrics: {
      rate: { ...rate, title: "the last tenth" },
      first: { ...rate, title: "the first tenth" },
      whole: { ...rate, title: "all" },
      kept: { title: "last to first tenth", unit: "ratio", better: "higher" }
    },
    run: async (bench) => {
      const total = size(bench, 200_000, 50_000)
      const producer = await bench.spawn()
      await producer.bulk(total, 5000, 4)
      await analyze(bench)
      const release = await holdSnapshot(bench)
      const { timeline } = await runThrough([await bench.worker()], total)
      await release()
      const [first, last] = [rateOf(timeline, 0, total * 0.1), rateOf(timeline, total * 0.9, total)]
      return { rate: last, first, whole: rateOf(timeline, 0, total), kept: last / first }
    }
  },
  { name: "idle", title: "Idle, one node", ...idle(1) },
  { name: "idle-10", title: "Idle, ten nodes", ...idle(10) },
  { name: "unused", ours: true, ...drained("Drain of 50,000 with all options on and unused", 1, false) },
  {
    name: "features",
    title: "What a feature costs: 20,000 jobs in, and through",
    keep: false,
    ours: true,
    metrics: {
      rate: { ...rate, title: "drain" },
      enqueued: { ...rate, title: "bulk enqueue, 1,000 at a time in four lanes" },
      life: bytes("WAL, whole life"),
      client: cpu("worker"),
      server: cpu("server, while draining")
    },
    run: async (bench) => {
      const { enqueued, figures } = await drain(bench, size(bench, 20_000, 4000), 1)
      return { ...figures, enqueued }
    }
  }
]

// internal

function idle(nodes: number): Omit<Workload, "name" | "title"> {
  return {
    keep: false,
    prompt: true,
    metrics: {
      statements: { title: "statements of a node, Redis: commands", unit: "/s", better: "lower" },
      transactions: { title: "transactions of a node", unit: "/s", better: "lower" },
      cpu: { title: "CPU of a node", unit: "% of a core", better: "lower" },
      server: { title: "CPU of the server for all of them", unit: "% of a core", better: "lower" }
    },
    run: async (bench) => {
      await countStatements(bench)
      const workers = await Promise.all(Array.from({ length: nodes }, bench.worker))
      for (const worker of workers) await worker.work(10)
      await pause(bench.quick ? 6000 : 10_000)
      for (const worker of workers) await worker.usage()
      const before = await askedOf(bench)
      const served = serverTime(bench)
      const span = bench.quick ? 15_000 : 40_000
      await pause(span)
      const server = served()
      const usage = await Promise.all(workers.map((worker) => worker.usage()))
      // The server's counters come up to a second late.
      const after = await askedOf(bench)
      const cpu = usage.reduce((sum, used) => sum + used.cpuMillis, 0)
      const perSecond = (from: number, to: number) => ((to - from) / span / nodes) * 1000
      return {
        statements: perSecond(before.statements, after.statements),
        transactions: perSecond(before.transactions, after.transactions),
        cpu: (cpu / span / nodes) * 100,
        server: (server / span) * 100
      }
    }
  }
}
