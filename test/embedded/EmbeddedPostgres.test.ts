import { assert, describe, it, vi } from "@effect/vitest"
import { PgClient } from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import * as TestClock from "effect/testing/TestClock"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as EmbeddedPostgres from "../../src/embedded/EmbeddedPostgres.ts"
import { clientOf, directory, isAlive, startParent, until } from "./support.ts"

const setting = Effect.fnUntraced(function* (name: string) {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql<{ readonly value: string }>`SELECT current_setting(${name}) AS value`
  return rows[0]?.value
})

const backend = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql<{ readonly pid: number }>`SELECT pg_backend_pid() AS pid`
  return rows[0]?.pid
})

describe("EmbeddedPostgres", () => {
  it.live("gives a client on a server of its own", () =>
    Effect.gen(function* () {
      const version = Number(yield* setting("server_version_num"))
      assert.isAtLeast(version, 170_000)
      // Temporary, so nothing is worth waiting for the disk.
      assert.strictEqual(yield* setting("fsync"), "off")
      assert.strictEqual(yield* setting("max_connections"), "7")
      assert.strictEqual((yield* PgClient).config.applicationName, "demo")
    }).pipe(
      Effect.provide(
        EmbeddedPostgres.layer({
          applicationName: "demo",
          maxConnections: 3,
          settings: { max_connections: "7", superuser_reserved_connections: "1", max_wal_senders: "0" }
        })
      )
    )
  )

  it.live("removes a temporary database and ends its server with the scope", () =>
    Effect.gen(function* () {
      const server = yield* EmbeddedPostgres.make().pipe(
        Effect.tap(({ dataDir }) => Effect.sync(() => assert.isTrue(Fs.existsSync(dataDir)))),
        Effect.flatMap((server) => Effect.map(server.pid, (pid) => ({ ...server, pid }))),
        Effect.scoped
      )
      assert.isFalse(isAlive(server.pid))
      assert.isFalse(Fs.existsSync(server.dataDir))
      assert.isFalse(server.socketDir !== undefined && Fs.existsSync(server.socketDir))
    })
  )

  it.live("keeps a given dataDir and opens it again, durably", () =>
    Effect.gen(function* () {
      const dataDir = Path.join(yield* directory, "not", "there", "yet")
      const open = EmbeddedPostgres.layer({ dataDir })
      yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql`CREATE TABLE kept (name text)`
        yield* sql`INSERT INTO kept VALUES ('Ada')`
        assert.strictEqual(yield* setting("fsync"), "on")
        assert.strictEqual(yield* setting("synchronous_commit"), "on")
      }).pipe(Effect.provide(open))
      const rows = yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        return yield* sql`SELECT name FROM kept`
      }).pipe(Effect.provide(EmbeddedPostgres.layer({ dataDir })))
      assert.deepStrictEqual(rows, [{ name: "Ada" }])
      assert.isFalse(Fs.existsSync(Path.join(dataDir, "postmaster.pid")))
    })
  )

  it.live("refuses a second server on the same dataDir, naming the first", () =>
    Effect.gen(function* () {
      const dataDir = yield* directory
      const first = yield* EmbeddedPostgres.make({ dataDir })
      const error = yield* Effect.flip(EmbeddedPostgres.make({ dataDir }))
      assert.strictEqual(error.reason._tag, "DataDirInUse")
      assert.include(error.message, String(yield* first.pid))
      assert.isNumber(yield* backend.pipe(Effect.provide(clientOf(first.url))))
    })
  )

  it.live("refuses a dataDir that holds something else", () =>
    Effect.gen(function* () {
      const dataDir = yield* directory
      Fs.writeFileSync(Path.join(dataDir, "thesis.txt"), "irreplaceable")
      const other = yield* Effect.flip(EmbeddedPostgres.make({ dataDir }))
      assert.strictEqual(other.reason._tag, "DataDirUnusable")
      assert.deepStrictEqual(Fs.readdirSync(dataDir), ["thesis.txt"])

      Fs.writeFileSync(Path.join(dataDir, "PG_VERSION"), "12\n")
      const older = yield* Effect.flip(EmbeddedPostgres.make({ dataDir }))
      assert.strictEqual(older.reason._tag, "DataDirUnusable")
      assert.include(older.message, "PostgreSQL 12")
    })
  )

  it.live("says what PostgreSQL said when a setting is wrong", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(EmbeddedPostgres.make({ settings: { max_connections: "many" } }))
      assert.strictEqual(error.reason._tag, "StartFailed")
      assert.include(error.message, "max_connections")
    })
  )

  it.live("is UTF-8 and deaf to the environment", () =>
    Effect.gen(function* () {
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          for (const name of ["LANG", "LC_ALL"]) vi.stubEnv(name, "C")
          vi.stubEnv("PGOPTIONS", "-c nonsense=1")
          vi.stubEnv("PGDATA", "/nowhere")
          vi.stubEnv("PGPORT", "1")
          vi.stubEnv("TZ", "Asia/Tokyo")
        }),
        () => Effect.sync(() => vi.unstubAllEnvs())
      )
      yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        assert.strictEqual(yield* setting("server_encoding"), "UTF8")
        assert.strictEqual(yield* setting("TimeZone"), "UTC")
        const rows = yield* sql`SELECT ${"仕事 🗻"}::text AS text, upper('æble') AS upper`
        assert.deepStrictEqual(rows, [{ text: "仕事 🗻", upper: "ÆBLE" }])
      }).pipe(Effect.provide(EmbeddedPostgres.layer({ dataDir: yield* directory })))
    })
  )

  it.effect("starts and keeps its connections under a TestClock", () =>
    Effect.gen(function* () {
      const before = yield* backend
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* backend, before)
    }).pipe(Effect.provide(EmbeddedPostgres.layer()))
  )

  it.live("stays at its address through a restart", () =>
    Effect.gen(function* () {
      const server = yield* EmbeddedPostgres.make()
      yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql`CREATE TABLE kept AS SELECT 1 AS one`
        for (const mode of ["fast", "immediate"] as const) {
          const before = yield* server.pid
          yield* server.restart(mode)
          assert.notStrictEqual(yield* server.pid, before)
          assert.isFalse(isAlive(before))
          const again = sql`SELECT one FROM kept`.pipe(Effect.retry({ times: 2 }))
          assert.deepStrictEqual(yield* again, [{ one: 1 }])
        }
      }).pipe(Effect.provide(clientOf(server.url)))
    })
  )

  it.live("starts many servers at once", () =>
    Effect.gen(function* () {
      const servers = yield* Effect.all(
        Array.from({ length: 5 }, () => EmbeddedPostgres.make()),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(new Set(servers.map(({ url }) => Redacted.value(url))).size, 5)
      yield* Effect.forEach(servers, ({ url }) => Effect.provide(backend, clientOf(url)), { concurrency: "unbounded" })
    })
  )

  it.live("leaves neither server nor temporary directory behind a killed parent", () =>
    Effect.gen(function* () {
      const tmpDir = yield* directory
      const { child, server } = yield* startParent({ tmpDir })
      assert.isTrue(isAlive(server.pid))
      assert.isTrue(server.dataDir.startsWith(server.socketDir))
      child.kill("SIGKILL")
      yield* until(() => !isAlive(server.pid))
      yield* until(() => !Fs.existsSync(server.socketDir))
      assert.deepStrictEqual(
        Fs.readdirSync(tmpDir).filter((name) => !name.startsWith("effect-shigoto")),
        []
      )
    })
  )

  it.live("lets the next start take over the dataDir of a killed parent", () =>
    Effect.gen(function* () {
      const dataDir = yield* directory
      const { child, server } = yield* startParent({ dataDir })
      yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql`CREATE TABLE kept AS SELECT 1 AS one`
      }).pipe(Effect.provide(clientOf(Redacted.make(server.url))))
      child.kill("SIGKILL")
      yield* until(() => !isAlive(server.pid))
      yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        assert.deepStrictEqual(yield* sql`SELECT one FROM kept`, [{ one: 1 }])
      }).pipe(Effect.provide(EmbeddedPostgres.layer({ dataDir })))
    })
  )
})
