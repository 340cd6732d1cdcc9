/** Transactions of the library's own, whose beginning and end wait for a silent server no longer than a query may. */
import type { PgClient } from "@effect/sql-pg/PgClient"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import type { Connection } from "effect/sql/SqlConnection"
import { ConnectionError, SqlError } from "effect/sql/SqlError"
import { autonomous, failWithSqlDefects } from "./statement.ts"

/** Runs an effect in a transaction at READ COMMITTED; inside of another, in a savepoint of it. */
export type Transaction = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | SqlError, R>

/**
 * Builds what runs transactions on a client.
 *
 * The client's own are begun and ended uninterruptibly: on a network that lets no byte pass, neither a timeout nor an
 * interruption ends that wait, and the loop that it is part of stands still until the kernel gives the connection up, a
 * quarter of an hour later. Here the connection is given up after `patience`. A commit without an answer fails, although
 * it may have been one: whoever sent it has to find out.
 */
export const makeTransaction = (sql: PgClient, patience: Duration.Duration): Transaction => {
  const bounded = <A>(statement: string, run: Effect.Effect<A, SqlError>): Effect.Effect<A, SqlError> =>
    Effect.timeoutOrElse(Effect.interruptible(run), {
      duration: patience,
      orElse: () => fail(`${statement} had no answer from the database for ${Duration.format(patience)}`)
    }).pipe(
      // A network keeps real time, also where a test keeps another.
      Effect.provideService(Clock.Clock, Clock.Clock.defaultValue())
    )
  const rollback = (connection: Connection): Effect.Effect<void, SqlError> =>
    Effect.asVoid(bounded("ROLLBACK", connection.execute("ROLLBACK", [], undefined)))
  const own = SqlClient.makeWithTransaction({
    transactionService: sql.transactionService,
    spanAttributes: [["db.system.name", "postgresql"]],
    acquireConnection: (restore) => restore(sql.reserve),
    begin: (connection) =>
      // An answer that comes late, as to a blocked event loop, leaves the connection in use, and in a transaction.
      Effect.onError(bounded("BEGIN", connection.executeUnprepared(begin, [], undefined)), () =>
        Effect.ignore(rollback(connection))
      ),
    commit: (connection) => Effect.flatMap(bounded("COMMIT", connection.executeRaw("COMMIT", [])), committed),
    rollback,
    savepoint: (connection, id) => connection.execute(`SAVEPOINT shigoto_${id}`, [], undefined),
    releaseSavepoint: (connection, id) => connection.execute(`RELEASE SAVEPOINT shigoto_${id}`, [], undefined),
    rollbackSavepoint: (connection, id) => connection.execute(`ROLLBACK TO SAVEPOINT shigoto_${id}`, [], undefined)
  })
  return (effect) =>
    Effect.contextWith((context: Context.Context<never>) => {
      const isOpen = Context.getOption(context, sql.transactionService)._tag === "Some"
      // One that an application began is the client's, with all that is in it.
      return isOpen && Context.get(context, Owned) !== sql.transactionService
        ? autonomous(sql, effect)
        : failWithSqlDefects(own(Effect.provideService(effect, Owned, sql.transactionService)))
    })
}

// internal

const begin = "BEGIN ISOLATION LEVEL READ COMMITTED"

/** Of which client a transaction of the library's own is open. */
const Owned = Context.Reference<unknown>("effect-shigoto/internal/sql/transaction/Owned", {
  defaultValue: () => undefined
})

/** A transaction that the server had given up is not committed, whatever it is told to do. */
const committed = (result: unknown): Effect.Effect<void, SqlError> =>
  typeof result === "object" && result !== null && "command" in result && result.command === "ROLLBACK"
    ? fail("COMMIT rolled back an aborted transaction")
    : Effect.void

const fail = (message: string): Effect.Effect<never, SqlError> =>
  Effect.fail(
    new SqlError({ reason: new ConnectionError({ cause: new Error(message), message, operation: "transaction" }) })
  )
