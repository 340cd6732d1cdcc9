/**
 * Waiting for a job's typed result or error, and asking for it later.
 *
 *     node --conditions=source examples/execute.ts
 */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Redacted, Schema } from "effect"
import { Job, Jobs, ShigotoConfig, ShigotoLive } from "effect-shigoto"
import { EmbeddedPostgres } from "effect-shigoto/embedded"

class CardDeclined extends Schema.TaggedError<CardDeclined>()("CardDeclined", { code: Schema.String }) {}

const Charge = Job.make("charge", {
  args: { card: Schema.String, cents: Schema.Int },
  success: Schema.Struct({ receipt: Schema.String }),
  error: CardDeclined,
  maxAttempts: 1
})

const ChargeLive = Charge.toLayer(
  Effect.fn("Charge")(function* ({ card, cents }, job) {
    if (card === "expired") return yield* new CardDeclined({ code: "card_expired" })
    if (card === "stolen") return yield* Job.discard("the card was reported")
    if (card === "slow") yield* Effect.sleep("1 second")
    return { receipt: `${job.id}/${cents}` }
  })
)

const url = process.env["DATABASE_URL"]
const AppLive = ChargeLive.pipe(
  Layer.provideMerge(ShigotoLive),
  Layer.provide(ShigotoConfig.layer()),
  Layer.provide(url === undefined ? EmbeddedPostgres.layer() : PgClient.layer({ url: Redacted.make(url) }))
)

const main = Effect.gen(function* () {
  const jobs = yield* Jobs
  for (const card of ["valid", "expired", "stolen"]) {
    const said = yield* Charge.execute({ card, cents: 1999 }).pipe(
      Effect.map(({ receipt }) => `paid, receipt ${receipt}`),
      Effect.catchTags({
        CardDeclined: ({ code }) => Effect.succeed(`declined with ${code}`),
        JobDiscarded: ({ message }) => Effect.succeed(message)
      })
    )
    yield* Effect.log(`${card}: ${said}`)
  }

  // Who stops waiting leaves the job alone.
  const impatient = yield* Effect.option(Effect.timeout(Charge.execute({ card: "slow", cents: 5 }), "200 millis"))
  const [slow] = yield* jobs.list({ args: { card: "slow" } })
  if (slow === undefined) return
  yield* Effect.log(`slow: ${impatient._tag === "None" ? "not waited for" : "in time"}, it is ${slow.state}`)
  const result = yield* jobs
    .result(Charge, slow.id)
    .pipe(Effect.delay("100 millis"), Effect.repeat({ until: ({ _tag }) => _tag !== "Pending" }))
  yield* Effect.log(
    `slow: ${result._tag === "Completed" ? `paid later, receipt ${result.value.receipt}` : result._tag}`
  )
})

NodeRuntime.runMain(Effect.provide(main, AppLive))
