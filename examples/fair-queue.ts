/**
 * A queue in which tenants take turns: the one job of a small tenant does not wait for all those of a big one.
 *
 *     node --conditions=source examples/fair-queue.ts
 */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Deferred, Effect, Layer, Redacted, Schema } from "effect"
import { Job, ShigotoConfig, ShigotoLive } from "effect-shigoto"
import { EmbeddedPostgres } from "effect-shigoto/embedded"

const Sync = Job.make("sync", { args: { tenant: Schema.String }, queue: "tenants" })

const started: Array<string> = []
const done = Deferred.makeUnsafe<void>()
const SyncLive = Sync.toLayer(
  Effect.fn("Sync")(function* ({ tenant }) {
    started.push(tenant)
    if (tenant === "small") yield* Deferred.succeed(done, undefined)
  })
)

const url = process.env["DATABASE_URL"]
const LibraryLive = ShigotoLive.pipe(
  Layer.provide(ShigotoConfig.layer({ queues: { tenants: { concurrency: 1, fair: true } } })),
  Layer.provide(url === undefined ? EmbeddedPostgres.layer() : PgClient.layer({ url: Redacted.make(url) }))
)

const program = Effect.gen(function* () {
  yield* Sync.enqueueAll(
    Array.from({ length: 1000 }, () => ({ tenant: "big" })),
    { partitionKey: "big" }
  )
  yield* Sync.enqueue({ tenant: "small" }, { partitionKey: "small" })
  // Only now is there somebody to run them.
  yield* Effect.provide(Deferred.await(done), SyncLive)
  yield* Effect.log(`The small tenant's job was number ${started.indexOf("small") + 1} of 1001`)
})

NodeRuntime.runMain(Effect.provide(program, LibraryLive))
