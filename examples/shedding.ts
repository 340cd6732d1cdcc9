/**
 * A node with too much to do: reports of low priority get half of its places, so that payments find one at once.
 *
 *     node --conditions=source examples/shedding.ts
 */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Effect, Latch, Layer, Redacted } from "effect"
import { Job, Jobs, ShigotoConfig, ShigotoLive } from "effect-shigoto"
import { EmbeddedPostgres } from "effect-shigoto/embedded"

const Report = Job.make("report", { queue: "reports", priority: -1 })
const Payment = Job.make("payment")

const closing = Latch.makeUnsafe()
const WorkersLive = Layer.mergeAll(
  // Reports take until the books are closed.
  Report.toLayer(() => closing.await),
  Payment.toLayer(() => Effect.void)
)

const url = process.env["DATABASE_URL"]
const AppLive = WorkersLive.pipe(
  Layer.provideMerge(ShigotoLive),
  Layer.provide(
    ShigotoConfig.layer({
      queues: { default: 10, reports: 10 },
      shedding: { maxInFlight: 4, levels: [{ below: 0, share: 0.5 }] }
    })
  ),
  Layer.provide(url === undefined ? EmbeddedPostgres.layer() : PgClient.layer({ url: Redacted.make(url) }))
)

const program = Effect.gen(function* () {
  const jobs = yield* Jobs
  const ended = Effect.fnUntraced(function* (worker: string, count: number) {
    while ((yield* jobs.list({ worker, state: "completed", limit: count })).length < count) {
      yield* Effect.sleep("50 millis")
    }
  })
  yield* Report.enqueueAll(Array.from({ length: 6 }, () => ({})))
  while ((yield* jobs.list({ state: "executing", limit: 2 })).length < 2) yield* Effect.sleep("50 millis")
  yield* Payment.enqueueAll([{}, {}, {}])
  yield* ended("payment", 3)
  const reports = yield* jobs.list({ worker: "report", state: "executing", limit: 10 })
  yield* Effect.log(`3 payments are through, while ${reports.length} of 6 reports run`)
  yield* closing.open
  yield* ended("report", 6)
  yield* Effect.log("6 reports are done: none was dropped")
})

NodeRuntime.runMain(Effect.provide(program, AppLive))
