/**
 * Moves what waits in pg-boss into Shigoto, and runs it.
 *
 *     node --conditions=source examples/import-pg-boss.ts
 *
 * Copy `import/intake.ts` and `import/pgBoss.ts` and name your own queues. Here pg-boss first makes some jobs.
 */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Redacted, Schema } from "effect"
import { CronJobs, Job, Jobs, ShigotoConfig, ShigotoLive } from "effect-shigoto"
import { EmbeddedPostgres } from "effect-shigoto/embedded"
import { PgBoss } from "pg-boss"
import { into } from "./import/intake.ts"
import { importPgBoss } from "./import/pgBoss.ts"

const Welcome = Job.make("welcome", { args: { to: Schema.String } })
const Resize = Job.make("resize", { args: { image: Schema.String, width: Schema.Int }, queue: "media" })

// The name in pg-boss, the definition, and how its data become args where they differ.
const intakes = [
  into("send-welcome", Welcome),
  into("resize", Resize, (data) => (typeof data === "object" ? { width: 320, ...data } : data))
]

const WorkersLive = Layer.mergeAll(
  Welcome.toLayer(({ to }) => Effect.log(`welcome, ${to}`)),
  Resize.toLayer(({ image, width }) => Effect.log(`${image} at ${width}`))
)

const main = Effect.gen(function* () {
  const jobs = yield* Jobs
  const moved = yield* importPgBoss(intakes)
  yield* Effect.log(`moved ${moved.jobs} jobs and ${moved.schedules} schedule`)
  for (const { id, why } of moved.left) yield* Effect.log(`stays: ${id}: ${why}`)
  for (const { count, name, state } of moved.remaining) yield* Effect.log(`pg-boss holds ${count} × ${name}, ${state}`)

  const again = yield* importPgBoss(intakes)
  yield* Effect.log(`again: moved ${again.jobs} jobs`)

  while ((yield* jobs.count({ state: "completed" })).count < 3) yield* Effect.sleep("50 millis")
  const [later] = yield* jobs.list({ state: "scheduled" })
  yield* Effect.log(`${JSON.stringify(later?.args)} is due at ${String(later?.runAt)}`)
  const [daily] = yield* (yield* CronJobs).list
  yield* Effect.log(`${daily?.name}: ${daily?.cron} ${daily?.timezone}`)
})

/** What an application with pg-boss would have left behind. */
const makeSome = async (url: string) => {
  const boss = new PgBoss({ connectionString: url, schedule: false, supervise: false })
  boss.on("error", console.error)
  await boss.start()
  await boss.createQueue("send-welcome")
  await boss.createQueue("resize")
  await boss.send("send-welcome", { to: "ada@example.com" })
  await boss.send("send-welcome", { to: "grace@example.com" }, { priority: 5 })
  await boss.send("send-welcome", { to: "joan@example.com" }, { startAfter: new Date("2100-01-01T00:00:00Z") })
  await boss.send("send-welcome", { too: "a slip of the pen" })
  await boss.send("resize", { image: "a.png" })
  await boss.schedule("send-welcome", "30 8 * * *", { to: "everyone@example.com" }, { tz: "Europe/Berlin" })
  await boss.stop()
}

const program = Effect.gen(function* () {
  const given = process.env["DATABASE_URL"]
  const url = given === undefined ? (yield* EmbeddedPostgres.make()).url : Redacted.make(given)
  yield* Effect.promise(() => makeSome(Redacted.value(url)))
  const AppLive = WorkersLive.pipe(
    Layer.provideMerge(ShigotoLive),
    Layer.provide(ShigotoConfig.layer({ queues: { default: 10, media: 2 } })),
    Layer.provideMerge(PgClient.layer({ url }))
  )
  yield* Effect.provide(main, AppLive)
})

NodeRuntime.runMain(Effect.scoped(program))
