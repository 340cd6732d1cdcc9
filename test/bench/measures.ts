/** What workloads and curves measure with: backlogs, rates, the log, statements, snapshots. */
import * as pg from "pg"
import type { Bench } from "./harness.ts"
import { inDatabase } from "./postgres.ts"
import type { Process } from "./processes.ts"

/** Jobs at once in one process where the point is to drain; what a system makes of it is written in its adapter. */
export const concurrency = 500

/**
 * Loads a backlog, then has `processes` processes drain it; the time counts from the first job's start to the last
 * settled. The WAL is that of a job's whole life, no checkpoint in between.
 */
export const drain = async (bench: Bench, total: number, processes: number) => {
  const producer = await bench.spawn()
  await checkpoint(bench)
  const life = await walOf(bench)
  const loaded = await producer.bulk(total, 1000, 4)
  await analyze(bench)
  const workers = await Promise.all(Array.from({ length: processes }, bench.worker))
  const wal = await walOf(bench)
  for (const worker of workers) await worker.usage()
  const served = serverTime(bench)
  const { first } = await runThrough(workers, total)
  const end = await producer.drained()
  const server = served()
  const [drained, whole] = [await wal(), await life()]
  const usage = await Promise.all(workers.map((worker) => worker.usage()))
  // What is measured next on this database would run on them too.
  await Promise.all(workers.map((worker) => worker.end()))
  return {
    figures: {
      rate: (total / (end - first)) * 1e6,
      wal: drained / total,
      life: whole / total,
      memory: Math.max(...usage.map((used) => used.memory)) / 1e6,
      client: (usage.reduce((sum, used) => sum + used.cpuMillis, 0) / total) * 1000,
      server: (server / total) * 1000,
      table: (await tablesOf(bench)) / total
    },
    enqueued: (total / loaded.millis) * 1000,
    millis: (end - first) / 1000
  }
}

/** CPU time of PostgreSQL in milliseconds from now on; NaN where there is none, or this machine cannot tell. */
export const serverTime = ({ peer, postgres }: Bench): (() => number) => {
  const start = postgres.cpuMillis() ?? Number.NaN
  return () => (peer.store === "redis" ? Number.NaN : (postgres.cpuMillis() ?? Number.NaN) - start)
}

interface Moment {
  readonly at: number
  readonly handled: number
  readonly memory: number
}

/** Starts the workers and waits until they have handled all jobs. */
export const runThrough = async (workers: ReadonlyArray<Process>, total: number) => {
  const timeline: Array<Moment> = []
  const all = new Promise<void>((resolve) => {
    for (const worker of workers) {
      worker.onProgress = ({ at, memory }) => {
        const handled = workers.reduce((sum, each) => sum + each.progress.handled, 0)
        timeline.push({ at, handled, memory })
        if (handled >= total) resolve()
      }
    }
  })
  await Promise.all(workers.map((worker) => worker.work(concurrency)))
  await all
  const first = Math.min(...workers.map((worker) => worker.progress.first).filter((at) => at > 0))
  return { first, timeline: [{ at: first, handled: 0, memory: 0 }, ...timeline] }
}

/** Jobs per second between two counts. */
export const rateOf = (timeline: ReadonlyArray<Moment>, from: number, to: number): number => {
  const start = timeline.findLast(({ handled }) => handled <= from) ?? timeline[0]
  const end = timeline.find(({ handled }) => handled >= to) ?? timeline.at(-1)
  return start === undefined || end === undefined
    ? Number.NaN
    : ((end.handled - start.handled) / (end.at - start.at)) * 1e6
}

export const percentiles = (
  micros: ReadonlyArray<number>,
  expected: number
): { readonly p50: number; readonly p99: number } => {
  const sorted = micros.toSorted((a, b) => a - b)
  // A job that never started is no fast job.
  const at = (share: number) =>
    sorted.length < expected * 0.99 ? Number.NaN : (sorted[Math.floor(share * sorted.length)] ?? Number.NaN) / 1000
  return { p50: at(0.5), p99: at(0.99) }
}

export const pause = (millis: number) => new Promise((resolve) => setTimeout(resolve, millis))

/** Gives every system the statistics that autovacuum would have made by now. */
export const analyze = async ({ peer, url }: Bench): Promise<void> => {
  if (peer.store !== "redis") await inDatabase(url, "ANALYZE")
}

/** So that no measurement pays for the first change of a page after a checkpoint, or for what the one before left. */
export const checkpoint = async ({ peer, postgres }: Bench): Promise<void> => {
  if (peer.store !== "redis") await postgres.query("CHECKPOINT")
}

/** Counts the bytes of WAL from now on; NaN where there are none. */
export const walOf = async ({ peer, postgres }: Bench): Promise<() => Promise<number>> => {
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

const databaseOf = (url: string): string => new URL(url).pathname.slice(1)

/** Has the server count each statement that is sent to this database, BEGIN and COMMIT included. */
export const countStatements = async ({ peer, postgres, url }: Bench): Promise<void> => {
  if (peer.store === "redis") return
  try {
    await postgres.query("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
    await postgres.query(`ALTER DATABASE ${databaseOf(url)} SET pg_stat_statements.track = 'top'`)
  } catch (error) {
    console.error("statements are not counted: pg_stat_statements is not there", error)
  }
}

/** What was asked of the server so far; statements are NaN where it does not count them. */
export const askedOf = async ({
  peer,
  postgres,
  redis,
  url
}: Bench): Promise<{ readonly statements: number; readonly transactions: number }> => {
  if (peer.store === "redis") {
    return { statements: redis === undefined ? Number.NaN : await redis.commands(), transactions: Number.NaN }
  }
  const [row] = await postgres.query<{ oid: number; count: string }>(
    `SELECT datid AS oid, xact_commit + xact_rollback AS count
     FROM pg_stat_database
     WHERE datname = '${databaseOf(url)}'`
  )
  const statements = await postgres
    .query<{ calls: string | null }>(`SELECT sum(calls) AS calls FROM pg_stat_statements WHERE dbid = ${row?.oid}`)
    .then(([counted]) => Number(counted?.calls ?? 0))
    .catch(() => Number.NaN)
  return { statements, transactions: Number(row?.count) }
}

/** Holds a snapshot as a long report or a forgotten transaction does; nothing that dies meanwhile can be vacuumed. */
export const holdSnapshot = async ({ peer, url }: Bench): Promise<() => Promise<void>> => {
  if (peer.store === "redis") return async () => undefined
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  await client.query("BEGIN ISOLATION LEVEL REPEATABLE READ")
  await client.query("SELECT count(*) FROM pg_class")
  return () => client.end()
}
