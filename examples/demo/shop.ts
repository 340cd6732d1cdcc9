/**
 * The shop: three jobs in a row for every order, each on a queue of its own, and a stock count that nobody waits for.
 *
 * Every handler may run more than once, so it moves the order and enqueues the next job in one transaction, and only
 * where the order has not moved yet. That is what turns at-least-once into once.
 */
import { Effect, Layer, Schedule, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { Job } from "effect-shigoto"

export const orders = 2000

/** How the order behaves: all counts of the demo follow from these. */
export const isExpress = (order: number) => order % 10 === 0
export const isDeclined = (order: number) => order % 100 === 99
export const isFlaky = (order: number) => order % 10 === 3
export const isHopeless = (order: number) => order % 250 === 7
export const isOutOfStock = (order: number) => order % 20 === 0

class GatewayDown extends Schema.TaggedError<GatewayDown>()("GatewayDown", { order: Schema.Int }) {}

export const Charge = Job.make("charge-card", {
  args: { order: Schema.Int },
  error: GatewayDown,
  queue: "payments",
  maxAttempts: 3
})

export const Pack = Job.make("pack-order", { args: { order: Schema.Int }, queue: "warehouse" })

export const CountStock = Job.make("count-stock", { queue: "warehouse", priority: 100 })

export const Ship = Job.make("ship-order", {
  args: { order: Schema.Int },
  success: Schema.Struct({ trackingCode: Schema.String }),
  queue: "shipping"
})

export const createTables = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE TABLE shop_orders (
      id integer PRIMARY KEY,
      charged integer NOT NULL DEFAULT 0,
      packed integer NOT NULL DEFAULT 0,
      shipped integer NOT NULL DEFAULT 0
    )`
  yield* sql`INSERT INTO shop_orders (id) SELECT generate_series(1, ${orders}::integer)`
})

/** Takes one step with an order, together with what follows from it; does nothing where the step has been taken. */
const step = <A, E, R>(order: number, name: "charged" | "packed" | "shipped", next: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql.withTransaction(
      Effect.gen(function* () {
        const moved = yield* sql`
          UPDATE shop_orders
          SET ${sql(name)} = 1
          WHERE id = ${order} AND ${sql(name)} = 0
          RETURNING id`
        if (moved.length === 1) yield* next
      })
    )
  }).pipe(Effect.orDie)

export const ChargeLive = Charge.toLayer(
  Effect.fn("Charge")(function* ({ order }, job) {
    yield* Effect.sleep("90 millis")
    if (isDeclined(order)) return yield* Job.discard("the card was declined")
    if (isHopeless(order) || (isFlaky(order) && job.attempt === 1)) return yield* new GatewayDown({ order })
    yield* step(order, "charged", Pack.enqueue({ order }, { priority: job.priority }))
  }),
  { retry: Schedule.exponential("500 millis") }
)

export const PackLive = Pack.toLayer(
  Effect.fn("Pack")(function* ({ order }, job) {
    // Out of stock: look again in a second. That costs no attempt.
    if (isOutOfStock(order) && job.snoozes === 0) return yield* Job.snooze("1 second")
    yield* Effect.sleep("50 millis")
    yield* step(order, "packed", Ship.enqueue({ order }, { priority: job.priority, delay: "500 millis" }))
  })
)

export const ShipLive = Ship.toLayer(
  Effect.fn("Ship")(function* ({ order }, job) {
    yield* Effect.sleep("100 millis")
    yield* step(order, "shipped", Effect.void)
    return { trackingCode: `TRACK-${job.id}` }
  })
)

/** Counts for ever: somebody has to call it off, and then its finalizer runs. */
export const countStockLive = (onInterrupt: () => void) =>
  CountStock.toLayer(() => Effect.onInterrupt(Effect.never, () => Effect.sync(onInterrupt)))

export const WorkersLive = Layer.mergeAll(ChargeLive, PackLive, ShipLive)
