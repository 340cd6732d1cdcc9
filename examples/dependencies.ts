/**
 * Dependencies: jobs that run after others, with their typed results, and what becomes of them when one fails.
 *
 *     node --conditions=source examples/dependencies.ts
 */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Option, Redacted, Schema } from "effect"
import { Job, type JobId, Jobs, ShigotoConfig, ShigotoLive } from "effect-shigoto"
import { EmbeddedPostgres } from "effect-shigoto/embedded"

class OutOfPaper extends Schema.TaggedError<OutOfPaper>()("OutOfPaper", { tray: Schema.Int }) {}

const Page = Job.make("page", {
  args: { n: Schema.Int },
  success: Schema.Struct({ words: Schema.Int }),
  error: OutOfPaper,
  maxAttempts: 1
})
const Book = Job.make("book", { success: Schema.String, dependencies: { pages: [Page] } })
const Log = Job.make("log", { success: Schema.String, dependencies: { page: { job: Page, onFailure: "run" } } })

let paper = false

const workers = Layer.mergeAll(
  Page.toLayer(({ n }) =>
    n === 13 && !paper ? Effect.fail(new OutOfPaper({ tray: 2 })) : Effect.succeed({ words: n * 100 })
  ),
  Book.toLayer((_, { dependencies: { pages } }) =>
    Effect.succeed(`${pages.length} pages, ${pages.reduce((sum, { words }) => sum + words, 0)} words`)
  ),
  // It asks to be told, so that it runs whatever becomes of the page.
  Log.toLayer((_, { dependencies: { page } }) =>
    Effect.succeed(
      page._tag === "Discarded"
        ? `no page: tray ${Option.getOrUndefined(page.error)?.tray} is empty`
        : `a page: ${page._tag}`
    )
  )
)

const url = process.env["DATABASE_URL"]
const ProducerLive = ShigotoLive.pipe(
  Layer.provide(ShigotoConfig.layer()),
  Layer.provide(url === undefined ? EmbeddedPostgres.layer() : PgClient.layer({ url: Redacted.make(url) }))
)

const main = Effect.gen(function* () {
  const jobs = yield* Jobs
  const ended = (id: JobId) =>
    jobs.get(id).pipe(Effect.delay("20 millis"), Effect.repeat({ until: ({ finishedAt }) => finishedAt !== undefined }))

  const pages = yield* Page.enqueueAll([{ n: 1 }, { n: 2 }])
  const { id: last } = yield* Page.enqueue({ n: 13 })
  const book = yield* Book.enqueue({}, { dependsOn: { pages: [...pages.map(({ id }) => id), last] } })
  const log = yield* Log.enqueue({}, { dependsOn: { page: last } })
  yield* Effect.log(`the book is ${book.job.state}`)
  yield* Effect.log((yield* jobs.explain(book.id)).message)

  yield* Layer.build(workers)
  yield* Effect.log(`log: ${(yield* ended(log.id)).result as string}`)
  const fallen = yield* ended(book.id)
  yield* Effect.log(`the book is ${fallen.state}. ${fallen.cancelReason}`)

  // With the page that failed comes back what was cancelled because of it.
  paper = true
  yield* jobs.retry(last)
  const printed = yield* jobs
    .get(book.id)
    .pipe(Effect.delay("20 millis"), Effect.repeat({ until: ({ state }) => state === "completed" }))
  yield* Effect.log(`the book, after a retry of one page: ${printed.result as string}`)

  const unknown = yield* Effect.flip(Book.enqueue({}, { dependsOn: { pages: [999_999 as JobId] } }))
  yield* Effect.log(`${unknown._tag}: ${unknown.message}`)
}).pipe(Effect.scoped)

NodeRuntime.runMain(Effect.provide(main, ProducerLive))
