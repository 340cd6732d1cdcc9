/** The bookkeeping of migrations: what is installed, and the lock under which it changes. */
import type { PgClient } from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import { identifier, literal, nameIn } from "./quote.ts"

/** The server's version, and whether it is PostgreSQL at all. */
export const server = Effect.fnUntraced(function* (sql: PgClient) {
  const [row] = yield* sql<{ readonly number: string; readonly description: string }>`
    SELECT current_setting('server_version_num') AS number, version() AS description`
  const description = row?.description ?? "unknown"
  return { version: Number(row?.number), description, isPostgres: description.startsWith("PostgreSQL ") }
})

/** What is installed: the last step, and the oldest step whose code works with it. */
export interface Installed {
  readonly version: number
  readonly needs: number
}

/** What an installed schema says; zeros where there is none. */
export const installed = Effect.fnUntraced(function* (sql: PgClient, schema: string) {
  const [row] = yield* sql<{ readonly found: boolean }>`
    SELECT to_regclass(${nameIn(schema, "migrations")}::text) IS NOT NULL AS found`
  return row?.found === true ? yield* version(sql, schema) : none
})

/** The same of a schema that has its table of migrations. */
export const version = Effect.fnUntraced(function* (sql: PgClient, schema: string) {
  // The column `needs` came with step 13; as a key it may be missing.
  const [row] = yield* sql<Installed>`
    SELECT coalesce(max(step.version), 0)::int4 AS version,
      coalesce(max((to_jsonb(step) ->> 'needs')::int4), 0) AS needs
    FROM ${sql(`${schema}.migrations`)} AS step`
  return row ?? none
})

/** Takes the lock of all migrators until the transaction ends. */
export const lock = Effect.fnUntraced(function* (sql: PgClient, schema: string) {
  yield* sql`SELECT set_config('lock_timeout', '2s', true)`
  yield* sql`SELECT pg_advisory_xact_lock(hashtextextended(${`shigoto.migrations.${schema}`}::text, 0))`
})

/** Makes the schema and the table of migrations where they are missing. */
export const prepare = (sql: PgClient, schema: string): Effect.Effect<void, SqlError> =>
  Effect.forEach(preparations(schema), (statement) => sql.unsafe(statement).unprepared, { discard: true })

/** The statements of {@link prepare}. */
export const preparations = (schema: string): ReadonlyArray<string> => [
  `CREATE SCHEMA IF NOT EXISTS ${identifier(schema)}`,
  `CREATE TABLE IF NOT EXISTS ${identifier(schema)}.migrations (
  version integer PRIMARY KEY,
  name text NOT NULL,
  applied_at timestamptz(3) NOT NULL DEFAULT statement_timestamp()
)`
]

interface Step {
  readonly version: number
  readonly name: string
  readonly needs?: number
}

/** Notes that a step was run. */
export const record = (sql: PgClient, schema: string, step: Step): Effect.Effect<void, SqlError> =>
  Effect.asVoid(sql.unsafe(recordText(schema, step)).unprepared)

/** The statement of {@link record}; the name is the library's own. */
export const recordText = (schema: string, { name, needs, version }: Step): string =>
  needs === undefined
    ? `INSERT INTO ${identifier(schema)}.migrations (version, name) VALUES (${version}, ${literal(name)})`
    : `INSERT INTO ${identifier(schema)}.migrations (version, name, needs) VALUES (${version}, ${literal(name)}, ${needs})`

/** Drops a schema with all that is in it. */
export const drop = (sql: PgClient, schema: string): Effect.Effect<void, SqlError> =>
  Effect.asVoid(sql.unsafe(`DROP SCHEMA IF EXISTS ${identifier(schema)} CASCADE`).unprepared)

// internal

const none: Installed = { version: 0, needs: 0 }
