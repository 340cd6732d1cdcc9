import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/testing/TestClock"
import * as Job from "../../src/Job.ts"
import { ShigotoTest } from "../../src/testing/index.ts"

class SmtpError extends Schema.TaggedError<SmtpError>()("SmtpError", { code: Schema.Int }) {}
class Mailer extends Context.Service<Mailer, { readonly send: (to: string) => Effect.Effect<string> }>()("Mailer") {}

const SendEmail = Job.make("send-email", {
  args: {
    to: Schema.String,
    at: Schema.DateTimeUtcFromString,
    retries: Schema.Int.pipe(Schema.withConstructorDefault(Effect.succeed(3)))
  },
  success: Schema.Struct({ id: Schema.String, at: Schema.DateTimeUtcFromString }),
  error: SmtpError,
  queue: "emails",
  timeout: "30 seconds"
})

const handler = Effect.fnUntraced(function* (
  { at, retries, to }: (typeof SendEmail)["args"]["Type"],
  job: Parameters<Parameters<typeof SendEmail.toLayer>[0]>[1]
) {
  const mailer = yield* Mailer
  const current = yield* Job.CurrentJob
  yield* Job.progress(50)
  switch (to) {
    case "broken":
      return yield* new SmtpError({ code: 550 })
    case "later":
      return yield* Job.snooze("1 hour")
    case "never":
      return yield* Job.snooze(-1)
    case "gone":
      return yield* Job.discard("gone")
    case "off":
      return yield* Job.cancel("off")
    case "die":
      return yield* Effect.die(new TypeError("boom"))
    case "slow":
      return yield* Effect.never
    case "self":
      return yield* Effect.interrupt
    case "unstorable":
      return { id: 1 as unknown as string, at }
    default: {
      const id = yield* mailer.send(to)
      const facts = [
        job.attempt,
        current.queue,
        job.tags.join(),
        JSON.stringify(job.meta),
        job.snoozes,
        job.id,
        retries
      ]
      return { id: `${id}:${facts.join(":")}`, at: DateTime.add(at, { days: 1 }) }
    }
  }
})

const SendEmailLive = SendEmail.toLayer(handler).pipe(
  Layer.provide(Layer.succeed(Mailer, { send: (to) => Effect.succeed(`sent-to-${to}`) })),
  Layer.provideMerge(ShigotoTest.layerPerform)
)

const at = DateTime.makeUnsafe("2030-01-01T00:00:00Z")
const attempt = (to: string, options?: ShigotoTest.PerformOptions) =>
  ShigotoTest.perform(SendEmail, { to, at }, options).pipe(Effect.provide(SendEmailLive))

describe("perform", () => {
  it.effect("returns the decoded result of a handler that got the decoded args", () =>
    Effect.gen(function* () {
      const result = yield* attempt("ada")
      assert.strictEqual(result.id, "sent-to-ada:1:emails::{}:0:1:3")
      assert.strictEqual(DateTime.formatIso(result.at), "2030-01-02T00:00:00.000Z")
    })
  )

  it.effect("tells the handler which attempt it is", () =>
    Effect.gen(function* () {
      const result = yield* attempt("ada", {
        attempt: 4,
        queue: "other",
        tags: ["a", "b"],
        meta: { tenant: 7 },
        snoozes: 2,
        id: 99
      })
      assert.strictEqual(result.id, `sent-to-ada:4:other:a,b:{"tenant":7}:2:99:3`)
    })
  )

  it.effect("fails with the handler's typed error and with its signals", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(
        yield* attempt("broken").pipe(Effect.catchTag("SmtpError", (error) => Effect.succeed(error.code))),
        550
      )
      for (const [to, tag] of [
        ["later", "Snooze"],
        ["gone", "Discard"],
        ["off", "Cancel"],
        ["never", "InvalidSnooze"],
        ["unstorable", "ResultEncodeError"],
        ["die", "AttemptDefect"],
        ["self", "AttemptDefect"]
      ] as const) {
        const error = yield* Effect.flip(attempt(to))
        assert.strictEqual(error._tag, tag)
      }
    })
  )

  it.effect("keeps the cause of a defect", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(attempt("die"))
      assert.isTrue(error._tag === "AttemptDefect" && error.cause instanceof TypeError)
      assert.include(error.message, "boom")
    })
  )

  it.effect("interrupts a handler at the job's timeout, by the clock of the test", () =>
    Effect.gen(function* () {
      const fiber = yield* Effect.forkChild(Effect.flip(attempt("slow")))
      yield* TestClock.adjust("29 seconds")
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust("1 second")
      const error = yield* Fiber.join(fiber)
      assert.strictEqual(error._tag, "AttemptTimeout")
    })
  )

  it.effect("refuses what an enqueue refuses", () =>
    Effect.gen(function* () {
      const badArgs = yield* Effect.flip(
        ShigotoTest.perform(SendEmail, { to: 1 as unknown as string, at }).pipe(Effect.provide(SendEmailLive))
      )
      assert.strictEqual(badArgs._tag, "InvalidArgs")
      assert.strictEqual((yield* Effect.flip(attempt("ada", { tags: [""] })))._tag, "InvalidTags")
      assert.strictEqual((yield* Effect.flip(attempt("x".repeat(2_000_000))))._tag, "ArgsTooLarge")
    })
  )

  it.effect("sends the args through JSON", () => {
    const Any = Job.make("any", { args: Schema.Json, success: Schema.Json })
    return Effect.gen(function* () {
      const args = { list: [1, "two", null], nested: { "": true } }
      const result = yield* ShigotoTest.perform(Any, args)
      assert.deepStrictEqual(result, args)
      assert.notStrictEqual(result, args)
    }).pipe(Effect.provide(Any.toLayer(Effect.succeed).pipe(Layer.provideMerge(ShigotoTest.layerPerform))))
  })

  it.effect("says which worker is missing", () =>
    Effect.gen(function* () {
      const exit = yield* Effect.exit(
        ShigotoTest.perform(SendEmail, { to: "ada", at }).pipe(Effect.provide(ShigotoTest.layerPerform))
      )
      assert.isTrue(Exit.hasDies(exit))
      assert.include(Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "", `no worker for the job "send-email"`)
    })
  )
})
