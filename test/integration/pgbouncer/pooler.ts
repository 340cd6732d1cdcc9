/** A real PgBouncer in transaction mode in front of the test's database. */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { execFileSync, spawn, spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import { eventually } from "../../setup/eventually.ts"
import { makeProxy } from "../../setup/proxy.ts"
import { TestDatabase } from "../../setup/TestDatabase.ts"

/** Whether there is a PgBouncer on this machine; on a CI machine a missing one fails the tests instead. */
export const isInstalled = spawnSync("pgbouncer", ["--version"]).status === 0

/** Starts a pooler with few server connections and returns the database's URL through it; it ends with the scope. */
export const startPooler = Effect.gen(function* () {
  const { url } = yield* TestDatabase
  // The server may listen on a socket that only its own user reaches; the proxy makes a port of it.
  const server = new URL((yield* makeProxy(Redacted.value(url))).url)
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
default_pool_size = 5
max_client_conn = 200
`
  )
  const user = unprivileged()
  if (user !== undefined) {
    Fs.chownSync(directory, user.uid, user.gid)
    Fs.chownSync(file, user.uid, user.gid)
  }
  let log = ""
  const child = yield* Effect.acquireRelease(
    Effect.sync(() => spawn("pgbouncer", [file], { ...user, cwd: "/", stdio: ["ignore", "ignore", "pipe"] })),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )
  child.stderr.on("data", (chunk: Buffer) => {
    log += chunk.toString("utf8")
  })
  yield* eventually(
    Effect.sync(() => log),
    (text) => text.includes("process up") || child.exitCode !== null
  )
  if (child.exitCode !== null) return yield* Effect.die(new Error(`pgbouncer did not start: ${log}`))
  server.port = String(port)
  return server.toString()
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
