/** Retry schedules that misbehave, on a node in virtual time: the job waits for as long as it would by default. */
import { assert, describe, it } from "@effect/vitest"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Backoff from "../../src/Backoff.ts"
import * as Job from "../../src/Job.ts"
import { Jobs } from "../../src/Jobs.ts"
import { ShigotoTest } from "../../src/testing/index.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"

const waits = (delay: Duration.Input) => Schedule.modifyDelay(Schedule.forever, () => Effect.succeed(delay))

const hostile: Readonly<Record<string, readonly [Schedule.Schedule<unknown, unknown, unknown>, warning: RegExp]>> = {
  negative: [waits(-1), /gave -1 ms/],
  infinite: [waits(Infinity), /gave Infinity ms/],
  immense: [waits(1e308), /gave \S+ ms/],
  "a touch too long": [waits(Backoff.maxDelayMillis + 1), /gave 315360000001 ms/],
  throwing: [
    Schedule.modifyDelay(Schedule.forever, () => {
      throw new Error("no schedule")
    }),
    /failed \(.*no schedule/
  ],
  failing: [Schedule.cron("61 * * * *", "UTC"), /failed \(/],
  dying: [Schedule.modifyDelay(Schedule.forever, () => Effect.die("dead")), /failed \(.*dead/],
  "never answering": [Schedule.modifyDelay(Schedule.forever, () => Effect.never), /did not answer within five seconds/]
}

const capped = Schedule.min([Schedule.exponential("1 second"), Schedule.spaced("1 minute")])

const definition = (name: string) => Job.make(name, { error: Schema.String, maxAttempts: 32_767 })

/** A world in which every attempt fails, with a worker for each schedule; gives what was logged. */
const world = (schedules: Readonly<Record<string, Schedule.Schedule<unknown, unknown, unknown>>>) => {
  const logged: Array<string> = []
  const workers = Object.entries(schedules).map(([name, retry]) =>
    definition(name).toLayer(() => Effect.fail("no"), { retry })
  )
  const layer = Layer.mergeAll(Layer.empty, ...workers).pipe(
    Layer.provideMerge(
      Layer.unwrap(Effect.map(TestDatabase, ({ clientConfig }) => ShigotoTest.layer({ client: clientConfig })))
    ),
    Layer.provideMerge(TestDatabase.layerDatabase()),
    Layer.provideMerge(
      Logger.layer([Logger.make(({ logLevel, message }) => void logged.push(`${logLevel} ${String(message)}`))])
    )
  )
  return { layer, logged }
}

describe("a retry schedule", () => {
  it.effect("that gives no usable wait is warned about, and the job waits as by default", () => {
    const { layer, logged } = world(Object.fromEntries(Object.entries(hostile).map(([name, [retry]]) => [name, retry])))
    return Effect.gen(function* () {
      const jobs = yield* Jobs
      const enqueued = yield* Effect.forEach(Object.keys(hostile), (name) => definition(name).enqueue({}))
      yield* ShigotoTest.drain
      // The one that never answers gets its five seconds; no other job may have run again by then.
      const soon = yield* jobs.get(enqueued.at(-1)!.id)
      assert.strictEqual(soon.state, "executing")
      const { failed } = yield* ShigotoTest.advance("5 seconds")
      const failures = (yield* ShigotoTest.events).flatMap(({ event }) => (event._tag === "Failed" ? [event] : []))
      assert.isAtLeast(failed, 1)
      for (const { id, job } of enqueued) {
        const failure = failures.find((event) => event.id === id)
        assert.strictEqual(failure?.delayMillis, Backoff.defaultDelayMillis(id, 1), job.worker)
        const warning = logged.find((line) => line.includes(` of ${job.worker} `) && line.includes(`job ${id} waits`))
        assert.match(warning ?? "", hostile[job.worker]![1])
        assert.match(warning ?? "", /^Warn/)
      }
      const last = yield* jobs.get(enqueued.at(-1)!.id)
      assert.strictEqual(last.state, "retryable")
      assert.strictEqual(
        last.runAt.epochMilliseconds - last.insertedAt.epochMilliseconds,
        5000 + Backoff.defaultDelayMillis(last.id, 1)
      )
    }).pipe(Effect.provide(layer))
  })

  it.effect("that yields NaN after a wait is warned about; one that never waits is, once, and holds", () => {
    const { layer, logged } = world({
      nan: Schedule.exponential("1 second", Number.NaN),
      "at once": waits(Number.NaN)
    })
    return Effect.gen(function* () {
      const { id } = yield* definition("nan").enqueue({}, { maxAttempts: 3 })
      yield* ShigotoTest.advance("1 second")
      const failures = (yield* ShigotoTest.events).flatMap(({ event }) => (event._tag === "Failed" ? [event] : []))
      assert.deepStrictEqual(
        failures.map((event) => [event.id, event.delayMillis]),
        [
          [id, 1000],
          [id, Backoff.defaultDelayMillis(id, 2)]
        ]
      )
      assert.deepStrictEqual(
        logged.filter((line) => line.startsWith("Warn")),
        [`Warn The retry schedule of nan gave NaN ms; job ${id} waits ${Backoff.defaultDelayMillis(id, 2)} ms instead`]
      )
      yield* definition("at once").enqueue({}, { maxAttempts: 5 })
      yield* ShigotoTest.drain
      const told = logged.filter((line) => line.includes("of at once does not wait"))
      assert.strictEqual(told.length, 1)
      assert.match(told[0] ?? "", /^Warn.*failed attempts follow each other at once.*NaN/)
    }).pipe(Effect.provide(layer))
  })

  it.effect("is replayed to the thousandth attempt and to the last that there can be", () => {
    const { layer, logged } = world({ capped })
    return Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      for (const attempt of [999, 32_765]) {
        const { id } = yield* definition("capped").enqueue({})
        yield* sql`UPDATE shigoto.jobs SET attempt = ${attempt} WHERE id = ${id}`
        yield* ShigotoTest.drain
        const failures = (yield* ShigotoTest.events).flatMap(({ event }) =>
          event._tag === "Failed" && event.id === id ? [event] : []
        )
        assert.deepStrictEqual(
          failures.map((event) => [event.attempt, event.delayMillis]),
          [[attempt + 1, 60_000]]
        )
      }
      assert.deepStrictEqual(
        logged.filter((line) => line.startsWith("Warn")),
        []
      )
    }).pipe(Effect.provide(layer))
  })
})
