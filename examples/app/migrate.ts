/**
 * The step of a deployment that comes first: the application's tables, then Shigoto's. It ends by itself.
 *
 *     DATABASE_URL=… node --conditions=source examples/app/migrate.ts
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Effect, Layer } from "effect"
import { Migrations, ShigotoConfig } from "effect-shigoto"
import { DatabaseLive, migrateTables } from "./database.ts"

const main = Effect.gen(function* () {
  const own = yield* migrateTables
  const ours = yield* Migrations.run
  yield* Effect.log(`Ran ${own.length} steps of the shop's tables and ${ours.length} of Shigoto's`)
})

NodeRuntime.runMain(
  Effect.provide(main, Layer.mergeAll(DatabaseLive, ShigotoConfig.layerFromEnv(), NodeServices.layer))
)
