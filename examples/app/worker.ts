/**
 * The process that works: handlers, the schedule, metrics and probes. Start as many as you need; SIGTERM ends one by the
 * book.
 *
 *     DATABASE_URL=… PORT=3001 node --conditions=source examples/app/worker.ts
 */
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { Config, DateTime, Effect, Layer, Option, Schedule } from "effect"
import { HttpRouter } from "effect/http"
import { PrometheusMetrics } from "effect/observability"
import { SqlClient } from "effect/sql"
import { Batch, CronJob, HealthHttp, Job, ShigotoConfig, ShigotoLive } from "effect-shigoto"
import { createServer } from "node:http"
import { DatabaseLive } from "./database.ts"
import { BankUnreachable, Charge, CloseCampaign, DailyReport, SendMail } from "./jobs.ts"
import { Outside } from "./Outside.ts"

const ChargeLive = Charge.toLayer(
  Effect.fn("Charge")(function* ({ card, order }, job) {
    const sql = yield* SqlClient.SqlClient
    const outside = yield* Outside
    const answer = yield* outside
      .charge(`charge-${job.id}`, card)
      .pipe(Effect.mapError(({ status }) => new BankUnreachable({ status })))
    if (answer === "declined") {
      yield* Effect.orDie(sql`UPDATE orders SET status = 'declined' WHERE id = ${order} AND status = 'new'`)
      return yield* Job.discard("the card was declined")
    }
    const receipt = `R-${job.id}`
    // Handlers run at least once: what this one does to the database, it does only where it has not been done.
    yield* Effect.gen(function* () {
      const [paid] = yield* sql<{ readonly email: string }>`
        UPDATE orders
        SET status = 'paid', receipt = ${receipt}
        WHERE id = ${order} AND status = 'new'
        RETURNING email`
      if (paid !== undefined) yield* SendMail.enqueue({ to: paid.email, subject: `Your receipt ${receipt}` })
    }).pipe(sql.withTransaction, Effect.orDie)
    return { receipt }
  }),
  { retry: Schedule.exponential("500 millis"), concurrency: 4 }
)

const SendMailLive = SendMail.toLayer(
  Effect.fn("SendMail")(function* ({ subject, to }, job) {
    const outside = yield* Outside
    yield* Effect.orDie(outside.mail(`mail-${job.id}`, to, subject))
  })
)

const CloseCampaignLive = CloseCampaign.toLayer(
  Effect.fn("CloseCampaign")(function* ({ campaign }) {
    const sql = yield* SqlClient.SqlClient
    const batch = yield* Batch.summary
    if (batch === undefined) return yield* Job.discard("it was not enqueued by a batch")
    yield* Effect.orDie(sql`
      UPDATE campaigns
      SET sent = ${batch.completed}, failed = ${batch.discarded + batch.cancelled}
      WHERE id = ${campaign}`)
  })
)

const DailyReportLive = DailyReport.toLayer(
  Effect.fn("DailyReport")(function* (_, job) {
    const sql = yield* SqlClient.SqlClient
    // `scheduledFor` is the tick, the same in every attempt.
    yield* Effect.orDie(sql`
      INSERT INTO reports (due, paid, declined)
      SELECT
        ${DateTime.toDateUtc(job.scheduledFor)},
        count(*) FILTER (WHERE status = 'paid'),
        count(*) FILTER (WHERE status = 'declined')
      FROM orders
      ON CONFLICT (due) DO NOTHING`)
  })
)

const EveryMorning = CronJob.make({
  name: "every-morning",
  cron: "0 7 * * *",
  timezone: "Europe/Berlin",
  job: DailyReport,
  args: {}
})

const WorkersLive = Layer.mergeAll(ChargeLive, SendMailLive, CloseCampaignLive, DailyReportLive, EveryMorning).pipe(
  Layer.provide(
    Layer.unwrap(
      Effect.map(Config.option(Config.String("OUTSIDE_URL")), (url) =>
        Option.isSome(url) ? Outside.layer : Outside.layerLog
      )
    )
  )
)

const ProbesLive = HttpRouter.serve(Layer.mergeAll(PrometheusMetrics.layerHttp(), HealthHttp.layer()), {
  disableLogger: true
}).pipe(
  Layer.provide(
    Layer.unwrap(
      Effect.map(Config.Int("PORT"), (port) =>
        // Longer would keep the jobs' own time to finish waiting behind a scraper's open connection.
        NodeHttpServer.layer(createServer, { port, gracefulShutdownTimeout: "1 second" })
      )
    )
  )
)

const WorkerLive = Layer.mergeAll(WorkersLive, ProbesLive).pipe(
  Layer.provide(ShigotoLive),
  Layer.provide(
    ShigotoConfig.layerFromEnv({
      migrate: false,
      queues: { default: 5, payments: 10, mails: 20 },
      metrics: true,
      history: true
    })
  ),
  Layer.provide(DatabaseLive)
)

/** On top of everything: the last to start, and so the first to hear of the end. */
const SayLive = Layer.effectDiscard(
  Effect.acquireRelease(Effect.log("Working"), () => Effect.log("Stopping: what runs may finish"))
).pipe(Layer.provide(WorkerLive))

NodeRuntime.runMain(Layer.launch(SayLive))
