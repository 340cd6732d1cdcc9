import { assert, describe, it } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Batch from "../src/Batch.ts"
import { Batches } from "../src/Batches.ts"
import * as CronJob from "../src/CronJob.ts"
import { CurrentJob } from "../src/CurrentJob.ts"
import * as Job from "../src/Job.ts"
import type { JobId } from "../src/JobRow.ts"
import { Jobs } from "../src/Jobs.ts"
import { Queues } from "../src/Queues.ts"
import { ShigotoTest } from "../src/testing/index.ts"
import { TestDatabase } from "./setup/TestDatabase.ts"

class Down extends Schema.TaggedError<Down>("Down")("Down", {}) {}

const Send = Job.make("send", { args: { n: Schema.Int } })
const Digest = Job.make("digest", { args: { of: Schema.Int } })
const Flaky = Job.make("flaky", { error: Down, maxAttempts: 5 })

const start = Date.UTC(2030, 0, 1)

/** What ran and what was given up, as text. */
const makeWorld = () => {
  const ran: Array<string> = []
  const log = (text: string) => Effect.sync(() => void ran.push(text))
  const workers = Layer.mergeAll(
    Send.toLayer(({ n }) => log(`send ${n}`), {
      onDiscard: ({ args, errors, job }) =>
        log(
          `gave up send ${Option.getOrThrow(args).n} after ${job.attempt} attempts: ${errors.map(({ tag }) => tag).join()}`
        )
    }),
    Digest.toLayer(({ of }, job) => log(`digest of ${of}, for ${(job.meta["expired"] as { worker: string }).worker}`)),
    Flaky.toLayer(
      Effect.fnUntraced(function* (_, job) {
        yield* log(`attempt ${job.attempt}`)
        return yield* new Down()
      }),
      { retry: Schedule.spaced("4 minutes"), onDiscard: ({ errors }) => log(errors.map(({ tag }) => tag).join()) }
    )
  )
  const layer = workers.pipe(
    Layer.provideMerge(
      Layer.unwrap(
        Effect.map(TestDatabase, (database) =>
          ShigotoTest.layer({ client: database.clientConfig, queues: { default: 10, other: 1 } })
        )
      )
    ),
    Layer.provideMerge(TestDatabase.layerDatabase())
  )
  return { ran, log, layer }
}

const stateOf = (id: JobId) => Effect.flatMap(Jobs, (jobs) => Effect.map(jobs.get(id), (job) => job.state))

const eventsOf = (id: JobId) =>
  Effect.map(ShigotoTest.events, (happened) =>
    happened.flatMap(({ at, event }) =>
      "id" in event && event.id === id ? [`${(at.epochMilliseconds - start) / 1000}s ${event._tag}`] : []
    )
  )

describe("a job that has to start in time", () => {
  it.effect("starts before its deadline, and never at it or after", () => {
    const { layer, ran } = makeWorld()
    return Effect.gen(function* () {
      const queues = yield* Queues
      yield* queues.pause("default")
      const early = yield* Send.enqueue({ n: 1 }, { expiresIn: "10 minutes" })
      const late = yield* Send.enqueue({ n: 2 }, { startBefore: new Date(start + 299_000) })
      const onTime = yield* Send.enqueue({ n: 3 }, { startBefore: new Date(start + 300_000) })
      yield* ShigotoTest.advance("299999 millis")
      assert.deepStrictEqual(ran, ["gave up send 2 after 0 attempts: Expired"])
      yield* ShigotoTest.advance("1 millis")
      yield* queues.resume("default")
      yield* ShigotoTest.drain
      assert.deepStrictEqual(ran.slice(1), ["gave up send 3 after 0 attempts: Expired", "send 1"])
      assert.deepStrictEqual(yield* Effect.forEach([early.id, late.id, onTime.id], stateOf), [
        "completed",
        "discarded",
        "discarded"
      ])
      assert.deepStrictEqual(yield* eventsOf(late.id), ["0s Inserted", "299s Expired", "299s Discarded"])
      const jobs = yield* Jobs
      const row = yield* jobs.get(late.id)
      assert.strictEqual(row.errors[0]?.message, "It had not started before 2030-01-01T00:04:59.000Z.")
      assert.strictEqual(row.startBefore?.epochMilliseconds, start + 299_000)
    }).pipe(Effect.provide(layer))
  })

  it.effect("counts from when it is due", () => {
    const { layer, ran } = makeWorld()
    return Effect.gen(function* () {
      const { job } = yield* Send.enqueue({ n: 1 }, { delay: "1 hour", expiresIn: "1 minute" })
      assert.strictEqual(job.startBefore?.epochMilliseconds, start + 3_660_000)
      yield* ShigotoTest.advance("2 hours")
      assert.deepStrictEqual(ran, ["send 1"])
    }).pipe(Effect.provide(layer))
  })

  it.effect("ends also where no node has its queue or its worker, and while it is scheduled", () => {
    const { layer } = makeWorld()
    return Effect.gen(function* () {
      const jobs = yield* Jobs
      const Unknown = Job.make("unknown", { expiresIn: "1 minute", onExpire: "cancel" })
      const nobody = yield* Unknown.enqueue({}, { queue: "nobody's" })
      const hopeless = yield* Send.enqueue({ n: 1 }, { delay: "1 hour", startBefore: new Date(start + 60_000) })
      assert.strictEqual(yield* stateOf(hopeless.id), "scheduled")
      const why = yield* jobs.explain(hopeless.id)
      assert.strictEqual(why.reasons[0]?._tag, "Expired")
      const tooLate = yield* Send.enqueue({ n: 2 }, { startBefore: new Date(start) })
      assert.strictEqual(yield* stateOf(tooLate.id), "available")
      // By the words of the claim, though nothing else keeps it from running.
      const { reasons, status } = yield* jobs.explain(tooLate.id)
      assert.deepStrictEqual([status, ...reasons.map(({ _tag }) => _tag)], ["waiting", "Expired"])
      // It will never start: it need not wait for its deadline to end.
      yield* ShigotoTest.advance("1 second")
      assert.strictEqual(yield* stateOf(hopeless.id), "discarded")
      assert.strictEqual(yield* stateOf(tooLate.id), "discarded")
      yield* ShigotoTest.advance("1 minute")
      const row = yield* jobs.get(nobody.id)
      assert.strictEqual(row.state, "cancelled")
      assert.strictEqual(row.cancelReason, "It had not started before 2030-01-01T00:01:00.000Z.")
      assert.deepStrictEqual(yield* eventsOf(nobody.id), ["0s Inserted", "60s Expired", "60s Cancelled"])
    }).pipe(Effect.provide(layer))
  })

  it.effect("runs another job in its place, which knows whose place it takes", () => {
    const { layer, ran } = makeWorld()
    return Effect.gen(function* () {
      const queues = yield* Queues
      yield* queues.pause("other")
      const onExpire = yield* Digest.prepare({ of: 7 }, { delay: "1 minute" })
      const { id } = yield* Send.enqueue({ n: 7 }, { queue: "other", expiresIn: "1 minute", onExpire })
      yield* ShigotoTest.advance("1 minute")
      assert.strictEqual(yield* stateOf(id), "cancelled")
      assert.deepStrictEqual(ran, [])
      yield* ShigotoTest.advance("1 minute")
      assert.deepStrictEqual(ran, ["digest of 7, for send"])
      const expired = (yield* ShigotoTest.events).map(({ event }) => event).find(({ _tag }) => _tag === "Expired")
      const fallback = expired?._tag === "Expired" ? expired.fallback : undefined
      assert.strictEqual(fallback === undefined ? undefined : yield* stateOf(fallback), "completed")
    }).pipe(Effect.provide(layer))
  })

  it.effect("is not retried beyond it: it ends with the attempt before", () => {
    const { layer, ran } = makeWorld()
    return Effect.gen(function* () {
      const { id } = yield* Flaky.enqueue({}, { expiresIn: "10 minutes" })
      yield* ShigotoTest.advance("9 minutes")
      assert.deepStrictEqual(ran, ["attempt 1", "attempt 2", "attempt 3", "Down,Down,Down,Expired"])
      assert.strictEqual(yield* stateOf(id), "discarded")
      assert.deepStrictEqual((yield* eventsOf(id)).slice(-3), ["480s Failed", "480s Expired", "480s Discarded"])
    }).pipe(Effect.provide(layer))
  })

  it.effect("does not snooze beyond it", () => {
    const { layer } = makeWorld()
    const Nap = Job.make("nap")
    return Effect.gen(function* () {
      const { id } = yield* Nap.enqueue({}, { expiresIn: "10 minutes" })
      yield* ShigotoTest.drain
      yield* ShigotoTest.advance("1 second")
      assert.strictEqual(yield* stateOf(id), "discarded")
    }).pipe(Effect.provide(Nap.toLayer(() => Job.snooze("1 hour")).pipe(Layer.provideMerge(layer))))
  })

  it.effect("fails those that wait for it, by their policies, and its batch", () => {
    const { layer, log, ran } = makeWorld()
    const Done = Job.make("done")
    const DoneLive = Done.toLayer(() =>
      Effect.flatMap(Batch.summary, (summary) => log(`batch: ${summary?.discarded} of ${summary?.total} discarded`))
    )
    return Effect.gen(function* () {
      const queues = yield* Queues
      yield* queues.pause("other")
      const group = Batch.make("group", { onFinished: Done.prepare({}) })
      const { jobs: members } = yield* group.enqueue([
        Send.prepare({ n: 1 }, { queue: "other", expiresIn: "1 minute" }),
        Send.prepare({ n: 2 })
      ])
      const parent = members[0]?.id as JobId // of two
      const cancelled = yield* Send.enqueue({ n: 3 }, { dependsOn: [parent] })
      yield* Send.enqueue({ n: 4 }, { dependsOn: [{ id: parent, onFailure: "run" }] })
      // One that waits for others expires too.
      const blocked = yield* Send.enqueue({ n: 5 }, { dependsOn: [parent], expiresIn: "30 seconds" })
      yield* ShigotoTest.advance("30 seconds")
      assert.strictEqual(yield* stateOf(blocked.id), "discarded")
      yield* ShigotoTest.advance("30 seconds")
      assert.strictEqual(yield* stateOf(cancelled.id), "cancelled")
      assert.deepStrictEqual(ran.toSorted(), [
        "batch: 1 of 2 discarded",
        "gave up send 1 after 0 attempts: Expired",
        "gave up send 5 after 0 attempts: Expired",
        "send 2",
        "send 4"
      ])
    }).pipe(Effect.provide(DoneLive.pipe(Layer.provideMerge(layer))))
  })

  it.effect("leaves its place in its batch to the job that runs instead", () => {
    const { layer, ran } = makeWorld()
    return Effect.gen(function* () {
      const queues = yield* Queues
      const batches = yield* Batches
      yield* queues.pause("other")
      const onExpire = yield* Digest.prepare({ of: 1 }, { delay: "1 minute" })
      const { id } = yield* Batch.make("group").enqueue([
        Send.prepare({ n: 1 }, { queue: "other", expiresIn: "1 minute", onExpire })
      ])
      yield* ShigotoTest.advance("1 minute")
      assert.strictEqual((yield* batches.get(id)).pending, 1)
      yield* ShigotoTest.advance("1 minute")
      const after = yield* batches.get(id)
      assert.deepStrictEqual([after.pending, after.cancelled, after.completed, ran.length], [0, 1, 1, 1])
    }).pipe(Effect.provide(layer))
  })

  it.effect("runs after all where an operator retries it", () => {
    const { layer, ran } = makeWorld()
    return Effect.gen(function* () {
      const jobs = yield* Jobs
      const queues = yield* Queues
      yield* queues.pause("default")
      const { id } = yield* Send.enqueue({ n: 1 }, { expiresIn: "1 minute" })
      yield* ShigotoTest.advance("1 minute")
      yield* jobs.retry(id)
      yield* queues.resume("default")
      yield* ShigotoTest.advance("1 minute")
      assert.deepStrictEqual(ran, ["gave up send 1 after 0 attempts: Expired", "send 1"])
    }).pipe(Effect.provide(layer))
  })

  it.effect("holds for the ticks of a cron entry", () => {
    const { layer, ran } = makeWorld()
    const Beat = Job.make("beat", { expiresIn: "1 minute", onExpire: "cancel" })
    const live = Layer.mergeAll(
      Beat.toLayer(() => Effect.sync(() => void ran.push("beat"))),
      CronJob.make({ name: "beat", cron: "0 * * * *", job: Beat, args: {} })
    ).pipe(Layer.provideMerge(layer))
    return Effect.gen(function* () {
      const queues = yield* Queues
      yield* queues.pause("default")
      yield* ShigotoTest.advance("150 minutes")
      yield* queues.resume("default")
      yield* ShigotoTest.advance("1 hour")
      const expired = (yield* ShigotoTest.events).filter(({ event }) => event._tag === "Expired")
      assert.deepStrictEqual(
        expired.map(({ at }) => (at.epochMilliseconds - start) / 60_000),
        [61, 121]
      )
      assert.deepStrictEqual(ran, ["beat"])
    }).pipe(Effect.provide(live))
  })

  it.effect("tells its handler how much time is left, until its deadline or its timeout", () => {
    const { layer } = makeWorld()
    const Look = Job.make("look", { timeout: "20 seconds" })
    const left: Array<number> = []
    const note = Effect.map(Job.remaining, (duration) => void left.push(Duration.toMillis(duration)))
    const deadlines: Array<string | undefined> = []
    const LookLive = Look.toLayer(
      Effect.fnUntraced(function* (_, job) {
        deadlines.push(job.startBefore === undefined ? undefined : DateTime.formatIso(job.startBefore))
        yield* note
        yield* Effect.sleep("15 seconds")
        yield* note
      })
    )
    return Effect.gen(function* () {
      yield* Look.enqueue({})
      yield* ShigotoTest.advance("1 minute")
      yield* Look.enqueue({}, { delay: "5 seconds", startBefore: new Date(start + 70_000) })
      yield* ShigotoTest.advance("1 minute")
      // It started in time, so it ends as ever.
      assert.deepStrictEqual(left, [20_000, 5000, 5000, 0])
      assert.deepStrictEqual(deadlines, [undefined, "2030-01-01T00:01:10.000Z"])
    }).pipe(Effect.provide(LookLive.pipe(Layer.provideMerge(layer))))
  })

  it.effect("tells the same to a handler that is performed without a database", () => {
    const Look = Job.make("look", { success: Schema.Finite, timeout: "20 seconds" })
    const LookLive = Look.toLayer(() =>
      Effect.gen(function* () {
        const job = yield* CurrentJob
        return Duration.toMillis(yield* job.remaining)
      })
    )
    return Effect.gen(function* () {
      assert.strictEqual(yield* ShigotoTest.perform(Look, {}), 20_000)
      assert.strictEqual(yield* ShigotoTest.perform(Look, {}, { expiresIn: "3 seconds" }), 3000)
    }).pipe(Effect.provide(LookLive.pipe(Layer.provideMerge(ShigotoTest.layerPerform))))
  })
})

describe("a deadline that is none", () => {
  const refused = [
    ["expiresIn: zero", { expiresIn: 0 }, "expiresIn"],
    ["expiresIn: negative", { expiresIn: -1 }, "expiresIn"],
    ["expiresIn: NaN", { expiresIn: Number.NaN }, "expiresIn"],
    ["expiresIn: infinite", { expiresIn: Duration.infinity }, "expiresIn"],
    ["expiresIn: no duration", { expiresIn: "soon" as never }, "expiresIn"],
    ["startBefore: no date", { startBefore: new Date(Number.NaN) }, "startBefore"],
    ["startBefore: text", { startBefore: "2030" as never }, "startBefore"],
    ["startBefore: year 10000", { startBefore: new Date(253_402_300_800_000) }, "startBefore"],
    ["both", { expiresIn: 1000, startBefore: new Date(start) }, "startBefore"],
    ["due after it", { runAt: new Date(start), startBefore: new Date(start) }, "startBefore"],
    ["onExpire without one", { onExpire: "cancel" as const }, "onExpire"],
    ["onExpire: unknown", { expiresIn: 1000, onExpire: "retry" as never }, "onExpire"]
  ] as const
  it.effect("is refused by the field's name, before anything is written", () => {
    const { layer } = makeWorld()
    return Effect.gen(function* () {
      for (const [name, options, field] of refused) {
        const error = yield* Effect.flip(Send.enqueue({ n: 1 }, options))
        assert.strictEqual(error._tag === "InvalidDeadline" ? error.field : error._tag, field, name)
        assert.include(error.message, field)
      }
      const inner = yield* Digest.prepare({ of: 1 })
      const outer = yield* Digest.prepare({ of: 2 }, { expiresIn: 1000, onExpire: inner })
      const nested = yield* Effect.flip(Send.enqueue({ n: 1 }, { expiresIn: 1000, onExpire: outer }))
      assert.strictEqual(nested._tag, "InvalidDeadline")
      const callback = yield* Effect.flip(
        Batch.make("b", { onFinished: Digest.prepare({ of: 2 }, { expiresIn: 1000, onExpire: inner }) }).enqueue([])
      )
      assert.strictEqual(callback._tag, "InvalidDeadline")
      yield* ShigotoTest.refuteEnqueued({})
      assert.throws(() => Job.make("bad", { expiresIn: -1 }), /expiresIn/)
      assert.throws(() => Job.make("bad", { onExpire: "never" as never }), /onExpire/)
    }).pipe(Effect.provide(layer))
  })
})
