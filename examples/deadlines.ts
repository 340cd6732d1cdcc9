/**
 * Work that is worth nothing when it comes late: what cannot start in time is cancelled, or replaced by something better.
 *
 *     node --conditions=source examples/deadlines.ts
 */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Duration, Effect, Layer, Redacted, Schema } from "effect"
import { Job, Jobs, Queues, ShigotoConfig, ShigotoLive } from "effect-shigoto"
import { EmbeddedPostgres } from "effect-shigoto/embedded"

const Push = Job.make("push", { args: { to: Schema.String }, queue: "push", expiresIn: "1 second", onExpire: "cancel" })
const Mail = Job.make("mail", { args: { to: Schema.String }, queue: "mail" })

const PushLive = Push.toLayer(
  Effect.fn("Push")(function* ({ to }) {
    const seconds = Duration.toSeconds(yield* Job.remaining)
    yield* Effect.log(`push to ${to}, in time${seconds > 0 ? "" : ", but only just"}`)
  })
)
const MailLive = Mail.toLayer(({ to }) => Effect.log(`mail to ${to}, instead of a late push`))

const url = process.env["DATABASE_URL"]
const AppLive = Layer.mergeAll(PushLive, MailLive).pipe(
  Layer.provideMerge(ShigotoLive),
  Layer.provide(ShigotoConfig.layer({ queues: { push: 5, mail: 5 } })),
  Layer.provide(url === undefined ? EmbeddedPostgres.layer() : PgClient.layer({ url: Redacted.make(url) }))
)

const program = Effect.gen(function* () {
  const jobs = yield* Jobs
  const queues = yield* Queues
  yield* Push.enqueue({ to: "ada" }, { expiresIn: "1 minute" })
  while ((yield* jobs.list({ state: "completed" })).length < 1) yield* Effect.sleep("50 millis")

  // The gateway is down.
  yield* queues.pause("push")
  yield* Push.enqueue({ to: "grace" })
  yield* Push.enqueue({ to: "joan" }, { onExpire: yield* Mail.prepare({ to: "joan" }) })
  while ((yield* jobs.list({ state: "completed" })).length < 2) yield* Effect.sleep("50 millis")

  for (const { cancelReason, id } of yield* jobs.list({ state: "cancelled" })) {
    yield* Effect.log(`job ${id}: ${cancelReason}`)
  }
})

NodeRuntime.runMain(Effect.provide(program, AppLive))
