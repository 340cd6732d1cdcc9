/**
 * A fresh database for each test or block of tests, cloned from the migrated template in some 30 ms.
 *
 *     layer(TestDatabase.layer())("Jobs", (it) => {
 *       it.effect("…", () => Effect.gen(function* () { const sql = yield* SqlClient.SqlClient … }))
 *     })
 *
 * Each call of `layer` is another database. For several nodes on one database open more clients: `database.layerClient()`.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { randomBytes } from "node:crypto"
import { inject } from "vitest"
import * as Run from "./run.ts"

export interface TestDatabaseOptions {
  /** Leaves the database without the library's schema. Defaults to false. */
  readonly empty?: boolean | undefined
  /** What a transaction gets that asks for nothing. Defaults to the server's own, read committed. */
  readonly isolation?: "repeatable read" | "serializable" | undefined
}

/** Settings of a pool, such as `maxConnections` (defaults to 10). */
export type ClientOptions = Omit<PgClient.PgPoolConfig, "url" | "host" | "port" | "path" | "database">

export class TestDatabase extends Context.Service<
  TestDatabase,
  {
    readonly name: string
    /** Connects from other processes too. */
    readonly url: Redacted.Redacted
    /** For `PgClient.make` and `PgClient.layer`: the url and nothing else. */
    readonly clientConfig: PgClient.PgPoolConfig
    /** One more pool, on the live clock. */
    readonly makeClient: (options?: ClientOptions) => Effect.Effect<PgClient.PgClient, SqlError, Scope.Scope>
    /** One more pool as a layer: another node. Each call is another pool. */
    readonly layerClient: (options?: ClientOptions) => Layer.Layer<PgClient.PgClient | SqlClient.SqlClient, SqlError>
  }
>()("test/setup/TestDatabase") {
  /** The database and a client of it. Dropped at the end, whoever is still connected. */
  static layer(
    options: TestDatabaseOptions & ClientOptions = {}
  ): Layer.Layer<TestDatabase | PgClient.PgClient | SqlClient.SqlClient, SqlError> {
    const { empty, isolation, ...client } = options
    return Layer.unwrap(Effect.map(TestDatabase, (database) => database.layerClient(client))).pipe(
      Layer.provideMerge(TestDatabase.layerDatabase({ empty, isolation }))
    )
  }

  /** The database without a client, for what connects by itself. */
  static layerDatabase(options: TestDatabaseOptions = {}): Layer.Layer<TestDatabase, SqlError> {
    return Layer.effect(TestDatabase, Run.live(make(options)))
  }
}

// internal

const make = Effect.fnUntraced(function* (options: TestDatabaseOptions) {
  const run = inject("shigotoRun")
  const name = `${run.name}_${randomBytes(6).toString("hex")}`
  const admin = Run.layerClient(run.url, { maxConnections: 1 })
  yield* Effect.acquireRelease(create(run, name, options).pipe(Effect.provide(admin)), () =>
    drop(name).pipe(Effect.provide(admin), Effect.orDie, Run.live)
  )
  const url = Run.urlOf(run, name)
  return TestDatabase.of({
    name,
    url: Redacted.make(url),
    clientConfig: { url: Redacted.make(url) },
    makeClient: (client = {}) =>
      Effect.map(Layer.build(Run.layerClient(url, client)), (context) => Context.get(context, PgClient.PgClient)),
    layerClient: (client = {}) => Run.layerClient(url, client)
  })
})

const create = Effect.fnUntraced(function* (run: Run.Run, name: string, options: TestDatabaseOptions) {
  const sql = yield* SqlClient.SqlClient
  yield* (
    options.empty === true
      ? sql`CREATE DATABASE ${sql(name)} TEMPLATE template0 ENCODING 'UTF8'`
      : sql`CREATE DATABASE ${sql(name)} TEMPLATE ${sql(run.template)}`
  ).pipe(
    // object_in_use: a server of the user's own may look into its templates (a backup, a monitor).
    Effect.retry({
      while: (error) => hasCode(error, "55006"),
      schedule: Schedule.spaced("100 millis"),
      times: 50
    })
  )
  if (options.isolation !== undefined) {
    yield* sql`ALTER DATABASE ${sql(name)} SET default_transaction_isolation TO ${sql.literal(`'${options.isolation}'`)}`
  }
})

const drop = Effect.fnUntraced(function* (name: string) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`DROP DATABASE IF EXISTS ${sql(name)} WITH (FORCE)`
})

const hasCode = (error: SqlError, code: string): boolean => {
  const cause: unknown = error.reason.cause
  return typeof cause === "object" && cause !== null && "code" in cause && cause.code === code
}
