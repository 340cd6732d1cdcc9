/** Moving from other libraries: their own API makes jobs in their own tables, and the scripts of examples/import move them. */
import { assert, describe } from "@effect/vitest"
import { Effect, Layer, Redacted, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { Logger, makeWorkerUtils, run, runOnce } from "graphile-worker"
import { PgBoss } from "pg-boss"
import { importGraphileWorker } from "../../examples/import/graphileWorker.ts"
import { type Foreign, into } from "../../examples/import/intake.ts"
import { importPgBoss } from "../../examples/import/pgBoss.ts"
import { CronJobs } from "../../src/CronJobs.ts"
import * as Job from "../../src/Job.ts"
import { Jobs } from "../../src/Jobs.ts"
import * as ShigotoConfig from "../../src/ShigotoConfig.ts"
import { eventually } from "../setup/eventually.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"
import { onDatabase, quick, startNode } from "./support.ts"
import * as Shigoto from "../../src/Shigoto.ts"

const Mail = Job.make("mail", { args: { to: Schema.String }, queue: "mails" })
const Ping = Job.make("ping")
const Sync = Job.make("sync", {
  args: { account: Schema.String },
  unique: { keys: ["args.account"], replace: ["runAt"] }
})

const far = new Date("2100-01-01T00:00:00.000Z")

/** Enqueues and looks, on a pool of its own. */
const ProducerLive = Shigoto.layerProducer.pipe(Layer.provide(ShigotoConfig.layer(quick)))

/** Connects the other library, and waits at the end until its last session is gone: who drops the database ends the others. */
const connection = Effect.gen(function* () {
  const database = yield* TestDatabase
  const sql = yield* SqlClient.SqlClient
  const url = new URL(Redacted.value(database.url))
  url.searchParams.set("application_name", "other")
  const sessions = sql<{ readonly count: number }>`
    SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'other'`
  yield* Effect.addFinalizer(() => Effect.orDie(eventually(sessions, ([row]) => row?.count === 0)))
  return url.toString()
})

const startBoss = Effect.gen(function* () {
  const connectionString = yield* connection
  return yield* Effect.acquireRelease(
    Effect.promise(async () => {
      const boss = new PgBoss({ connectionString, schedule: false, supervise: false })
      boss.on("error", console.error)
      return boss.start()
    }),
    (boss) => Effect.promise(() => boss.stop({ graceful: false }))
  )
})

const startGraphile = Effect.gen(function* () {
  const connectionString = yield* connection
  const logger = new Logger(() => () => {})
  const utils = yield* Effect.acquireRelease(
    Effect.promise(async () => {
      const made = await makeWorkerUtils({ connectionString, logger })
      await made.migrate()
      return made
    }),
    (made) => Effect.promise(async () => made.release())
  )
  return { utils, options: { connectionString, logger, noHandleSignals: true } }
})

/** What Shigoto holds, by the id that the other system gave it. */
const imported = (system: "pgBoss" | "graphileWorker") =>
  Effect.gen(function* () {
    const jobs = yield* (yield* Jobs).list({ limit: 1000 })
    return new Map(jobs.map((job) => [(job.meta[system] as { readonly id: string }).id, job]))
  })

const handled = (names: Array<string>) =>
  Layer.mergeAll(
    Mail.toLayer(({ to }) => Effect.sync(() => names.push(to))),
    Ping.toLayer(() => Effect.sync(() => names.push("ping")))
  )

describe("the import from pg-boss", () => {
  onDatabase("moves what waits, field by field, leaves the rest, and finds nothing the second time", () =>
    Effect.gen(function* () {
      const boss = yield* startBoss
      const id: Record<string, string> = {}
      const send = async (key: string, queue: string, data: object | null, options = {}) => {
        id[key] = (await boss.send(queue, data, options)) as string
      }
      yield* Effect.promise(async () => {
        await boss.createQueue("email", { retryLimit: 3 })
        await boss.createQueue("ping")
        await boss.createQueue("stranger")
        // One runs, one has failed once and is due again, one has failed for good, one is done, one is cancelled.
        for (const key of ["active", "retry", "failed", "completed", "cancelled"]) {
          await send(key, "email", { to: key }, key === "failed" ? { retryLimit: 0 } : { retryLimit: 4 })
        }
        await boss.cancel("email", id["cancelled"] as string)
        const fetched = await boss.fetch("email", { batchSize: 10 })
        assert.lengthOf(fetched, 4)
        await boss.fail("email", id["retry"] as string, { message: "a first time" })
        await boss.fail("email", id["failed"] as string)
        await boss.complete("email", id["completed"] as string)

        await send("plain", "email", { to: "plain" })
        await send(
          "rich",
          "email",
          { to: "rich" },
          { priority: 7, startAfter: far, group: { id: "acme" }, singletonKey: "k" }
        )
        await send("misfit", "email", { too: "no such field" })
        await send("tooUrgent", "email", { to: "too urgent" }, { priority: 40_000 })
        await send("last", "email", { to: "last" })
        await send("empty", "ping", null)
        await send("stranger", "stranger", {})
        Object.assign(
          id,
          await boss.flow([
            { ref: "parent", name: "email", data: { to: "parent" } },
            { ref: "child", name: "email", data: { to: "child" }, dependsOn: ["parent"] }
          ])
        )
        await boss.schedule(
          "email",
          "*/5 8-18 * * 1-5",
          { to: "desk" },
          { tz: "Europe/Berlin", priority: 2, retryLimit: 1 }
        )
        await boss.schedule("email", "0 0 * * *", { to: "owl" }, { key: "night" })
        await boss.schedule("email", "0 1 * * *", { nobody: true }, { key: "misfit" })
        await boss.schedule("email", "FREQ=DAILY;BYHOUR=3", { to: "rule" }, { key: "rule" })
      })

      const intakes = [into("email", Mail), into("ping", Ping)]
      const read = yield* Effect.gen(function* () {
        // Several pages, so that what stays must not be met twice nor end the import.
        const report = yield* importPgBoss(intakes, { pageSize: 3 })
        const again = yield* importPgBoss(intakes, { pageSize: 3 })
        return { report, again, jobs: yield* imported("pgBoss"), cron: yield* (yield* CronJobs).list }
      }).pipe(Effect.provide(ProducerLive))

      assert.strictEqual(read.report.jobs, 5)
      assert.strictEqual(read.report.schedules, 2)
      assert.deepStrictEqual({ ...read.again, left: [] }, { ...read.report, jobs: 0, schedules: 0, left: [] })
      const why = (all: typeof read.report) => new Map(all.left.map((left) => [left.id, left.why]))
      assert.deepStrictEqual(why(read.again), why(read.report))
      const left = why(read.report)
      assert.sameMembers(
        [...left.keys()],
        [id["misfit"], id["tooUrgent"], id["parent"], id["child"], "email/misfit", "email/rule"]
      )
      assert.match(left.get(id["misfit"] as string) ?? "", /Missing key\s+at \["to"\]/)
      assert.match(left.get(id["tooUrgent"] as string) ?? "", /A priority is an integer from .*, not 40000/)
      assert.match(left.get(id["child"] as string) ?? "", /flow/)
      assert.match(left.get("email/misfit") ?? "", /Missing key/)
      assert.match(left.get("email/rule") ?? "", /RRULE/)
      assert.deepStrictEqual(read.report.remaining, [
        { name: "email", state: "active", count: 1 },
        { name: "email", state: "cancelled", count: 1 },
        { name: "email", state: "completed", count: 1 },
        { name: "email", state: "created", count: 4 },
        { name: "email", state: "failed", count: 1 },
        { name: "stranger", state: "created", count: 1 }
      ])

      assert.sameMembers(
        [...read.jobs.keys()],
        ["retry", "plain", "rich", "last", "empty"].map((key) => id[key])
      )
      const job = (key: string) => read.jobs.get(id[key] as string)
      assert.deepInclude(job("plain"), {
        worker: "mail",
        queue: "mails",
        state: "available",
        args: { to: "plain" },
        priority: 0,
        attempt: 0,
        maxAttempts: 4
      })
      assert.deepInclude(job("rich"), {
        state: "scheduled",
        priority: 7,
        partitionKey: "acme",
        meta: { pgBoss: { id: id["rich"], singletonKey: "k" } }
      })
      assert.strictEqual(job("rich")?.runAt.epochMilliseconds, far.getTime())
      // Five attempts, of which one has been made.
      assert.strictEqual(job("retry")?.maxAttempts, 4)
      assert.deepInclude(job("empty"), { worker: "ping", args: {} })
      assert.deepStrictEqual(
        read.cron.map(({ args, cron, name, source, timezone, worker }) => ({
          args,
          cron,
          name,
          source,
          timezone,
          worker
        })),
        [
          {
            args: { to: "desk" },
            cron: "*/5 8-18 * * 1-5",
            name: "email",
            source: "database",
            timezone: "Europe/Berlin",
            worker: "mail"
          },
          {
            args: { to: "owl" },
            cron: "0 0 * * *",
            name: "email/night",
            source: "database",
            timezone: "UTC",
            worker: "mail"
          }
        ]
      )

      const ran: Array<string> = []
      const node = yield* startNode({ workers: handled(ran), config: { queues: { default: 2, mails: 1 } } })
      yield* eventually(node.jobs.count({ state: "completed" }), ({ count }) => count === 4)
      assert.sameMembers(ran, ["retry", "plain", "last", "ping"])
      assert.deepStrictEqual(
        ran.filter((to) => to !== "ping"),
        ["retry", "plain", "last"]
      )
    })
  )

  onDatabase("takes all or nothing of a page, and each job once, also when two import while pg-boss works", () =>
    Effect.gen(function* () {
      const boss = yield* startBoss
      yield* Effect.promise(async () => {
        await boss.createQueue("email")
        await boss.insert(
          "email",
          Array.from({ length: 300 }, (_, n) => ({ data: { to: String(n) } }))
        )
      })
      const intake = into("email", Mail)
      const waiting = Effect.promise(
        async () => (await boss.findJobs("email")).filter(({ state }) => state === "created").length
      )
      yield* Effect.gen(function* () {
        const jobs = yield* Jobs
        // It dies after the jobs are stored and before the rows are deleted.
        const dying = {
          ...intake,
          take: (rows: ReadonlyArray<Foreign>) => Effect.andThen(intake.take(rows), Effect.die("power cut"))
        }
        yield* Effect.exit(importPgBoss([dying], { pageSize: 100 }))
        assert.strictEqual((yield* jobs.count()).count, 0)
        assert.strictEqual(yield* waiting, 300)

        const byBoss: Array<string> = []
        yield* Effect.promise(() =>
          boss.work<{ to: string }>("email", { batchSize: 5, pollingIntervalSeconds: 0.5 }, async (fetched) => {
            byBoss.push(...fetched.map(({ data }) => data.to))
          })
        )
        yield* Effect.all([importPgBoss([intake], { pageSize: 7 }), importPgBoss([intake], { pageSize: 11 })], {
          concurrency: "unbounded"
        })
        yield* eventually(waiting, (count) => count === 0)
        yield* Effect.promise(() => boss.stop())
        const byShigoto = (yield* jobs.list({ limit: 1000 })).map(({ args }) => (args as { readonly to: string }).to)
        assert.sameMembers(
          [...byBoss, ...byShigoto],
          Array.from({ length: 300 }, (_, n) => String(n))
        )
      }).pipe(Effect.provide(ProducerLive))
    })
  )
})

describe("the import from graphile-worker", () => {
  onDatabase("moves what waits, field by field, leaves the rest, and finds nothing the second time", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { options, utils } = yield* startGraphile
      const id = new Map<string, string>()
      const add = async (key: string, task: string, payload: object, spec = {}) => {
        id.set(key, (await utils.addJob(task, payload, spec)).id)
      }
      yield* Effect.promise(async () => {
        await add("retry", "email", { to: "retry" }, { maxAttempts: 5 })
        await add("failed", "email", { to: "failed" }, { maxAttempts: 1 })
        await runOnce({
          ...options,
          taskList: {
            email: () => {
              throw new Error("a first time")
            }
          }
        })
      })
      // It says that it is done a moment before it has written down how the last one ended.
      yield* eventually(
        sql<{ readonly locked: number }>`
          SELECT count(*)::int AS locked FROM graphile_worker.jobs WHERE locked_at IS NOT NULL`,
        ([row]) => row?.locked === 0
      )
      const runner = yield* Effect.promise(() =>
        run({ ...options, crontab: "0 4 * * * email ?id=dawn", taskList: { nothing: () => {} } })
      )
      yield* eventually(sql`SELECT FROM graphile_worker._private_known_crontabs`, (rows) => rows.length === 1)
      yield* Effect.promise(async () => {
        await runner.stop()
        await add("plain", "email", { to: "plain" })
        await add(
          "rich",
          "email",
          { to: "rich" },
          { priority: -7, runAt: far, queueName: "acme", jobKey: "k", flags: ["a", "b"] }
        )
        await add("first", "email", { to: "first of all" }, { priority: -32_768 })
        await add("misfit", "email", { too: "no such field" })
        await add("badTag", "email", { to: "bad tag" }, { flags: ["\u0007"] })
        await add("empty", "ping", {})
        await add("one", "sync", { account: "one" }, { jobKey: "sync:one" })
        await add("twin", "sync", { account: "one" })
        await add("stranger", "stranger", {})
      })

      const intakes = [into("email", Mail), into("ping", Ping), into("sync", Sync)]
      const read = yield* Effect.gen(function* () {
        const report = yield* importGraphileWorker(intakes, { pageSize: 2 })
        const again = yield* importGraphileWorker(intakes, { pageSize: 2 })
        return { report, again, jobs: yield* imported("graphileWorker") }
      }).pipe(Effect.provide(ProducerLive))

      assert.strictEqual(read.report.jobs, 6)
      assert.deepStrictEqual(read.again, { ...read.report, jobs: 0 })
      const left = new Map(read.report.left.map(({ id: of, why }) => [of, why]))
      assert.sameMembers(
        [...left.keys()],
        ["misfit", "badTag", "twin"].map((key) => id.get(key))
      )
      assert.match(left.get(id.get("misfit") ?? "") ?? "", /Missing key\s+at \["to"\]/)
      const { id: holder } = read.jobs.get(id.get("one") ?? "") ?? {}
      assert.strictEqual(left.get(id.get("twin") ?? ""), `job ${holder} holds its unique key`)
      assert.deepStrictEqual(read.report.remaining, [
        { name: "email", state: "failed", count: 1 },
        { name: "email", state: "waiting", count: 2 },
        { name: "stranger", state: "waiting", count: 1 },
        { name: "sync", state: "waiting", count: 1 }
      ])

      assert.deepStrictEqual(read.report.crontab, ["dawn"])
      const job = (key: string) => read.jobs.get(id.get(key) ?? "")
      assert.deepInclude(job("plain"), {
        worker: "mail",
        queue: "mails",
        state: "available",
        args: { to: "plain" },
        priority: 0,
        maxAttempts: 25,
        tags: []
      })
      assert.deepInclude(job("rich"), {
        state: "scheduled",
        priority: 7,
        partitionKey: "acme",
        tags: ["a", "b"],
        meta: { graphileWorker: { id: id.get("rich"), key: "k" } }
      })
      assert.strictEqual(job("rich")?.runAt.epochMilliseconds, far.getTime())
      assert.strictEqual(job("first")?.priority, 32_767)
      assert.deepInclude(job("retry"), { maxAttempts: 4 })
      const ran: Array<string> = []
      const node = yield* startNode({
        workers: Layer.merge(
          handled(ran),
          Sync.toLayer(() => Effect.void)
        ),
        config: { queues: { default: 2, mails: 1 } }
      })
      yield* eventually(node.jobs.count({ state: "completed" }), ({ count }) => count === 5)
      assert.sameMembers(ran, ["retry", "plain", "first of all", "ping"])
    })
  )

  onDatabase("leaves a running job, and what waits behind it in its queue", () =>
    Effect.gen(function* () {
      const { options, utils } = yield* startGraphile
      yield* Effect.promise(async () => {
        for (const to of ["running", "behind it"]) await utils.addJob("email", { to }, { queueName: "serial" })
        await utils.addJob("email", { to: "free" })
      })
      yield* Effect.gen(function* () {
        let proceed = () => {}
        const gate = new Promise<void>((resolve) => {
          proceed = resolve
        })
        const seen: Array<string> = []
        const worker = runOnce({
          ...options,
          concurrency: 1,
          taskList: {
            email: async (payload) => {
              seen.push((payload as { readonly to: string }).to)
              await gate
            }
          }
        })
        yield* eventually(
          Effect.sync(() => seen),
          (names) => names.length > 0
        )
        const during = yield* importGraphileWorker([into("email", Mail)])
        assert.strictEqual(during.jobs, 1)
        proceed()
        yield* Effect.promise(() => worker)
        assert.deepStrictEqual(seen, ["running", "behind it"])
        // It says that it is done a moment before it has deleted the last one.
        const after = yield* eventually(
          importGraphileWorker([into("email", Mail)]),
          ({ remaining }) => remaining.length === 0
        )
        assert.deepInclude(after, { jobs: 0, left: [] })
      }).pipe(Effect.provide(ProducerLive))
    })
  )
})
