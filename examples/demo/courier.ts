/**
 * A second process, which works on the queue of shipments, never finishes one, and waits for its SIGKILL.
 *
 * It prints a line for each job that it holds.
 */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Console, Effect, Layer, Redacted } from "effect"
import { ShigotoConfig, ShigotoLive } from "effect-shigoto"
import { Ship } from "./shop.ts"

/** How many shipments it takes before it dies. */
export const courierHolds = 25

const HangingLive = Ship.toLayer((_, job) => Effect.andThen(Console.log(job.id), Effect.never))

const CourierLive = HangingLive.pipe(
  Layer.provide(ShigotoLive),
  Layer.provide(
    ShigotoConfig.layer({
      nodeName: "courier",
      queues: { shipping: courierHolds },
      // A crash is noticed when the lease has run out: 30 seconds by default, too long for a demo.
      leaseTtl: "3 seconds",
      leaseBeat: "900 millis"
    })
  ),
  Layer.provide(PgClient.layer({ url: Redacted.make(process.env["DEMO_DATABASE_URL"] ?? "") }))
)

if (process.argv[1] === import.meta.filename) {
  // The other end of standard input is the demo: no courier outlives it.
  process.stdin.resume().once("close", () => process.exit(1))
  NodeRuntime.runMain(Layer.launch(CourierLive))
}
