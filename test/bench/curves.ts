/**
 * How the cost of ours grows with one thing at a time: `npm run bench -- --curve queues,nodes`.
 *
 * Each point has a database and processes of its own, as a workload has.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { mkdirSync, writeFileSync } from "node:fs"
import { Jobs, Shigoto, ShigotoConfig } from "../../src/index.ts"
import { type Peer, peers, type Target } from "./Adapter.ts"
import { type Bench, type Machine, measure, quiet } from "./harness.ts"
import {
  analyze,
  askedOf,
  countStatements,
  drain,
  pause,
  percentiles,
  rateOf,
  runThrough,
  serverTime
} from "./measures.ts"
import { lines, shown } from "./plot.ts"
import { inDatabase } from "./postgres.ts"
import type { About } from "./report.ts"

/** One thing that grows, and what is measured of it. */
export interface Curve {
  readonly name: string
  readonly title: string
  readonly xs: ReadonlyArray<number>
  /** Columns of the table by the name of their value; the first are plotted. */
  readonly columns: Readonly<Record<string, string>>
  readonly plotted: number
  readonly target?: (x: number) => Partial<Target>
  readonly run: (bench: Bench, x: number) => Promise<Readonly<Record<string, number>>>
}

/** Measures a curve and writes it as `curve-NAME` with three endings. */
export const draw = async (
  machine: Machine,
  curve: Curve,
  about: About,
  folders: ReadonlyArray<URL>
): Promise<void> => {
  const [ours] = peers as readonly [Peer, ...ReadonlyArray<Peer>] // never empty, ours first
  const xs = machine.quick ? curve.xs.slice(0, 2) : curve.xs
  const points: Array<{ readonly x: number; readonly values: Readonly<Record<string, number>> }> = []
  for (const x of xs) {
    const options = { name: `${curve.name}_${x}`, ...curve.target?.(x) }
    await quiet()
    const values = await measure(machine, ours, options, (bench) => curve.run(bench, x))
    points.push({ x, values })
    console.log(
      `${curve.name} ${x}: ${Object.entries(values)
        .map(([name, value]) => `${name} ${shown(value)}`)
        .join(", ")}`
    )
  }
  const columns = Object.entries(curve.columns)
  const table = [
    `| ${curve.title} | ${columns.map(([, title]) => title).join(" | ")} |`,
    `|---:|${columns.map(() => "---:").join("|")}|`,
    ...points.map(
      ({ values, x }) => `| ${x.toLocaleString("en")} | ${columns.map(([name]) => shown(values[name])).join(" | ")} |`
    )
  ].join("\n")
  const plot = lines(
    curve.title,
    xs,
    columns
      .slice(0, curve.plotted)
      .map(([name, title]) => ({ title, points: points.map(({ values }) => values[name]) }))
  )
  for (const folder of folders) {
    mkdirSync(folder, { recursive: true })
    const file = (ending: string) => new URL(`curve-${curve.name}.${ending}`, folder)
    writeFileSync(file("json"), `${JSON.stringify({ ...about, curve: curve.name, points }, undefined, 2)}\n`)
    writeFileSync(file("md"), `${table}\n`)
    writeFileSync(file("svg"), plot)
  }
  console.log(`\n${table}\n`)
}

const size = ({ quick }: Bench, full: number): number => (quick ? full / 10 : full)

/** Fifty jobs a second, one by one, on nodes that have nothing else to do. */
const trickle = async (bench: Bench) => {
  await countStatements(bench)
  const producer = await bench.spawn()
  const worker = await bench.worker()
  await worker.work(100)
  const span = bench.quick ? 3000 : 12_000
  await pause(bench.quick ? 2000 : 8000)
  const idle = await watch(bench, span, () => pause(span))
  await producer.paced(50, 1000, false)
  await worker.latencies()
  const busy = await watch(bench, span, () => producer.paced(50, span, false))
  await producer.drained()
  const { p50, p99 } = percentiles(await worker.latencies(), (span / 1000) * 49)
  return {
    p50,
    p99,
    idle: idle.statements,
    idleServer: idle.server,
    busy: busy.statements,
    busyServer: busy.server,
    memory: (await worker.usage()).memory / 1e6
  }
}

/** Statements per second, and the server's part of a core, while something goes on. */
const watch = async (bench: Bench, millis: number, what: () => Promise<unknown>) => {
  const before = await askedOf(bench)
  const served = serverTime(bench)
  await what()
  const used = served()
  const after = await askedOf(bench)
  return { statements: ((after.statements - before.statements) / millis) * 1000, server: (used / millis) * 100 }
}

/** Rate and CPU of a drain; how many cores each side used. */
const drained = async (bench: Bench, total: number, processes: number) => {
  const { figures, millis } = await drain(bench, total, processes)
  const { client, rate, server } = figures
  return {
    rate,
    client,
    server,
    clientCores: (client * total) / 1000 / millis,
    serverCores: (server * total) / 1000 / millis
  }
}

/** Asks as a dashboard does: the median of nine. */
const asked = async (url: string) => {
  const client = PgClient.layer({ url: Redacted.make(url), maxConnections: 1 })
  const layer = Shigoto.layerProducer.pipe(Layer.provide([ShigotoConfig.layer({ queues: { default: 1 } }), client]))
  const timed = Effect.fnUntraced(function* (ask: Effect.Effect<unknown, unknown, Jobs>) {
    const took: Array<number> = []
    for (let i = 0; i < 9; i++) {
      const start = performance.now()
      yield* ask
      took.push(performance.now() - start)
    }
    return took.toSorted((a, b) => a - b)[4] ?? Number.NaN
  })
  return Effect.runPromise(
    Effect.gen(function* () {
      const jobs = yield* Jobs
      const [newest] = yield* jobs.list({ state: "completed", limit: 1 })
      return {
        get: newest === undefined ? Number.NaN : yield* timed(jobs.get(newest.id)),
        list: yield* timed(jobs.list({ state: "completed", limit: 50 })),
        counts: yield* timed(jobs.counts)
      }
    }).pipe(Effect.provide(layer))
  )
}

/** Finished jobs that were never run, all in today's partition: deeper than a history that is spread over days. */
const history = async (bench: Bench, rows: number) => {
  const worker = await bench.worker()
  await worker.work(10)
  // The worker makes the partitions of these days before anything is finished.
  const partitions = () =>
    inDatabase(bench.url, "SELECT 1 FROM pg_class WHERE relname ~ '^jobs_archive_completed_[0-9]' AND relkind = 'r'")
  while ((await partitions()).length === 0) await pause(100)
  await worker.end()
  await inDatabase(
    bench.url,
    `INSERT INTO shigoto.jobs_archive
       (id, run_at, inserted_at, claimed_at, finished_at, epoch, claimed_by, priority, attempt, max_attempts, state,
        queue, worker, args)
     SELECT -i, at, at, at, at, 1, 1, 0, 1, 20, 'completed', 'default', 'bench',
       jsonb_build_object('i', i, 't', i * 1000.5)
     FROM generate_series(1, ${rows}) AS i, LATERAL (SELECT now() - interval '1 second' * (i % 60) AS at) AS moment`
  )
  await inDatabase(bench.url, "VACUUM ANALYZE")
}

const rateColumns = {
  rate: "drain, jobs/s",
  client: "workers, µs/job",
  server: "server, µs/job"
}

const trickleColumns = {
  p50: "start at 50/s, p50 ms",
  p99: "p99 ms",
  idle: "statements/s, idle",
  idleServer: "server, % of a core, idle",
  busy: "statements/s at 50 jobs/s",
  busyServer: "server, % of a core at 50 jobs/s",
  memory: "MB of the process"
}

/** All curves by name. */
export const curves: ReadonlyArray<Curve> = [
  {
    name: "queues",
    title: "queues of one node",
    xs: [1, 10, 100, 1000],
    plotted: 3,
    columns: { ...rateColumns, ...trickleColumns },
    target: (queues) => ({ queues, prompt: true }),
    run: async (bench) => ({ ...(await drained(bench, size(bench, 20_000), 1)), ...(await trickle(bench)) })
  },
  {
    name: "nodes",
    title: "nodes on one database",
    xs: [1, 3, 10, 30, 100],
    plotted: 3,
    columns: trickleColumns,
    target: (nodes) => ({ nodes, prompt: true }),
    run: trickle
  },
  {
    name: "backlog",
    title: "jobs that wait",
    xs: [10_000, 30_000, 100_000, 300_000, 1_000_000],
    plotted: 2,
    columns: { rate: "drain of the first 9,000, jobs/s", enqueued: "bulk enqueue of the last 10,000, jobs/s" },
    run: async (bench, depth) => {
      const producer = await bench.spawn()
      await producer.bulk(depth - 10_000, 5000, 4)
      const { jobs, millis } = await producer.bulk(10_000, 1000, 1)
      await analyze(bench)
      const { timeline } = await runThrough([await bench.worker()], 10_000)
      return { rate: rateOf(timeline, 1000, 10_000), enqueued: (jobs / millis) * 1000 }
    }
  },
  {
    name: "history",
    title: "finished jobs kept",
    xs: [0, 100_000, 1_000_000, 5_000_000],
    plotted: 2,
    columns: {
      ...rateColumns,
      get: "Jobs.get, ms",
      list: "Jobs.list of 50, ms",
      counts: "Jobs.counts, ms",
      table: "history and indexes, MB"
    },
    target: () => ({ keep: true }),
    run: async (bench, rows) => {
      await history(bench, rows)
      const measured = await drained(bench, size(bench, 20_000), 1)
      const [size_] = await inDatabase<{ bytes: string }>(
        bench.url,
        `SELECT sum(pg_total_relation_size(oid)) AS bytes
         FROM pg_class
         WHERE relname LIKE 'jobs_archive%' AND relkind = 'r'`
      )
      return { ...measured, ...(await asked(bench.url)), table: Number(size_?.bytes) / 1e6 }
    }
  },
  ...(["unique", "rate-by-key", "fair"] as const).map((variant): Curve => {
    const told = {
      unique: "unique keys held by jobs that wait",
      "rate-by-key": "partition keys with a rate each",
      fair: "partition keys in a fair queue"
    }
    return {
      name: `keys-${variant}`,
      title: told[variant],
      xs: [1, 100, 10_000, variant === "unique" ? 300_000 : 50_000],
      plotted: 2,
      columns: { ...rateColumns, enqueued: "bulk enqueue, jobs/s" },
      target: (keys) => (variant === "unique" ? { variant } : { variant, keys }),
      run: async (bench, keys) => {
        if (variant === "unique") {
          const producer = await bench.spawn()
          await producer.bulk(keys, 5000, 4)
          const { jobs, millis } = await producer.bulk(size(bench, 20_000), 1000, 4)
          await analyze(bench)
          const worker = await bench.worker()
          await worker.usage()
          const served = serverTime(bench)
          const { timeline } = await runThrough([worker], jobs)
          const used = served()
          return {
            rate: rateOf(timeline, 1000, jobs),
            client: ((await worker.usage()).cpuMillis / jobs) * 1000,
            server: (used / jobs) * 1000,
            enqueued: (jobs / millis) * 1000
          }
        }
        const { enqueued, figures } = await drain(bench, size(bench, 50_000), 1)
        return { ...figures, enqueued }
      }
    }
  }),
  {
    name: "processes",
    title: "worker processes",
    xs: [1, 2, 3, 4, 6, 8],
    plotted: 3,
    columns: {
      rate: "drain, jobs/s",
      clientCores: "cores used by the workers",
      serverCores: "cores used by the server",
      client: "workers, µs/job",
      server: "server, µs/job"
    },
    run: (bench, processes) => drained(bench, size(bench, 100_000), processes)
  },
  {
    name: "producers",
    title: "producer processes",
    xs: [1, 2, 3, 4],
    plotted: 3,
    columns: {
      singles: "single awaited enqueues by 50 each, jobs/s",
      bulk: "bulk enqueue in two lanes each, jobs/s",
      clientCores: "cores used by the producers, bulk",
      serverCores: "cores used by the server, bulk",
      singlesClientCores: "cores used by the producers, singles",
      singlesServerCores: "cores used by the server, singles"
    },
    run: async (bench, processes) => {
      const producers = await Promise.all(Array.from({ length: processes }, bench.spawn))
      const together = async (each: (producer: (typeof producers)[number]) => ReturnType<typeof producer.bulk>) => {
        for (const producer of producers) await producer.usage()
        const served = serverTime(bench)
        const done = await Promise.all(producers.map(each))
        const millis = Math.max(...done.map((produced) => produced.millis))
        const used = served()
        const usage = await Promise.all(producers.map((producer) => producer.usage()))
        return {
          rate: (done.reduce((sum, produced) => sum + produced.jobs, 0) / millis) * 1000,
          clientCores: usage.reduce((sum, { cpuMillis }) => sum + cpuMillis, 0) / millis,
          serverCores: used / millis
        }
      }
      await Promise.all(producers.map((producer) => producer.bulk(1000, 1000, 1)))
      const singles = await together((producer) => producer.singles(50, bench.quick ? 1000 : 4000))
      const bulk = await together((producer) => producer.bulk(size(bench, 100_000), 1000, 2))
      return {
        singles: singles.rate,
        singlesClientCores: singles.clientCores,
        singlesServerCores: singles.serverCores,
        bulk: bulk.rate,
        clientCores: bulk.clientCores,
        serverCores: bulk.serverCores
      }
    }
  }
]
