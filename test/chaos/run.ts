/** One run: two servers, a fleet, faults by the plan, then calm, the drain, and the verdict. */
import { PgClient } from "@effect/sql-pg"
import { Console, Deferred, Effect, FiberSet, Layer, Redacted, Schedule } from "effect"
import { CronJobs, type JobId, Jobs, Queues, Shigoto, ShigotoConfig } from "effect-shigoto"
import { EmbeddedPostgres } from "effect-shigoto/embedded"
import { makePooler, type Pooler } from "../setup/pooler.ts"
import { check, figures, type Finding, keep } from "./check.ts"
import { makeFaults } from "./faults.ts"
import { type Fleet, makeFleet, type Member } from "./fleet.ts"
import { removeFence } from "./fence.ts"
import type { Options } from "./options.ts"
import { makePlan } from "./plan.ts"
import * as Pulse from "./pulse.ts"
import * as Refusals from "./refusals.ts"
import * as RowLog from "./rowLog.ts"
import { producerConnections, rescueBound } from "./settings.ts"
import * as Truth from "./truth.ts"
import { tickArgs } from "./workload/jobs.ts"
import { call } from "./workload/operate.ts"

/** Runs one seed and returns what the checker found. */
export const runSeed = Effect.fnUntraced(function* (options: Options, seed: number, directory: string) {
  // A crash of the server must not lose commits, a crash of the machine may.
  const server = yield* EmbeddedPostgres.make({
    durable: true,
    settings: {
      max_connections: "300",
      fsync: "off",
      track_commit_timestamp: "on",
      default_transaction_isolation: options.isolation
    }
  })
  const truth = yield* EmbeddedPostgres.make({ settings: { max_connections: "100" } })
  const Direct = Shigoto.layerProducer.pipe(
    Layer.provideMerge(
      PgClient.layer({
        url: server.url,
        applicationName: "chaos",
        maxConnections: 20,
        startupParameters: {
          statement_timeout: "0",
          lock_timeout: "0",
          default_transaction_read_only: "off"
        }
      })
    ),
    Layer.provide(ShigotoConfig.layer({ nodeName: "chaos" }))
  )
  return yield* Effect.scoped(play(options, seed, directory, server, truth)).pipe(
    Effect.provide([Direct, Truth.layer(Redacted.value(truth.url))])
  )
})

// internal

const play = Effect.fnUntraced(function* (
  options: Options,
  seed: number,
  directory: string,
  server: EmbeddedPostgres.Server,
  truth: EmbeddedPostgres.Server
) {
  const sql = yield* PgClient.PgClient
  yield* Truth.createTables
  yield* RowLog.install(sql)
  yield* Refusals.install(sql)
  const pooler = options.faults.includes("pooler")
    ? yield* makePooler(Redacted.value(server.url), producerConnections)
    : undefined
  const events = yield* Truth.Truth
  yield* events.write("client", {
    process: "chaos",
    op: "cron",
    phase: "intent",
    key: tickArgs.key,
    detail: JSON.stringify({ args: tickArgs })
  })
  const fleet = yield* makeFleet({
    seed,
    directory,
    url: Redacted.value(server.url),
    pooledUrl: pooler?.url,
    truthUrl: Redacted.value(truth.url),
    workers: options.workers,
    producers: options.producers,
    rate: options.rate,
    skew: options.faults.includes("skew"),
    poison: options.faults.includes("poison"),
    rewrite: options.breakFence ? removeFence : undefined
  })
  yield* Effect.acquireRelease(
    Effect.sync(() => Pulse.start(directory, "chaos")),
    (stop) => Effect.sync(stop)
  )
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.ignore(sample), Effect.sleep("500 millis"))))
  yield* Effect.forEach([...fleet.workers, ...fleet.producers], isUp)
  yield* storm(options, seed, fleet, server, pooler)
  yield* Console.log("  calm: everything is healed, producers have stopped, jobs drain")
  yield* drain(fleet)
  yield* fleet.retire("worker")
  yield* Effect.sleep("500 millis")
  yield* sample
  yield* Pulse.collect(directory)
  yield* RowLog.collect(sql)
  const findings = yield* check
  const broken = findings.some(
    ({ invariant, offenders }) => offenders.length > 0 && (options.timed || !invariant.timed)
  )
  if (broken) yield* keep(directory)
  return { findings, figures: yield* figures, broken }
})

/** Waits until a place in the fleet has a process that is ready; one may die as it starts. */
const isUp = (member: Member) =>
  Effect.suspend(() => Deferred.isDone(member.current().ready)).pipe(
    Effect.repeat({ until: (ready) => ready, schedule: Schedule.spaced("50 millis") })
  )

const storm = Effect.fnUntraced(function* (
  options: Options,
  seed: number,
  fleet: Fleet,
  server: EmbeddedPostgres.Server,
  pooler: Pooler | undefined
) {
  const strike = yield* makeFaults(fleet, server, yield* Queues, pooler)
  const striking = yield* FiberSet.make()
  const started = performance.now()
  const left = (at: number) => Math.max(at - (performance.now() - started), 0)
  const faults = Effect.gen(function* () {
    for (const fault of makePlan(seed, options.pace, options.faults)) {
      yield* Effect.sleep(left(fault.at))
      yield* FiberSet.run(striking, strike(fault))
    }
    yield* Effect.never
  })
  yield* Effect.raceFirst(
    faults,
    options.jobs === undefined ? Effect.sleep(left(options.seconds * 1000)) : allUnderFaults(fleet, options.jobs)
  )
  yield* fleet.retire("producer")
  yield* FiberSet.awaitEmpty(striking)
})

/** Waits until so many jobs were enqueued, tells the producers to stop, and waits until but a few are left. */
const allUnderFaults = Effect.fnUntraced(function* (fleet: Fleet, jobs: number) {
  const sql = yield* PgClient.PgClient
  const count = (where: string) =>
    sql.unsafe<{ readonly count: number }>(`SELECT count(*)::integer AS count FROM ${where}`).pipe(
      Effect.map(([row]) => row?.count),
      // The database may be away.
      Effect.orElseSucceed(() => undefined)
    )
  const reaches = (where: string, holds: (count: number) => boolean) =>
    Effect.sleep("2 seconds").pipe(
      Effect.andThen(count(where)),
      Effect.repeat({ until: (found) => found !== undefined && holds(found) })
    )
  yield* reaches("chaos.transition WHERE old_state IS NULL AND place = 'jobs'", (found) => found >= jobs)
  yield* fleet.retire("producer")
  yield* reaches("shigoto.jobs", (found) => found < jobs / 50)
})

/**
 * Waits until every job has ended. Those that wait for their time are hurried, as an operator may; the wait is over
 * when nothing has moved for twice the bound of a rescue, or after ten minutes.
 */
const drain = Effect.fnUntraced(function* (fleet: Fleet) {
  const sql = yield* PgClient.PgClient
  const jobs = yield* Jobs
  const truth = yield* Truth.Truth
  // The old deploy lacks a worker; some jobs wait for it.
  for (const worker of fleet.workers) {
    if (worker.version === 2) continue
    worker.version = 2
    yield* fleet.term(worker)
  }
  yield* Effect.ignore((yield* CronJobs).pause("tick"))
  let moved = { count: -1, at: performance.now() }
  const started = performance.now()
  while (performance.now() - started < 600_000) {
    const [row] = yield* sql<{
      readonly live: number
      readonly steps: number
      readonly waiting: ReadonlyArray<bigint>
    }>`
      SELECT (SELECT count(*)::integer FROM shigoto.jobs) + (SELECT count(*)::integer FROM shigoto.discards) AS live,
        (SELECT last_value::integer FROM chaos.transition_seq) AS steps,
        ARRAY(SELECT id FROM shigoto.jobs WHERE state IN ('scheduled', 'retryable') AND run_at > now()
          ORDER BY id LIMIT 500) AS waiting`
    if (row === undefined || row.live === 0) return
    const waiting = row.waiting.map(Number)
    yield* Effect.forEach(waiting, (id) => call(truth, "chaos", "retry", id, jobs.retry(id as JobId)), {
      concurrency: 4
    })
    if (waiting.length === 0 && row.steps === moved.count) {
      if (performance.now() - moved.at > rescueBound * 2) return
    } else {
      moved = { count: row.steps, at: performance.now() }
    }
    yield* Effect.sleep("500 millis")
  }
})

const sample = Effect.gen(function* () {
  const sql = yield* PgClient.PgClient
  const truth = yield* Truth.Truth
  const connections = yield* sql<{
    readonly process: string
    readonly connections: number
    readonly advisory: number
  }>`
    SELECT replace(application_name, 'shigoto-listener/', '') AS process,
      -- A backend that waits for a lock hears only afterwards that its client is gone.
      count(*) FILTER (WHERE wait_event_type IS DISTINCT FROM 'Lock')::integer AS connections,
      count(*) FILTER (WHERE EXISTS (
        SELECT FROM pg_locks AS l
        WHERE l.pid = a.pid AND l.locktype = 'advisory' AND a.state = 'idle'
      ))::integer AS advisory
    FROM pg_stat_activity AS a
    WHERE application_name ~ 'worker|producer'
    GROUP BY 1`
  yield* truth.writeAll("sample", connections)
  const opened = yield* sql<{
    readonly seen: string
    readonly process: string
    readonly pid: number
    readonly began: string
    readonly idle_since: string | null
    readonly query: string
    readonly locks_jobs: boolean
  }>`
    SELECT clock_timestamp()::text AS seen, application_name AS process, pid, xact_start::text AS began,
      CASE WHEN state LIKE 'idle in transaction%' THEN state_change::text END AS idle_since,
      query,
      EXISTS (
        SELECT FROM pg_locks AS l
        WHERE l.pid = a.pid AND l.relation = 'shigoto.jobs'::regclass AND l.mode IN ('RowShareLock', 'RowExclusiveLock')
          AND l.granted
      ) AS locks_jobs
    FROM pg_stat_activity AS a
    WHERE application_name ~ 'worker|producer'
      AND xact_start < clock_timestamp() - interval '300 milliseconds'`
  yield* truth.writeAll("opened", opened)
})

export type Result = {
  readonly findings: ReadonlyArray<Finding>
  readonly figures: ReadonlyArray<{ readonly what: string; readonly count: number }>
  readonly broken: boolean
}
