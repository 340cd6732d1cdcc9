/**
 * A job from its definition to its result.
 *
 *     node --conditions=source examples/quickstart.ts
 *
 * Starts a PostgreSQL of its own, or uses the one of DATABASE_URL.
 */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Redacted, Schedule, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { Job, Jobs, ShigotoConfig, ShigotoLive } from "effect-shigoto"
import { EmbeddedPostgres } from "effect-shigoto/embedded"

// What a producer needs: a name, and the schemas of what goes in and comes out.
const SendEmail = Job.make("send-email", {
  args: { to: Schema.String, subject: Schema.String },
  success: Schema.Struct({ messageId: Schema.String }),
  queue: "emails",
  maxAttempts: 5
})

// What a worker adds: a handler. What it needs (a mailer, a database) shows in the layer's type.
const SendEmailLive = SendEmail.toLayer(
  Effect.fn("SendEmail")(function* ({ to, subject }, job) {
    yield* Effect.log(`Attempt ${job.attempt}: "${subject}" goes to ${to}`)
    return { messageId: `message-${job.id}` }
  }),
  { retry: Schedule.exponential("1 second"), concurrency: 5 }
)

const url = process.env["DATABASE_URL"]
const AppLive = SendEmailLive.pipe(
  Layer.provideMerge(ShigotoLive),
  Layer.provide(ShigotoConfig.layer({ queues: { default: 10, emails: 5 } })),
  Layer.provideMerge(url === undefined ? EmbeddedPostgres.layer() : PgClient.layer({ url: Redacted.make(url) }))
)

// An application would be `Layer.launch(AppLive)`; this one ends when its job has.
const main = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const jobs = yield* Jobs
  // The row and its job commit together, or neither does.
  const { id } = yield* sql.withTransaction(
    Effect.gen(function* () {
      yield* sql`CREATE TEMPORARY TABLE users (email text) ON COMMIT DROP` // yours is there already
      yield* sql`INSERT INTO users VALUES ('ada@example.com')`
      return yield* SendEmail.enqueue({ to: "ada@example.com", subject: "Hi" }, { delay: "1 second" })
    })
  )
  const finished = yield* jobs
    .get(id)
    .pipe(Effect.delay("100 millis"), Effect.repeat({ until: (job) => job.finishedAt !== undefined }))
  yield* Effect.log(`Job ${id} is ${finished.state}:`, finished.result)
})

NodeRuntime.runMain(Effect.provide(main, AppLive))
