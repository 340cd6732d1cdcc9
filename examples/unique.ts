/**
 * Jobs that are there once: a second enqueue finds the first, changes it, or puts it off.
 *
 *     node --conditions=source examples/unique.ts
 */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Redacted, Schema } from "effect"
import { Job, type JobId, Jobs, Shigoto, ShigotoConfig } from "effect-shigoto"
import { EmbeddedPostgres } from "effect-shigoto/embedded"

const Reindex = Job.make("reindex", {
  args: { project: Schema.String, full: Schema.Boolean },
  unique: { keys: ["worker", "args.project"] }
})

const Remind = Job.make("remind", {
  args: { user: Schema.String, text: Schema.String },
  unique: { keys: ["worker", "args.user"], replace: ["args"] }
})

const Save = Job.make("save", {
  args: { document: Schema.String, version: Schema.Int },
  unique: { keys: ["worker", "args.document"], debounce: { wait: "30 seconds", maxWait: "5 minutes" } }
})

const main = Effect.gen(function* () {
  const jobs = yield* Jobs
  const ids = new Set<JobId>()
  for (const full of [false, true, true]) {
    const { _tag, id } = yield* Reindex.enqueue({ project: "tokyo", full })
    ids.add(id)
    yield* Effect.log(`reindex: ${_tag}`)
  }
  for (const text of ["first", "second"]) {
    const { _tag, id } = yield* Remind.enqueue({ user: "ada", text }, { delay: "1 hour" })
    ids.add(id)
    yield* Effect.log(`remind: ${_tag}, args are ${JSON.stringify((yield* jobs.get(id)).args)}`)
  }
  for (let version = 1; version <= 3; version++) {
    const { _tag, id } = yield* Save.enqueue({ document: "thesis", version })
    ids.add(id)
    yield* Effect.log(`save: ${_tag}, args are ${JSON.stringify((yield* jobs.get(id)).args)}`)
  }
  yield* Effect.log(`${ids.size} jobs`)
  for (const id of ids) yield* jobs.cancel(id, "only an example")
})

const url = process.env["DATABASE_URL"]
const ProducerLive = Shigoto.layerProducer.pipe(
  Layer.provide(ShigotoConfig.layer()),
  Layer.provide(url === undefined ? EmbeddedPostgres.layer() : PgClient.layer({ url: Redacted.make(url) }))
)

NodeRuntime.runMain(Effect.provide(main, ProducerLive))
