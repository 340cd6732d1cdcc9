/** How failures of the database are told: as what may pass or not, with the value, and with what to do. */
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it, layer } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { retryRaces } from "../src/internal/sql/statement.ts"
import * as Loop from "../src/internal/loop.ts"
import * as Migrations from "../src/Migrations.ts"
import * as ShigotoConfig from "../src/ShigotoConfig.ts"
import { StorageUnavailable } from "../src/ShigotoError.ts"
import { TestDatabase } from "./setup/TestDatabase.ts"

/** What starting on such a database fails with. */
const start = (url: string, username?: string) =>
  Layer.build(
    Migrations.layer.pipe(
      Layer.provide(ShigotoConfig.layer()),
      Layer.provide(PgClient.layer({ url: Redacted.make(url), connectTimeout: "5 seconds", username }))
    )
  ).pipe(Effect.scoped, Effect.flip)

layer(TestDatabase.layer(), { excludeTestServices: true })("a database that cannot be used", (it) => {
  it.effect("is told with the value and what to do", () =>
    Effect.gen(function* () {
      const database = yield* TestDatabase
      const sql = yield* PgClient.PgClient
      const url = Redacted.value(database.url)
      const elsewhere = new URL(url)
      elsewhere.pathname = "/no_such_database"
      const stranger = `stranger_${database.name}`.slice(0, 60)
      yield* sql`CREATE ROLE ${sql(stranger)} LOGIN`
      yield* Effect.addFinalizer(() => Effect.orDie(sql`DROP ROLE ${sql(stranger)}`))
      const failures: ReadonlyArray<
        readonly [Effect.Success<ReturnType<typeof start>>, tag: string, said: RegExp, advice: RegExp]
      > = [
        [
          yield* start(elsewhere.href),
          "StorageError",
          /SQLSTATE 3D000\): database "no_such_database" does not exist\. /,
          /Create the database, or correct its name/
        ],
        [
          yield* start(url, "no_such_role"),
          "StorageError",
          /SQLSTATE 28000\): role "no_such_role" does not exist\. /,
          /Check the user and the password/
        ],
        [yield* start(url, stranger), "StorageError", /SQLSTATE 42501\): permission denied/, /shigoto migrate grants/],
        [
          yield* start("postgres://127.0.0.1:1/app", "app"),
          "StorageUnavailable",
          /ECONNREFUSED 127\.0\.0\.1:1\. /,
          /Check that PostgreSQL runs there, and the host and the port/
        ],
        // It will be as wrong in five seconds: whoever waits for a database must not wait for this.
        [yield* start("nonsense"), "StorageError", /Invalid URL\. /, /postgres:\/\/user:password@host:5432\/database/],
        [
          yield* start("http://localhost/app"),
          "StorageError",
          /protocol: "http:"\. /,
          /postgres:\/\/user:password@host/
        ]
      ]
      for (const [error, tag, said, advice] of failures) {
        assert.strictEqual(error._tag, tag, error.message)
        assert.match(error.message, said)
        assert.match(error.message, advice)
        assert.notMatch(error.message, /\n/)
      }
    }).pipe(Effect.scoped)
  )
})

describe("a lost race", () => {
  const raced = new StorageUnavailable({ operation: "claim", code: "40P01", message: "deadlock detected", cause: 0 })
  const away = new StorageUnavailable({ operation: "claim", code: "08006", message: "gone", cause: 0 })
  const racing = (outcomes: Iterable<Effect.Effect<string, StorageUnavailable>>) =>
    Effect.gen(function* () {
      const left = [...outcomes]
      const all = left.length
      const fiber = yield* Effect.forkChild(
        Effect.exit(retryRaces(Effect.suspend(() => left.shift() ?? Effect.succeed("late"))))
      )
      yield* TestClock.adjust("1 minute")
      const exit = yield* Fiber.join(fiber)
      return { exit, tried: all - left.length }
    })

  it.effect("is run again, and a failure of another kind is not", () =>
    Effect.gen(function* () {
      const won = yield* racing([Effect.fail(raced), Effect.fail(raced), Effect.succeed("won"), Effect.fail(away)])
      assert.deepStrictEqual(won, { exit: Exit.succeed("won"), tried: 3 })
      const failed = yield* racing([Effect.fail(raced), Effect.fail(away), Effect.succeed("never")])
      assert.deepStrictEqual(failed, { exit: Exit.fail(away), tried: 2 })
      const first = yield* racing([Effect.fail(away), Effect.succeed("never")])
      assert.deepStrictEqual(first, { exit: Exit.fail(away), tried: 1 })
    })
  )

  it.effect("is given up after eight more that were lost", () =>
    Effect.gen(function* () {
      const { exit, tried } = yield* racing(Array.from({ length: 20 }, () => Effect.fail(raced)))
      assert.deepStrictEqual(exit, Exit.fail(raced))
      assert.strictEqual(tried, 9)
    })
  )
})

describe("background work", () => {
  it.effect(
    "tells of a database that is away in a line, of anything else with where it happened, and that it works again",
    () =>
      Effect.gen(function* () {
        const lines: Array<string> = []
        const logger = Logger.make(({ cause, logLevel, message }) =>
          lines.push(
            `${logLevel} ${String(message)}${cause.reasons.length === 0 ? "" : ` with ${Cause.pretty(cause)}`}`
          )
        )
        const scope = yield* Scope.make()
        const outcomes = [
          Effect.fail(
            new StorageUnavailable({ operation: "promote", code: "", message: "promote failed: gone", cause: 0 })
          ),
          Effect.die(new Error("a bug")),
          Effect.void,
          Effect.void,
          Effect.never
        ]
        const step = Effect.suspend(() => outcomes.shift() ?? Effect.never)
        yield* Loop.forever("look for work", step).pipe(
          Effect.provideService(Scope.Scope, scope),
          Effect.provide(Logger.layer([logger]))
        )
        yield* TestClock.adjust("10 seconds")
        assert.lengthOf(lines, 3)
        assert.strictEqual(
          lines[0],
          "Warn Shigoto's look for work failed and will be tried again: promote failed: gone"
        )
        assert.match(
          lines[1] ?? "",
          /^Warn Shigoto's look for work failed and will be tried again with .*a bug\n.*statement\.test/s
        )
        assert.strictEqual(lines[2], "Info Shigoto's look for work works again")
      })
  )
})
