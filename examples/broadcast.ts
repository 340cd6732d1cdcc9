/**
 * A broadcast queue: each node runs each job, also one that starts a little later.
 *
 *     node --conditions=source examples/broadcast.ts
 */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Redacted, Schema } from "effect"
import { Job, Jobs, ShigotoConfig, ShigotoLive } from "effect-shigoto"
import { EmbeddedPostgres } from "effect-shigoto/embedded"

const Forget = Job.make("forget", { args: { key: Schema.String }, queue: "caches" })

/** A node with a cache of its own; here all are in one process. */
const node = (name: string) => {
  const cache = new Map([["price", "10"]])
  const ForgetLive = Forget.toLayer(
    Effect.fn("Forget")(function* ({ key }) {
      cache.delete(key)
      yield* Effect.log(`${name} forgets ${key}`)
    })
  )
  return Layer.fresh(
    ForgetLive.pipe(
      Layer.provideMerge(ShigotoLive),
      Layer.provide(
        ShigotoConfig.layer({ nodeName: name, queues: { caches: { concurrency: 2, broadcast: { window: "1 hour" } } } })
      )
    )
  )
}

const program = Effect.gen(function* () {
  const context = yield* Layer.build(node("tokyo"))
  yield* Layer.build(node("osaka"))
  yield* Effect.gen(function* () {
    const jobs = yield* Jobs
    const { id } = yield* Forget.enqueue({ key: "price" })
    const everywhere = (count: number) =>
      jobs
        .copies(id)
        .pipe(
          Effect.delay("20 millis"),
          Effect.repeat({ until: (copies) => copies.filter(({ state }) => state === "completed").length === count })
        )
    yield* everywhere(2)
    yield* Effect.log((yield* jobs.explain(id)).message)
    yield* Layer.build(node("kyoto"))
    for (const { nodeName, state } of yield* everywhere(3)) yield* Effect.log(`On ${nodeName} it is ${state}`)
  }).pipe(Effect.provideContext(context))
}).pipe(Effect.scoped)

const url = process.env["DATABASE_URL"]
NodeRuntime.runMain(
  Effect.provide(program, url === undefined ? EmbeddedPostgres.layer() : PgClient.layer({ url: Redacted.make(url) }))
)
