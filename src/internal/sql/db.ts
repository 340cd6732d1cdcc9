/**
 * What every step needs: the client, the qualified names, and the one place that says what time it is.
 */
import type { PgClient } from "@effect/sql-pg/PgClient"
import * as PgTypes from "@effect/sql-pg/PgTypes"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { SqlError } from "effect/sql/SqlError"
import type { Fragment, Identifier } from "effect/sql/Statement"
import type { ShigotoConfig } from "../../ShigotoConfig.ts"
import type { Sealer } from "../envelope.ts"
import { makeTransaction, type Transaction } from "./transaction.ts"

/** The client and names that the steps share. */
export interface Db {
  readonly sql: PgClient
  readonly schema: string
  readonly jobs: Identifier
  readonly archive: Identifier
  readonly allJobs: Identifier
  readonly queues: Identifier
  readonly nodes: Identifier
  /** An expression for the current instant: the server's clock, or the injected one in virtual time. */
  readonly now: Effect.Effect<Fragment>
  /** The current instant, where code and not a statement needs it. */
  readonly instant: Effect.Effect<Date, SqlError>
  /** Runs an effect in a transaction of the library's own, or in a savepoint of the caller's. */
  readonly transaction: Transaction
  /** Runs one statement at READ COMMITTED, at no cost where that is the database's default. */
  readonly statement: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | SqlError, R>
  /** Whether the role may insert jobs; else it may call functions that do. */
  readonly inserts: boolean
  /** What encrypts values; undefined for none. */
  readonly cipher?: Sealer | undefined
  /** Milliseconds that a state's finished jobs are kept. */
  readonly retention: { readonly completed: number; readonly discarded: number; readonly cancelled: number }
}

/** Builds the shared part and asks the server for its default isolation level. */
export const make = Effect.fnUntraced(function* (
  client: PgClient,
  config: ShigotoConfig["Service"],
  retention: Db["retention"]
): Effect.fn.Return<Db, SqlError> {
  const sql = client.withoutTransforms()
  const transaction = makeTransaction(sql, config.queryTimeout)
  const name = (table: string): Identifier => sql(`${config.schema}.${table}`)
  const [row] = yield* sql<{ readonly level: string; readonly inserts: boolean | null }>`
    SELECT current_setting('default_transaction_isolation') AS level,
      (
        SELECT has_table_privilege(c.oid, 'INSERT')
        FROM pg_class AS c
        JOIN pg_namespace AS n
          ON n.oid = c.relnamespace
        WHERE n.nspname = ${config.schema}
          AND c.relname = 'jobs'
      ) AS inserts`
  // In whole milliseconds like every stored instant: else one stored as now may round to later than now.
  const serverNow = sql.literal("date_trunc('milliseconds', statement_timestamp())")
  return {
    sql,
    schema: config.schema,
    jobs: name("jobs"),
    archive: name("jobs_archive"),
    allJobs: name("all_jobs"),
    queues: name("queues"),
    nodes: name("nodes"),
    now:
      config.timeSource === "database"
        ? Effect.succeed(serverNow)
        : Effect.map(Clock.currentTimeMillis, (millis) => sql`${new Date(millis)}::timestamptz(3)`),
    instant:
      config.timeSource === "database"
        ? Effect.map(sql<{ readonly now: Date }>`SELECT ${serverNow} AS now`, (rows) => rows[0]?.now ?? new Date(0))
        : Effect.map(Clock.currentTimeMillis, (millis) => new Date(millis)),
    transaction,
    statement: row?.level === "read committed" ? (effect) => effect : transaction,
    inserts: row?.inserts !== false,
    retention
  }
})

/** A bound array with a known element type; nulls are allowed, and `[]` needs no guess. */
export const array = (values: ReadonlyArray<unknown>, oid: number): PgTypes.Parameter =>
  Result.getOrThrow(PgTypes.array(values, oid))

/** A bound array of job ids. */
export const ids = (values: ReadonlyArray<number>): PgTypes.Parameter => array(values.map(BigInt), PgTypes.OID.int8)

/** The element types that the steps bind. */
export const oid = PgTypes.OID
