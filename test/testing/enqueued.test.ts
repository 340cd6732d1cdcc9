import { assert, layer } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Job from "../../src/Job.ts"
import { ShigotoTest } from "../../src/testing/index.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"

const Remind = Job.make("remind", {
  args: { to: Schema.Struct({ name: Schema.String, city: Schema.String }), at: Schema.DateTimeUtcFromString },
  queue: "mails",
  tags: ["mail"]
})
const Count = Job.make("count", { args: { list: Schema.Array(Schema.Int) } })

const at = DateTime.makeUnsafe("2030-05-06T07:08:09Z")
const ada = { name: "Ada", city: "London" }
const bob = { name: "Bob", city: "London" }

const World = Layer.effectDiscard(
  Effect.gen(function* () {
    yield* Remind.enqueue({ to: ada, at })
    yield* Remind.enqueue({ to: bob, at }, { delay: "1 hour", tags: ["mail", "vip"] })
    yield* Count.enqueue({ list: [1, 2] })
    yield* Count.enqueue({ list: [3] }, { queue: "done" })
    yield* ShigotoTest.drain
  })
).pipe(
  Layer.provideMerge(Count.toLayer(() => Effect.void)),
  Layer.provideMerge(
    Layer.unwrap(
      Effect.map(TestDatabase, (database) => ShigotoTest.layer({ queues: { done: 1 }, client: database.clientConfig }))
    )
  ),
  Layer.provide(TestDatabase.layerDatabase())
)

layer(World)("enqueued", (it) => {
  it.effect("finds unfinished jobs by any mix of conditions, oldest first", () =>
    Effect.gen(function* () {
      const ids = (filter: ShigotoTest.Filter) =>
        Effect.map(ShigotoTest.enqueued(filter), (jobs) => jobs.map((job) => Number(job.id)))
      assert.deepStrictEqual(yield* ids({}), [1, 2, 3])
      assert.deepStrictEqual(yield* ids({ job: Remind }), [1, 2])
      assert.deepStrictEqual(yield* ids({ job: "count" }), [3])
      assert.deepStrictEqual(yield* ids({ queue: "mails", state: "scheduled" }), [2])
      assert.deepStrictEqual(yield* ids({ tags: ["vip", "mail"] }), [2])
      assert.deepStrictEqual(yield* ids({ state: ["available", "completed"] }), [1, 3, 4])
      assert.deepStrictEqual(yield* ids({ queue: "nowhere" }), [])
    })
  )

  it.effect("compares a part of the args, encoded or decoded", () =>
    Effect.gen(function* () {
      yield* ShigotoTest.assertEnqueued({ job: Remind, args: { to: { city: "London" } }, count: 2 })
      yield* ShigotoTest.assertEnqueued({ job: Remind, args: { to: ada, at }, count: 1 })
      yield* ShigotoTest.assertEnqueued({ job: Remind, args: { at: DateTime.formatIso(at) }, count: 2 })
      yield* ShigotoTest.assertEnqueued({ job: "remind", args: { to: { name: "Bob" } } })
      yield* ShigotoTest.assertEnqueued({ job: Count, args: { list: [1, 2] } })
      yield* ShigotoTest.refuteEnqueued({ job: Count, args: { list: [1] } })
      yield* ShigotoTest.refuteEnqueued({ job: Remind, args: { to: { name: "Bob", city: "Paris" } } })
      yield* ShigotoTest.refuteEnqueued({ job: Remind, args: { at: DateTime.add(at, { milliseconds: 1 }) } })
      yield* ShigotoTest.refuteEnqueued({ job: "remind", args: { unknown: 1 } })
    })
  )

  it.effect("shows the nearest misses", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(
        ShigotoTest.assertEnqueued({ job: Remind, args: { to: { name: "Eve" } }, queue: "mails", tags: ["vip"] })
      )
      assert.strictEqual(error._tag, "UnexpectedJobs")
      assert.strictEqual(
        error.message,
        `Expected an enqueued job with
  job    "remind"
  args   {"to":{"name":"Eve"}}
  queue  "mails"
  tags   "vip"
  state  scheduled, blocked, available, executing, retryable
but found none.
The nearest:
  #2 "remind" in "mails", scheduled, args {"at":"2030-05-06T07:08:09.000Z","to":{"city":"London","name":"Bob"}}
    args.to.name is "Bob", not "Eve"
  #1 "remind" in "mails", available, args {"at":"2030-05-06T07:08:09.000Z","to":{"city":"London","name":"Ada"}}
    it lacks the tag "vip"; args.to.name is "Ada", not "Eve"
  #3 "count" in "default", available, args {"list":[1,2]}
    its job is "count"; its queue is "default"; it lacks the tag "vip"; args.to is undefined, not {"name":"Eve"}
  #4 "count" in "done", completed, args {"list":[3]}
    its job is "count"; its queue is "done"; it is completed; it lacks the tag "vip"; args.to is undefined, not {"name":"Eve"}`
      )
    })
  )

  it.effect("shows the jobs that should not be there, and a wrong count", () =>
    Effect.gen(function* () {
      const refuted = yield* Effect.flip(ShigotoTest.refuteEnqueued({ job: Count }))
      assert.strictEqual(
        refuted.message,
        `Expected no enqueued job with
  job    "count"
  state  scheduled, blocked, available, executing, retryable
but found 1:
  #3 "count" in "default", available, args {"list":[1,2]}`
      )
      assert.deepStrictEqual(
        refuted.found.map((job) => job.worker),
        ["count"]
      )
      const counted = yield* Effect.flip(ShigotoTest.assertEnqueued({ job: Remind, count: 3 }))
      assert.include(counted.message, "Expected exactly 3 enqueued jobs with")
      assert.include(counted.message, "but found 2:")
      yield* ShigotoTest.assertEnqueued({ job: Count, state: "retryable", count: 0 })
    })
  )
})
