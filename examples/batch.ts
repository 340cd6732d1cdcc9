/**
 * Batches: callbacks for the end, the success and the first failure of a group of jobs; members that add members.
 *
 *     node --conditions=source examples/batch.ts
 */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Deferred, Effect, Layer, Redacted, Schema } from "effect"
import { Batch, Batches, type BatchId, Job, ShigotoConfig, ShigotoLive } from "effect-shigoto"
import { EmbeddedPostgres } from "effect-shigoto/embedded"

const Convert = Job.make("convert", { args: { file: Schema.String }, maxAttempts: 1 })
const Folder = Job.make("folder", { args: { path: Schema.String } })
const Report = Job.make("report", { args: { text: Schema.String } })

const Conversion = Batch.make("conversion", {
  onFinished: Report.prepare({ text: "all have ended" }),
  onSucceeded: Report.prepare({ text: "all are converted" }),
  onFirstFailure: Report.prepare({ text: "one has failed" })
})

let readable = false

const workers = (reported: Deferred.Deferred<void>) =>
  Layer.mergeAll(
    Convert.toLayer(({ file }) => (file === "b.mov" && !readable ? Job.discard("unreadable") : Effect.void)),
    // What a member adds counts before it has ended, so the batch cannot finish in between.
    Folder.toLayer(({ path }) =>
      Effect.asVoid(Effect.orDie(Batch.add(["x.mov", "y.mov"].map((file) => Convert.prepare({ file: path + file })))))
    ),
    Report.toLayer(({ text }) =>
      Effect.gen(function* () {
        const told = yield* Batch.summary
        yield* Effect.log(`${text}: ${told?.completed} of ${told?.total}, ${told?.outcome}`)
        if (text === "all are converted") yield* Deferred.succeed(reported, undefined)
      })
    )
  )

const url = process.env["DATABASE_URL"]
const ProducerLive = ShigotoLive.pipe(
  Layer.provide(ShigotoConfig.layer()),
  Layer.provide(url === undefined ? EmbeddedPostgres.layer() : PgClient.layer({ url: Redacted.make(url) }))
)

const main = Effect.gen(function* () {
  const batches = yield* Batches
  const reported = yield* Deferred.make<void>()
  const ended = (id: BatchId) =>
    batches.get(id).pipe(Effect.delay("20 millis"), Effect.repeat({ until: ({ finished }) => finished }))

  const { id } = yield* Conversion.enqueue([
    Convert.prepare({ file: "a.mov" }),
    Convert.prepare({ file: "b.mov" }),
    Folder.prepare({ path: "c/" })
  ])
  const before = yield* batches.get(id)
  yield* Effect.log(`batch ${id}: ${before.total} members, ${before.pending} pending`)
  yield* Layer.build(workers(reported))
  const after = yield* ended(id)
  yield* Effect.log(`batch ${id}: ${after.total} members, ${after.completed} completed, ${after.discarded} discarded`)

  // The others stay as they are; that all have succeeded is told now.
  readable = true
  yield* Effect.log(`retried ${yield* batches.retryFailed(id)}`)
  yield* Deferred.await(reported)

  // Open: members may come from anywhere, until it is sealed.
  const open = yield* Batch.make("upload").open()
  yield* Convert.enqueue({ file: "d.mov" }, { batch: open })
  yield* batches.seal(open)
  const refused = yield* Effect.flip(Convert.enqueue({ file: "e.mov" }, { batch: open }))
  yield* Effect.log(`${refused._tag}: ${(yield* ended(open)).completed} completed`)
}).pipe(Effect.scoped)

NodeRuntime.runMain(Effect.provide(main, ProducerLive))
