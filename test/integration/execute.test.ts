import { assert, describe } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Backoff from "../../src/Backoff.ts"
import * as Job from "../../src/Job.ts"
import type { AttemptFailure, JobId } from "../../src/JobRow.ts"
import { eventually } from "../setup/eventually.ts"
import { onDatabase, reaches, startNode } from "./support.ts"

class Refused extends Schema.TaggedError<Refused>("Refused")("Refused", { why: Schema.String }) {}

const Odd = Job.make("odd", {
  args: { way: Schema.String },
  success: Schema.Unknown,
  error: Refused,
  maxAttempts: 1
})

const hostile = new Proxy(
  {},
  {
    get: () => {
      throw new Error("do not look at me")
    },
    ownKeys: () => {
      throw new Error("do not look at me")
    }
  }
)

describe("execute", () => {
  onDatabase("stored args that no longer match fail the attempt with their path, and never reach the handler", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      let called = 0
      const node = yield* startNode({
        workers: Odd.toLayer(() => Effect.sync(() => called++))
      })
      const [row] = yield* sql<{
        readonly id: bigint
      }>`SELECT shigoto.enqueue('odd', '{"way": 7}', max_attempts => 1) AS id`
      const id = Number(row?.id) as JobId
      const job = yield* reaches(node, id, "discarded")
      assert.strictEqual(job.errors[0]?.tag, "ArgsDecodeError")
      assert.include(job.errors[0]?.message, `"way"`)
      assert.strictEqual(called, 0)
    })
  )

  onDatabase("tells a typed error, a defect, an interruption from inside and a timeout apart", () =>
    Effect.gen(function* () {
      const closed: Array<string> = []
      const Slow = Job.make("slow", { timeout: "100 millis", maxAttempts: 1 })
      const node = yield* startNode({
        workers: Layer.mergeAll(
          Odd.toLayer(({ way }) =>
            Effect.andThen(
              Effect.addFinalizer(() => Effect.sync(() => closed.push(way))),
              way === "typed"
                ? Effect.fail(new Refused({ why: "no" }))
                : way === "defect"
                  ? Effect.die(new RangeError("too far"))
                  : Effect.interrupt
            )
          ),
          Slow.toLayer(() =>
            Effect.andThen(
              Effect.addFinalizer(() => Effect.sync(() => closed.push("timeout"))),
              Effect.never
            )
          )
        )
      })
      const failure = (id: JobId) =>
        Effect.map(reaches(node, id, "discarded"), (job) => job.errors[0] as AttemptFailure)
      const tags: Record<string, string> = {}
      for (const way of ["typed", "defect", "interrupt"]) {
        const { id } = yield* node.run(Odd.enqueue({ way }))
        const found = yield* failure(id)
        tags[way] = found.tag
        assert.strictEqual(found.attempt, 1)
      }
      const { id } = yield* node.run(Slow.enqueue({}))
      tags["timeout"] = (yield* failure(id)).tag
      assert.deepStrictEqual(tags, {
        typed: "Refused",
        defect: "RangeError",
        interrupt: "AttemptDefect",
        timeout: "AttemptTimeout"
      })
      assert.deepStrictEqual(closed, ["typed", "defect", "interrupt", "timeout"])
    })
  )

  onDatabase("survives whatever is thrown, and settles whatever is returned", () =>
    Effect.gen(function* () {
      const cycle: Record<string, unknown> = {}
      cycle["self"] = cycle
      const returned = new Map<string, unknown>([
        ["bigint", 1n],
        ["cycle", cycle],
        ["NUL", "a\u0000b"],
        ["surrogate", "\ud800"],
        ["large", "x".repeat(2_000_000)],
        ["map", new Map([[1, 2]])],
        ["function", () => 1],
        ["nan", Number.NaN]
      ])
      const thrown = new Map<string, unknown>([
        ["undefined", undefined],
        ["null", null],
        ["string", "text"],
        ["symbol", Symbol("s")],
        ["frozen", Object.freeze({ a: 1 })],
        ["proxy", hostile],
        ["long", new Error("x".repeat(5_000_000))],
        ["NUL in message", new Error("a\u0000b\ud800c")]
      ])
      let runs = 0
      const node = yield* startNode({
        workers: Odd.toLayer(({ way }) =>
          Effect.suspend(() => {
            runs++
            if (returned.has(way)) return Effect.succeed(returned.get(way))
            throw thrown.get(way)
          })
        )
      })
      const all = [...returned.keys(), ...thrown.keys()]
      const jobs = yield* node.run(
        Odd.enqueueAll(
          all.map((way) => ({ way })),
          (_, i) => ({ maxAttempts: i < returned.size ? 20 : 1 })
        )
      )
      for (const [i, { id }] of jobs.entries()) {
        const job = yield* reaches(node, id, "discarded")
        assert.strictEqual(job.errors.length, 1, all[i])
        if (returned.has(all[i] ?? "")) assert.strictEqual(job.errors[0]?.tag, "ResultEncodeError", all[i])
        assert.isAtMost(JSON.stringify(job.errors[0]).length, 16 * 1024)
      }
      assert.strictEqual(runs, all.length)
      const { id } = yield* node.run(Odd.enqueue({ way: "string" }))
      assert.strictEqual((yield* reaches(node, id, "discarded")).errors[0]?.message, "text")
    })
  )

  onDatabase("a handler deaf to its timeout is stuck: its job goes on, its slot stays taken until it ends", () =>
    Effect.gen(function* () {
      const release = yield* Deferred.make<void>()
      const second = yield* Deferred.make<void>()
      const Deaf = Job.make("deaf", { timeout: "50 millis", maxAttempts: 2 })
      let runs = 0
      const node = yield* startNode({
        workers: Deaf.toLayer(
          () =>
            runs++ === 0
              ? Effect.uninterruptible(Deferred.await(release))
              : Effect.asVoid(Deferred.succeed(second, undefined)),
          { retry: Schedule.spaced("1 milli") }
        ),
        config: { queues: { default: 1 }, interruptGrace: "50 millis" }
      })
      const { id } = yield* node.run(Deaf.enqueue({}))
      yield* node.event("Stuck", id)
      yield* node.event("Failed", id)
      const waiting = yield* reaches(node, id, "available")
      assert.strictEqual(waiting.errors[0]?.tag, "AttemptTimeout")
      assert.strictEqual(runs, 1)
      yield* Deferred.succeed(release, undefined)
      yield* Deferred.await(second)
      const job = yield* reaches(node, id, "completed")
      assert.strictEqual(job.attempt, 2)
      assert.strictEqual(job.errors.length, 1)
    })
  )

  onDatabase("onDiscard gets the args and all errors so far, once, after the database has accepted", () =>
    Effect.gen(function* () {
      const told: Array<{ way: string; messages: ReadonlyArray<string>; state: string }> = []
      const Doomed = Job.make("doomed", { args: { way: Schema.String }, maxAttempts: 3 })
      const sql = yield* SqlClient.SqlClient
      const node = yield* startNode({
        workers: Doomed.toLayer((_, job) => Effect.die(new Error(`failure ${job.attempt}`)), {
          retry: Schedule.spaced("1 milli"),
          onDiscard: ({ args, errors, job }) =>
            Effect.gen(function* () {
              const rows = yield* sql<{
                readonly state: string
              }>`SELECT state FROM shigoto.all_jobs WHERE id = ${job.id}`
              told.push({
                way: Option.match(args, { onNone: () => "none", onSome: ({ way }) => way }),
                messages: errors.map((error) => error.message),
                state: rows[0]?.state ?? ""
              })
            }).pipe(Effect.orDie)
        })
      })
      const { id } = yield* node.run(Doomed.enqueue({ way: "down" }))
      yield* eventually(
        Effect.sync(() => told),
        (all) => all.length > 0
      )
      assert.deepStrictEqual(told, [
        { way: "down", messages: ["failure 1", "failure 2", "failure 3"], state: "discarded" }
      ])
      assert.strictEqual((yield* node.jobs.get(id)).errors.length, 3)
    })
  )
})

describe("retry, snooze and operators", () => {
  onDatabase("the default wait is stored, and counts from the failure", () =>
    Effect.gen(function* () {
      const Failing = Job.make("failing")
      const sql = yield* SqlClient.SqlClient
      const node = yield* startNode({ workers: Failing.toLayer(() => Effect.die("no")) })
      const { id } = yield* node.run(Failing.enqueue({}))
      const { delayMillis } = yield* node.event("Failed", id)
      assert.strictEqual(delayMillis, Backoff.defaultDelayMillis(id, 1))
      const job = yield* node.jobs.get(id)
      assert.strictEqual(job.state, "retryable")
      const waits = (job.runAt.epochMilliseconds - (job.claimedAt?.epochMilliseconds ?? 0)) / 1000
      assert.isAtLeast(waits, 2)
      assert.isAtMost(waits, 31 + 30)

      // Later attempts, as if the earlier ones had failed before.
      yield* sql`UPDATE shigoto.jobs SET attempt = 3, run_at = statement_timestamp() WHERE id = ${id}`
      yield* eventually(
        Effect.sync(() => node.events.filter((event) => event._tag === "Failed")),
        (failed) => failed.length === 2
      )
      const later = yield* node.jobs.get(id)
      const wait = later.runAt.epochMilliseconds - (later.claimedAt?.epochMilliseconds ?? 0)
      assert.isAtLeast(wait, 4 ** 4 * 1000)
    })
  )

  onDatabase("any schedule decides, and one that ends discards", () =>
    Effect.gen(function* () {
      const Failing = Job.make("failing", { error: Refused })
      const seen: Array<unknown> = []
      const node = yield* startNode({
        workers: Failing.toLayer(() => Effect.fail(new Refused({ why: "again" })), {
          retry: Schedule.spaced("5 millis").pipe(
            Schedule.while(({ input }) => Effect.sync(() => seen.push(input) > 0)),
            Schedule.upTo({ times: 2 })
          )
        })
      })
      const { id } = yield* node.run(Failing.enqueue({}))
      const job = yield* reaches(node, id, "discarded")
      assert.strictEqual(job.attempt, 3)
      assert.strictEqual(job.errors.length, 3)
      assert.isTrue(seen.every((input) => input instanceof Refused))
    })
  )

  onDatabase("a snooze gives the attempt back, and errors are bounded to the last twenty", () =>
    Effect.gen(function* () {
      const Long = Job.make("long", { maxAttempts: 100 })
      const node = yield* startNode({
        workers: Long.toLayer(
          (_, job) =>
            job.snoozes < 3
              ? Job.snooze("5 millis")
              : job.attempt < 26
                ? Effect.die(new Error(`failure ${job.attempt}`))
                : Effect.void,
          { retry: Schedule.spaced("1 milli") }
        )
      })
      const { id } = yield* node.run(Long.enqueue({}))
      const job = yield* reaches(node, id, "completed")
      assert.strictEqual(job.attempt, 26)
      assert.strictEqual(job.snoozes, 3)
      assert.strictEqual(job.epoch, 29)
      assert.deepStrictEqual(
        job.errors.map((error) => error.attempt),
        Array.from({ length: 20 }, (_, i) => i + 6)
      )
    })
  )

  onDatabase("what a handler says ends the job: discard, cancel", () =>
    Effect.gen(function* () {
      const node = yield* startNode({
        workers: Odd.toLayer(({ way }) => (way === "discard" ? Job.discard("hopeless") : Job.cancel("moot")))
      })
      const discarded = yield* node.run(Odd.enqueue({ way: "discard" }, { maxAttempts: 20 }))
      const cancelled = yield* node.run(Odd.enqueue({ way: "cancel" }, { maxAttempts: 20 }))
      const one = yield* reaches(node, discarded.id, "discarded")
      assert.strictEqual(one.errors[0]?.message, "hopeless")
      const two = yield* reaches(node, cancelled.id, "cancelled")
      assert.strictEqual(two.cancelReason, "moot")
    })
  )

  onDatabase("queued jobs are cancelled at once, a success beats a cancel, finished jobs stay as they are", () =>
    Effect.gen(function* () {
      const started = yield* Deferred.make<void>()
      const release = yield* Deferred.make<void>()
      const node = yield* startNode({
        workers: Odd.toLayer(() =>
          Effect.as(
            Effect.addFinalizer(() => Effect.andThen(Deferred.succeed(started, undefined), Deferred.await(release))),
            "won"
          )
        )
      })
      const queued = yield* node.run(Odd.enqueue({ way: "later" }, { delay: "1 hour" }))
      assert.strictEqual((yield* node.jobs.cancel(queued.id, "no"))._tag, "Cancelled")
      assert.strictEqual((yield* node.jobs.get(queued.id)).state, "cancelled")

      const { id } = yield* node.run(Odd.enqueue({ way: "now" }))
      yield* Deferred.await(started)
      assert.strictEqual((yield* node.jobs.cancel(id))._tag, "Requested")
      yield* eventually(node.jobs.get(id), (job) => job.cancelRequestedAt !== undefined)
      assert.strictEqual((yield* node.jobs.get(id)).state, "executing")
      yield* Deferred.succeed(release, undefined)
      assert.strictEqual((yield* reaches(node, id, "completed")).result, "won")
      assert.deepStrictEqual(yield* node.jobs.cancel(id), { _tag: "Finished", state: "completed" })
    })
  )

  onDatabase("an executing job cancelled from another node is cancelled only once its finalizers have run", () =>
    Effect.gen(function* () {
      const started = yield* Deferred.make<void>()
      const finalizing = yield* Deferred.make<void>()
      const release = yield* Deferred.make<void>()
      const node = yield* startNode({
        workers: Odd.toLayer(() =>
          Effect.andThen(Deferred.succeed(started, undefined), Effect.never).pipe(
            Effect.ensuring(Effect.andThen(Deferred.succeed(finalizing, undefined), Deferred.await(release)))
          )
        )
      })
      const other = yield* startNode()
      const { id } = yield* node.run(Odd.enqueue({ way: "x" }, { maxAttempts: 20 }))
      yield* Deferred.await(started)
      yield* other.jobs.cancel(id, "from afar")
      yield* Deferred.await(finalizing)
      assert.strictEqual((yield* node.jobs.get(id)).state, "executing")
      yield* Deferred.succeed(release, undefined)
      yield* reaches(node, id, "cancelled")
      // The row is seen before the reply that publishes the event.
      yield* node.event("Cancelled", id)
      assert.strictEqual(node.events.filter((event) => event._tag === "Cancelled").length, 1)
    })
  )

  onDatabase("an operator runs discarded, cancelled, completed and scheduled jobs again", () =>
    Effect.gen(function* () {
      let fails = true
      const node = yield* startNode({
        workers: Odd.toLayer(() => (fails ? Effect.fail(new Refused({ why: "down" })) : Effect.succeed("up")))
      })
      const discarded = yield* node.run(Odd.enqueue({ way: "a" }))
      yield* reaches(node, discarded.id, "discarded")
      const scheduled = yield* node.run(Odd.enqueue({ way: "b" }, { delay: "1 hour" }))
      const cancelled = yield* node.run(Odd.enqueue({ way: "c" }, { delay: "1 hour" }))
      yield* node.jobs.cancel(cancelled.id)
      fails = false
      for (const { id } of [discarded, scheduled, cancelled]) {
        assert.deepStrictEqual(yield* node.jobs.retry(id), { _tag: "Retried" })
        yield* reaches(node, id, "completed")
      }
      const again = yield* node.jobs.get(discarded.id)
      assert.strictEqual(again.attempt, 2)
      assert.strictEqual(again.maxAttempts, 2)
      assert.strictEqual(again.errors.length, 1)
      assert.isUndefined((yield* node.jobs.get(cancelled.id)).cancelRequestedAt)

      const before = yield* node.jobs.get(scheduled.id)
      yield* node.jobs.retry(scheduled.id)
      yield* eventually(node.jobs.get(scheduled.id), (job) => job.state === "completed" && job.epoch > before.epoch)
    })
  )
})
