/**
 * What wraps attempts: a connection for each tenant around all workers, a cache and a curfew around one.
 *
 *     node --conditions=source examples/middleware.ts
 */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Console, Context, Effect, Layer, Redacted, Schema } from "effect"
import { Job, type JobId, Jobs, Middleware, ShigotoConfig, ShigotoLive } from "effect-shigoto"
import { EmbeddedPostgres } from "effect-shigoto/embedded"

/** What handlers use to reach the data of the tenant that their job belongs to. */
const Tenant = Context.Reference<string>("example/Tenant", { defaultValue: () => "nobody" })

class Pool extends Context.Service<Pool, { readonly open: (tenant: string) => Effect.Effect<void> }>()(
  "example/Pool"
) {}

const Report = Job.make("report", { args: { month: Schema.String }, success: Schema.Int })

const ReportLive = Report.toLayer(
  Effect.fn("Report")(function* () {
    yield* Console.log(`report for ${yield* Tenant}: 3 rows`)
    return 3
  }),
  {
    // Typed as the job is: an answer in the handler's place has to be an Int.
    middleware: [
      (job, next) => (job.partitionKey === "globex" && job.snoozes === 0 ? Job.snooze("1 hour") : next),
      (job, next) => (job.tags.includes("cached") ? Effect.as(Console.log(`cached: 3 rows`), 3) : next)
    ]
  }
)

/** Gives every handler its tenant, and a connection that closes with the attempt. */
const withTenant = <A, E>(job: { readonly partitionKey: string | undefined }, next: Effect.Effect<A, E>) =>
  Effect.gen(function* () {
    const tenant = job.partitionKey ?? "nobody"
    yield* (yield* Pool).open(tenant)
    yield* Effect.addFinalizer(() => Console.log(`closed: connection of ${tenant}`))
    return yield* Effect.provideService(next, Tenant, tenant)
  })

const PoolLive = Layer.succeed(Pool, { open: () => Effect.void })

const url = process.env["DATABASE_URL"]
const AppLive = ReportLive.pipe(
  // Around every worker that is built over it, with what it needs.
  Layer.provide(Middleware.layer(withTenant).pipe(Layer.provide(PoolLive))),
  Layer.provideMerge(ShigotoLive),
  Layer.provide(ShigotoConfig.layer()),
  Layer.provide(url === undefined ? EmbeddedPostgres.layer() : PgClient.layer({ url: Redacted.make(url) }))
)

const main = Effect.gen(function* () {
  const jobs = yield* Jobs
  const settled = (enqueued: { readonly id: JobId }) =>
    jobs
      .get(enqueued.id)
      .pipe(
        Effect.delay("50 millis"),
        Effect.repeat({ until: (job) => job.finishedAt !== undefined || job.snoozes > 0 })
      )
  yield* settled(yield* Report.enqueue({ month: "2026-01" }, { partitionKey: "acme" }))
  yield* settled(yield* Report.enqueue({ month: "2026-01" }, { partitionKey: "acme", tags: ["cached"] }))
  const waiting = yield* settled(yield* Report.enqueue({ month: "2026-01" }, { partitionKey: "globex" }))
  yield* Console.log(`report for globex waits: snoozed ${waiting.snoozes} time`)
})

NodeRuntime.runMain(Effect.provide(main, AppLive))
