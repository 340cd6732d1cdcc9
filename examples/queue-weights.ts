/**
 * Two queues that share a node by weight: while both have work, three of four jobs that run are payments.
 *
 *     node --conditions=source examples/queue-weights.ts
 */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Deferred, Effect, Layer, Redacted } from "effect"
import { Job, ShigotoConfig, ShigotoLive } from "effect-shigoto"
import { EmbeddedPostgres } from "effect-shigoto/embedded"

const Pay = Job.make("pay", { queue: "payments" })
const Mail = Job.make("mail", { queue: "mails" })

const started: Array<string> = []
const done = Deferred.makeUnsafe<void>()
const work = (name: string) =>
  Effect.gen(function* () {
    started.push(name)
    if (started.length === 400) yield* Deferred.succeed(done, undefined)
    yield* Effect.sleep("5 millis")
  })
const WorkersLive = Layer.mergeAll(
  Pay.toLayer(() => work("pay")),
  Mail.toLayer(() => work("mail"))
)

const url = process.env["DATABASE_URL"]
const LibraryLive = ShigotoLive.pipe(
  Layer.provide(
    ShigotoConfig.layer({
      queues: { payments: { concurrency: 8, weight: 3 }, mails: { concurrency: 8, weight: 1 } },
      // What the queues share: fewer places than they would fill together.
      shedding: { maxInFlight: 8 }
    })
  ),
  Layer.provide(url === undefined ? EmbeddedPostgres.layer() : PgClient.layer({ url: Redacted.make(url) }))
)

const program = Effect.gen(function* () {
  yield* Pay.enqueueAll(Array.from({ length: 600 }, () => ({})))
  yield* Mail.enqueueAll(Array.from({ length: 600 }, () => ({})))
  // Only now is there somebody to run them.
  yield* Effect.provide(Deferred.await(done), WorkersLive)
  const payments = started.slice(0, 400).filter((name) => name === "pay").length
  yield* Effect.log(`Of 400 jobs that started while both queues had work, ${payments} were payments`)
})

NodeRuntime.runMain(Effect.provide(program, LibraryLive))
