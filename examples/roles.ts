/**
 * Roles: the tables belong to one, a node runs under another, and a producer can enqueue but not read.
 *
 *     node --conditions=source examples/roles.ts
 */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Console, Effect, Layer, Redacted, Schema } from "effect"
import { Job, Jobs, Migrations, Shigoto, ShigotoConfig, ShigotoLive } from "effect-shigoto"
import { EmbeddedPostgres } from "effect-shigoto/embedded"

const Greet = Job.make("greet", { args: { name: Schema.String }, success: Schema.String })
const GreetLive = Greet.toLayer(({ name }) => Effect.succeed(`Hello ${name}`))

const roles = {
  owner: "example_owner",
  worker: "example_worker",
  operator: "example_operator",
  producer: "example_producer",
  viewer: "example_viewer"
}

/** A pool that acts as a role; in earnest each process logs in as a member of its role. */
const as = (role: string) =>
  Layer.unwrap(
    Effect.map(PgClient.PgClient, ({ config }) =>
      PgClient.layer({ ...config, maxConnections: 3, startupParameters: { role } })
    )
  )

const under = (role: string) =>
  Shigoto.layerProducer.pipe(
    Layer.provide(ShigotoConfig.layer({ migrate: false })),
    Layer.provide(as(role)),
    Layer.fresh
  )

const main = Effect.gen(function* () {
  const { id } = yield* Greet.enqueue({ name: "Ada" }).pipe(Effect.provide(under(roles.producer)))
  yield* Console.log(`the producer has enqueued job ${id}`)
  const read = Effect.flatMap(Jobs, (jobs) => jobs.get(id))
  const refused = yield* Effect.flip(Effect.provide(read, under(roles.producer)))
  yield* Console.log(`the producer may not read it: ${refused.message}`)
  const node = GreetLive.pipe(
    Layer.provideMerge(ShigotoLive),
    Layer.provide(ShigotoConfig.layer({ migrate: false })),
    Layer.provide(as(roles.worker))
  )
  const ended = read.pipe(Effect.delay("50 millis"), Effect.repeat({ until: (job) => job.finishedAt !== undefined }))
  const done = yield* Effect.provide(Effect.andThen(Layer.build(node), ended), under(roles.viewer))
  yield* Console.log(`the worker ran it, the viewer reads ${JSON.stringify(done.result)}`)
  const cancel = Effect.flatMap(Jobs, (jobs) => jobs.retry(id))
  yield* Console.log(
    `the viewer may not retry it: ${(yield* Effect.flip(Effect.provide(cancel, under(roles.viewer)))).message}`
  )
  const retried = yield* Effect.provide(cancel, under(roles.operator))
  yield* Console.log(`the operator may: ${retried._tag}`)
})

const url = process.env["DATABASE_URL"]
const DatabaseLive = url === undefined ? EmbeddedPostgres.layer() : PgClient.layer({ url: Redacted.make(url) })

const AppLive = Migrations.layerRoles(roles).pipe(
  Layer.provide(ShigotoConfig.layer()),
  Layer.provideMerge(DatabaseLive)
)

NodeRuntime.runMain(Effect.scoped(Effect.provide(main, AppLive)))
