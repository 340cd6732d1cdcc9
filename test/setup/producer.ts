import type * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import type { Jobs } from "../../src/Jobs.ts"
import type { Queues } from "../../src/Queues.ts"
import * as Shigoto from "../../src/Shigoto.ts"
import * as ShigotoConfig from "../../src/ShigotoConfig.ts"
import { type ClientOptions, TestDatabase, type TestDatabaseOptions } from "./TestDatabase.ts"

/** A process that only enqueues, on a database of its own. */
export const layerProducer = (
  options: ShigotoConfig.Options = {},
  database: TestDatabaseOptions & ClientOptions = {}
): Layer.Layer<Jobs | Queues | TestDatabase | PgClient.PgClient | SqlClient.SqlClient> =>
  Shigoto.layerProducer.pipe(
    Layer.provide(ShigotoConfig.layer(options)),
    Layer.provideMerge(TestDatabase.layer(database)),
    Layer.orDie
  )

/** How many jobs there are, live or archived. */
export const jobCount = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{ readonly count: number }>`SELECT count(*)::integer AS count FROM shigoto.all_jobs`
  return row?.count
})
