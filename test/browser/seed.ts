/** A shop at work: queues, failures, a flow, a batch, cron and a limit, for the browser to look at. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Batch from "../../src/Batch.ts"
import * as CronJob from "../../src/CronJob.ts"
import * as Flow from "../../src/Flow.ts"
import * as Job from "../../src/Job.ts"
import * as ShigotoConfig from "../../src/ShigotoConfig.ts"
import { ShigotoLive } from "../../src/index.ts"

export const Send = Job.make("send-email", {
  args: { to: Schema.String, subject: Schema.String },
  error: Schema.String,
  queue: "mails",
  maxAttempts: 1
})
export const Charge = Job.make("charge-card", { args: { order: Schema.Int }, error: Schema.String, queue: "payments" })
export const Pack = Job.make("pack", { args: { order: Schema.Int }, queue: "warehouse" })
/** Runs on no node. */
export const Archive = Job.make("archive", { args: Schema.Json, queue: "archive" })

/** Its second step fails, and the third runs all the same. */
export const Checkout = Flow.make("checkout", { input: { order: Schema.Int } }, (flow) => {
  const charge = flow.node("charge", Charge, { args: ({ order }) => ({ order }) })
  const mail = flow.node("tell", Send, {
    after: { charge },
    args: () => ({ to: "nobody@example.com", subject: "Paid" })
  })
  flow.node("pack", Pack, { after: { mail: { node: mail, onFailure: "run" } }, args: ({ order }) => ({ order }) })
})

export const WorkersLive = Layer.mergeAll(
  Send.toLayer(
    ({ to }) =>
      to.startsWith("nobody")
        ? Effect.fail(`The mail server knows no ${to}`)
        : Effect.logInfo(`Sent to ${to}`).pipe(Effect.delay("5 millis")),
    { captureLogs: true }
  ),
  Charge.toLayer(
    ({ order }) =>
      order % 7 === 0 ? Effect.fail(`The card of order ${order} was refused`) : Effect.sleep("10 millis"),
    // Whatever has failed stays so for as long as it is looked at.
    { retry: Schedule.spaced("1 day") }
  ),
  Checkout.layer,
  Pack.toLayer(() => Effect.never, { globalConcurrency: 2 }),
  CronJob.make({ name: "nightly", cron: "0 3 * * *", timezone: "Europe/Oslo", job: Archive, args: {} })
)

export const ShopLive = WorkersLive.pipe(
  Layer.provideMerge(ShigotoLive),
  Layer.provide(
    ShigotoConfig.layer({
      queues: { mails: 5, payments: 5, warehouse: { concurrency: 4, fair: true } },
      history: true,
      nodeName: "shop"
    })
  )
)

/** Puts work into all of it. */
export const work = Effect.gen(function* () {
  yield* Send.enqueueAll(
    Array.from({ length: 40 }, (_, i) => ({
      to: `${i % 9 === 0 ? "nobody" : "reader"}${i}@example.com`,
      subject: "News"
    })),
    { tags: ["newsletter"] }
  )
  yield* Charge.enqueueAll(Array.from({ length: 40 }, (_, i) => ({ order: i + 1 })))
  yield* Pack.enqueueAll(Array.from({ length: 6 }, (_, i) => ({ order: i + 1 })))
  yield* Charge.enqueue({ order: 100 }, { delay: "1 hour" })
  const batch = yield* Batch.make("newsletter").enqueue(
    Array.from({ length: 12 }, (_, i) =>
      Send.prepare({ to: i === 0 ? "nobody@example.com" : `reader${i}@example.com`, subject: "Weekly" })
    )
  )
  const flow = yield* Checkout.enqueue({ order: 1 })
  return { batch: batch.id, flow: flow.id }
})
