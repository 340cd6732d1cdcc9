/**
 * The one database: the application's tables and Shigoto's, through one PgClient for each process.
 */
import { PgClient, PgMigrator } from "@effect/sql-pg"
import { Config, Effect } from "effect"
import { SqlClient } from "effect/sql"

/** A constant: every part of a process that provides this layer shares one pool, and so may share a transaction. */
export const DatabaseLive = PgClient.layerConfig({ url: Config.Redacted("DATABASE_URL") })

/** The application's own tables, by Effect's migrator. */
export const migrateTables = PgMigrator.run({
  loader: PgMigrator.fromRecord({
    "0001_shop": Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql`
        CREATE TABLE orders (
          id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
          email text NOT NULL,
          item text NOT NULL,
          status text NOT NULL DEFAULT 'new',
          receipt text
        )`
      yield* sql`CREATE TABLE stock (item text PRIMARY KEY, count integer NOT NULL CHECK (count >= 0))`
      yield* sql`INSERT INTO stock (item, count) VALUES ('teapot', 1000), ('unicorn', 0)`
      yield* sql`
        CREATE TABLE campaigns (
          id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
          subject text NOT NULL,
          sent integer,
          failed integer
        )`
      yield* sql`CREATE TABLE reports (due timestamptz PRIMARY KEY, paid integer NOT NULL, declined integer NOT NULL)`
    })
  })
})
