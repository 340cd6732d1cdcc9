/** How the store's verbs run: with the library's own errors, again after a lost race, and not for ever. */
import type { PgClient } from "@effect/sql-pg/PgClient"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { isSqlError, type SqlError } from "effect/sql/SqlError"
import type { ShigotoConfig } from "../../ShigotoConfig.ts"
import { type StorageFailure, StorageUnavailable } from "../../ShigotoError.ts"
import { classify, retryRaces } from "../sql/statement.ts"

/** The ways to run a verb; each takes the name of the operation, for its errors. */
export interface Runner {
  /** Tells the driver's failures as the library's. */
  readonly told: (
    operation: string
  ) => <A, E>(effect: Effect.Effect<A, E>) => Effect.Effect<A, StorageFailure | Exclude<E, SqlError>>
  /** For verbs that an application calls: joins its transaction, and is tried again after a lost race outside of one. */
  readonly called: (
    operation: string
  ) => <A, E extends { readonly _tag: string }>(
    effect: Effect.Effect<A, E>
  ) => Effect.Effect<A, StorageFailure | Exclude<E, SqlError>>
  /** For the library's own loops: untraced, and over after the query timeout. */
  readonly limited: (
    operation: string
  ) => <A>(effect: Effect.Effect<A, StorageFailure>) => Effect.Effect<A, StorageFailure>
  /** The same, tried again after a lost race. */
  readonly background: (
    operation: string
  ) => <A>(effect: Effect.Effect<A, SqlError>) => Effect.Effect<A, StorageFailure>
}

/** Builds the ways to run a verb on a client. */
export const makeRunner = (client: PgClient, config: ShigotoConfig["Service"]): Runner => {
  const told: Runner["told"] = (operation) => (effect) =>
    Effect.mapError(
      effect,
      (error) => (isSqlError(error) ? classify(operation, error) : (error as Exclude<typeof error, SqlError>)) // no other is a SqlError
    )
  const called: Runner["called"] = (operation) => (effect) =>
    Effect.flatMap(Effect.serviceOption(client.transactionService), (transaction) =>
      transaction._tag === "Some" ? told(operation)(effect) : retryRaces(told(operation)(effect))
    )
  const limited: Runner["limited"] = (operation) => (effect) =>
    effect.pipe(
      Effect.timeoutOrElse({
        duration: config.queryTimeout,
        orElse: () => timedOut(operation, config.queryTimeout)
      }),
      Effect.withTracerEnabled(false)
    )
  const background: Runner["background"] = (operation) => (effect) =>
    limited(operation)(retryRaces(told(operation)(effect)))
  return { told, called, limited, background }
}

// internal

const timedOut = (operation: string, after: Duration.Duration): Effect.Effect<never, StorageUnavailable> =>
  Effect.fail(
    new StorageUnavailable({
      operation,
      code: "",
      message: `${operation} had no answer from the database for ${Duration.format(after)}`,
      cause: undefined
    })
  )
