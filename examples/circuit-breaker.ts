/**
 * A gateway goes down: its worker stops after a few failures, waits without losing attempts, tries, and goes on.
 *
 *     node --conditions=source examples/circuit-breaker.ts
 */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Redacted, Schedule, Schema, Stream } from "effect"
import { Job, Jobs, ShigotoConfig, ShigotoLive } from "effect-shigoto"
import { EmbeddedPostgres } from "effect-shigoto/embedded"

class GatewayDown extends Schema.TaggedError<GatewayDown>("GatewayDown")("GatewayDown", {}) {}

const Charge = Job.make("charge", { args: { invoice: Schema.Int }, error: GatewayDown })

let calls = 0
const ChargeLive = Charge.toLayer(
  // Out of order for its first four calls.
  () => Effect.suspend(() => (++calls <= 4 ? Effect.fail(new GatewayDown()) : Effect.void)),
  {
    retry: Schedule.spaced("1 second"),
    concurrency: 2,
    // All nodes share it; `local`, the default, is one for each node.
    circuitBreaker: { state: "shared", window: 4, openFor: "2 seconds", probes: 1 }
  }
)

const url = process.env["DATABASE_URL"]
const AppLive = ChargeLive.pipe(
  Layer.provideMerge(ShigotoLive),
  Layer.provide(ShigotoConfig.layer()),
  Layer.provide(url === undefined ? EmbeddedPostgres.layer() : PgClient.layer({ url: Redacted.make(url) }))
)

const program = Effect.gen(function* () {
  const jobs = yield* Jobs
  yield* jobs.events.pipe(
    Stream.filter(({ _tag }) => _tag.startsWith("Circuit")),
    Stream.runForEach(({ _tag }) => Effect.log(_tag)),
    Effect.forkScoped({ startImmediately: true })
  )
  yield* Charge.enqueueAll(Array.from({ length: 20 }, (_, invoice) => ({ invoice })))
  let message = ""
  while (!message.includes("circuit")) {
    const [waiting] = yield* jobs.list({ state: "available", limit: 1 })
    if (waiting !== undefined) message = (yield* jobs.explain(waiting.id)).message
  }
  yield* Effect.log(message)
  while ((yield* jobs.list({ state: "completed", limit: 20 })).length < 20) yield* Effect.sleep("50 millis")
  yield* Effect.log(`20 invoices are paid with ${calls} calls`)
})

NodeRuntime.runMain(Effect.provide(Effect.scoped(program), AppLive))
