/**
 * A job that commits or vanishes with the rows it belongs to.
 *
 *     node --conditions=source examples/transactional-enqueue.ts
 *
 * The enqueue joins the application's own transaction because both use one and the same PgClient: bind its layer to a
 * constant and provide that. Two calls of `PgClient.layer` are two pools, and nothing can join them.
 */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Redacted, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { Job, Jobs, Shigoto, ShigotoConfig } from "effect-shigoto"
import { EmbeddedPostgres } from "effect-shigoto/embedded"

const SendReceipt = Job.make("send-receipt", { args: { order: Schema.String } })

class OutOfStock extends Schema.TaggedError<OutOfStock>()("OutOfStock", { item: Schema.String }) {}

const placeOrder = Effect.fn("placeOrder")(function* (order: string, item: string) {
  const sql = yield* SqlClient.SqlClient
  return yield* sql.withTransaction(
    Effect.gen(function* () {
      yield* sql`INSERT INTO example_orders (name, item) VALUES (${order}, ${item})`
      const receipt = yield* SendReceipt.enqueue({ order })
      // Whatever fails from here on takes the order and its job back together.
      if (item === "unicorn") return yield* new OutOfStock({ item })
      return receipt
    })
  )
})

const main = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const jobs = yield* Jobs
  yield* sql`DROP TABLE IF EXISTS example_orders`
  yield* sql`CREATE TABLE example_orders (name text PRIMARY KEY, item text NOT NULL)`

  const before = (yield* jobs.list({ worker: SendReceipt.name, limit: 1000 })).length
  const { id } = yield* placeOrder("A-1", "teapot")
  yield* Effect.log(`Committed: job ${id} is ${(yield* jobs.get(id)).state}`)

  const refused = yield* Effect.flip(placeOrder("A-2", "unicorn"))
  const orders = yield* sql`SELECT name FROM example_orders`
  const receipts = (yield* jobs.list({ worker: SendReceipt.name, limit: 1000 })).length - before
  yield* Effect.log(`Rolled back by ${refused._tag}: ${orders.length} order, ${receipts} job`)
  if (orders.length !== 1 || receipts !== 1) return yield* Effect.die(new Error("They should have vanished together"))

  yield* jobs.cancel(id, "only an example")
  yield* sql`DROP TABLE example_orders`
})

const url = process.env["DATABASE_URL"]
const DatabaseLive = url === undefined ? EmbeddedPostgres.layer() : PgClient.layer({ url: Redacted.make(url) })

// A producer: it enqueues, and runs nothing.
const ProducerLive = Shigoto.layerProducer.pipe(Layer.provide(ShigotoConfig.layer()), Layer.provideMerge(DatabaseLive))

NodeRuntime.runMain(Effect.provide(main, ProducerLive))
