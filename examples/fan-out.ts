/**
 * Fan-out: a handler adds jobs, gives up its slot, and goes on with their typed results.
 *
 *     node --conditions=source examples/fan-out.ts
 */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Redacted, Schema } from "effect"
import { Job, Jobs, type JobState, Queues, ShigotoConfig, ShigotoLive } from "effect-shigoto"
import { EmbeddedPostgres } from "effect-shigoto/embedded"

const Thumbnail = Job.make("thumbnail", {
  args: { photo: Schema.String },
  success: Schema.Struct({ kib: Schema.Int }),
  queue: "images"
})
const Album = Job.make("album", {
  args: { name: Schema.String },
  success: Schema.String
})

const Other = Job.make("other", { success: Schema.String })

/** Stands for a listing that is slow and may change. */
const photosOf = (name: string) =>
  Effect.sync(() => Array.from({ length: 5 }, (_, i) => ({ photo: `${name}/${i}.jpg` })))

const workers = Layer.mergeAll(
  Thumbnail.toLayer(({ photo }) => Effect.succeed({ kib: photo.length * 2 })),
  Other.toLayer(() => Effect.succeed("another job ran")),
  Album.toLayer(
    Effect.fn("Album")(function* ({ name }) {
      // The first time this ends the attempt; when all children have ended, the handler runs again and goes on here.
      const thumbnails = yield* Job.fanOut("thumbnails", Thumbnail, photosOf(name))
      const size = thumbnails.reduce((sum, { kib }) => sum + kib, 0)
      return `thumbnails of ${thumbnails.length} photos, ${size} KiB`
    })
  )
)

const url = process.env["DATABASE_URL"]
const AppLive = workers.pipe(
  Layer.provideMerge(ShigotoLive),
  // One slot: an album that kept it would keep everything else out.
  Layer.provide(ShigotoConfig.layer({ queues: { default: 1, images: 2 } })),
  Layer.provide(url === undefined ? EmbeddedPostgres.layer() : PgClient.layer({ url: Redacted.make(url) }))
)

const main = Effect.gen(function* () {
  const jobs = yield* Jobs
  const queues = yield* Queues
  // So that there is something to look at while the album waits.
  yield* queues.pause("images")
  const { id } = yield* Album.enqueue({ name: "holidays" })
  const reaches = (...states: ReadonlyArray<JobState>) =>
    jobs.get(id).pipe(Effect.delay("20 millis"), Effect.repeat({ until: ({ state }) => states.includes(state) }))
  yield* reaches("blocked")
  yield* Effect.log((yield* jobs.explain(id)).message)
  // The one slot is free for other work.
  const other = yield* Other.execute({})
  yield* Effect.log(`Meanwhile ${other}`)

  yield* queues.resume("images")
  const album = yield* reaches("completed", "discarded")
  yield* Effect.log(`The album is ${album.state} after ${album.attempt} attempt: ${album.result as string}`) // as its definition says
})

NodeRuntime.runMain(Effect.provide(main, AppLive))
