import { assert, describe, layer } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import { it } from "vitest"
import * as Job from "../src/Job.ts"
import type { JobId } from "../src/JobRow.ts"
import { Jobs } from "../src/Jobs.ts"
import * as ShigotoConfig from "../src/ShigotoConfig.ts"
import { ShigotoLive } from "../src/ShigotoLive.ts"
import { eventually } from "./setup/eventually.ts"
import { oddNames } from "./setup/oddNames.ts"
import { jobCount, layerProducer } from "./setup/producer.ts"
import { TestDatabase } from "./setup/TestDatabase.ts"

const Mail = Job.make("mail", { args: { to: Schema.String } })

const Tuned = Job.make("tuned", {
  args: { n: Schema.Int },
  queue: "slow",
  priority: 7,
  maxAttempts: 3,
  tags: ["a", "b"]
})

describe("Job.make", () => {
  it("refuses what its enqueues could not use, at once", () => {
    const tags = (make: () => unknown): unknown => {
      try {
        make()
        return undefined
      } catch (error) {
        return (error as { readonly _tag?: string })._tag
      }
    }
    for (const name of ["", "x".repeat(129), "a\nb", " a", "a\ud800", 5 as never]) {
      assert.strictEqual(
        tags(() => Job.make(name)),
        "InvalidWorkerName"
      )
    }
    assert.strictEqual(
      tags(() => Job.make("j", { queue: "" })),
      "InvalidQueueName"
    )
    assert.strictEqual(
      tags(() => Job.make("j", { priority: 40_000 })),
      "InvalidPriority"
    )
    assert.strictEqual(
      tags(() => Job.make("j", { maxAttempts: 0 })),
      "InvalidMaxAttempts"
    )
    assert.strictEqual(
      tags(() => Job.make("j", { tags: ["x", "x"] })),
      "InvalidTags"
    )
    for (const timeout of [0, -1, Number.NaN, "soon" as never]) {
      assert.strictEqual(
        tags(() => Job.make("j", { timeout })),
        "InvalidConfig"
      )
    }
    for (const timeout of [Duration.infinity, "30 days", 0.5] as const) {
      assert.isUndefined(tags(() => Job.make("j", { timeout })))
    }
  })
})

layer(layerProducer(), { excludeTestServices: true })("Job.enqueue", (it) => {
  it.effect("says what it did, with the row as stored", () =>
    Effect.gen(function* () {
      const jobs = yield* Jobs
      const result = yield* Mail.enqueue({ to: "ada" })
      assert.strictEqual(result._tag, "Inserted")
      assert.strictEqual(result.id, result.job.id)
      const { insertedAt, runAt, ...row } = yield* jobs.get(result.id)
      const { insertedAt: toldInserted, runAt: toldRun, ...told } = result.job
      assert.deepStrictEqual(row, told)
      assert.deepStrictEqual(
        [insertedAt.epochMilliseconds, runAt.epochMilliseconds],
        [toldInserted.epochMilliseconds, toldRun.epochMilliseconds]
      )
      assert.deepStrictEqual(row.args, { to: "ada" })
      assert.strictEqual(row.state, "available")
      assert.deepStrictEqual(
        [row.queue, row.priority, row.maxAttempts, row.attempt, row.epoch, row.partitionKey, row.tags, row.meta],
        ["default", 0, 20, 0, 0, undefined, [], {}]
      )
    })
  )

  it.effect("makes a job without a wait available, whatever the fraction of the millisecond", () =>
    Effect.gen(function* () {
      for (let i = 0; i < 60; i++) {
        const { job } = yield* Mail.enqueue({ to: "x" }, i % 2 === 0 ? {} : { runAt: new Date(0) })
        assert.strictEqual(job.state, "available")
        assert.isAtMost(Math.abs(job.runAt.epochMilliseconds - job.insertedAt.epochMilliseconds), 1)
      }
    })
  )

  it.effect("takes the definition's defaults, and the call's options over them", () =>
    Effect.gen(function* () {
      const jobs = yield* Jobs
      const plain = yield* jobs.get((yield* Tuned.enqueue({ n: 1 })).id)
      assert.deepStrictEqual([plain.queue, plain.priority, plain.maxAttempts, plain.tags], ["slow", 7, 3, ["a", "b"]])
      const given = yield* jobs.get(
        (yield* Tuned.enqueue(
          { n: 1 },
          {
            queue: "fast",
            priority: -32_768,
            maxAttempts: 32_767,
            tags: ["c"],
            meta: { trace: { id: 1 }, list: [null] },
            partitionKey: "tenant 1"
          }
        )).id
      )
      assert.deepStrictEqual(
        [given.queue, given.priority, given.maxAttempts, given.tags, given.meta, given.partitionKey],
        ["fast", -32_768, 32_767, ["c"], { trace: { id: 1 }, list: [null] }, "tenant 1"]
      )
      assert.deepStrictEqual((yield* jobs.get((yield* Tuned.enqueue({ n: 1 }, { tags: [] })).id)).tags, [])
    })
  )

  it.effect("schedules by a delay from the database's now, or at an instant", () =>
    Effect.gen(function* () {
      const jobs = yield* Jobs
      for (const [delay, millis] of [
        ["5 minutes", 300_000],
        [1500, 1500],
        [Duration.days(365), 365 * 86_400_000]
      ] as const) {
        const job = yield* jobs.get((yield* Mail.enqueue({ to: "x" }, { delay })).id)
        assert.strictEqual(job.state, "scheduled")
        assert.isAtMost(Math.abs(job.runAt.epochMilliseconds - job.insertedAt.epochMilliseconds - millis), 1)
      }
      for (const runAt of [
        new Date("2099-01-02T03:04:05.678Z"),
        DateTime.makeUnsafe("2099-01-02T03:04:05.678Z"),
        DateTime.makeZonedUnsafe("2099-01-02T03:04:05.678Z", { timeZone: "Asia/Kathmandu" }),
        new Date("9999-12-31T23:59:59.999Z")
      ]) {
        const job = yield* jobs.get((yield* Mail.enqueue({ to: "x" }, { runAt })).id)
        assert.strictEqual(job.state, "scheduled")
        const expected = runAt instanceof Date ? runAt.getTime() : runAt.epochMilliseconds
        assert.strictEqual(job.runAt.epochMilliseconds, expected)
      }
    })
  )

  it.effect("takes every legal name everywhere, however odd", () =>
    Effect.gen(function* () {
      const jobs = yield* Jobs
      yield* (yield* SqlClient.SqlClient)`DELETE FROM shigoto.jobs`
      for (const name of oddNames) {
        const { id } = yield* Job.make(name).enqueue({}, { queue: name, tags: [name], partitionKey: name })
        const job = yield* jobs.get(id)
        assert.deepStrictEqual([job.worker, job.queue, job.tags, job.partitionKey], [name, name, [name], name])
        for (const filter of [{ worker: name }, { queue: name }, { tag: name }]) {
          assert.deepStrictEqual(
            (yield* jobs.list(filter)).map((found) => found.id),
            [id]
          )
        }
      }
    })
  )

  it.effect("publishes the event of what it inserted", () =>
    Effect.gen(function* () {
      const jobs = yield* Jobs
      const seen: Array<unknown> = []
      yield* jobs.events.pipe(
        Stream.runForEach((event) => Effect.sync(() => seen.push(event))),
        Effect.forkScoped({ startImmediately: true })
      )
      const { id } = yield* Mail.enqueue({ to: "x" }, { delay: "1 hour" })
      yield* eventually(
        Effect.sync(() => seen.length),
        (count) => count === 1
      )
      assert.deepStrictEqual(seen, [{ _tag: "Inserted", id, worker: "mail", queue: "default", state: "scheduled" }])
    })
  )
})

layer(layerProducer(), { excludeTestServices: true })("Job.enqueueAll", (it) => {
  it.effect("reads options anew in each call, and the defaults of the definition where there are none", () =>
    Effect.gen(function* () {
      const options: { priority?: number; tags: Array<string> } = { priority: 1, tags: ["x"] }
      const seen = Effect.fnUntraced(function* () {
        const one = yield* Tuned.enqueue({ n: 1 }, options)
        const all = yield* Tuned.enqueueAll([{ n: 2 }, { n: 3 }], options)
        return [one, ...all].map(({ job }) => [job.priority, ...job.tags])
      })
      assert.deepStrictEqual(
        yield* seen(),
        [1, 1, 1].map((priority) => [priority, "x"])
      )
      options.priority = 2
      options.tags = ["y", "z"]
      assert.deepStrictEqual(
        yield* seen(),
        [2, 2, 2].map((priority) => [priority, "y", "z"])
      )
      delete options.priority
      assert.deepStrictEqual(
        yield* seen(),
        [7, 7, 7].map((priority) => [priority, "y", "z"])
      )
      const plain = [
        yield* Tuned.enqueue({ n: 4 }),
        ...(yield* Tuned.enqueueAll([{ n: 5 }])),
        yield* Tuned.enqueue({ n: 6 })
      ]
      assert.deepStrictEqual(
        plain.map(({ job }) => [job.args, job.queue, job.priority, job.maxAttempts, job.tags]),
        [4, 5, 6].map((n) => [{ n }, "slow", 7, 3, ["a", "b"]])
      )
    })
  )

  it.effect("puts in nothing for nothing", () =>
    Effect.gen(function* () {
      const before = yield* jobCount
      assert.deepStrictEqual(yield* Mail.enqueueAll([]), [])
      assert.strictEqual(yield* jobCount, before)
    })
  )

  it.effect("takes one, any iterable, and options for each", () =>
    Effect.gen(function* () {
      const jobs = yield* Jobs
      assert.strictEqual((yield* Mail.enqueueAll([{ to: "one" }])).length, 1)
      const results = yield* Tuned.enqueueAll(new Set([{ n: 1 }, { n: 2 }, { n: 3 }]), ({ n }, index) => ({
        priority: n,
        delay: index === 2 ? "1 hour" : 0
      }))
      const rows = yield* Effect.forEach(results, ({ id }) => jobs.get(id))
      assert.deepStrictEqual(
        rows.map((row) => [row.args, row.priority, row.state, row.queue]),
        [
          [{ n: 1 }, 1, "available", "slow"],
          [{ n: 2 }, 2, "available", "slow"],
          [{ n: 3 }, 3, "scheduled", "slow"]
        ]
      )
    })
  )

  it.effect("puts in 100,000 in the order given", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const results = yield* Tuned.enqueueAll(Array.from({ length: 100_000 }, (_, n) => ({ n })))
      assert.strictEqual(results.length, 100_000)
      assert.isTrue(results.every(({ job }, n) => (job.args as { readonly n: number }).n === n))
      const first = results[0]!.id
      const [row] = yield* sql<{ readonly count: number; readonly ordered: boolean }>`
        SELECT count(*)::integer AS count, bool_and((args ->> 'n')::bigint = id - ${first}::bigint) AS ordered
        FROM shigoto.jobs
        WHERE id >= ${first}::bigint`
      assert.deepStrictEqual(row, { count: 100_000, ordered: true })
      assert.isTrue(results.every(({ id }, n) => id === first + n))
      yield* sql`DELETE FROM shigoto.jobs`
    })
  )

  it.effect("puts in none where one is bad, and names its position", () =>
    Effect.gen(function* () {
      const before = yield* jobCount
      const inputs = Array.from({ length: 12_000 }, (_, n) => ({ n: n === 11_111 ? 0.5 : n }))
      const error = yield* Effect.flip(Tuned.enqueueAll(inputs))
      assert.strictEqual(error._tag, "InvalidArgs")
      assert.strictEqual(error._tag === "InvalidArgs" && error.index, 11_111)
      assert.strictEqual(error._tag === "InvalidArgs" && error.path, "$.n")
      const late = yield* Effect.flip(
        Tuned.enqueueAll([{ n: 1 }, { n: 2 }], (_, index) => ({ priority: index === 1 ? 1.5 : 0 }))
      )
      assert.strictEqual(late._tag === "InvalidPriority" && late.index, 1)
      assert.strictEqual(yield* jobCount, before)
    })
  )

  it.effect("puts in none where the database refuses a later chunk", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const before = yield* jobCount
      yield* sql`ALTER TABLE shigoto.jobs ADD CONSTRAINT test_only CHECK ((args ->> 'n')::integer <> 10001)`
      const inputs = Array.from({ length: 12_000 }, (_, n) => ({ n }))
      const error = yield* Effect.flip(Tuned.enqueueAll(inputs))
      assert.strictEqual(error._tag, "StorageError")
      assert.strictEqual(error._tag === "StorageError" && error.code, "23514")
      assert.strictEqual(yield* jobCount, before)
      // Inside a caller's transaction only the call is undone; the caller may go on.
      yield* sql.withTransaction(
        Effect.gen(function* () {
          yield* Mail.enqueue({ to: "kept" })
          yield* Effect.flip(Tuned.enqueueAll(inputs))
          yield* Mail.enqueue({ to: "kept too" })
        })
      )
      assert.strictEqual(yield* jobCount, before! + 2)
      yield* sql`ALTER TABLE shigoto.jobs DROP CONSTRAINT test_only`
    })
  )
})

/** Says hello to the handler of {@link Visit}. */
class Greeter extends Context.Service<Greeter, { readonly greet: (name: string) => string }>()("test/Greeter") {}

const Visit = Job.make("visit", {
  args: Schema.Struct({
    at: Schema.Date,
    when: Schema.DateTimeUtcFromString,
    count: Schema.FiniteFromString,
    big: Schema.BigInt,
    ids: Schema.ReadonlyMap(Schema.String, Schema.Int),
    note: Schema.Option(Schema.String),
    name: Schema.String.pipe(Schema.withConstructorDefault(Effect.succeed("nobody")))
  }),
  success: Schema.Struct({ greeting: Schema.String, on: Schema.Date })
})

const Anything = Job.make("anything", { args: Schema.Unknown })

const visits: Array<(typeof Visit.args)["Type"]> = []
const handled = new Map<JobId, unknown>()

const Node = Layer.mergeAll(
  Visit.toLayer(
    Effect.fnUntraced(function* (args) {
      visits.push(args)
      const { greet } = yield* Greeter
      return { greeting: greet(args.name), on: args.at }
    })
  ),
  Anything.toLayer((args, job) => Effect.sync(() => void handled.set(job.id, args)))
).pipe(
  Layer.provide(Layer.succeed(Greeter, { greet: (name) => `hello ${name}` })),
  Layer.provideMerge(ShigotoLive),
  Layer.provide(ShigotoConfig.layer({ pollInterval: "50 millis", idlePollInterval: "50 millis" })),
  Layer.provideMerge(TestDatabase.layer())
)

layer(Node, { excludeTestServices: true })("args on their way to the handler", (it) => {
  it.effect(
    "go in as the constructor takes them and arrive decoded, with their defaults; results go back encoded",
    () =>
      Effect.gen(function* () {
        const jobs = yield* Jobs
        const args = {
          at: new Date("2026-03-14T15:09:26.535Z"),
          when: DateTime.makeUnsafe("2026-03-14T15:09:26.535Z"),
          count: 2.5,
          big: 2n ** 80n,
          ids: new Map([["a", 1]])
        }
        const { id, job } = yield* Visit.enqueue({ ...args, note: yield* Effect.succeedSome("hi") })
        assert.deepStrictEqual(job.args, {
          at: "2026-03-14T15:09:26.535Z",
          when: "2026-03-14T15:09:26.535Z",
          count: "2.5",
          big: String(2n ** 80n),
          ids: [["a", 1]],
          note: { _tag: "Some", value: "hi" },
          name: "nobody"
        })
        const done = yield* eventually(jobs.get(id), (row) => row.finishedAt !== undefined)
        assert.strictEqual(done.state, "completed")
        assert.deepStrictEqual(done.result, { greeting: "hello nobody", on: "2026-03-14T15:09:26.535Z" })
        const [visit] = visits
        assert.deepStrictEqual(
          [visit?.at, visit?.count, visit?.big, visit?.ids, visit?.name],
          [args.at, args.count, args.big, args.ids, "nobody"]
        )
        assert.isTrue(visit !== undefined && DateTime.Equivalence(visit.when, args.when))
        assert.deepStrictEqual(visit?.note, yield* Effect.succeedSome("hi"))
      })
  )

  it.effect.prop(
    "are deeply equal for any JSON value that can be stored, and a typed error without a row for others",
    [Arbitrary.schema(Schema.toCodecJson(Schema.Unknown))],
    Effect.fnUntraced(function* ([value]) {
      const before = yield* jobCount
      const result = yield* Effect.result(Anything.enqueue(value))
      if (result._tag === "Failure") {
        assert.strictEqual(result.failure._tag, "InvalidArgs")
        assert.isTrue(textsOf(value).some((text) => text.includes("\u0000") || !text.isWellFormed()))
        return assert.strictEqual(yield* jobCount, before)
      }
      const { id } = result.success
      yield* eventually(
        Effect.sync(() => handled.has(id)),
        (arrived) => arrived
      )
      // A negative zero is a zero in JSON.
      assert.deepStrictEqual(handled.get(id), JSON.parse(JSON.stringify(value)))
    })
  )
})

/** All texts in a JSON value, keys included. */
const textsOf = (value: unknown): ReadonlyArray<string> =>
  typeof value === "string"
    ? [value]
    : typeof value === "object" && value !== null
      ? Object.entries(value).flatMap(([key, item]) => [key, ...textsOf(item)])
      : []
