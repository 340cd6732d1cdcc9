/**
 * Jobs for later: after a delay, at an instant, when the handler says so; called off, and run now after all.
 *
 *     node --conditions=source examples/scheduling.ts
 */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { DateTime, Effect, Layer, Redacted, Schema } from "effect"
import { Job, type JobId, Jobs, ShigotoConfig, ShigotoLive } from "effect-shigoto"
import { EmbeddedPostgres } from "effect-shigoto/embedded"

const Remind = Job.make("remind", { args: { of: Schema.String } })
const Poll = Job.make("poll-export", { success: Schema.String })

const RemindLive = Remind.toLayer(({ of }) => Effect.log(`Remember ${of}`))
const PollLive = Poll.toLayer((_, job) =>
  // Not ready: the attempt is given back, so this may go on for as long as it takes.
  job.snoozes < 2 ? Job.snooze("200 millis") : Effect.succeed(`ready, asked ${job.snoozes + 1} times`)
)

const url = process.env["DATABASE_URL"]
const AppLive = Layer.mergeAll(RemindLive, PollLive).pipe(
  Layer.provideMerge(ShigotoLive),
  Layer.provide(ShigotoConfig.layer({ queues: { default: 10 } })),
  Layer.provide(url === undefined ? EmbeddedPostgres.layer() : PgClient.layer({ url: Redacted.make(url) }))
)

const main = Effect.gen(function* () {
  const jobs = yield* Jobs
  const end = (id: JobId) =>
    jobs.get(id).pipe(Effect.delay("100 millis"), Effect.repeat({ until: (job) => job.finishedAt !== undefined }))

  const milk = yield* Remind.enqueue({ of: "the milk" }, { delay: "500 millis" })
  yield* Effect.log(`the milk: ${milk.job.state}`)
  yield* Effect.log(`the milk: ${(yield* end(milk.id)).state}`)

  const newYear = DateTime.makeUnsafe({ year: 2100, month: 1, day: 1 })
  const party = yield* Remind.enqueue({ of: "the party" }, { runAt: newYear })
  yield* Effect.log(`the party: ${party.job.state} for ${DateTime.formatIso(party.job.runAt)}`)
  // Nobody waits that long.
  yield* jobs.retry(party.id)
  yield* Effect.log(`the party: ${(yield* end(party.id)).state}`)

  const dentist = yield* Remind.enqueue({ of: "the dentist" }, { delay: "30 days" })
  yield* jobs.cancel(dentist.id, "moved away")
  yield* Effect.log(`the dentist: ${(yield* jobs.get(dentist.id)).state}`)

  yield* Effect.log(`the export: ${yield* Poll.execute({})}`)
})

NodeRuntime.runMain(Effect.provide(main, AppLive))
