/**
 * Six thousand jobs on a PostgreSQL that starts and ends with this program: `npm run demo`.
 *
 * Orders are charged, packed and shipped over three queues. Cards fail and are retried, goods are out of stock and
 * snoozed, a stock count is cancelled while it runs, and a second process is killed with 25 shipments in its hands. The
 * dashboard shows all of it; on a terminal it stays until Ctrl-C.
 * Exits 0 only if every count in the summary is what it must be.
 */
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Deferred, Effect, Layer, References, Redacted, Runtime, Stream } from "effect"
import { type JobEvent, Jobs, Queues, ShigotoConfig, ShigotoLive } from "effect-shigoto"
import { Dashboard } from "effect-shigoto/dashboard"
import { EmbeddedPostgres } from "effect-shigoto/embedded"
import { HttpRouter, HttpServer } from "effect/http"
import { spawn } from "node:child_process"
import { createServer } from "node:http"
import { fileURLToPath } from "node:url"
import { courierHolds } from "./demo/courier.ts"
import * as Screen from "./demo/screen.ts"
import * as Shop from "./demo/shop.ts"
import * as Verify from "./demo/verify.ts"

class CountsDiffer extends Error {
  override readonly [Runtime.errorReported] = false
}

const screen = Screen.make()

/** What the events of this process add to what the database tells. */
const seen = { retries: { payments: 0, warehouse: 0, shipping: 0 }, rescued: 0, firstCharges: [] as Array<number> }
const finalizers = { run: 0 }

const watch = Effect.fnUntraced(function* (onRescued: Deferred.Deferred<void>, onCounting: Deferred.Deferred<void>) {
  const jobs = yield* Jobs
  const hear = (event: JobEvent): Effect.Effect<unknown> => {
    switch (event._tag) {
      case "Started":
        if (event.worker === Shop.Charge.name && event.attempt === 1) seen.firstCharges.push(event.id)
        return event.worker === Shop.CountStock.name ? Deferred.succeed(onCounting, undefined) : Effect.void
      case "Failed":
        seen.retries[event.queue as keyof typeof seen.retries]++
        return Effect.void
      case "Rescued":
        return ++seen.rescued === courierHolds ? Deferred.succeed(onRescued, undefined) : Effect.void
      default:
        return Effect.void
    }
  }
  yield* Effect.forkScoped(Stream.runForEach(jobs.events, hear), { startImmediately: true })
})

const queues = ["payments", "warehouse", "shipping"] as const

const showProgress = Effect.gen(function* () {
  const jobs = yield* Jobs
  const counts = yield* jobs.counts
  const finished = yield* Verify.read
  const inStates = (queue: string, states: ReadonlyArray<string>, from: typeof counts) =>
    from.filter((row) => row.queue === queue && states.includes(row.state)).reduce((sum, row) => sum + row.count, 0)
  yield* screen.show(
    queues.map((queue) => ({
      queue,
      finished: ["completed", "discarded", "cancelled"]
        .map((state) => (finished as Readonly<Record<string, number>>)[`${queue} ${state}`] ?? 0)
        .reduce((sum, count) => sum + count, 0),
      total: Verify.totals[queue],
      running: inStates(queue, ["executing"], counts),
      waiting: inStates(queue, ["available", "scheduled", "retryable"], counts),
      retries: seen.retries[queue]
    }))
  )
  return finished["jobs not finished"]
})

/** Starts the courier and returns once it holds its shipments; however this program ends, it does not stay. */
const startCourier = Effect.fnUntraced(function* (url: Redacted.Redacted) {
  const courier = yield* Effect.acquireRelease(
    Effect.sync(() =>
      spawn(process.execPath, [...process.execArgv, fileURLToPath(new URL("demo/courier.ts", import.meta.url))], {
        env: { ...process.env, DEMO_DATABASE_URL: Redacted.value(url) },
        stdio: ["pipe", "pipe", "inherit"]
      })
    ),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )
  yield* Effect.callback<void, Error>((resume) => {
    let held = 0
    courier.stdout.setEncoding("utf8").on("data", (lines: string) => {
      held += lines.split("\n").length - 1
      if (held === courierHolds) resume(Effect.void)
    })
    courier.once("exit", (code) => resume(Effect.fail(new Error(`The courier ended by itself with code ${code}`))))
  })
  return courier
})

const demo = Effect.fnUntraced(function* (url: Redacted.Redacted) {
  const jobs = yield* Jobs
  const rescued = yield* Deferred.make<void>()
  const counting = yield* Deferred.make<void>()
  yield* Shop.createTables
  yield* watch(rescued, counting)

  const started = performance.now()
  const orders = Array.from({ length: Shop.orders }, (_, i) => ({ order: i + 1 }))
  const charges = yield* Shop.Charge.enqueueAll(orders, ({ order }) => ({ priority: Shop.isExpress(order) ? 10 : 0 }))
  const expressIds = new Set(charges.filter(({ job }) => job.priority > 0).map(({ id }) => id as number))
  yield* screen.say(`${charges.length} orders, ${expressIds.size} of them express, enqueued in one transaction`)

  const cancelling = Effect.gen(function* () {
    const stockCount = yield* Shop.CountStock.enqueue({})
    yield* Deferred.await(counting)
    const answer = yield* jobs.cancel(stockCount.id, "nobody waits for it")
    yield* screen.say(`The running stock count is to be cancelled: ${answer._tag}`)
  })
  const crashing = Effect.gen(function* () {
    const courier = yield* startCourier(url)
    courier.kill("SIGKILL")
    yield* screen.say(`The courier (process ${courier.pid}) held ${courierHolds} shipments and was killed by SIGKILL`)
    yield* (yield* Queues).add("shipping", { concurrency: 15, node: "shop" })
    yield* screen.say("This process takes over the queue of shipments")
    yield* Deferred.await(rescued)
    yield* screen.say(`The courier's lease ran out: its ${courierHolds} shipments were rescued`)
  })
  const progress = Effect.gen(function* () {
    while ((yield* showProgress) > 0) yield* Effect.sleep(Screen.interval)
  })
  yield* Effect.all([cancelling, crashing, progress], { concurrency: "unbounded" }).pipe(
    // Nothing that goes wrong may keep the demo from ending: the counts below tell what is missing.
    Effect.timeoutOption("2 minutes")
  )

  const seconds = (performance.now() - started) / 1000
  const actual = {
    ...(yield* Verify.read),
    "express orders charged first": seen.firstCharges.slice(0, expressIds.size).filter((id) => expressIds.has(id))
      .length,
    "finalizers of the cancelled job": finalizers.run
  }
  const finished = Object.values(Verify.totals).reduce((sum, total) => sum + total, 0) - actual["jobs not finished"]
  yield* screen.close
  for (const [name, count] of Object.entries(actual)) yield* screen.say(`${String(count).padStart(6)}  ${name}`)
  yield* screen.say(
    `${Math.round(finished / seconds)} jobs/s: ${finished} jobs in ${seconds.toFixed(1)} s, each with 50 to 100 ms of pretended work`
  )
  const differences = Verify.differences(actual)
  for (const difference of differences) yield* screen.say(`WRONG  ${difference}`)
  if (differences.length > 0) return yield* Effect.fail(new CountsDiffer("The counts differ"))
  yield* screen.say("Every count is what it must be.")
})

const main = Effect.gen(function* () {
  const server = yield* EmbeddedPostgres.make()
  yield* screen.say(`PostgreSQL runs as process ${yield* server.pid}, only for this demo`)
  const DatabaseLive = PgClient.layer({ ...server.clientConfig, maxConnections: 20 })
  const ShopLive = Layer.mergeAll(
    Shop.WorkersLive,
    Shop.countStockLive(() => void finalizers.run++)
  ).pipe(
    Layer.provideMerge(ShigotoLive),
    Layer.provide(
      ShigotoConfig.layer({
        nodeName: "shop",
        // The queue of shipments comes later, so that the courier gets the first ones.
        queues: { payments: 15, warehouse: 15 },
        // Ctrl-C waits no longer than this for handlers.
        shutdownGrace: "1 second",
        // For the dashboard's charts.
        history: true
      })
    ),
    Layer.provideMerge(DatabaseLive)
  )
  const DashboardLive = HttpRouter.serve(
    // Nobody but this machine can ask.
    Dashboard.layer({ path: "/", access: () => Effect.succeed({ user: "you", can: "all" }) }),
    { disableLogger: true, disableListenLog: true }
  ).pipe(Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" })))
  yield* Effect.gen(function* () {
    const { address } = yield* HttpServer.HttpServer
    const url = `http://127.0.0.1:${"port" in address ? address.port : 80}`
    yield* screen.say(`The dashboard is at ${url}`)
    yield* demo(server.url)
    if (!process.stdout.isTTY) return
    yield* screen.say(`The dashboard stays at ${url} until Ctrl-C.`)
    yield* Effect.never
  }).pipe(Effect.provide(DashboardLive.pipe(Layer.provideMerge(ShopLive))))
}).pipe(Effect.scoped, Effect.provideService(References.MinimumLogLevel, "Warn"))

NodeRuntime.runMain(main)
