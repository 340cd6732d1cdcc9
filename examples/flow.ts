/**
 * A flow: jobs in a typed graph, with args computed from the results before them.
 *
 *     node --conditions=source examples/flow.ts
 */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Option, Redacted, Schema } from "effect"
import { type BatchId, Flow, Flows, Job, ShigotoConfig, ShigotoLive } from "effect-shigoto"
import { EmbeddedPostgres } from "effect-shigoto/embedded"

class Declined extends Schema.TaggedError<Declined>()("Declined", { code: Schema.Int }) {}

const Charge = Job.make("charge", {
  args: { order: Schema.Int, cents: Schema.Int },
  success: Schema.Struct({ receipt: Schema.String }),
  error: Declined,
  maxAttempts: 1
})
const Pack = Job.make("pack", { args: { order: Schema.Int }, success: Schema.Struct({ parcel: Schema.String }) })
const Ship = Job.make("ship", {
  args: { parcel: Schema.String, receipt: Schema.String },
  success: Schema.Struct({ tracking: Schema.String })
})
const Report = Job.make("report", { args: { text: Schema.String } })

const Checkout = Flow.make("checkout", { input: { order: Schema.Int, cents: Schema.Int } }, (flow) => {
  const charge = flow.node("charge", Charge, { args: ({ cents, order }) => ({ order, cents }) })
  const pack = flow.node("pack", Pack, { args: ({ order }) => ({ order }) })
  const ship = flow.node("ship", Ship, {
    after: { charge, pack },
    args: (_, { charge, pack }) => ({ parcel: pack.parcel, receipt: charge.receipt })
  })
  // It runs whatever becomes of the others, and sees how they ended.
  flow.node("report", Report, {
    after: { charge: { node: charge, onFailure: "run" }, ship: { node: ship, onFailure: "run" } },
    args: ({ order }, { charge, ship }) => {
      if (ship._tag === "Completed") return { text: `order ${order} was shipped` }
      const code = charge._tag === "Discarded" ? Option.map(charge.error, (error) => error.code) : Option.none()
      return { text: `order ${order} was not shipped: the card was declined with ${Option.getOrElse(code, () => 0)}` }
    }
  })
  return ship
})

let declines = true

const workers = Layer.mergeAll(
  Charge.toLayer(({ order }) =>
    order === 2 && declines ? Effect.fail(new Declined({ code: 51 })) : Effect.succeed({ receipt: `r${order}` })
  ),
  Pack.toLayer(({ order }) => Effect.succeed({ parcel: `parcel-${order}` })),
  Ship.toLayer(({ parcel, receipt }) => Effect.succeed({ tracking: `T-${parcel}-${receipt}` })),
  Report.toLayer(({ text }) => Effect.log(`report: ${text}`)),
  // Where there are workers, so that they can compute their args.
  Checkout.layer
)

const url = process.env["DATABASE_URL"]
const ProducerLive = ShigotoLive.pipe(
  Layer.provide(ShigotoConfig.layer()),
  Layer.provide(url === undefined ? EmbeddedPostgres.layer() : PgClient.layer({ url: Redacted.make(url) }))
)

const nodesOf = (status: Effect.Success<ReturnType<typeof Checkout.status>>) =>
  status.nodes.map(({ state, step }) => `${step} ${state}`).join(", ")

/** Progress is a query; a dashboard would ask it now and then. */
const ended = (id: BatchId) =>
  Checkout.status(id).pipe(Effect.delay("50 millis"), Effect.repeat({ until: ({ finished }) => finished }))

const told = ({ completed, output, total }: Effect.Success<ReturnType<typeof ended>>) =>
  `${completed} of ${total} done, tracking ${Option.getOrUndefined(output)?.tracking}`

const main = Effect.gen(function* () {
  const flows = yield* Flows
  const one = yield* Checkout.enqueue({ order: 1, cents: 1999 })
  const before = yield* Checkout.status(one.id)
  yield* Effect.log(`order 1: ${before.completed} of ${before.total} done, ${nodesOf(before)}`)
  yield* Layer.build(workers)
  yield* Effect.log(`order 1: ${told(yield* ended(one.id))}`)

  const two = yield* Checkout.enqueue({ order: 2, cents: 500 })
  yield* Effect.log(`order 2: ${nodesOf(yield* ended(two.id))}`)

  // What failed runs again, and what was cancelled because of it; the parcel stays packed.
  declines = false
  yield* flows.retry(two.id)
  yield* Effect.log(`order 2, after its retry: ${told(yield* ended(two.id))}`)
}).pipe(Effect.scoped)

NodeRuntime.runMain(Effect.provide(main, ProducerLive))
