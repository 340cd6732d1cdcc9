import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Job from "../../src/Job.ts"
import { Jobs } from "../../src/Jobs.ts"
import * as Shigoto from "../../src/Shigoto.ts"
import * as ShigotoConfig from "../../src/ShigotoConfig.ts"
import { ShigotoTest } from "../../src/testing/index.ts"
import { eventually } from "../setup/eventually.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"
import { Work } from "./fixtures/jobs.ts"
import { makeDiary, onDatabase, quick, reaches, startNode, startProcess } from "./support.ts"

class NoFunds extends Schema.TaggedError<NoFunds>("test/NoFunds")("NoFunds", {
  missing: Schema.Number,
  since: Schema.DateTimeUtcFromString
}) {}

const Charge = Job.make("charge", {
  args: { does: Schema.String },
  success: Schema.Struct({ at: Schema.DateTimeUtcFromString, n: Schema.optionalKey(Schema.Int) }),
  error: NoFunds,
  maxAttempts: 1
})
const Quiet = Job.make("quiet", { args: { n: Schema.Int }, success: Schema.Int })
const Void = Job.make("void")
const Maybe = Job.make("maybe", { success: Schema.NullOr(Schema.Int) })

const noon = DateTime.makeUnsafe("2030-01-01T12:00:00Z")

/** Never ends by itself; says that it runs. */
const makeWorkers = Effect.gen(function* () {
  const running = yield* Deferred.make<void>()
  const workers = Layer.mergeAll(
    Charge.toLayer(({ does }) => {
      switch (does) {
        case "fail":
          return Effect.fail(new NoFunds({ missing: 7, since: noon }))
        case "die":
          return Effect.die(new Error("on purpose"))
        case "discard":
          return Job.discard("no such card")
        case "cancel":
          return Job.cancel("not today")
        case "hang":
          return Effect.andThen(Deferred.succeed(running, undefined), Effect.never)
        default:
          return Effect.succeed({ at: noon })
      }
    }),
    Quiet.toLayer(({ n }) => Effect.succeed(n * 2)),
    Void.toLayer(() => Effect.void),
    Maybe.toLayer(() => Effect.succeed(null))
  )
  return { running, workers }
})

/** A process that only enqueues and waits: it hears no notifications. */
const startProducer = Effect.fnUntraced(function* (config: ShigotoConfig.Options = {}) {
  const database = yield* TestDatabase
  const context = yield* Layer.build(
    Layer.fresh(Shigoto.layerProducer).pipe(
      Layer.provide(ShigotoConfig.layer({ ...quick, ...config })),
      Layer.provide(database.layerClient({ maxConnections: 4 }))
    )
  ).pipe(Effect.orDie)
  return {
    jobs: Context.get(context, Jobs),
    run: <A, E>(effect: Effect.Effect<A, E, Jobs>) => Effect.provideContext(effect, context)
  }
})

const observer = { config: { queues: { unused: 1 } } } as const

/** Polls so rarely that only a notification, or the news that some were missed, can be the reason. */
const patient = { pollInterval: "1 hour", idlePollInterval: "1 hour" } as const

describe("execute", () => {
  for (const retention of [undefined, { completed: 0, discarded: 0, cancelled: 0 }] as const) {
    onDatabase(
      `comes back with how the job ended on another node, retention ${retention === undefined ? "on" : "off"}`,
      () =>
        Effect.gen(function* () {
          const { workers } = yield* makeWorkers
          const config = { retention }
          const here = yield* startNode({ config: { ...observer.config, ...config } })
          yield* startNode({ workers, config })
          const producer = yield* startProducer(config)
          for (const { run } of [here, producer]) {
            assert.deepStrictEqual(yield* run(Charge.execute({ does: "work" })), { at: noon })
            assert.strictEqual(yield* run(Quiet.execute({ n: 21 })), 42)
            assert.strictEqual(yield* run(Void.execute({})), undefined)
            assert.strictEqual(yield* run(Maybe.execute({})), null)
            const failed = yield* Effect.flip(run(Charge.execute({ does: "fail" })))
            assert.instanceOf(failed, NoFunds)
            assert.deepStrictEqual([failed.missing, failed.since], [7, noon])
            const died = yield* Effect.flip(run(Charge.execute({ does: "die" })))
            assert(died._tag === "JobDiscarded")
            assert.strictEqual(died.failure?.message, "on purpose")
            const discarded = yield* Effect.flip(run(Charge.execute({ does: "discard" })))
            assert.include([discarded._tag, discarded.message].join(" "), "JobDiscarded")
            assert.include(discarded.message, "no such card")
            const cancelled = yield* Effect.flip(run(Charge.execute({ does: "cancel" })))
            assert(cancelled._tag === "JobCancelled")
            assert.strictEqual(cancelled.reason, "not today")
          }
        })
    )
  }

  onDatabase("tells of cancels, deletions and lost waits what they are; a waiter that leaves takes nothing along", () =>
    Effect.gen(function* () {
      const { running, workers } = yield* makeWorkers
      const here = yield* startNode(observer)
      const other = yield* startNode({ workers, config: { shutdownGrace: "100 millis" } })
      const sql = yield* SqlClient.SqlClient
      let waits = 0
      const waiting = Effect.fnUntraced(function* (delay: "1 hour" | undefined, cancelOnInterrupt: boolean) {
        // One for each: by that of another, it would be taken for the job of another before it is there.
        const tag = `wait ${++waits}`
        const fiber = yield* Effect.forkScoped(
          here.run(Charge.execute({ does: "hang" }, { delay, cancelOnInterrupt, tags: [tag] }))
        )
        const [job] = yield* eventually(here.jobs.list({ tag }), (rows) => rows.length > 0)
        return { fiber, id: job?.id ?? (0 as never) }
      })
      const scheduled = yield* waiting("1 hour", false)
      yield* other.jobs.cancel(scheduled.id, "changed my mind")
      const cancelled = yield* Effect.flip(Fiber.join(scheduled.fiber))
      assert(cancelled._tag === "JobCancelled")
      assert.strictEqual(cancelled.reason, "changed my mind")

      const left = yield* waiting(undefined, false)
      yield* Deferred.await(running)
      yield* Fiber.interrupt(left.fiber)
      assert.strictEqual((yield* here.jobs.get(left.id)).state, "executing")
      assert.strictEqual((yield* here.jobs.get(left.id)).cancelRequestedAt, undefined)

      const bound = yield* waiting("1 hour", true)
      yield* Fiber.interrupt(bound.fiber)
      assert.strictEqual((yield* here.jobs.get(bound.id)).state, "cancelled")

      const pruned = yield* waiting("1 hour", false)
      yield* sql`DELETE FROM shigoto.jobs WHERE id = ${pruned.id}`
      assert.strictEqual((yield* Effect.flip(Fiber.join(pruned.fiber)))._tag, "JobNotFound")
    })
  )

  onDatabase("refuses to wait inside of a transaction, and writes nothing", () =>
    Effect.gen(function* () {
      const { run } = yield* startNode(observer)
      const database = yield* TestDatabase
      const client = yield* database.makeClient()
      const node = yield* startNode({
        ...observer,
        client: Layer.mergeAll(Layer.succeed(SqlClient.SqlClient, client), Layer.succeed(PgClient.PgClient, client))
      })
      const error = yield* Effect.flip(client.withTransaction(node.run(Void.execute({}))))
      assert.strictEqual(error._tag, "AwaitInTransaction")
      assert.deepStrictEqual(yield* run(Effect.flatMap(Jobs, (jobs) => jobs.count())), { count: 0, isExact: true })
    })
  )

  onDatabase("waits for the unique job that is there, also one that runs or has ended", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      const Once = Job.make("once", {
        args: { k: Schema.String },
        success: Schema.Number,
        unique: { keys: ["worker", "args"], states: ["scheduled", "available", "executing", "retryable", "completed"] }
      })
      const here = yield* startNode(observer)
      yield* startNode({ workers: Once.toLayer((_, job) => Effect.as(Deferred.await(gate), job.id)) })
      const { id } = yield* here.run(Once.enqueue({ k: "a" }))
      yield* reaches(here, id, "executing")
      const waiters = yield* Effect.forkScoped(
        Effect.forEach([1, 2, 3], () => here.run(Once.execute({ k: "a" }, { cancelOnInterrupt: true })), {
          concurrency: 3
        })
      )
      const leaver = yield* Effect.forkScoped(here.run(Once.execute({ k: "a" }, { cancelOnInterrupt: true })))
      const sql = yield* SqlClient.SqlClient
      yield* eventually(sql<{ links: number }>`SELECT links FROM shigoto.jobs`, (rows) => rows[0]?.links === 32)
      // The job is not the leaver's own.
      yield* Fiber.interrupt(leaver)
      yield* Deferred.succeed(gate, undefined)
      assert.deepStrictEqual(yield* Fiber.join(waiters), [id, id, id])
      assert.strictEqual(yield* here.run(Once.execute({ k: "a" })), id)
    })
  )

  onDatabase("10,000 waiters in one process share their reads", () =>
    Effect.gen(function* () {
      const { workers } = yield* makeWorkers
      const here = yield* startNode({ workers, config: { queues: { default: 500 }, retention: { completed: 0 } } })
      const sql = yield* SqlClient.SqlClient
      const results = yield* here.run(
        Effect.forEach(
          Array.from({ length: 10_000 }, (_, n) => n),
          (n) => Quiet.execute({ n }),
          { concurrency: "unbounded" }
        )
      )
      assert.deepStrictEqual(
        results,
        results.map((_, n) => n * 2)
      )
      const [kept] = yield* sql<{ count: number }>`SELECT count(*)::integer AS count FROM shigoto.results`
      assert.strictEqual(kept?.count, 10_000)
      // What was kept for them goes after five minutes.
      yield* sql`UPDATE shigoto.results SET finished_at = finished_at - interval '6 minutes'`
      yield* startNode(observer)
      yield* eventually(
        sql<{ count: number }>`SELECT count(*)::integer AS count FROM shigoto.results`,
        ([row]) => row?.count === 0
      )
    })
  )
})

describe("execute across processes", () => {
  onDatabase("outlives the worker process that is killed with the job in hand", () =>
    Effect.gen(function* () {
      yield* makeDiary
      const here = yield* startNode(observer)
      const producer = yield* startProducer()
      const first = yield* startProcess({ config: { leaseTtl: "1500 millis", leaseBeat: "300 millis" } })
      const waiters = yield* Effect.forkScoped(
        Effect.all(
          [
            here.run(Work.execute({ does: "linger", millis: 1000 })),
            producer.run(Work.execute({ does: "linger", millis: 1000 }))
          ],
          { concurrency: 2 }
        )
      )
      yield* eventually(here.jobs.count({ state: "executing" }), ({ count }) => count === 2)
      first.child.kill("SIGKILL")
      yield* startProcess()
      assert.deepStrictEqual(yield* Fiber.join(waiters), ["done", "done"])
      const rows = yield* here.jobs.list({ worker: "work" })
      assert.deepStrictEqual(
        rows.map(({ attempt, errors }) => [attempt, errors[0]?.tag]),
        [
          [2, "LeaseExpired"],
          [2, "LeaseExpired"]
        ]
      )
    })
  )

  onDatabase("catches up when the connection that listens is lost while the job ends", () =>
    Effect.gen(function* () {
      yield* makeDiary
      const here = yield* startNode({ config: { ...observer.config, ...patient } })
      const sql = yield* SqlClient.SqlClient
      yield* startProcess()
      // Once it has an answer by a notification it listens.
      assert.strictEqual(yield* here.run(Work.execute({ does: "succeed" })), "done")
      const waiter = yield* Effect.forkScoped(here.run(Work.execute({ does: "linger", millis: 1500 })))
      const [job] = yield* eventually(here.jobs.list({ state: "executing" }), (rows) => rows.length === 1)
      // Cut again and again until the job has ended, so that nobody hears of its end.
      const cut = sql`
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name LIKE 'shigoto-listener/%' AND datname = current_database()`
      yield* eventually(
        Effect.andThen(cut, here.jobs.get(job?.id ?? (0 as never))),
        ({ state }) => state === "completed"
      )
      assert.strictEqual(yield* Fiber.join(waiter), "done")
    })
  )
})

describe("Jobs.result", () => {
  onDatabase("tells a job by its definition: pending, completed, discarded, cancelled", () =>
    Effect.gen(function* () {
      const { workers } = yield* makeWorkers
      const node = yield* startNode({ workers })
      const ended = Effect.fnUntraced(function* (does: string) {
        const { id } = yield* node.run(Charge.enqueue({ does }))
        yield* reaches(node, id, "completed", "discarded", "cancelled")
        return yield* node.jobs.result(Charge, id)
      })
      assert.deepStrictEqual(yield* ended("work"), { _tag: "Completed", value: { at: noon } })
      const failed = yield* ended("fail")
      assert(failed._tag === "Discarded" && Option.isSome(failed.error))
      assert.strictEqual(failed.error.value.missing, 7)
      const died = yield* ended("die")
      assert(died._tag === "Discarded" && Option.isNone(died.error))
      assert.strictEqual(died.failure?.message, "on purpose")
      assert.deepStrictEqual(yield* ended("cancel"), { _tag: "Cancelled", reason: "not today" })
      const { id } = yield* node.run(Charge.enqueue({ does: "work" }, { delay: "1 hour" }))
      assert.deepStrictEqual(yield* node.jobs.result(Charge, id), { _tag: "Pending", state: "scheduled" })
      assert.strictEqual((yield* Effect.flip(node.jobs.result(Charge, 999_999 as never)))._tag, "JobNotFound")
      const [row] = yield* node.jobs.list({ state: "completed" })
      const mismatch = yield* Effect.flip(node.jobs.result({ ...Quiet, name: "charge" }, row?.id ?? (0 as never)))
      assert.strictEqual(mismatch._tag, "ResultDecodeError")
    })
  )
})

describe("execute in virtual time", () => {
  it.effect("waits as long as the job does", () =>
    Effect.gen(function* () {
      const fiber = yield* Effect.forkChild(Quiet.execute({ n: 4 }, { delay: "3 days" }))
      yield* ShigotoTest.advance("2 days")
      assert.isUndefined(fiber.pollUnsafe())
      yield* ShigotoTest.advance("2 days")
      assert.strictEqual(yield* Fiber.join(fiber), 8)
      const failing = yield* Effect.forkChild(Effect.exit(Charge.execute({ does: "fail" })))
      yield* ShigotoTest.drain
      assert.isTrue(Exit.isFailure(yield* Fiber.join(failing)))
    }).pipe(
      Effect.provide(
        Layer.unwrap(Effect.map(makeWorkers, ({ workers }) => workers)).pipe(
          Layer.provideMerge(
            Layer.unwrap(Effect.map(TestDatabase, (database) => ShigotoTest.layer({ client: database.clientConfig })))
          ),
          Layer.provide(TestDatabase.layerDatabase())
        )
      )
    )
  )
})
