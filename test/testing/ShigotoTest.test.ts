import { assert, describe, it } from "@effect/vitest"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as Job from "../../src/Job.ts"
import { Jobs } from "../../src/Jobs.ts"
import { Queues } from "../../src/Queues.ts"
import { ShigotoTest } from "../../src/testing/index.ts"
import type { Workers } from "../../src/Workers.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"

const start = Date.UTC(2030, 0, 1)
const second = 1000
const minute = 60 * second
const hour = 60 * minute
const day = 24 * hour

class Broken extends Schema.TaggedError<Broken>()("Broken", { n: Schema.Int }) {}

const Step = Job.make("step", { args: { n: Schema.Int }, success: Schema.Int, error: Broken, queue: "steps" })
const Tick = Job.make("tick")

/** A world over a database of its own, with the given workers on top. */
const world = (workers: Layer.Layer<never, never, Workers | Jobs>, options: ShigotoTest.Options = {}) =>
  workers.pipe(
    Layer.provideMerge(
      Layer.unwrap(
        Effect.map(TestDatabase, (database) =>
          ShigotoTest.layer({ queues: { default: 10, steps: 2 }, client: database.clientConfig, ...options })
        )
      )
    ),
    Layer.provideMerge(TestDatabase.layerDatabase())
  )

/** What happened, in milliseconds since the start: `60000 Completed 3`. */
const history = Effect.map(ShigotoTest.events, (events) =>
  events.flatMap(({ at, event }) =>
    "id" in event && event._tag !== "Inserted"
      ? [`${DateTime.toEpochMillis(at) - start} ${event._tag} ${event.id}`]
      : []
  )
)

const elapsed = Effect.map(Clock.currentTimeMillis, (millis) => millis - start)

describe("drain", () => {
  const outcomes = Step.toLayer(({ n }) => {
    switch (n) {
      case 1:
        return Effect.succeed(n)
      case 2:
        return Effect.fail(new Broken({ n }))
      case 3:
        return Job.snooze("1 hour")
      case 4:
        return Job.discard("no")
      case 5:
        return Job.cancel("no more")
      default:
        return Effect.die("unexpected")
    }
  })

  it.effect("starts nothing before, runs all that is due, counts the outcomes, and lets no time pass", () =>
    Effect.gen(function* () {
      yield* Step.enqueueAll([1, 1, 2, 3, 4, 5].map((n) => ({ n })))
      yield* Step.enqueue({ n: 1 }, { delay: "1 millis" })
      yield* ShigotoTest.assertEnqueued({ job: Step, state: "available", count: 6 })
      assert.deepStrictEqual(yield* ShigotoTest.drain, {
        completed: 2,
        failed: 1,
        snoozed: 1,
        discarded: 1,
        cancelled: 1,
        released: 0
      })
      assert.strictEqual(yield* elapsed, 0)
      yield* ShigotoTest.assertEnqueued({ job: Step, state: "scheduled", count: 2 })
      yield* ShigotoTest.assertEnqueued({ job: Step, state: "retryable", count: 1 })
    }).pipe(Effect.provide(world(outcomes)))
  )

  it.effect("runs what becomes due by running: jobs of handlers, retries without a wait, beyond the concurrency", () =>
    Effect.gen(function* () {
      yield* Step.enqueueAll(Array.from({ length: 20 }, () => ({ n: 3 })))
      const tally = yield* ShigotoTest.drain
      // 20 chains of 3, 2, 1, 0; each 0 fails once.
      assert.strictEqual(tally.completed, 80)
      assert.strictEqual(tally.failed, 20)
      assert.deepStrictEqual(yield* ShigotoTest.enqueued(), [])
      assert.strictEqual(yield* elapsed, 0)
    }).pipe(
      Effect.provide(
        world(
          Step.toLayer(
            Effect.fnUntraced(function* ({ n }, job) {
              if (n > 0) yield* Effect.orDie(Step.enqueue({ n: n - 1 }))
              else if (job.attempt === 1) yield* new Broken({ n })
              return n
            }),
            { retry: Schedule.spaced(0) }
          )
        )
      )
    )
  )

  it.effect("obeys a pause, and its end", () =>
    Effect.gen(function* () {
      const queues = yield* Queues
      yield* queues.pause("steps")
      yield* Step.enqueue({ n: 1 })
      assert.strictEqual((yield* ShigotoTest.drain).completed, 0)
      yield* queues.resume("steps")
      assert.strictEqual((yield* ShigotoTest.drain).completed, 1)
    }).pipe(Effect.provide(world(outcomes)))
  )

  it.effect("runs what others have put into the tables", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* sql`SELECT shigoto.enqueue('step', '{"n": 1}'::jsonb, queue => 'steps')`
      assert.strictEqual((yield* ShigotoTest.drain).completed, 1)
    }).pipe(Effect.provide(world(outcomes)))
  )
})

describe("advance", () => {
  it.effect("runs delays, retries, snoozes and timeouts at exactly their instants", () => {
    const workers = Layer.mergeAll(
      Step.toLayer(
        Effect.fnUntraced(function* ({ n }, job) {
          if (n === 1 && job.attempt < 4) yield* new Broken({ n })
          if (n === 2 && job.snoozes < 2) yield* Job.snooze("7 minutes")
          if (n === 3) yield* Effect.never
          if (n === 4) yield* Effect.sleep("90 seconds")
          return n
        }),
        { retry: Schedule.exponential("1 second") }
      )
    )
    return Effect.gen(function* () {
      yield* Step.enqueue({ n: 0 }, { delay: "4035 millis" })
      yield* Step.enqueue({ n: 1 }, { delay: "1 hour" })
      yield* Step.enqueue({ n: 2 }, { delay: "2 hours" })
      yield* Step.enqueue({ n: 3 }, { delay: "3 hours", maxAttempts: 1 })
      yield* Step.enqueue({ n: 4 }, { runAt: new Date(start + 4 * hour) })
      const tally = yield* ShigotoTest.advance("1 day")
      assert.strictEqual(yield* elapsed, day)
      assert.deepStrictEqual(tally, { completed: 4, failed: 3, snoozed: 2, discarded: 1, cancelled: 0, released: 0 })
      assert.deepStrictEqual(yield* history, [
        "4035 Started 1",
        "4035 Completed 1",
        `${hour} Started 2`,
        `${hour} Failed 2`,
        `${hour + second} Started 2`,
        `${hour + second} Failed 2`,
        `${hour + 3 * second} Started 2`,
        `${hour + 3 * second} Failed 2`,
        `${hour + 7 * second} Started 2`,
        `${hour + 7 * second} Completed 2`,
        `${2 * hour} Started 3`,
        `${2 * hour} Snoozed 3`,
        `${2 * hour + 7 * minute} Started 3`,
        `${2 * hour + 7 * minute} Snoozed 3`,
        `${2 * hour + 14 * minute} Started 3`,
        `${2 * hour + 14 * minute} Completed 3`,
        `${3 * hour} Started 4`,
        `${3 * hour + 5 * minute} Discarded 4`,
        `${4 * hour} Started 5`,
        `${4 * hour + 90 * second} Completed 5`
      ])
      const jobs = yield* Jobs
      const [timedOut] = yield* jobs.list({ state: "discarded" })
      assert.strictEqual(timedOut?.errors[0]?.tag, "AttemptTimeout")
      // The rows say the same as the events.
      assert.strictEqual(
        timedOut?.finishedAt && DateTime.toEpochMillis(timedOut.finishedAt) - start,
        3 * hour + 5 * minute
      )
    }).pipe(Effect.provide(world(workers)))
  })

  it.effect("runs what is due at its end, and not a millisecond more", () =>
    Effect.gen(function* () {
      yield* Tick.enqueue({}, { delay: "1 hour" })
      yield* Tick.enqueue({}, { delay: hour + 1 })
      assert.strictEqual((yield* ShigotoTest.advance("1 hour")).completed, 1)
      assert.strictEqual((yield* ShigotoTest.advance("1 millis")).completed, 1)
    }).pipe(Effect.provide(world(Tick.toLayer(() => Effect.void))))
  )

  it.effect("wakes sleepers one by one in the order of their instants, then of their sleep", () =>
    Effect.gen(function* () {
      const woken: Array<string> = []
      const sleep = (name: string, millis: number) =>
        Effect.forkChild(
          Effect.andThen(
            Effect.sleep(millis),
            Effect.map(elapsed, (at) => woken.push(`${name} ${at}`))
          )
        )
      yield* sleep("c", 3000)
      yield* sleep("a", 1000)
      yield* sleep("b", 3000)
      yield* Effect.yieldNow
      yield* ShigotoTest.advance("10 seconds")
      assert.deepStrictEqual(woken, ["a 1000", "c 3000", "b 3000"])
    }).pipe(Effect.provide(world(Layer.empty)))
  )

  it.effect("is what TestClock.adjust does, in place of the clock of it.effect", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* Clock.currentTimeMillis, 0)
      yield* Effect.gen(function* () {
        yield* Tick.enqueue({}, { delay: "1 hour" })
        yield* TestClock.adjust("2 hours")
        assert.deepStrictEqual(yield* history, [`${hour} Started 1`, `${hour} Completed 1`])
        yield* TestClock.setTime(start + 3 * hour)
        assert.strictEqual(yield* elapsed, 3 * hour)
        assert.isTrue(Exit.hasDies(yield* Effect.exit(TestClock.setTime(start))))
        assert.isTrue(Exit.hasDies(yield* Effect.exit(ShigotoTest.advance("Infinity"))))
        assert.isAbove(yield* TestClock.withLive(Clock.currentTimeMillis), Date.UTC(2026, 0, 1))
      }).pipe(Effect.provide(world(Tick.toLayer(() => Effect.void))))
      assert.strictEqual(yield* Clock.currentTimeMillis, 0)
    })
  )

  it.live("needs no test clock around it, and starts where it is told to", () =>
    Effect.gen(function* () {
      yield* Tick.enqueue({}, { delay: "1 minute" })
      yield* ShigotoTest.advance("1 minute")
      const [last] = (yield* ShigotoTest.events).slice(-1)
      assert.strictEqual(last?.event._tag, "Completed")
      assert.strictEqual(last === undefined ? "" : DateTime.formatIso(last.at), "2027-03-04T05:07:07.000Z")
    }).pipe(
      Effect.provide(
        world(
          Tick.toLayer(() => Effect.void),
          { start: new Date("2027-03-04T05:06:07Z") }
        )
      )
    )
  )

  it.effect("takes a virtual year with a job every day", () =>
    Effect.gen(function* () {
      yield* Tick.enqueue({})
      assert.strictEqual((yield* ShigotoTest.advance("365 days")).completed, 366)
      const completed = (yield* ShigotoTest.events).flatMap(({ at, event }) =>
        event._tag === "Completed" ? [(DateTime.toEpochMillis(at) - start) / day] : []
      )
      assert.deepStrictEqual(
        completed,
        Array.from({ length: 366 }, (_, i) => i)
      )
    }).pipe(
      Effect.provide(world(Tick.toLayer(() => Effect.asVoid(Effect.orDie(Tick.enqueue({}, { delay: "1 day" }))))))
    )
  )

  it.effect("keeps a short lease alive, as its beats are due", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* ShigotoTest.advance("5 minutes")
      const [node] = yield* sql<{ readonly expires_at: Date; readonly beat_at: Date }>`
        SELECT expires_at, beat_at FROM shigoto.nodes`
      assert.strictEqual(node === undefined ? 0 : node.beat_at.getTime() - start, 296 * second)
      assert.strictEqual(node === undefined ? 0 : node.expires_at.getTime() - start, 326 * second)
      assert.deepStrictEqual(
        (yield* ShigotoTest.events).filter(({ event }) => event._tag === "NodeLeaseLost"),
        []
      )
    }).pipe(Effect.provide(world(Layer.empty, { leaseTtl: "30 seconds" })))
  )
})

describe("the same run", () => {
  const scenario = Effect.gen(function* () {
    const jobs = yield* Jobs
    yield* Step.enqueueAll(
      Array.from({ length: 12 }, (_, n) => ({ n })),
      ({ n }) => ({ delay: (n % 3) * 10 * minute, priority: n % 4 })
    )
    yield* Tick.enqueueAll(Array.from({ length: 8 }, () => ({})))
    yield* ShigotoTest.drain
    yield* ShigotoTest.advance("30 minutes")
    const [waiting] = yield* ShigotoTest.enqueued({ job: Step, state: ["scheduled", "retryable"] })
    if (waiting !== undefined) yield* jobs.cancel(waiting.id, "enough")
    yield* ShigotoTest.advance("2 days")
    const rows = yield* jobs.list({ limit: 1000 })
    return { events: yield* ShigotoTest.events, rows, now: yield* elapsed }
  })
  const workers = Layer.mergeAll(
    Step.toLayer(
      Effect.fnUntraced(function* ({ n }, job) {
        // Chance, concurrent statements, and children of concurrent handlers.
        const wait = yield* Random.nextIntBetween(1, 120)
        const sql = yield* PgClient.PgClient
        yield* Effect.all([sql`SELECT pg_sleep(random() / 200)`, sql`SELECT 1`, sql`SELECT 2`], {
          concurrency: "unbounded"
        }).pipe(Effect.orDie)
        yield* Effect.sleep(wait * second)
        if (n % 4 === 1 && job.attempt < 3) yield* new Broken({ n })
        if (n % 4 === 2 && job.snoozes === 0) yield* Job.snooze(wait * minute)
        if (n === 7) yield* Job.discard("seven")
        if (n % 4 === 3) yield* Effect.orDie(Tick.enqueueAll([{}, {}], { delay: wait * second }))
        return n
      }),
      { concurrency: 2 }
    ),
    Tick.toLayer(
      () =>
        Effect.flatMap(PgClient.PgClient, (sql) =>
          Effect.orDie(sql.withTransaction(sql`SELECT pg_sleep(random() / 200)`))
        ).pipe(Effect.andThen(Effect.sleep("3 seconds"))),
      { concurrency: 3 }
    )
  )
  const run = scenario.pipe(
    Effect.provide(
      workers.pipe(
        Layer.provideMerge(
          Layer.unwrap(
            Effect.map(TestDatabase, (database) =>
              ShigotoTest.layer({ queues: { default: 4, steps: 3 }, client: database.clientConfig })
            )
          )
        )
      )
    ),
    Effect.provide(TestDatabase.layerDatabase()),
    Effect.map((trace) => JSON.stringify(trace, null, 1).replaceAll(/^ *"cause": .*$/gm, ""))
  )

  it.live("gives the same trace twenty times: ids, order, virtual time", () =>
    Effect.gen(function* () {
      const traces = yield* Effect.forEach(Array.from({ length: 20 }), () => run)
      assert.include(traces[0], `"_tag": "Snoozed"`)
      assert.include(traces[0], `"_tag": "Failed"`)
      assert.include(traces[0], `"_tag": "Cancelled"`)
      for (const trace of traces) assert.strictEqual(trace, traces[0])
    })
  )
})

describe("closing", () => {
  const close = (
    workers: Layer.Layer<never, never, Workers | Jobs>,
    use: Effect.Effect<void, never, ShigotoTest.Services>
  ) =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(world(workers), scope)
      yield* Effect.provideContext(use, context)
      yield* Scope.close(scope, Exit.void)
    })

  it.live("interrupts handlers that never end, and runs their finalizers", () =>
    Effect.gen(function* () {
      const finalized: Array<number> = []
      yield* close(
        Step.toLayer(({ n }) =>
          Effect.never.pipe(
            Effect.ensuring(
              Effect.andThen(
                Effect.sleep("1 second"),
                Effect.sync(() => finalized.push(n))
              )
            )
          )
        ),
        Effect.gen(function* () {
          yield* Effect.orDie(Step.enqueueAll([{ n: 1 }, { n: 2 }, { n: 3 }]))
          yield* ShigotoTest.drain
        })
      )
      assert.deepStrictEqual(finalized, [1, 2])
    })
  )

  it.live("lets handlers end that do so within the grace, and gives up those that do not yield", () =>
    Effect.gen(function* () {
      const ended: Array<number> = []
      yield* close(
        Step.toLayer(({ n }) =>
          n === 1
            ? Effect.andThen(
                Effect.sleep("19 seconds"),
                Effect.sync(() => ended.push(n))
              )
            : Effect.uninterruptible(Effect.sleep("1 day")).pipe(Effect.as(n))
        ),
        Effect.gen(function* () {
          yield* Effect.orDie(Step.enqueueAll([{ n: 1 }, { n: 2 }]))
          yield* ShigotoTest.drain
        })
      )
      assert.deepStrictEqual(ended, [1])
    })
  )

  it.live("stops time again after a worker that leaves early", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      yield* Layer.buildWithScope(
        Step.toLayer(() => Effect.never),
        scope
      )
      yield* Step.enqueue({ n: 1 })
      yield* ShigotoTest.drain
      yield* Scope.close(scope, Exit.void)
      // The grace of its handler.
      assert.strictEqual(yield* elapsed, 20 * second)
      yield* ShigotoTest.assertEnqueued({ job: Step, state: "available" })
      const fiber = yield* Effect.forkChild(Effect.sleep("1 second"))
      yield* ShigotoTest.drain
      assert.strictEqual(yield* elapsed, 20 * second)
      yield* Fiber.interrupt(fiber)
    }).pipe(Effect.provide(world(Layer.empty)))
  )
})

describe("the database", () => {
  it.live("is an embedded one by default", () =>
    Effect.gen(function* () {
      yield* Tick.enqueue({}, { delay: "1 day" })
      assert.strictEqual((yield* ShigotoTest.advance("1 day")).completed, 1)
    }).pipe(Effect.provide(Tick.toLayer(() => Effect.void).pipe(Layer.provideMerge(ShigotoTest.layer()))))
  )

  it.effect("serves a statement that waits for a lock whose holder has more to say", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* sql`CREATE TABLE counter AS SELECT 0 AS n`
      const locked = yield* Deferred.make<void>()
      const holder = yield* Effect.forkChild(
        sql.withTransaction(
          Effect.gen(function* () {
            yield* sql`UPDATE counter SET n = n + 1`
            yield* Deferred.succeed(locked, undefined)
            yield* Effect.yieldNow
            yield* sql`UPDATE counter SET n = n + 1`
          })
        )
      )
      yield* Deferred.await(locked)
      yield* sql`UPDATE counter SET n = n * 10`
      yield* Fiber.join(holder)
      const [row] = yield* sql<{ readonly n: number }>`SELECT n FROM counter`
      assert.strictEqual(row?.n, 20)
    }).pipe(Effect.provide(world(Layer.empty)))
  )

  it.effect("may be down: the layer says so", () =>
    Effect.gen(function* () {
      const exit = yield* Effect.exit(
        Layer.build(ShigotoTest.layer({ client: { host: "127.0.0.1", port: 1, username: "nobody" } }))
      )
      assert.isTrue(Exit.hasFails(exit))
    })
  )

  it.effect("commits or forgets an enqueue with the caller's transaction", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* Effect.exit(sql.withTransaction(Effect.andThen(Tick.enqueue({}), Effect.fail("no"))))
      yield* ShigotoTest.refuteEnqueued()
      yield* sql.withTransaction(Tick.enqueue({}))
      assert.strictEqual((yield* ShigotoTest.drain).completed, 1)
    }).pipe(Effect.provide(world(Tick.toLayer(() => Effect.void))))
  )
})
