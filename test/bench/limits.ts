/**
 * Limits over all nodes at full size, each on a database of its own with worker processes of their own:
 *
 *     node --conditions=source test/bench/limits.ts [rate] [concurrency] [fairness]
 *
 * | part | what runs | what is told |
 * |---|---|---|
 * | rate | 2,000 jobs under 100 per 10 seconds, 4 processes | the most starts in any sliding 10 seconds, the share of the rate |
 * | concurrency | 600 jobs of 100 and of 10 ms, 3 at once, 6 processes | the most at once, the share of the ideal, 3 again after a kill |
 * | fairness | 20 tenants with 200 jobs each, 4 processes; 10,000 jobs of one tenant and 1 of another | the fewest starts in any window |
 *
 * Starts and ends are instants of the machine's monotonic clock, as handlers note them.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import { type ChildProcess, fork } from "node:child_process"
import { fileURLToPath } from "node:url"
import * as EmbeddedPostgres from "../../src/embedded/EmbeddedPostgres.ts"
import { Job, type Limit, Migrations, Shigoto, ShigotoConfig, ShigotoLive } from "../../src/index.ts"
import { now } from "./clock.ts"

/** What a worker process is told. */
interface Settings {
  readonly url: string
  readonly limits: { readonly globalConcurrency?: number; readonly rateLimit?: Limit.Options }
  readonly queue: number | { readonly concurrency: number; readonly fair: true }
}

/** What a handler notes; instants in microseconds. */
interface Run {
  readonly key: string
  readonly start: number
  readonly end: number
}

const Work = Job.make("work", { args: { millis: Schema.Number, key: Schema.String } })

const client = (url: string) => PgClient.layer({ url: Redacted.make(url), maxConnections: 5 })

const work = ({ limits, queue, url }: Settings): void => {
  const tell = (run: Run) => process.send?.(run)
  const live = Work.toLayer(
    Effect.fnUntraced(function* ({ key, millis }) {
      const start = now()
      if (millis > 0) yield* Effect.sleep(millis)
      tell({ key, start, end: now() })
    }),
    limits
  ).pipe(
    Layer.provideMerge(ShigotoLive),
    Layer.provide([ShigotoConfig.layer({ queues: { default: queue }, nodeName: `${process.pid}` }), client(url)])
  )
  process.on("disconnect", () => process.exit(0))
  void Effect.runPromise(
    Effect.andThen(
      Layer.build(live),
      Effect.sync(() => process.send?.("ready"))
    ).pipe(Effect.andThen(Effect.never), Effect.scoped)
  )
}

const pause = (millis: number) => new Promise((resolve) => setTimeout(resolve, millis))

/** Worker processes, and what their handlers noted. */
const start = async (settings: Settings, count: number) => {
  const runs: Array<Run> = []
  const children = await Promise.all(
    Array.from({ length: count }, async () => {
      const child = fork(fileURLToPath(import.meta.url), [JSON.stringify(settings)], {
        execArgv: ["--conditions=source"]
      })
      await new Promise<void>((resolve) => {
        child.on("message", (message: Run | "ready") => (message === "ready" ? resolve() : void runs.push(message)))
      })
      return child
    })
  )
  const reach = async (total: number) => {
    while (runs.length < total) await pause(20)
  }
  return { children, reach, runs }
}

const stop = (children: ReadonlyArray<ChildProcess>) => children.forEach((child) => child.kill("SIGKILL"))

/** A migrated database on the server, and what may be asked of it. */
const open = async (server: string, name: string) => {
  const admin = ManagedRuntime.make(client(server))
  await admin.runPromise(Effect.flatMap(SqlClient.SqlClient, (sql) => sql`CREATE DATABASE ${sql(name)}`))
  await admin.dispose()
  const url = new URL(server)
  url.pathname = `/${name}`
  const layers = Layer.mergeAll(ShigotoConfig.layer({ queues: { default: 1 } }), client(url.toString()))
  await Effect.runPromise(Effect.asVoid(Migrations.run).pipe(Effect.provide(layers)))
  const runtime = ManagedRuntime.make(Layer.provideMerge(Shigoto.layerProducer, layers))
  return {
    url: url.toString(),
    enqueue: (count: number, millis: number, keyOf: (i: number) => string) =>
      runtime.runPromise(
        Work.enqueueAll(
          Array.from({ length: count }, (_, i) => ({ millis, key: keyOf(i) })),
          ({ key }) => (key === "" ? {} : { partitionKey: key })
        )
      ),
    /** The processes that hold the jobs after some. */
    holders: (after: number) =>
      runtime.runPromise(
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const rows = yield* sql<{ readonly name: string }>`
            SELECT n.name
            FROM shigoto.jobs AS j
            JOIN shigoto.nodes AS n
              ON n.id = j.claimed_by
            WHERE j.state = 'executing'
              AND j.id > ${after}::bigint`
          return rows.map(({ name }) => Number(name))
        })
      ),
    close: () => runtime.dispose()
  }
}

const rate = async (server: string, rateLimit: Limit.Options) => {
  const algorithm = rateLimit.algorithm ?? "sliding-window"
  const database = await open(server, `rate_${algorithm.replaceAll("-", "_")}`)
  await database.enqueue(2000, 0, () => "")
  const { children, reach, runs } = await start({ url: database.url, limits: { rateLimit }, queue: 100 }, 4)
  await reach(2000)
  stop(children)
  const starts = runs.map((run) => run.start).toSorted((a, b) => a - b)
  const most = Math.max(...starts.map((at, i) => starts.findLastIndex((other) => other < at + 10e6) - i + 1))
  // What the first instant gave is ahead of the rate.
  const ahead = starts.filter((at) => at < (starts[0] ?? 0) + 1e6).length
  const seconds = ((starts.at(-1) ?? 0) - (starts[0] ?? 0)) / 1e6
  const share = (2000 - ahead) / seconds / 10
  console.log(
    `rate, ${algorithm}: 2,000 jobs, 100 per 10 s, 4 processes: at most ${most} starts in 10 s, ${percent(share)} of the rate`
  )
  await database.close()
}

const concurrency = async (server: string, millis: number) => {
  const database = await open(server, `concurrency_${millis}`)
  const settings: Settings = { url: database.url, limits: { globalConcurrency: 3 }, queue: 10 }
  const { children, reach, runs } = await start(settings, 6)
  await database.enqueue(600, millis, () => "")
  await reach(600)
  const marks = runs.flatMap(({ end, start }) => [[start, 1] as const, [end, -1] as const])
  let running = 0
  let most = 0
  for (const [, step] of marks.toSorted(([a, up], [b, down]) => a - b || up - down)) {
    running += step
    most = Math.max(most, running)
  }
  const took = (Math.max(...runs.map(({ end }) => end)) - Math.min(...runs.map(({ start }) => start))) / 1000
  const busy = runs.reduce((sum, { end, start }) => sum + end - start, 0) / 1000
  console.log(
    `concurrency: 600 jobs of ${millis} ms, 3 at once, 6 processes: at most ${most} at once, ${percent((200 * millis) / took)} of the ideal, ${percent(busy / 3 / took)} of the time of three places in use`
  )
  await database.enqueue(100, 3_600_000, () => "")
  let holders = await database.holders(600)
  while (holders.length < 3) holders = await database.holders(600)
  const killed = children.find(({ pid }) => holders.includes(pid ?? 0))
  killed?.kill("SIGKILL")
  const from = now()
  while (holders.length < 3 || holders.includes(killed?.pid ?? 0)) {
    await pause(50)
    holders = await database.holders(600)
    most = Math.max(most, holders.length)
  }
  console.log(`concurrency: a holder killed: 3 again after ${((now() - from) / 1e6).toFixed(1)} s, ${most} at most`)
  stop(children)
  await database.close()
}

const fairness = async (server: string) => {
  const tenants = 20
  const database = await open(server, "fairness")
  await database.enqueue(200 * tenants, 5, (i) => `tenant ${i % tenants}`)
  const settings: Settings = { url: database.url, limits: {}, queue: { concurrency: 5, fair: true } }
  const { children, reach, runs } = await start(settings, 4)
  await reach(200 * tenants)
  const keys = runs.toSorted((a, b) => a.start - b.start).map(({ key }) => key)
  // As long as all of them have work.
  const last = Math.min(...Array.from({ length: tenants }, (_, i) => keys.lastIndexOf(`tenant ${i}`)))
  let fewest = Infinity
  for (let from = 0; from + 10 * tenants <= last; from++) {
    const window = keys.slice(from, from + 10 * tenants)
    for (let i = 0; i < tenants; i++) fewest = Math.min(fewest, window.filter((key) => key === `tenant ${i}`).length)
  }
  console.log(
    `fairness: ${tenants} tenants with 200 jobs each, 4 processes: in any ${10 * tenants} starts each has ${fewest} or more`
  )
  runs.length = 0
  await database.enqueue(10_000, 5, () => "big")
  while (runs.length < 500) await pause(5)
  const before = now()
  await database.enqueue(1, 5, () => "small")
  const committed = now()
  while (!runs.some(({ key }) => key === "small")) await pause(5)
  const small = runs.find(({ key }) => key === "small")?.start ?? 0
  const passed = runs.filter(({ key, start }) => key === "big" && start > committed && start < small).length
  console.log(
    `fairness: 10,000 jobs of one tenant and 1 of another: it starts ${((small - before) / 1000).toFixed(0)} ms after its enqueue began, ${passed} others between`
  )
  stop(children)
  await database.close()
}

const percent = (share: number): string => `${(share * 100).toFixed(1)} %`

const main = async () => {
  const parts = process.argv.slice(2)
  const has = (part: string) => parts.length === 0 || parts.includes(part)
  const scope = Scope.makeUnsafe()
  const { url } = await Effect.runPromise(
    Scope.provide(EmbeddedPostgres.make({ durable: true, settings: { max_connections: "200" } }), scope)
  )
  const server = Redacted.value(url)
  if (has("concurrency")) for (const millis of [100, 10]) await concurrency(server, millis)
  if (has("fairness")) await fairness(server)
  if (has("rate")) {
    await Promise.all([
      rate(server, { limit: 100, window: "10 seconds" }),
      rate(server, { limit: 100, window: "10 seconds", algorithm: "gcra" })
    ])
  }
  await Effect.runPromise(Scope.close(scope, Exit.void))
}

const told = process.argv[2] ?? ""
if (told.startsWith("{")) work(JSON.parse(told) as Settings)
else await main()
