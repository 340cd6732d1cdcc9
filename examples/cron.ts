/**
 * A job for every tick of a schedule: one entry in the code, one that comes and goes at run time.
 *
 *     node --conditions=source examples/cron.ts
 */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { DateTime, Effect, Layer, Redacted, Schema, Stream } from "effect"
import { CronJob, CronJobs, Job, Jobs, ShigotoConfig, ShigotoLive } from "effect-shigoto"
import { EmbeddedPostgres } from "effect-shigoto/embedded"

const Report = Job.make("report", { args: { region: Schema.String }, success: Schema.String })

const ReportLive = Report.toLayer(
  Effect.fn("Report")(function* ({ region }, job) {
    // The instant that the job stands for: the tick, however late this attempt is.
    const instant = DateTime.formatIso(job.scheduledFor)
    yield* Effect.log(`Report of ${region} for ${instant}`)
    return instant
  })
)

// Real schedules look like "0 6 * * MON-FRI"; with a sixth field, of seconds, this one ends soon.
const EachSecond = CronJob.make({ name: "each-second", cron: "* * * * * *", job: Report, args: { region: "Tokyo" } })

const url = process.env["DATABASE_URL"]
const AppLive = Layer.mergeAll(EachSecond, ReportLive).pipe(
  Layer.provideMerge(ShigotoLive),
  Layer.provide(ShigotoConfig.layer()),
  Layer.provide(url === undefined ? EmbeddedPostgres.layer() : PgClient.layer({ url: Redacted.make(url) }))
)

const main = Effect.gen(function* () {
  const cron = yield* CronJobs
  const jobs = yield* Jobs

  // Three reports that came by the clock.
  yield* jobs.events.pipe(
    Stream.filter((event) => event._tag === "Completed"),
    Stream.take(3),
    Stream.runDrain
  )
  yield* cron.pause("each-second")

  // Stored in the database: it ticks on every node, and goes on when this one is gone.
  yield* cron.upsert({
    name: "berlin-mornings",
    cron: "30 2 * * *",
    timezone: "Europe/Berlin",
    job: Report,
    args: { region: "Berlin" },
    catchUp: CronJob.all({ max: 3, window: "3 days" }),
    overlap: "skip"
  })
  const [next] = yield* cron.preview("berlin-mornings", 1)
  yield* Effect.log(`Berlin's next tick: ${next === undefined ? "none" : DateTime.formatIso(next)}`)
  const id = yield* cron.runNow("berlin-mornings")
  yield* jobs.get(id).pipe(Effect.delay("100 millis"), Effect.repeat({ until: (job) => job.finishedAt !== undefined }))
  for (const entry of yield* cron.list) {
    yield* Effect.log(
      `${entry.name}: ${entry.cron} ${entry.timezone}, from ${entry.source}${entry.paused ? ", paused" : ""}`
    )
  }

  // A schedule that would be bent by others is refused, with the field and the reason.
  const refused = yield* Effect.flip(
    cron.upsert({ name: "night", cron: "0 25 * * *", job: Report, args: { region: "Oslo" } })
  )
  yield* Effect.log(`Refused: ${refused.message}`)
  yield* cron.remove("berlin-mornings")
})

NodeRuntime.runMain(Effect.provide(main, AppLive))
