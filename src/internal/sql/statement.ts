/**
 * How the library talks to PostgreSQL: its own transactions name their isolation level, and every failure is told as
 * one of two errors.
 */
import type { PgClient } from "@effect/sql-pg/PgClient"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as SqlClient from "effect/sql/SqlClient"
import { isSqlError, type SqlError } from "effect/sql/SqlError"
import { StorageError, type StorageFailure, StorageUnavailable } from "../../ShigotoError.ts"

/**
 * Runs an effect in a transaction at READ COMMITTED, whatever the database's default is; inside a caller's
 * transaction, in a savepoint of it.
 */
export const autonomous = <A, E, R>(sql: PgClient, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | SqlError, R> =>
  sql
    .withTransaction(effect)
    .pipe(Effect.provideService(SqlClient.BeginTransaction, "BEGIN ISOLATION LEVEL READ COMMITTED"), failWithSqlDefects)

/** Gives back as a failure what the driver raises as a defect: a connection lost inside a transaction. */
export const failWithSqlDefects = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | SqlError, R> =>
  Effect.catchCause(effect, (cause): Effect.Effect<A, E | SqlError> => {
    for (const reason of cause.reasons) {
      if (Cause.isDieReason(reason) && isSqlError(reason.defect)) return Effect.fail(reason.defect)
    }
    return Effect.failCause(cause)
  })

/** The SQLSTATE of a failure; empty where the server gave none. */
export const sqlState = (error: SqlError): string => {
  const cause: unknown = error.reason.cause
  const code = typeof cause === "object" && cause !== null && "code" in cause ? cause.code : undefined
  // The system's own codes, such as EPIPE, have no digit.
  return typeof code === "string" && /^(?=.*\d)[0-9A-Z]{5}$/.test(code) ? code : ""
}

/** Tells a failure of the driver as one of the library's: worth another try, or not. */
export const classify = (operation: string, error: SqlError): StorageFailure => {
  const code = sqlState(error)
  const isMisconfigured = cannotConnect.test(error.reason.message ?? "")
  const advice = isMisconfigured ? settings : advices.find(([pattern]) => pattern.test(code || systemCode(error)))?.[1]
  const said = `${operation} failed${code === "" ? "" : ` (SQLSTATE ${code})`}: ${reasonOf(error)}`
  const message = advice === undefined ? said : `${said}. ${advice}`
  return !isMisconfigured && (error.isRetryable || passes(code))
    ? new StorageUnavailable({ operation, code, message, cause: error })
    : new StorageError({ operation, code, message, cause: error })
}

/**
 * Tries an operation again when it lost a race with another transaction: deadlock, serialization, lock timeout.
 *
 * A schedule is made for each run of a retry, so that there is one only for what has lost.
 */
export const retryRaces = <A, E extends { readonly _tag: string; readonly code?: unknown }, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.catchIf(effect, isLostRace, (error) => {
    let isLost = true
    const lostOnce = Effect.suspend(() => {
      if (!isLost) return effect
      isLost = false
      return Effect.fail(error)
    })
    return Effect.retry(lostOnce, { while: isLostRace, schedule: afterRace, times: 8 })
  })

// internal

const isLostRace = (error: { readonly _tag: string; readonly code?: unknown }): boolean =>
  error._tag === "StorageUnavailable" && races.has(String(error.code))

/** What the driver refuses to connect by, and would refuse again. */
const cannotConnect =
  /^PgConnection: (?:Invalid|Unsupported|Unrecognized|No username|Reserved startup|Startup parameter)/

const settings =
  "Check what the PgClient is given: a url looks like postgres://user:password@host:5432/database, with special characters %-encoded."

/** What to do about failures that are not the library's, by the start of their code. */
const advices: ReadonlyArray<readonly [code: RegExp, advice: string]> = [
  [/^28/, "Check the user and the password that the PgClient is given."],
  [/^3D000/, "Create the database, or correct its name in what the PgClient is given."],
  [
    /^42501/,
    "Let the owner of the tables migrate, and give this role the rights of its part: shigoto migrate grants prints them."
  ],
  [
    /^(?:42P01|42883|3F000)/,
    "Tables or functions of Shigoto are missing: run shigoto migrate, or have ShigotoConfig.migrate on."
  ],
  [/^53300/, "Lower maxConnections of the PgClients, or raise max_connections of the server."],
  [/^26000/, "Behind a pooler in transaction mode, give the PgClient prepare: false."],
  [/^ECONNREFUSED/, "Check that PostgreSQL runs there, and the host and the port that the PgClient is given."],
  [/^(?:ENOTFOUND|EAI_AGAIN)/, "Check the host that the PgClient is given."]
]

/** The code of a failed connection, such as ECONNREFUSED; empty where there is none. */
const systemCode = (error: SqlError): string => {
  const cause: unknown = error.reason.cause
  return typeof cause === "object" && cause !== null && "code" in cause ? String(cause.code) : ""
}

const races = new Set(["40001", "40P01", "55P03"])

const afterRace = Schedule.jittered(Schedule.exponential("5 millis"))

/** Shutdown and start-up (57P0x), lost connections (08), lack of resources (53), read-only (25006), cancel (57014). */
const passes = (code: string): boolean =>
  code.startsWith("57P0") ||
  code.startsWith("08") ||
  code.startsWith("53") ||
  code === "25006" ||
  code === "57014" ||
  code === "26000"

const reasonOf = (error: SqlError): string => {
  const cause: unknown = error.reason.cause
  return cause instanceof Error && cause.message !== "" ? cause.message : (error.reason.message ?? error.message)
}
