/**
 * Groups of failures, and operations on all jobs that match a filter.
 *
 *     node --conditions=source examples/bulk.ts
 */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Option, Redacted, Schema, Stream } from "effect"
import { Filter, Job, Jobs, ShigotoConfig, ShigotoLive } from "effect-shigoto"
import { EmbeddedPostgres } from "effect-shigoto/embedded"

const Sync = Job.make("sync", { args: { customer: Schema.Int, region: Schema.String }, maxAttempts: 1 })

let outage = true

const SyncLive = Sync.toLayer(({ customer, region }) =>
  outage && region === "eu" ? Effect.die(new Error(`connect ETIMEDOUT for customer ${customer}`)) : Effect.void
)

const url = process.env["DATABASE_URL"]
const AppLive = SyncLive.pipe(
  Layer.provideMerge(ShigotoLive),
  Layer.provide(ShigotoConfig.layer()),
  Layer.provide(url === undefined ? EmbeddedPostgres.layer() : PgClient.layer({ url: Redacted.make(url) }))
)

const main = Effect.gen(function* () {
  const jobs = yield* Jobs
  const settled = (filter: Filter.Filter, count: number) =>
    jobs.count(filter).pipe(Effect.delay("50 millis"), Effect.repeat({ until: (found) => found.count === count }))

  yield* Sync.enqueueAll(
    Array.from({ length: 1000 }, (_, customer) => ({ customer, region: customer % 4 === 0 ? "eu" : "us" }))
  )
  yield* settled({ worker: Sync.name, state: ["completed", "discarded"] }, 1000)

  // 250 messages that differ in a number are one group.
  const [group] = yield* jobs.failures()
  if (group === undefined) return
  yield* Effect.log(`${group.count} × ${group.worker} failed like job ${group.sample}: ${group.failure.message}`)

  outage = false
  const retried = yield* jobs.retryBy({ fingerprint: group.fingerprint }).pipe(
    Stream.tap(({ changed, matched }) => Effect.log(`retried ${changed} of ${matched}`)),
    Stream.runLast
  )
  yield* settled({ worker: Sync.name, state: "completed" }, 1000)
  yield* Effect.log(`all done, ${Option.isSome(retried) ? retried.value.failed : 0} could not be retried`)

  // The same filter as text, as it stands in a URL or on a command line.
  const text = "worker:sync state:completed args.region:us"
  const filter = yield* Effect.fromResult(Filter.parse(text))
  const deleted = yield* Stream.runLast(jobs.deleteBy(filter))
  yield* Effect.log(`deleted ${Option.isSome(deleted) ? deleted.value.changed : 0} of ${text}`)

  // What is empty or misspelt is refused, never read as everything.
  for (const wrong of ["", "wroker:sync"]) {
    const refused = yield* Effect.fromResult(Filter.parse(wrong)).pipe(
      Effect.flatMap((all) => Stream.runDrain(jobs.deleteBy(all))),
      Effect.flip
    )
    yield* Effect.log(`Refused: ${refused.message}`)
  }
})

NodeRuntime.runMain(Effect.provide(main, AppLive))
