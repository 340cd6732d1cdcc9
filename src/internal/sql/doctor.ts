/** Reads what a server says of itself, its settings and the library's tables, whether they are there or not. */
import type { PgClient } from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import { array, oid } from "./db.ts"
import { identifier, nameIn } from "./quote.ts"

/** What a server says of itself. */
export interface ServerFacts {
  readonly version: string
  readonly number: number
  readonly isPostgres: boolean
  readonly user: string
  readonly encoding: string
  readonly readOnly: boolean
  /** Milliseconds since 1970, by its clock. */
  readonly clock: number
  readonly connections: number
  readonly maxConnections: number
  /** From 0 to 1. */
  readonly notificationUsage: number
  /** How many transactions ago the oldest row of the database may have been written. */
  readonly transactionAge: number
}

/** Reads the server. */
export const server = Effect.fnUntraced(function* (sql: PgClient) {
  const [row] = yield* sql<{
    readonly version: string
    readonly number: string
    readonly description: string
    readonly user: string
    readonly encoding: string
    readonly read_only: boolean
    readonly clock: number
    readonly connections: number
    readonly max_connections: string
    readonly usage: number
    readonly age: number
  }>`
    SELECT current_setting('server_version') AS version,
      current_setting('server_version_num') AS number,
      version() AS description,
      current_user::text AS user,
      current_setting('server_encoding') AS encoding,
      pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on' AS read_only,
      (extract(epoch FROM clock_timestamp()) * 1000)::float8 AS clock,
      (SELECT count(*)::integer FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
      current_setting('max_connections') AS max_connections,
      pg_notification_queue_usage() AS usage,
      (SELECT age(datfrozenxid)::float8 FROM pg_database WHERE datname = current_database()) AS age`
  if (row === undefined) return undefined
  return {
    version: row.version,
    number: Number(row.number),
    isPostgres: row.description.startsWith("PostgreSQL "),
    user: row.user,
    encoding: row.encoding,
    readOnly: row.read_only,
    clock: row.clock,
    connections: row.connections,
    maxConnections: Number(row.max_connections),
    notificationUsage: row.usage,
    transactionAge: row.age
  } satisfies ServerFacts
})

/** Reads settings as text; one that the server does not know is absent. */
export const settings = Effect.fnUntraced(function* (sql: PgClient, names: ReadonlyArray<string>) {
  const rows = yield* sql<{ readonly name: string; readonly setting: string }>`
    SELECT name, setting
    FROM pg_settings
    WHERE name = ANY(${array(names, oid.text)}::text[])`
  return new Map(rows.map((row) => [row.name, row.setting]))
})

/** How the table of live jobs stands, and what this role may do with it; undefined where there is none. */
export interface TableFacts {
  readonly live: number
  readonly dead: number
  /** Bytes, with indexes. */
  readonly size: number
  readonly vacuumedAt: Date | null
  readonly canRead: boolean
  readonly canWrite: boolean
  /** Ended jobs that no partition was made for ahead of time. */
  readonly stray: number
}

/** Reads the library's tables. */
export const tables = Effect.fnUntraced(function* (sql: PgClient, schema: string) {
  const jobs = nameIn(schema, "jobs")
  const [found] = yield* sql<{ readonly found: boolean }>`
    SELECT coalesce(has_schema_privilege(to_regnamespace(${identifier(schema)}::text)::oid, 'USAGE'), false)
      AND to_regclass(${jobs}::text) IS NOT NULL AS found`
  if (found?.found !== true) return undefined
  const [row] = yield* sql<{
    readonly live: number
    readonly dead: number
    readonly size: number
    readonly vacuumed_at: Date | null
    readonly can_read: boolean
    readonly can_write: boolean
    readonly stray: number
  }>`
    SELECT coalesce(s.n_live_tup, 0)::float8 AS live,
      coalesce(s.n_dead_tup, 0)::float8 AS dead,
      pg_total_relation_size(c.oid)::float8 AS size,
      greatest(s.last_vacuum, s.last_autovacuum)::timestamptz(3) AS vacuumed_at,
      has_table_privilege(c.oid, 'SELECT') AS can_read,
      has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE')
        AND has_table_privilege(c.oid, 'DELETE') AS can_write,
      (
        SELECT coalesce(sum(greatest(d.reltuples, 0)), 0)::float8
        FROM pg_class AS d
        WHERE d.relnamespace = c.relnamespace
          AND d.relname LIKE 'jobs\\_archive\\_%\\_default'
      ) AS stray
    FROM pg_class AS c
    LEFT JOIN pg_stat_user_tables AS s
      ON s.relid = c.oid
    WHERE c.oid = ${jobs}::text::regclass`
  if (row === undefined) return undefined
  return {
    live: row.live,
    dead: row.dead,
    size: row.size,
    vacuumedAt: row.vacuumed_at,
    canRead: row.can_read,
    canWrite: row.can_write,
    stray: row.stray
  } satisfies TableFacts
})

/** The process of the server that this statement ran in. */
export const backend = Effect.fnUntraced(function* (sql: PgClient) {
  const [row] = yield* sql<{ readonly pid: number }>`SELECT pg_backend_pid() AS pid`
  return row?.pid ?? 0
})

/** SQL text for people: turns a setting of the server on. */
export const turnOn = (setting: string): string => `ALTER SYSTEM SET ${setting} = on;\nSELECT pg_reload_conf();\n`

/** SQL text for people: takes dead rows out of the table of live jobs. */
export const vacuum = (schema: string): string => `VACUUM (ANALYZE) "${schema}".jobs;\n`
