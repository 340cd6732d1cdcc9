/**
 * Limits that hold over all nodes: at most two renders at once, five calls a second, and a pause when the API asks.
 *
 *     node --conditions=source examples/limits.ts
 */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Clock, Effect, Layer, Redacted, Schema } from "effect"
import { Job, Jobs, Limit, Limits, ShigotoConfig, ShigotoLive } from "effect-shigoto"
import { EmbeddedPostgres } from "effect-shigoto/embedded"

const Render = Job.make("render", { args: { frame: Schema.Int } })
const Call = Job.make("call", { args: { n: Schema.Int } })

let running = 0
let most = 0
const RenderLive = Render.toLayer(
  Effect.fn("Render")(function* () {
    most = Math.max(most, ++running)
    yield* Effect.sleep("30 millis")
    running -= 1
  }),
  { globalConcurrency: 2 }
)

// Other workers that are given the same limit share its account.
const api = Limit.make("api", { limit: 5, window: "1 second" })
const starts: Array<number> = []
const CallLive = Call.toLayer(
  Effect.fn("Call")(function* ({ n }) {
    starts.push(yield* Clock.currentTimeMillis)
    // As after a 429: nothing more starts on any node until then.
    if (n === 4) yield* Effect.flatMap(Limits, (limits) => Effect.orDie(limits.backOff(api, "2 seconds")))
  }),
  { rateLimit: api }
)

const url = process.env["DATABASE_URL"]
const AppLive = Layer.mergeAll(RenderLive, CallLive).pipe(
  Layer.provideMerge(ShigotoLive),
  Layer.provide(ShigotoConfig.layer({ queues: { default: 20 } })),
  Layer.provide(url === undefined ? EmbeddedPostgres.layer() : PgClient.layer({ url: Redacted.make(url) }))
)

const program = Effect.gen(function* () {
  yield* Render.enqueueAll(Array.from({ length: 10 }, (_, frame) => ({ frame })))
  yield* Call.enqueueAll(Array.from({ length: 8 }, (_, n) => ({ n })))
  const jobs = yield* Jobs
  while ((yield* jobs.list({ state: "completed", limit: 20 })).length < 18) yield* Effect.sleep("50 millis")
  yield* Effect.log(`10 renders, at most ${most} at once`)
  const first = starts[0] ?? 0
  const later = starts.filter((at) => at - first >= 1000).length
  yield* Effect.log(`${starts.length} calls, ${starts.length - later} in the first second, ${later} after the pause`)
})

NodeRuntime.runMain(Effect.provide(program, AppLive))
