/**
 * Moves what waits in graphile-worker into Shigoto, and runs it.
 *
 *     node --conditions=source examples/import-graphile-worker.ts
 *
 * Copy `import/intake.ts` and `import/graphileWorker.ts` and name your own tasks. Here graphile-worker first makes some
 * jobs.
 */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Redacted, Schema } from "effect"
import { Job, Jobs, ShigotoConfig, ShigotoLive } from "effect-shigoto"
import { EmbeddedPostgres } from "effect-shigoto/embedded"
import { Logger, makeWorkerUtils } from "graphile-worker"
import { importGraphileWorker } from "./import/graphileWorker.ts"
import { into } from "./import/intake.ts"

// `queueName` made jobs run one after the other: here a queue whose partitions run one job at a time does.
const Sync = Job.make("sync", { args: { account: Schema.String, page: Schema.Int }, queue: "accounts" })
const Remind = Job.make("remind", {
  args: { user: Schema.String },
  // There the job key was `remind:<user>`.
  unique: { keys: ["worker", "args.user"], replace: ["runAt"] }
})

const intakes = [into("sync_account", Sync), into("remind", Remind)]

const WorkersLive = Layer.mergeAll(
  Sync.toLayer(({ account, page }, job) => Effect.log(`${account}, page ${page}, tags ${job.tags.join(" ")}`)),
  Remind.toLayer(({ user }) => Effect.log(`reminded ${user}`))
)

const main = Effect.gen(function* () {
  const jobs = yield* Jobs
  const moved = yield* importGraphileWorker(intakes)
  yield* Effect.log(`moved ${moved.jobs} jobs`)
  for (const { id, why } of moved.left) yield* Effect.log(`stays: ${id}: ${why}`)
  for (const { count, name, state } of moved.remaining) {
    yield* Effect.log(`graphile-worker holds ${count} × ${name}, ${state}`)
  }

  const again = yield* importGraphileWorker(intakes)
  yield* Effect.log(`again: moved ${again.jobs} jobs`)

  while ((yield* jobs.count({ state: "completed" })).count < 2) yield* Effect.sleep("50 millis")
  const [later] = yield* jobs.list({ state: "scheduled" })
  yield* Effect.log(`${JSON.stringify(later?.args)} is due at ${String(later?.runAt)}`)
  const known = yield* Remind.enqueue({ user: "ada" }, { runAt: new Date("2100-02-01T00:00:00Z") })
  yield* Effect.log(`enqueued again: ${known._tag}, due at ${String(known.job.runAt)}`)
})

/** What an application with graphile-worker would have left behind. */
const makeSome = async (url: string) => {
  const utils = await makeWorkerUtils({ connectionString: url, logger: new Logger(() => () => {}) })
  await utils.migrate()
  for (const page of [1, 2]) {
    await utils.addJob("sync_account", { account: "acme", page }, { queueName: "acme", flags: ["crm"] })
  }
  await utils.addJob("sync_account", { account: "acme", page: "three" }, { queueName: "acme" })
  await utils.addJob("remind", { user: "ada" }, { jobKey: "remind:ada", runAt: new Date("2100-01-01T00:00:00Z") })
  await utils.release()
}

const program = Effect.gen(function* () {
  const given = process.env["DATABASE_URL"]
  const url = given === undefined ? (yield* EmbeddedPostgres.make()).url : Redacted.make(given)
  yield* Effect.promise(() => makeSome(Redacted.value(url)))
  const AppLive = WorkersLive.pipe(
    Layer.provideMerge(ShigotoLive),
    Layer.provide(
      ShigotoConfig.layer({ queues: { default: 10, accounts: { concurrency: 10, partitionConcurrency: 1 } } })
    ),
    Layer.provideMerge(PgClient.layer({ url }))
  )
  yield* Effect.provide(main, AppLive)
})

NodeRuntime.runMain(Effect.scoped(program))
