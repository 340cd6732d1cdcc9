import { assert, describe, it } from "@effect/vitest"
import type * as PgClient from "@effect/sql-pg/PgClient"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as CronJob from "../src/CronJob.ts"
import { CronJobs, type CronOptions } from "../src/CronJobs.ts"
import * as Job from "../src/Job.ts"
import { Jobs } from "../src/Jobs.ts"
import * as Shigoto from "../src/Shigoto.ts"
import * as ShigotoConfig from "../src/ShigotoConfig.ts"
import type { CronConflict, InvalidCron } from "../src/ShigotoError.ts"
import { ShigotoTest } from "../src/testing/index.ts"
import type { Workers } from "../src/Workers.ts"
import { TestDatabase } from "./setup/TestDatabase.ts"

const start = Date.UTC(2030, 0, 1)
const minute = 60_000

const Report = Job.make("report", { args: { n: Schema.Int } })
const Long = Job.make("long", { args: { entry: Schema.String } })

const ReportLive = Report.toLayer(() => Effect.void)

const every10 = { name: "every10", cron: "*/10 * * * *", job: Report, args: { n: 1 } } as const

/** A node in virtual time, from some minutes after the start. */
const from = <A, E>(
  minutes: number,
  body: Effect.Effect<A, E, ShigotoTest.Services | TestDatabase>,
  above: Layer.Layer<never, unknown, Workers | Jobs | CronJobs> = ReportLive
) =>
  Effect.flatMap(TestDatabase, (database) =>
    Effect.provide(
      body,
      above.pipe(
        Layer.provideMerge(
          ShigotoTest.layer({ client: database.clientConfig, start: new Date(start + minutes * minute) })
        )
      )
    )
  )

const test = (name: string, body: () => Effect.Effect<void, unknown, TestDatabase>) =>
  it.live(name, () => Effect.suspend(body).pipe(Effect.provide(TestDatabase.layerDatabase())))

/** The minutes, since the start, of the ticks of an entry that inserted a job. */
const ticksOf = Effect.fnUntraced(function* (name: string, outcome = "inserted") {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql<{ readonly tick: Date }>`
    SELECT tick FROM shigoto.cron_ticks WHERE name = ${name} AND outcome = ${outcome} ORDER BY tick`
  return rows.map(({ tick }) => (tick.getTime() - start) / minute)
})

const entry = Effect.fnUntraced(function* (name: string) {
  const { list } = yield* CronJobs
  return (yield* list).find((one) => one.name === name)
})

const upsert = <Args, R>(options: CronOptions<Args, R>) => Effect.flatMap(CronJobs, (cron) => cron.upsert(options))

describe("ticks", () => {
  test("inserts one job at each tick, at its instant, and tells the handler for which", () =>
    Effect.gen(function* () {
      const seen: Array<string> = []
      yield* from(
        0.5,
        Effect.gen(function* () {
          yield* ShigotoTest.advance("10 minutes")
          assert.deepStrictEqual(yield* ticksOf("minutely"), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
          const ticked = (yield* ShigotoTest.events).flatMap(({ at, event }) =>
            event._tag === "CronTicked" ? [DateTime.toEpochMillis(at) - DateTime.toEpochMillis(event.tick)] : []
          )
          assert.deepStrictEqual(
            ticked,
            Array.from({ length: 10 }, () => 0)
          )
          const jobs = yield* (yield* Jobs).list({ worker: "report" })
          assert.strictEqual(jobs.length, 10)
          assert.deepStrictEqual(
            jobs.map((job) => (DateTime.toEpochMillis(job.scheduledFor) - start) / minute),
            [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]
          )
          // The second attempts came later, for the same instants.
          assert.strictEqual(seen.filter((line) => line.startsWith("1: 00:01")).length, 1)
          assert.strictEqual(seen.filter((line) => line.startsWith("2: 00:01")).length, 1)
        }),
        Layer.mergeAll(
          CronJob.make({ name: "minutely", cron: "* * * * *", job: Report, args: { n: 1 } }),
          Report.toLayer((_, job) =>
            Effect.suspend(() => {
              seen.push(`${job.attempt}: ${DateTime.formatIso(job.scheduledFor).slice(11, 16)}`)
              return job.attempt === 1 ? Effect.die("once") : Effect.void
            })
          )
        )
      )
    }))

  test("reads six fields with seconds", () =>
    from(
      0,
      Effect.gen(function* () {
        yield* upsert({ ...every10, name: "seconds", cron: "*/10 * * * * *" })
        yield* ShigotoTest.advance("1 minute")
        assert.deepStrictEqual(
          (yield* ticksOf("seconds")).map((tick) => Math.round(tick * 60)),
          [10, 20, 30, 40, 50, 60]
        )
      })
    ))

  test("delays the job by a jitter that is bounded and the same everywhere, and not its scheduled instant", () =>
    Effect.gen(function* () {
      const run = from(
        0,
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          yield* upsert({ ...every10, name: "jittered", jitter: "5 minutes" })
          yield* ShigotoTest.advance("2 hours")
          const rows = yield* sql<{ readonly delay: number; readonly tick: Date; readonly scheduled_for: Date }>`
            SELECT extract(epoch FROM j.run_at - t.tick)::float8 AS delay, t.tick, j.scheduled_for
            FROM shigoto.cron_ticks AS t
            JOIN shigoto.all_jobs AS j ON j.id = t.job_id
            ORDER BY t.tick`
          assert.strictEqual(rows.length, 12)
          for (const { delay, scheduled_for, tick } of rows) {
            assert.isTrue(delay >= 0 && delay < 300, String(delay))
            assert.deepStrictEqual(scheduled_for, tick)
          }
          return rows.map(({ delay }) => delay)
        })
      )
      const first = yield* run
      const second = yield* Effect.provide(run, Layer.fresh(TestDatabase.layerDatabase()))
      assert.deepStrictEqual(second, first)
      assert.isAbove(new Set(first).size, 6)
    }))

  test("a year of ticks over changes of the clock, to the last one", () =>
    from(
      0,
      Effect.gen(function* () {
        const entries = [
          // 02:30 is not there on 31 March and there twice on 27 October.
          { name: "berlin", cron: "30 2 * * *", timezone: "Europe/Berlin" },
          {
            name: "berlin, skipped and both",
            cron: "30 2 * * *",
            timezone: "Europe/Berlin",
            onGap: "skip",
            onOverlap: "both"
          },
          // Sundays: 52, and the half hour that comes twice.
          { name: "lord howe", cron: "45 1 * * 0", timezone: "Australia/Lord_Howe", onOverlap: "both" },
          { name: "monthly", cron: "@monthly", timezone: "America/New_York" }
        ] as const
        for (const one of entries) yield* upsert({ ...one, job: Report, args: { n: 1 } })
        yield* ShigotoTest.advance("365 days")
        const ticked = Map.groupBy(
          (yield* ShigotoTest.events).flatMap(({ at, event }) =>
            event._tag === "CronTicked" ? [{ at, name: event.name, tick: DateTime.toEpochMillis(event.tick) }] : []
          ),
          ({ name }) => name
        )
        const of = (name: string) => (ticked.get(name) ?? []).map(({ tick }) => (tick - start) / minute)
        for (const { at, tick } of [...ticked.values()].flat()) assert.strictEqual(DateTime.toEpochMillis(at), tick)
        const berlin = of("berlin")
        assert.strictEqual(berlin.length, 365)
        assert.strictEqual(new Set(berlin.map((tick) => Math.floor((tick + 60) / 1440))).size, 365)
        assert.include(berlin, (Date.UTC(2030, 2, 31, 1) - start) / minute)
        assert.strictEqual(of("berlin, skipped and both").length, 365)
        assert.strictEqual(of("lord howe").length, 53)
        assert.strictEqual(of("monthly").length, 12)
        const { count } = yield* archived
        assert.strictEqual(count, 365 + 365 + 53 + 12)
      }),
      ReportLive
    ))
})

/** What ran, prunings aside. */
const archived = Effect.gen(function* () {
  const events = yield* ShigotoTest.events
  return { count: events.filter(({ event }) => event._tag === "Completed").length }
})

describe("catchUp", () => {
  const all = (max: number, window: "15 minutes" | "1 hour") => CronJob.all({ max, window })
  const policies = {
    skip: "skip",
    latest: "latest",
    unsaid: undefined,
    three: all(3, "1 hour"),
    window: all(60, "15 minutes")
  } as const

  test("decides which missed ticks run, and none from before the entry was there", () =>
    Effect.gen(function* () {
      yield* from(
        5,
        Effect.gen(function* () {
          for (const [name, catchUp] of Object.entries(policies)) yield* upsert({ ...every10, name, catchUp })
          yield* ShigotoTest.advance("6 minutes")
          for (const name of Object.keys(policies)) assert.deepStrictEqual(yield* ticksOf(name), [10], name)
        })
      )
      yield* from(
        65,
        Effect.gen(function* () {
          yield* ShigotoTest.advance("0 seconds")
          assert.deepStrictEqual(yield* ticksOf("skip"), [10])
          assert.deepStrictEqual(yield* ticksOf("latest"), [10, 60])
          assert.deepStrictEqual(yield* ticksOf("unsaid"), [10, 60])
          assert.deepStrictEqual(yield* ticksOf("three"), [10, 40, 50, 60])
          assert.deepStrictEqual(yield* ticksOf("window"), [10, 50, 60])
          yield* ShigotoTest.advance("5 minutes")
          for (const name of Object.keys(policies)) assert.strictEqual((yield* ticksOf(name)).at(-1), 70, name)
        })
      )
    }))

  test("is not asked while the delay is within half a minute", () =>
    Effect.gen(function* () {
      yield* from(1, upsert({ ...every10, catchUp: "skip" }))
      yield* from(
        10.4,
        Effect.gen(function* () {
          yield* ShigotoTest.drain
          assert.deepStrictEqual(yield* ticksOf("every10"), [10])
        })
      )
    }))

  test("starts a changed expression or zone anew, and lets an unchanged one go on", () =>
    from(
      5,
      Effect.gen(function* () {
        yield* upsert(every10)
        yield* ShigotoTest.advance("20 minutes")
        assert.deepStrictEqual(yield* ticksOf("every10"), [10, 20])
        yield* upsert({ ...every10, cron: "*/7 * * * *", catchUp: all(60, "1 hour") })
        yield* ShigotoTest.advance("12 minutes")
        assert.deepStrictEqual(yield* ticksOf("every10"), [10, 20, 28, 35])
        yield* upsert({ ...every10, cron: "*/7 * * * *", timezone: "Asia/Kathmandu" })
        yield* ShigotoTest.advance("6 minutes")
        // 05:45 ahead: the forty-second minute of Kathmandu's hour is the fifty-seventh of London's.
        assert.deepStrictEqual(yield* ticksOf("every10"), [10, 20, 28, 35, 43])
      }),
      ReportLive
    ))
})

describe("overlap", () => {
  test("decides what a tick does while an earlier job lives", () =>
    from(
      0.5,
      Effect.gen(function* () {
        const policies = ["allow", "skip", "queueOne", "cancelRunning"] as const
        for (const overlap of policies) {
          yield* upsert({ name: overlap, cron: "* * * * *", job: Longs[overlap], args: { entry: overlap }, overlap })
        }
        yield* ShigotoTest.advance("10 minutes")
        assert.deepStrictEqual(yield* ticksOf("allow"), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
        assert.deepStrictEqual(yield* ticksOf("skip"), [1, 4, 7, 10])
        assert.deepStrictEqual(yield* ticksOf("skip", "skipped"), [2, 3, 5, 6, 8, 9])
        assert.deepStrictEqual(yield* ticksOf("queueOne"), [1, 2, 4, 6, 8, 10])
        assert.deepStrictEqual(yield* ticksOf("cancelRunning"), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
        const jobs = yield* Jobs
        const replaced = yield* jobs.list({ worker: "cancelRunning" })
        assert.deepStrictEqual(
          replaced.map((job) => job.state),
          ["executing", ...Array.from({ length: 9 }, () => "cancelled")]
        )
        assert.include(replaced[1]?.cancelReason, "cancelRunning")
      }),
      Layer.mergeAll(
        Longs.allow.toLayer(() => Effect.sleep("130 seconds")),
        Longs.skip.toLayer(() => Effect.sleep("130 seconds")),
        Longs.queueOne.toLayer(() => Effect.sleep("130 seconds"), { concurrency: 1 }),
        Longs.cancelRunning.toLayer(() => Effect.sleep("130 seconds"))
      )
    ))
})

const long = (name: string) => Job.make(name, { args: { entry: Schema.String } })
const Longs = {
  allow: long("allow"),
  skip: long("skip"),
  queueOne: long("queueOne"),
  cancelRunning: long("cancelRunning")
}

describe("control", () => {
  test("pauses over restarts, and resumes from then on", () =>
    Effect.gen(function* () {
      yield* from(
        5,
        Effect.gen(function* () {
          const cron = yield* CronJobs
          yield* upsert({ ...every10, catchUp: CronJob.all({ max: 60, window: "3 hours" }) })
          yield* ShigotoTest.advance("10 minutes")
          yield* cron.pause("every10")
          yield* cron.pause("every10")
          yield* ShigotoTest.advance("30 minutes")
          const paused = yield* entry("every10")
          assert.isTrue(paused?.paused)
          assert.isUndefined(paused?.nextTick)
        })
      )
      yield* from(
        85,
        Effect.gen(function* () {
          const cron = yield* CronJobs
          yield* ShigotoTest.advance("10 minutes")
          assert.deepStrictEqual(yield* ticksOf("every10"), [10])
          yield* cron.resume("every10")
          yield* cron.resume("every10")
          yield* ShigotoTest.advance("10 minutes")
          assert.deepStrictEqual(yield* ticksOf("every10"), [10, 100])
          assert.isFalse((yield* entry("every10"))?.paused)
        })
      )
    }))

  test("runs now, previews and removes", () =>
    from(
      5,
      Effect.gen(function* () {
        const cron = yield* CronJobs
        const jobs = yield* Jobs
        yield* upsert({ ...every10, queue: "default", priority: 7, maxAttempts: 3, tags: ["nightly"] })
        const id = yield* cron.runNow("every10")
        yield* ShigotoTest.drain
        const ran = yield* jobs.get(id)
        assert.strictEqual(ran.state, "completed")
        assert.strictEqual(ran.priority, 7)
        assert.strictEqual(ran.maxAttempts, 3)
        assert.deepStrictEqual(ran.tags, ["nightly"])
        assert.deepStrictEqual(yield* ticksOf("every10"), [])
        assert.deepStrictEqual(
          (yield* cron.preview("every10", 3)).map((tick) => (DateTime.toEpochMillis(tick) - start) / minute),
          [10, 20, 30]
        )
        assert.strictEqual((yield* cron.preview("every10", 5000)).length, 1000)
        assert.deepStrictEqual(yield* cron.preview("every10", 0), [])
        yield* cron.remove("every10")
        yield* ShigotoTest.advance("1 hour")
        assert.deepStrictEqual(yield* ticksOf("every10"), [])
        for (const verb of [
          cron.remove,
          cron.pause,
          cron.resume,
          cron.runNow,
          (name: string) => cron.preview(name, 1)
        ]) {
          assert.strictEqual(
            (yield* Effect.flip(verb("every10") as Effect.Effect<unknown, { readonly _tag: string }>))._tag,
            "CronNotFound"
          )
        }
      })
    ))

  test("lists what is stored; an unknown worker is shown and blocks nobody", () =>
    from(
      5,
      Effect.gen(function* () {
        yield* upsert(every10)
        yield* upsert({ ...every10, name: "nobody", job: Long, args: { entry: "x" }, timezone: "Europe/Berlin" })
        // The lease tells which workers a node has; it is renewed three times a day here.
        yield* ShigotoTest.advance("8 hours")
        const [known, unknown] = [yield* entry("every10"), yield* entry("nobody")]
        assert.deepStrictEqual([known?.workerKnown, unknown?.workerKnown], [true, false])
        assert.deepStrictEqual([known?.source, known?.args, known?.overlap], ["database", { n: 1 }, "allow"])
        assert.strictEqual(unknown?.timezone, "Europe/Berlin")
        assert.strictEqual(unknown?.worker, "long")
        assert.isUndefined(unknown?.problem)
        assert.strictEqual((yield* ticksOf("every10")).length, 48)
        assert.strictEqual((yield* ticksOf("nobody")).length, 48)
        const { count } = yield* archived
        assert.strictEqual(count, 48)
      })
    ))

  test("goes on beside stored entries that cannot be evaluated, and shows why", () =>
    from(
      5,
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* upsert(every10)
        for (const [name, column, value] of [
          ["a bad expression", "expression", "every now and then"],
          ["a bad zone", "timezone", "Mars/Phobos"],
          ["bad attempts", "max_attempts", "0"],
          ["a bad queue", "queue", ""],
          ["bad args", "args", `{"n": "many"}`]
        ] as const) {
          yield* upsert({ ...every10, name })
          const type = sql.literal(column === "max_attempts" ? "smallint" : column === "args" ? "jsonb" : "text")
          yield* sql`UPDATE shigoto.cron SET ${sql(column)} = ${value}::text::${type} WHERE name = ${name}`
        }
        yield* ShigotoTest.advance("1 hour")
        assert.deepStrictEqual(yield* ticksOf("every10"), [10, 20, 30, 40, 50, 60])
        assert.isUndefined((yield* entry("every10"))?.problem)
        assert.include((yield* entry("a bad expression"))?.problem, "4 fields")
        assert.include((yield* entry("a bad zone"))?.problem, "Mars/Phobos")
        assert.include((yield* entry("bad attempts"))?.problem, "jobs_attempts")
        assert.include((yield* entry("a bad queue"))?.problem, "jobs_names")
        // Args are their worker's matter: such jobs fail one by one.
        assert.deepStrictEqual(yield* ticksOf("bad args"), [10, 20, 30, 40, 50, 60])
        // One that was set right ticks again by itself.
        yield* sql`UPDATE shigoto.cron SET max_attempts = 1 WHERE name = 'bad attempts'`
        yield* ShigotoTest.advance("10 minutes")
        assert.isUndefined((yield* entry("bad attempts"))?.problem)
        assert.strictEqual((yield* ticksOf("bad attempts")).at(-1), 70)
      })
    ))
})

describe("ownership", () => {
  const code = CronJob.make({ ...every10, name: "owned" })
  const conflict = (error: { readonly _tag: string }) => {
    assert.strictEqual(error._tag, "CronConflict")
    return (error as CronConflict).source
  }

  test("refuses a change by the side that does not own the entry", () =>
    Effect.gen(function* () {
      yield* from(
        0,
        Effect.gen(function* () {
          assert.strictEqual((yield* entry("owned"))?.source, "code")
          assert.strictEqual(conflict(yield* Effect.flip(upsert({ ...every10, name: "owned" }))), "code")
          assert.strictEqual(conflict(yield* Effect.flip(Effect.scoped(Layer.build(Layer.fresh(code))))), "code")
          // What another node had in its code is nobody's here.
          yield* upsert({ ...every10, name: "stored" })
        }),
        Layer.mergeAll(code, ReportLive)
      )
      yield* from(
        5,
        Effect.gen(function* () {
          const stored = CronJob.make({ ...every10, name: "stored" })
          assert.strictEqual(conflict(yield* Effect.flip(Effect.scoped(Layer.build(stored)))), "database")
          yield* ShigotoTest.advance("20 minutes")
          assert.deepStrictEqual(yield* ticksOf("owned"), [], "no node has it in its code")
          assert.deepStrictEqual(yield* ticksOf("stored"), [10, 20])
          // Until its scope closes.
          yield* Effect.scoped(
            Effect.andThen(Layer.build(CronJob.make({ ...every10, name: "mine" })), ShigotoTest.advance("10 minutes"))
          )
          yield* ShigotoTest.advance("10 minutes")
          assert.deepStrictEqual(yield* ticksOf("mine"), [30])
        })
      )
    }))

  test("stores with the caller's transaction, or not at all", () =>
    from(
      5,
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* Effect.exit(sql.withTransaction(Effect.andThen(upsert(every10), Effect.fail("no"))))
        assert.isUndefined(yield* entry("every10"))
        yield* sql.withTransaction(upsert(every10))
        yield* ShigotoTest.advance("10 minutes")
        assert.deepStrictEqual(yield* ticksOf("every10"), [10])
      })
    ))
})

describe("bad input", () => {
  const rows: ReadonlyArray<
    readonly [change: Partial<Record<keyof CronOptions<never, never>, unknown>>, tag: string, field?: string]
  > = [
    [{ name: "" }, "InvalidCron", "name"],
    [{ name: "a\nb" }, "InvalidCron", "name"],
    [{ cron: "0 25 * * *" }, "InvalidCron", "hours"],
    [{ cron: "" }, "InvalidCron", "expression"],
    [{ cron: undefined }, "InvalidCron", "expression"],
    [{ timezone: "Mars/Phobos" }, "InvalidCron", "timezone"],
    [{ timezone: "" }, "InvalidCron", "timezone"],
    [{ jitter: -1 }, "InvalidCron", "jitter"],
    [{ jitter: Number.NaN }, "InvalidCron", "jitter"],
    [{ jitter: "25 hours" }, "InvalidCron", "jitter"],
    [{ jitter: "soon" }, "InvalidCron", "jitter"],
    [{ overlap: "maybe" }, "InvalidCron", "overlap"],
    [{ onGap: "jump" }, "InvalidCron", "onGap"],
    [{ onOverlap: "last" }, "InvalidCron", "onOverlap"],
    [{ catchUp: "some" }, "InvalidCron", "catchUp"],
    [{ catchUp: { _tag: "all", max: 0, window: "1 hour" } }, "InvalidCron", "catchUp.max"],
    [{ catchUp: { _tag: "all", max: 1.5, window: "1 hour" } }, "InvalidCron", "catchUp.max"],
    [{ catchUp: { _tag: "all", max: 1, window: "8 days" } }, "InvalidCron", "catchUp.window"],
    [{ catchUp: { _tag: "all", max: 1, window: Number.NaN } }, "InvalidCron", "catchUp.window"],
    [{ catchUp: { _tag: "all", max: 1 } }, "InvalidCron", "catchUp.window"],
    [{ catchup: "skip" } as never, "InvalidCron", "catchup"],
    [{ queue: "" }, "InvalidQueueName"],
    [{ priority: 40_000 }, "InvalidPriority"],
    [{ maxAttempts: 0 }, "InvalidMaxAttempts"],
    [{ args: { n: "many" } }, "InvalidArgs"]
  ]

  it.live("is refused with the field, and nothing is stored; a producer may store too", () =>
    Effect.gen(function* () {
      const cron = yield* CronJobs
      for (const [change, tag, field] of rows) {
        const error = yield* Effect.flip(
          cron.upsert({ ...every10, ...change } as never) as Effect.Effect<void, InvalidCron>
        )
        assert.strictEqual<string>(error._tag, tag, JSON.stringify(change))
        assert.strictEqual(error.name, `effect-shigoto/${tag}`)
        if (field !== undefined) assert.strictEqual(error.field, field, JSON.stringify(change))
        assert.isNotEmpty(error.message)
      }
      assert.deepStrictEqual(yield* cron.list, [])
      const lines: Array<string> = []
      const logger = Logger.make(({ logLevel, message }) => lines.push(`${logLevel} ${String(message)}`))
      yield* Effect.provide(cron.upsert({ ...every10, name: "never", cron: "0 0 31 2 *" }), Logger.layer([logger]))
      assert.isTrue(
        lines.some((line) => line.includes("Warn") && line.includes("never ticks")),
        lines.join()
      )
      const [never] = yield* cron.list
      assert.strictEqual(never?.name, "never")
      assert.isUndefined(never?.nextTick)
      assert.deepStrictEqual(yield* cron.preview("never", 3), [])
    }).pipe(Effect.provide(producer), Effect.provideService(References.MinimumLogLevel, "Warn"))
  )
})

const producer: Layer.Layer<CronJobs | Jobs | PgClient.PgClient, unknown> = Shigoto.layerProducer.pipe(
  Layer.provide(ShigotoConfig.layer()),
  Layer.provideMerge(TestDatabase.layer())
)
