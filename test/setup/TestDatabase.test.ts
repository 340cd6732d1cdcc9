import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import * as TestClock from "effect/testing/TestClock"
import { TestDatabase } from "./TestDatabase.ts"

const current = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql<{
    readonly name: string
    readonly isolation: string
    readonly encoding: string
  }>`
    SELECT
      current_database()::text AS name,
      current_setting('transaction_isolation') AS isolation,
      current_setting('server_encoding') AS encoding
  `
  return rows[0]!
})

const exists = Effect.fnUntraced(function* (name: string) {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql`SELECT 1 FROM pg_database WHERE datname = ${name}`
  return rows.length === 1
})

const jobsTable = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  return yield* sql`SELECT to_regclass('shigoto.jobs')::text AS name`
})

describe("TestDatabase", () => {
  it.effect("gives each layer a database of its own and drops it at the end", () =>
    Effect.gen(function* () {
      const [one, two] = yield* Effect.all(
        [current.pipe(Effect.provide(TestDatabase.layer())), current.pipe(Effect.provide(TestDatabase.layer()))],
        { concurrency: 2 }
      )
      assert.notStrictEqual(one.name, two.name)
      assert.strictEqual(one.encoding, "UTF8")
      yield* Effect.gen(function* () {
        assert.isFalse(yield* exists(one.name))
        assert.isTrue(yield* exists((yield* TestDatabase).name))
      }).pipe(Effect.provide(TestDatabase.layer({ empty: true })))
    })
  )

  it.effect("has the library's schema, unless it is to be empty", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* jobsTable.pipe(Effect.provide(TestDatabase.layer())), [{ name: "shigoto.jobs" }])
      assert.deepStrictEqual(yield* jobsTable.pipe(Effect.provide(TestDatabase.layer({ empty: true }))), [
        { name: null }
      ])
    })
  )

  it.effect("clones many at once", () =>
    Effect.forEach(Array.from({ length: 8 }), () => current.pipe(Effect.provide(TestDatabase.layer())), {
      concurrency: "unbounded"
    }).pipe(Effect.map((databases) => assert.strictEqual(new Set(databases.map(({ name }) => name)).size, 8)))
  )

  layer(TestDatabase.layer({ isolation: "repeatable read", maxConnections: 2 }))("with an isolation level", (it) => {
    it.effect("starts every transaction in it, on every client", () =>
      Effect.gen(function* () {
        assert.strictEqual((yield* current).isolation, "repeatable read")
        const other = yield* current.pipe(Effect.provide((yield* TestDatabase).layerClient()))
        assert.strictEqual(other.isolation, "repeatable read")
        assert.strictEqual(other.name, (yield* TestDatabase).name)
      })
    )

    it.effect("keeps its connections when the TestClock moves", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const pid = sql<{ readonly pid: number }>`SELECT pg_backend_pid() AS pid`.pipe(Effect.map(([row]) => row?.pid))
        const before = yield* pid
        yield* TestClock.adjust("1 hour")
        assert.strictEqual(yield* pid, before)
      })
    )
  })
})
