import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpRouter from "effect/http/HttpRouter"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import { assess, type HealthReason, type Readings, tell, Thresholds } from "../src/Health.ts"
import * as HealthHttp from "../src/HealthHttp.ts"
import * as Job from "../src/Job.ts"
import { Jobs } from "../src/Jobs.ts"
import { latest } from "../src/Migrations.ts"
import type { NodeRow } from "../src/Nodes.ts"
import * as Shigoto from "../src/Shigoto.ts"
import * as ShigotoConfig from "../src/ShigotoConfig.ts"
import { clientOf, onDatabase, startNode } from "./integration/support.ts"
import { eventually } from "./setup/eventually.ts"
import { makeProxy } from "./setup/proxy.ts"
import { TestDatabase } from "./setup/TestDatabase.ts"

const Note = Job.make("note")
const Other = Job.make("other", { queue: "others" })
const producer = Shigoto.layerProducer.pipe(Layer.provide(ShigotoConfig.layer({ queryTimeout: "1 second" })))

const epoch = DateTime.makeUnsafe(0)
const node: NodeRow = {
  id: 1,
  name: "one",
  startedAt: epoch,
  beatAt: epoch,
  leaseUntil: epoch,
  live: true,
  silentMillis: 100,
  leaseTtlMillis: 30_000,
  lagMillis: 3,
  listening: true,
  workers: ["note"],
  queues: [{ name: "default", concurrency: 10 }],
  executing: 0
}
const counts = { available: 0, executing: 0, blocked: 0, waiting: 0, due: 0, stale: 0, estimate: 0 }
const server = {
  version: "17.2",
  notification_usage: 0,
  dead_rows: 0,
  oldest_transaction: null,
  oldest_pid: null,
  oldest_what: null
}
const well: Readings = {
  ping: { version: latest, readOnly: false },
  server,
  standing: { counts, queues: [], workers: ["note"] },
  nodes: [node],
  listening: true,
  listens: true,
  problems: []
}
const judged = (readings: Partial<Readings>): readonly [string, ReadonlyArray<string>] => {
  const { reasons, status } = assess({ ...well, ...readings }, Context.get(Context.empty(), Thresholds))
  for (const reason of reasons) assert.match(tell(reason), /^[A-Z\d].+\.$/s)
  return [status, reasons.map((reason: HealthReason) => reason._tag)]
}

describe("assess", () => {
  const queue = { queue: "default", available: 5, oldest_millis: 10 }
  const standing = { counts, queues: [queue], workers: ["note"] }
  const cases: ReadonlyArray<readonly [string, Partial<Readings>, string, ReadonlyArray<string>]> = [
    ["all is well", {}, "ok", []],
    [
      "the database is away",
      {
        ping: undefined,
        server: undefined,
        standing: undefined,
        nodes: undefined,
        problems: [{ what: "It", problem: "no." }]
      },
      "down",
      ["DatabaseUnavailable"]
    ],
    ["the server is a standby", { ping: { version: latest, readOnly: true } }, "down", ["DatabaseReadOnly"]],
    ["the schema is behind", { ping: { version: latest - 1, readOnly: false } }, "down", ["SchemaVersion"]],
    ["the schema is ahead", { ping: { version: latest + 1, readOnly: false } }, "degraded", ["SchemaVersion"]],
    [
      "a read failed",
      { standing: undefined, problems: [{ what: "It", problem: "slow." }] },
      "degraded",
      ["Unreadable"]
    ],
    [
      "nobody is alive and there is work",
      { nodes: [], standing: { ...standing, counts: { ...counts, available: 5 } } },
      "degraded",
      ["NoNode"]
    ],
    ["nobody is alive and there is no work", { nodes: [{ ...node, live: false }] }, "ok", []],
    [
      "jobs are held by the dead",
      { standing: { ...standing, counts: { ...counts, stale: 2 } } },
      "degraded",
      ["StaleJobs"]
    ],
    ["a node is silent", { nodes: [{ ...node, silentMillis: 16_000 }] }, "degraded", ["NodeSilent"]],
    ["a node lags", { nodes: [{ ...node, lagMillis: 7_500 }] }, "degraded", ["NodeLagging"]],
    [
      "nobody runs a queue",
      { standing: { ...standing, queues: [{ ...queue, queue: "x" }] } },
      "degraded",
      ["QueueWithoutNode"]
    ],
    ["nobody has a worker", { standing: { ...standing, workers: ["note", "x"] } }, "degraded", ["WorkerWithoutNode"]],
    [
      "a job is old",
      { standing: { ...standing, queues: [{ ...queue, oldest_millis: 300_000 }] } },
      "degraded",
      ["OldJob"]
    ],
    ["due jobs pile up", { standing: { ...standing, counts: { ...counts, due: 10_000 } } }, "degraded", ["DueJobs"]],
    ["a transaction is long", { server: { ...server, oldest_transaction: 301 } }, "degraded", ["LongTransaction"]],
    ["notifications pile up", { server: { ...server, notification_usage: 0.5 } }, "degraded", ["NotificationQueue"]],
    ["it is to hear notifications and hears none", { listening: false }, "degraded", ["NotListening"]],
    ["it polls on purpose", { listening: false, listens: false }, "ok", []]
  ]
  for (const [name, readings, status, tags] of cases) {
    it(`says ${status} when ${name}`, () => {
      assert.deepStrictEqual(judged(readings), [status, tags])
    })
  }
})

describe("health", () => {
  onDatabase("finds queues and workers without a node, the oldest job, and says ok once all is served", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const node = yield* startNode({ workers: Note.toLayer(() => Effect.void), config: { nodeName: "here" } })
      const health = node.jobs.health
      assert.deepStrictEqual((yield* eventually(health, (found) => found.notifications.listening)).reasons, [])
      yield* node.run(Other.enqueueAll(Array.from({ length: 3 }, () => ({}))))
      yield* node.run(Other.enqueue({}, { queue: "default" }))
      yield* node.run(Note.enqueue({}, { delay: "1 hour" }))
      yield* sql`UPDATE shigoto.jobs SET run_at = run_at - interval '10 minutes', priority = 7 WHERE id = 2`
      const found = yield* health
      assert.strictEqual(found.status, "degraded")
      assert.deepStrictEqual(found.reasons, [
        { _tag: "QueueWithoutNode", queue: "others", waiting: 3 },
        { _tag: "WorkerWithoutNode", worker: "other" }
      ])
      assert.deepInclude(found.counts, { available: 4, executing: 0, blocked: 0, waiting: 1, due: 0, stale: 0 })
      assert.deepStrictEqual(
        found.queues.map(({ available, queue }) => [queue, available]),
        [
          ["default", 1],
          ["others", 3]
        ]
      )
      assert.isAtLeast(found.queues[1]?.oldestMillis ?? 0, 600_000)
      yield* node.queues.add("others", { concurrency: 2 })
      yield* node.add(Other.toLayer(() => Effect.void))
      const healed = yield* eventually(health, (now) => now.status === "ok")
      assert.deepStrictEqual(healed.reasons, [])
    })
  )

  onDatabase("lists the nodes with what they run, as soon as that changes", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      // Beats are far apart: what is new is told at once.
      const node = yield* startNode({
        config: { nodeName: "here", queues: { default: 4 }, leaseTtl: "10 minutes", leaseBeat: "1 minute" }
      })
      const jobs = yield* Effect.map(Layer.build(producer), (context) => Context.get(context, Jobs))
      yield* node.add(Note.toLayer(() => Deferred.await(gate)))
      yield* node.queues.add("others", { concurrency: 2 })
      yield* node.run(Note.enqueue({}))
      const [row, ...more] = yield* eventually(
        jobs.nodes,
        ([first]) => first?.queues.length === 2 && first.workers.length === 1 && first.executing === 1
      )
      assert.deepStrictEqual(more, [])
      assert.deepInclude(row, { name: "here", live: true, workers: ["note"], executing: 1, leaseTtlMillis: 600_000 })
      assert.deepStrictEqual(row?.queues, [
        { name: "default", concurrency: 4 },
        { name: "others", concurrency: 2 }
      ])
      yield* Deferred.succeed(gate, undefined)
      yield* node.stop
      assert.deepStrictEqual(yield* jobs.nodes, [])
    })
  )

  onDatabase("names jobs of a dead node, and the transaction that holds back vacuum", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* Note.enqueue({})
      yield* sql`UPDATE shigoto.jobs SET state = 'executing', claimed_by = 77`
      const jobs = yield* Jobs
      const found = yield* jobs.health
      assert.deepStrictEqual(
        found.reasons.map((reason) => reason._tag),
        ["NoNode", "StaleJobs"]
      )
      const open = yield* Deferred.make<void>()
      const close = yield* Deferred.make<void>()
      const holder = yield* sql
        .withTransaction(
          Effect.gen(function* () {
            yield* sql`SET TRANSACTION ISOLATION LEVEL REPEATABLE READ`
            yield* sql`SELECT count(*) FROM shigoto.jobs`
            yield* Deferred.succeed(open, undefined)
            yield* Deferred.await(close)
          })
        )
        .pipe(Effect.forkChild)
      yield* Deferred.await(open)
      assert.isAtLeast((yield* jobs.health).oldestTransactionSeconds ?? -1, 0)
      yield* Deferred.succeed(close, undefined)
      yield* Fiber.join(holder)
      yield* eventually(jobs.health, (now) => now.oldestTransactionSeconds === undefined)
    }).pipe(Effect.provide(producer))
  )

  onDatabase("reads a table of many jobs through its indexes", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql`
        INSERT INTO shigoto.jobs (state, worker, queue, args, priority, run_at, inserted_at)
        SELECT CASE n % 3 WHEN 0 THEN 'scheduled' ELSE 'available' END, 'note', 'q' || n % 7, '{}', n % 5,
          now() + n * interval '1 second', now()
        FROM generate_series(1, 60000) AS n`
      yield* sql`ANALYZE shigoto.jobs`
      const jobs = yield* Jobs
      const found = yield* jobs.health
      assert.deepInclude(found.counts, { available: 10_000, waiting: 10_000, estimate: 60_000 })
      assert.strictEqual(found.queues.length, 7)
      assert.isTrue(found.queues.every((one) => one.available === 5714 || one.available === 5715))
      const [scans] = yield* eventually(
        sql<{ readonly rows: number }>`
          SELECT (seq_tup_read - 60000)::float8 AS rows FROM pg_stat_user_tables WHERE relname = 'jobs' AND seq_scan > 0`,
        (rows) => rows.length > 0
      )
      // ANALYZE does not count; counting to a limit may read as many rows in any order, and no more.
      assert.isAtMost(scans?.rows ?? 0, 60_000)
    }).pipe(Effect.provide(producer))
  )
})

describe("over HTTP", () => {
  const serve = (options?: HealthHttp.HealthOptions) =>
    Effect.gen(function* () {
      const jobs = yield* Jobs
      const { dispose, handler } = HttpRouter.toWebHandler(
        HealthHttp.layer(options).pipe(Layer.provide(Layer.succeed(Jobs, jobs))),
        { disableLogger: true }
      )
      yield* Effect.addFinalizer(() => Effect.promise(() => dispose()))
      return (path: string) =>
        Effect.promise(async () => {
          const response = await handler(new Request(`http://localhost${path}`))
          return [response.status, await response.json()] as const
        })
    })

  onDatabase("answers liveness, readiness and health, and tells details only where asked", () =>
    Effect.gen(function* () {
      const get = yield* serve()
      assert.deepStrictEqual(yield* get("/health/live"), [200, { status: "live" }])
      assert.deepStrictEqual(yield* get("/health/ready"), [200, { status: "ready" }])
      yield* Note.enqueue({})
      assert.deepStrictEqual(yield* get("/health"), [200, { status: "degraded" }])
      const told = yield* serve({ path: "/-/shigoto", details: true })
      const [status, body] = yield* told("/-/shigoto")
      assert.strictEqual(status, 200)
      assert.deepInclude(body, { messages: ["No node is alive, and there are jobs to run."] })
    }).pipe(Effect.provide(producer))
  )

  onDatabase("is live but not ready while the database is away, and heals", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const proxy = yield* makeProxy(Redacted.value(url))
      yield* Effect.gen(function* () {
        const get = yield* serve()
        assert.strictEqual((yield* get("/health/ready"))[0], 200)
        proxy.blackhole()
        const down = yield* eventually(get("/health"), ([status]) => status === 503)
        assert.deepStrictEqual(down, [503, { status: "down" }])
        yield* eventually(get("/health/ready"), ([status]) => status === 503)
        assert.strictEqual((yield* get("/health/live"))[0], 200)
        proxy.heal()
        proxy.bury()
        yield* eventually(get("/health/ready"), ([status]) => status === 200)
      }).pipe(Effect.provide(producer.pipe(Layer.provide(clientOf(proxy.url)))))
    })
  )
})
