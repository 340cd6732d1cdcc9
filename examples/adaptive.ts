/**
 * A service that takes ten calls at once: the worker finds that out, and again as the service becomes smaller.
 *
 *     node --conditions=source examples/adaptive.ts
 */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Redacted, Schedule, Schema, Stream } from "effect"
import { Job, Jobs, ShigotoConfig, ShigotoLive } from "effect-shigoto"
import { EmbeddedPostgres } from "effect-shigoto/embedded"

class Overloaded extends Schema.TaggedError<Overloaded>("Overloaded")("Overloaded", {}) {}

const Call = Job.make("call", { args: { n: Schema.Int }, error: Overloaded })

const service = { capacity: 10, calls: 0, refused: 0 }
const CallLive = Call.toLayer(
  Effect.fn("Call")(
    function* () {
      if (++service.calls > service.capacity) {
        service.refused += 1
        return yield* new Overloaded()
      }
      yield* Effect.sleep("20 millis")
    },
    Effect.ensuring(Effect.sync(() => (service.calls -= 1)))
  ),
  {
    retry: Schedule.spaced("100 millis"),
    // One more for each round that succeeds, a fifth less where one is refused.
    concurrency: { min: 1, max: 50, initial: 20, backoff: 0.8 }
  }
)

const url = process.env["DATABASE_URL"]
const AppLive = CallLive.pipe(
  Layer.provideMerge(ShigotoLive),
  Layer.provide(ShigotoConfig.layer({ queues: { default: 50 } })),
  Layer.provide(url === undefined ? EmbeddedPostgres.layer() : PgClient.layer({ url: Redacted.make(url) }))
)

const program = Effect.gen(function* () {
  const jobs = yield* Jobs
  let now = 20
  yield* jobs.events.pipe(
    Stream.runForEach((event) => Effect.sync(() => (event._tag === "ConcurrencyAdapted" ? (now = event.limit) : now))),
    Effect.forkScoped({ startImmediately: true })
  )
  const drained = Effect.gen(function* () {
    while ((yield* jobs.counts).length > 0) yield* Effect.sleep("50 millis")
  })
  yield* Call.enqueueAll(Array.from({ length: 500 }, (_, n) => ({ n })))
  yield* drained
  yield* Effect.log(`At a capacity of 10: ${now} at once, ${service.refused} of 500 calls refused`)
  service.capacity = 3
  yield* Call.enqueueAll(Array.from({ length: 200 }, (_, n) => ({ n })))
  yield* drained
  yield* Effect.log(`At a capacity of 3: ${now} at once`)
})

NodeRuntime.runMain(Effect.provide(Effect.scoped(program), AppLive))
