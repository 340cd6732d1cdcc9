/** A real PgBouncer in transaction mode in front of a database. */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import { eventually } from "./eventually.ts"
import { makeProxy } from "./proxy.ts"
import { TestDatabase } from "./TestDatabase.ts"

/** Whether there is a PgBouncer on this machine; on a CI machine a missing one fails the tests instead. */
export const isInstalled = spawnSync("pgbouncer", ["--version"]).status === 0

/** A running pooler. */
export interface Pooler {
  /** The database's URL through it. */
  readonly url: string
  /** Kills it with all its connections, and starts it again on the same port. */
  readonly restart: Effect.Effect<void>
}

/** Starts a pooler with so many server connections in front of a server; it ends with the scope. */
export const makePooler = Effect.fnUntraced(function* (
  url: string,
  poolSize: number
): Effect.fn.Return<Pooler, never, Scope.Scope> {
  // The server may listen on a socket that only its own user reaches; the proxy makes a port of it.
  const server = new URL((yield* makeProxy(url)).url)
  const directory = yield* Effect.acquireRelease(
    Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "shigoto-pgbouncer-"))),
    (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true, force: true }))
  )
  const port = yield* freePort
  const login = [
    `user=${decodeURIComponent(server.username)}`,
    ...(server.password === "" ? [] : [`password=${decodeURIComponent(server.password)}`])
  ]
  const file = Path.join(directory, "pgbouncer.ini")
  Fs.writeFileSync(
    file,
    `[databases]
* = host=127.0.0.1 port=${server.port} ${login.join(" ")}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = ${poolSize}
max_client_conn = 200
`
  )
  const user = unprivileged()
  if (user !== undefined) {
    Fs.chownSync(directory, user.uid, user.gid)
    Fs.chownSync(file, user.uid, user.gid)
  }
  let current: ChildProcess | undefined
  const start = Effect.gen(function* () {
    let log = ""
    const child = spawn("pgbouncer", [file], { ...user, cwd: "/", stdio: ["ignore", "ignore", "pipe"] })
    current = child
    child.stderr.on("data", (chunk: Buffer) => {
      log += chunk.toString("utf8")
    })
    yield* eventually(
      Effect.sync(() => log),
      (text) => text.includes("process up") || child.exitCode !== null
    )
    if (child.exitCode !== null) return yield* Effect.die(new Error(`pgbouncer did not start: ${log}`))
  })
  const stop = Effect.callback<void>((resume) => {
    if (current === undefined || current.exitCode !== null || current.signalCode !== null) return resume(Effect.void)
    current.once("exit", () => resume(Effect.void))
    current.kill("SIGKILL")
  })
  yield* Effect.acquireRelease(start, () => stop)
  server.port = String(port)
  return { url: server.toString(), restart: Effect.uninterruptible(Effect.andThen(stop, start)) }
})

/** The URL of the test's database through a pooler with few server connections. */
export const startPooler = Effect.gen(function* () {
  const { url } = yield* TestDatabase
  return (yield* makePooler(Redacted.value(url), 5)).url
})

// internal

/** PgBouncer refuses to run as root. */
const unprivileged = (): { readonly uid: number; readonly gid: number } | undefined => {
  if (process.getuid?.() !== 0) return undefined
  const id = (flag: string): number => Number(execFileSync("id", [flag, "nobody"], { encoding: "utf8" }))
  return { uid: id("-u"), gid: id("-g") }
}

const freePort = Effect.callback<number>((resume) => {
  const server = Net.createServer()
  server.listen(0, "127.0.0.1", () => {
    const { port } = server.address() as Net.AddressInfo // it listens on a port
    server.close(() => resume(Effect.succeed(port)))
  })
})
