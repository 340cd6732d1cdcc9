/**
 * A queue in which a wait counts as priority: a job of low priority that has waited long enough comes before those of
 * high priority that have come since. Without `aging` it would be the last of all.
 *
 *     node --conditions=source examples/aging.ts
 */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Deferred, Effect, Layer, Redacted, Schema } from "effect"
import { Job, ShigotoConfig, ShigotoLive } from "effect-shigoto"
import { EmbeddedPostgres } from "effect-shigoto/embedded"

const Report = Job.make("report", { args: { name: Schema.String } })

const started: Array<string> = []
const done = Deferred.makeUnsafe<void>()
const ReportLive = Report.toLayer(
  Effect.fn("Report")(function* ({ name }) {
    started.push(name)
    if (started.length === 101) yield* Deferred.succeed(done, undefined)
  })
)

const url = process.env["DATABASE_URL"]
const LibraryLive = ShigotoLive.pipe(
  // 50 milliseconds of a wait are worth one priority; in production that would be minutes.
  Layer.provide(ShigotoConfig.layer({ queues: { default: { concurrency: 1, aging: "50 millis" } } })),
  Layer.provide(url === undefined ? EmbeddedPostgres.layer() : PgClient.layer({ url: Redacted.make(url) }))
)

const program = Effect.gen(function* () {
  yield* Report.enqueue({ name: "monthly" }, { priority: 0 })
  yield* Effect.sleep("1 second")
  yield* Report.enqueueAll(
    Array.from({ length: 100 }, () => ({ name: "urgent" })),
    { priority: 10 }
  )
  // Only now is there somebody to run them.
  yield* Effect.provide(Deferred.await(done), ReportLive)
  yield* Effect.log(`The job of low priority was number ${started.indexOf("monthly") + 1} of 101`)
})

NodeRuntime.runMain(Effect.provide(program, LibraryLive))
