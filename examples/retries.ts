/**
 * What a handler can say when it cannot finish: fail and be retried, wait without cost, or give up.
 *
 *     node --conditions=source examples/retries.ts
 */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Redacted, Schedule, Schema } from "effect"
import { Job, Jobs, ShigotoConfig, ShigotoLive } from "effect-shigoto"
import { EmbeddedPostgres } from "effect-shigoto/embedded"

class GatewayDown extends Schema.TaggedError<GatewayDown>()("GatewayDown", { status: Schema.Int }) {}

const Charge = Job.make("charge", {
  args: { card: Schema.Literals(["good", "slow", "stolen", "unlucky"]) },
  // The errors a handler may fail with are part of the definition; anything else is a defect, and retried as well.
  error: GatewayDown,
  queue: "payments",
  maxAttempts: 4
})

const ChargeLive = Charge.toLayer(
  Effect.fn("Charge")(function* ({ card }, job) {
    switch (card) {
      // Fails twice, then succeeds: attempts 1 and 2 leave an error entry each.
      case "good":
        return job.attempt < 3 ? yield* new GatewayDown({ status: 503 }) : undefined
      // Not yet: the attempt is given back, so this may go on for as long as it takes.
      case "slow":
        return job.snoozes < 2 ? yield* Job.snooze("200 millis") : undefined
      // Never: no attempt more, whatever maxAttempts says.
      case "stolen":
        return yield* Job.discard("the card is reported stolen")
      // Fails until no attempt is left.
      case "unlucky":
        return yield* new GatewayDown({ status: 500 })
    }
  }),
  {
    // Any Schedule; its input is the typed error. It is replayed up to the attempt, so it survives a restart.
    retry: Schedule.exponential("100 millis"),
    onDiscard: ({ job, errors }) => Effect.log(`Job ${job.id} was discarded after ${errors.length} error(s)`)
  }
)

const url = process.env["DATABASE_URL"]
const AppLive = ChargeLive.pipe(
  Layer.provideMerge(ShigotoLive),
  Layer.provide(ShigotoConfig.layer({ queues: { payments: 5 } })),
  Layer.provide(url === undefined ? EmbeddedPostgres.layer() : PgClient.layer({ url: Redacted.make(url) }))
)

const main = Effect.gen(function* () {
  const jobs = yield* Jobs
  const cards = ["good", "slow", "stolen", "unlucky"] as const
  const enqueued = yield* Charge.enqueueAll(cards.map((card) => ({ card })))
  for (const [i, { id }] of enqueued.entries()) {
    const job = yield* jobs
      .get(id)
      .pipe(Effect.delay("100 millis"), Effect.repeat({ until: (row) => row.finishedAt !== undefined }))
    const why = job.errors.map((error) => `${error.attempt}: ${error.tag}`).join(", ")
    yield* Effect.log(
      `${cards[i]}: ${job.state}, attempt ${job.attempt} of ${job.maxAttempts}, ${job.snoozes} snoozes [${why}]`
    )
  }
})

NodeRuntime.runMain(Effect.provide(main, AppLive))
