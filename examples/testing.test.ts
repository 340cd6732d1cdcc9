/**
 * Tests of jobs: one handler alone, an application's enqueues, and a week of retries in no time.
 *
 *     npx vitest run --config test/vitest.config.ts examples/testing.test.ts
 *
 * In an application, copy it to where your tests are and leave the `--config` out.
 */
import { assert, describe, it } from "@effect/vitest"
import { Context, DateTime, Effect, Layer, Schedule, Schema } from "effect"
import { Job } from "effect-shigoto"
import { ShigotoTest } from "effect-shigoto/testing"

// The application: a job, what its handler needs, and a function that enqueues it.
class MailboxFull extends Schema.TaggedError<MailboxFull>()("MailboxFull", { to: Schema.String }) {}

class Mailer extends Context.Service<Mailer, { readonly send: (to: string) => Effect.Effect<string, MailboxFull> }>()(
  "Mailer"
) {}

const SendEmail = Job.make("send-email", {
  args: { to: Schema.String, subject: Schema.String },
  success: Schema.Struct({ messageId: Schema.String }),
  error: MailboxFull,
  queue: "emails",
  maxAttempts: 3
})

const SendEmailLive = SendEmail.toLayer(
  Effect.fn("SendEmail")(function* ({ to }) {
    const mailer = yield* Mailer
    return { messageId: yield* mailer.send(to) }
  }),
  { retry: Schedule.spaced("2 days") }
)

const signUp = Effect.fn("signUp")(function* (to: string) {
  yield* SendEmail.enqueue({ to, subject: "Welcome" })
  yield* SendEmail.enqueue({ to, subject: "How is it going?" }, { delay: "3 days" })
})

// The tests: a mailer whose mailboxes of full@… are full.
const MailerTest = Layer.succeed(Mailer, {
  send: (to) => (to.startsWith("full@") ? Effect.fail(new MailboxFull({ to })) : Effect.succeed(`message-for-${to}`))
})

describe("the handler", () => {
  const Handler = SendEmailLive.pipe(Layer.provide(MailerTest), Layer.provideMerge(ShigotoTest.layerPerform))

  it.effect("returns the id of the message", () =>
    Effect.gen(function* () {
      const result = yield* ShigotoTest.perform(SendEmail, { to: "ada@example.com", subject: "Hi" })
      assert.deepStrictEqual(result, { messageId: "message-for-ada@example.com" })
    }).pipe(Effect.provide(Handler))
  )

  it.effect("fails with the mailer's error", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(ShigotoTest.perform(SendEmail, { to: "full@example.com", subject: "Hi" }))
      assert.strictEqual(error._tag, "MailboxFull")
    }).pipe(Effect.provide(Handler))
  )
})

describe("the application", () => {
  // A PostgreSQL of its own for each test, and time that stands still until it is moved.
  const App = SendEmailLive.pipe(
    Layer.provide(MailerTest),
    Layer.provideMerge(ShigotoTest.layer({ queues: { default: 10, emails: 5 } }))
  )

  it.effect("welcomes who signs up, and asks after three days", () =>
    Effect.gen(function* () {
      yield* signUp("ada@example.com")
      yield* ShigotoTest.assertEnqueued({ job: SendEmail, args: { subject: "Welcome" }, state: "available" })
      yield* ShigotoTest.refuteEnqueued({ job: SendEmail, args: { to: "bob@example.com" } })

      assert.strictEqual((yield* ShigotoTest.drain).completed, 1)
      assert.strictEqual((yield* ShigotoTest.advance("3 days")).completed, 1)
      yield* ShigotoTest.refuteEnqueued({ job: SendEmail })
    }).pipe(Effect.provide(App))
  )

  it.effect("gives up on a full mailbox after three attempts, two days apart", () =>
    Effect.gen(function* () {
      yield* SendEmail.enqueue({ to: "full@example.com", subject: "Hi" })
      const tally = yield* ShigotoTest.advance("1 week")
      assert.deepStrictEqual([tally.failed, tally.discarded], [2, 1])
      const started = (yield* ShigotoTest.events).flatMap(({ at, event }) =>
        event._tag === "Started" ? [DateTime.formatIso(at)] : []
      )
      assert.deepStrictEqual(started, [
        "2030-01-01T00:00:00.000Z",
        "2030-01-03T00:00:00.000Z",
        "2030-01-05T00:00:00.000Z"
      ])
    }).pipe(Effect.provide(App))
  )
})
