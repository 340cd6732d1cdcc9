/** What the integration tests share: nodes on one database, in this process or in others. */
import type * as PgClient from "@effect/sql-pg/PgClient"
import { it } from "@effect/vitest"
import type { TestContext } from "vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import { type ChildProcess, spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import type { Batches } from "../../src/Batches.ts"
import type { CronJobs } from "../../src/CronJobs.ts"
import type { Encryption } from "../../src/Encryption.ts"
import type { Flows } from "../../src/Flows.ts"
import type { JobEvent } from "../../src/JobEvent.ts"
import type { JobId, JobRow } from "../../src/JobRow.ts"
import type * as CircuitBreaker from "../../src/CircuitBreaker.ts"
import { Jobs } from "../../src/Jobs.ts"
import type * as Limit from "../../src/Limit.ts"
import type { Limits } from "../../src/Limits.ts"
import { Queues } from "../../src/Queues.ts"
import * as ShigotoConfig from "../../src/ShigotoConfig.ts"
import { ShigotoLive } from "../../src/ShigotoLive.ts"
import type { Resilience } from "../../src/Resilience.ts"
import type { Workers } from "../../src/Workers.ts"
import { eventually } from "../setup/eventually.ts"
import * as Run from "../setup/run.ts"
import { TestDatabase, type TestDatabaseOptions } from "../setup/TestDatabase.ts"

/** A test with a database of its own and real time. */
export const onDatabase = (
  name: string,
  body: (
    context: TestContext
  ) => Effect.Effect<void, unknown, TestDatabase | PgClient.PgClient | SqlClient.SqlClient | Scope.Scope>,
  options: TestDatabaseOptions = {}
): void =>
  it.live(name, (context) =>
    Effect.scoped(Effect.suspend(() => body(context))).pipe(Effect.provide(TestDatabase.layer(options)))
  )

/** Waits until nothing is left: for jobs that were lost twice in a row too, without the minute that they wait. */
export const runDown = (left: Effect.Effect<number, unknown>) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const hurry = sql`UPDATE shigoto.jobs SET run_at = statement_timestamp() WHERE state = 'retryable'`
    for (let open = yield* left; open > 0;) open = yield* eventually(Effect.andThen(hurry, left), (now) => now < open)
  })

/** Short enough for tests, long enough for a machine that is busy. */
export const quick: ShigotoConfig.Options = {
  pollInterval: "200 millis",
  idlePollInterval: "500 millis",
  leaseTtl: "6 seconds",
  leaseBeat: "500 millis",
  shutdownGrace: "5 seconds",
  interruptGrace: "500 millis",
  queryTimeout: "3 seconds"
}

export interface Node {
  readonly jobs: Jobs["Service"]
  readonly queues: Queues["Service"]
  /** Runs an effect with this node's services, such as an enqueue. */
  readonly run: <A, E>(
    effect: Effect.Effect<A, E, Jobs | Queues | Batches | Flows | CronJobs | Limits | Encryption | Resilience | Workers>
  ) => Effect.Effect<A, E>
  /** What this node published so far. */
  readonly events: ReadonlyArray<JobEvent>
  /** Waits for an event of a kind, about one job or any. */
  readonly event: <Tag extends JobEvent["_tag"]>(
    tag: Tag,
    id?: JobId
  ) => Effect.Effect<Extract<JobEvent, { readonly _tag: Tag }>>
  /** Builds more workers on this node, until the scope closes. */
  readonly add: (workers: Layer.Layer<never, never, Workers | Jobs>) => Effect.Effect<void, never, Scope.Scope>
  /** Closes the node's scope: a stop by the book. */
  readonly stop: Effect.Effect<void>
}

/** Starts a node in this process, with a pool of its own; it stops with the scope. */
export const startNode = Effect.fnUntraced(function* (
  options: {
    readonly workers?: Layer.Layer<never, never, Workers | Limits>
    readonly config?: ShigotoConfig.Options
    /** Defaults to a direct connection. */
    readonly client?: Layer.Layer<PgClient.PgClient | SqlClient.SqlClient, unknown>
  } = {}
) {
  const database = yield* TestDatabase
  const scope = yield* Scope.fork(yield* Effect.scope)
  const node = Layer.provideMerge(options.workers ?? Layer.empty, ShigotoLive).pipe(
    Layer.provide(ShigotoConfig.layer({ ...quick, ...options.config })),
    Layer.provide(options.client ?? database.layerClient({ maxConnections: 12 }))
  )
  const context = yield* Layer.buildWithScope(Layer.fresh(node), scope).pipe(Effect.orDie)
  const jobs = Context.get(context, Jobs)
  const events: Array<JobEvent> = []
  yield* jobs.events.pipe(
    Stream.runForEach((event) => Effect.sync(() => events.push(event))),
    Effect.forkIn(scope, { startImmediately: true })
  )
  return {
    jobs,
    queues: Context.get(context, Queues),
    run: (effect) => Effect.provideContext(effect, context),
    events,
    event: <Tag extends JobEvent["_tag"]>(tag: Tag, id?: JobId) => {
      const found = (event: JobEvent): event is Extract<JobEvent, { readonly _tag: Tag }> =>
        event._tag === tag && (id === undefined || ("id" in event && event.id === id))
      return Effect.map(
        eventually(
          Effect.sync(() => events),
          (all) => all.some(found)
        ),
        (all) => all.find(found) as Extract<JobEvent, { readonly _tag: Tag }> // `some` found it
      )
    },
    add: (workers) => Effect.asVoid(Effect.provideContext(Layer.build(workers), context)),
    stop: Scope.close(scope, Exit.void)
  } satisfies Node
})

/** Waits until a job is in one of the states, and returns it. */
export const reaches = (node: Pick<Node, "jobs">, id: JobId, ...states: ReadonlyArray<JobRow["state"]>) =>
  eventually(node.jobs.get(id), (job) => states.includes(job.state))

/** How many jobs are in each state, live or archived. */
export const tally = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql<{ readonly state: string; readonly count: number }>`
    SELECT state, count(*)::integer AS count FROM shigoto.all_jobs GROUP BY state`
  return Object.fromEntries(rows.map((row) => [row.state, row.count]))
})

/** What a worker process is told. */
export interface WorkerSettings {
  readonly url: string
  readonly config?: ShigotoConfig.Options
  readonly prepare?: boolean
  /** What limits the worker over all nodes. */
  readonly limits?: {
    readonly concurrency?: number
    readonly globalConcurrency?: number
    readonly rateLimit?: Limit.Options
    readonly circuitBreaker?: CircuitBreaker.Options<never>
  }
}

export interface WorkerProcess {
  readonly child: ChildProcess
  readonly pid: number
  /** Waits for the end: the exit code, or the signal's name. */
  readonly exit: Effect.Effect<number | string>
}

/** Starts fixtures/worker.ts, or another fixture, and waits until it works; killed with the scope. */
export const startProcess = Effect.fnUntraced(function* (
  settings: Omit<WorkerSettings, "url"> & { readonly url?: string } = {},
  fixture = "worker.ts"
) {
  const database = yield* TestDatabase
  const told: WorkerSettings = {
    ...settings,
    url: settings.url ?? Redacted.value(database.url),
    config: { ...quick, ...settings.config }
  }
  let ended: number | string | undefined
  const child = yield* Effect.acquireRelease(
    Effect.sync(() =>
      spawn(
        process.execPath,
        ["--conditions=source", fileURLToPath(new URL(`./fixtures/${fixture}`, import.meta.url)), JSON.stringify(told)],
        { stdio: ["ignore", "pipe", "inherit"] }
      )
    ),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )
  child.on("exit", (code, signal) => {
    ended = code ?? signal ?? "unknown"
  })
  yield* Effect.callback<void>((resume) => {
    child.stdout.on("data", (chunk: Buffer) => {
      if (chunk.includes("ready")) resume(Effect.void)
    })
    child.on("exit", (code) => resume(Effect.die(new Error(`the worker ended with ${code} before it was ready`))))
  })
  return {
    child,
    pid: child.pid as number, // it is running
    exit: Effect.map(
      eventually(
        Effect.sync(() => ended),
        (code) => code !== undefined
      ),
      (code) => code ?? "unknown"
    )
  } satisfies WorkerProcess
})

/** What the handlers of worker processes wrote down. */
export const diary = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  return yield* sql<{
    readonly job: number
    readonly attempt: number
    readonly epoch: number
    readonly pid: number
    readonly what: string
  }>`SELECT job::integer AS job, attempt, epoch, pid, what FROM diary ORDER BY seq`
})

/** Makes the table of {@link diary}. */
export const makeDiary = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE TABLE diary (
      seq bigserial, job bigint, attempt integer, epoch integer, pid integer, what text, at timestamptz DEFAULT clock_timestamp()
    )`
})

/** A client of the database by its URL, such as a proxy's. */
export const clientOf = (url: string, options: { readonly prepare?: boolean; readonly maxConnections?: number } = {}) =>
  Run.layerClient(url, { prepare: false, maxConnections: 12, ...options })
