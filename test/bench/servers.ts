/** The servers of a run: PostgreSQL (embedded, or of a URL) and Redis, if there is one, as children of this process. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { connect, createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as pg from "pg"
import * as EmbeddedPostgres from "../../src/embedded/EmbeddedPostgres.ts"

/** The PostgreSQL of a run. */
export interface Postgres {
  readonly version: string
  readonly settings: Readonly<Record<string, string>>
  /** Makes an empty database and returns its URL. */
  readonly create: (name: string) => Promise<string>
  readonly drop: (name: string) => Promise<void>
  /** Asks the maintenance database. */
  readonly query: <Row extends pg.QueryResultRow>(text: string) => Promise<ReadonlyArray<Row>>
  readonly stop: () => Promise<void>
}

/** Starts a durable server for this run, or connects to the given one. */
export const postgres = async (options: {
  readonly url: string | undefined
  readonly synchronousCommit: boolean
}): Promise<Postgres> => {
  const scope = Scope.makeUnsafe()
  const url =
    options.url ??
    Redacted.value(
      (
        await Effect.runPromise(
          Scope.provide(
            EmbeddedPostgres.make({
              durable: true,
              settings: {
                max_connections: "200",
                shared_buffers: "1GB",
                // A checkpoint in the middle of a measurement would hit one system and spare the next.
                max_wal_size: "16GB",
                checkpoint_timeout: "1h",
                synchronous_commit: options.synchronousCommit ? "on" : "off"
              }
            }),
            scope
          )
        )
      ).url
    )
  const admin = new pg.Pool({ connectionString: url, max: 2 })
  const query = async <Row extends pg.QueryResultRow>(text: string) => (await admin.query<Row>(text)).rows
  const names = ["fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size", "wal_level"]
  const settings = await query<{ name: string; setting: string }>(
    `SELECT name, current_setting(name) AS setting
     FROM pg_settings
     WHERE name IN (${names.map((name) => `'${name}'`).join(", ")})`
  )
  const [server] = await query<{ version: string }>("SELECT current_setting('server_version') AS version")
  return {
    version: server?.version ?? "",
    settings: Object.fromEntries(settings.map(({ name, setting }) => [name, setting])),
    create: async (name) => {
      await admin.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`)
      await admin.query(`CREATE DATABASE ${name} TEMPLATE template0`)
      const its = new URL(url)
      its.pathname = `/${name}`
      return its.toString()
    },
    drop: async (name) => {
      await admin.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`)
    },
    query,
    stop: async () => {
      await admin.end()
      await Effect.runPromise(Scope.close(scope, Exit.void))
    }
  }
}

/** The Redis of a run. */
export interface Redis {
  readonly version: string
  readonly port: number
  /** Commands processed so far. */
  readonly commands: () => Promise<number>
  readonly flush: () => Promise<void>
  readonly stop: () => Promise<void>
}

/** Starts a Redis server without persistence on a free port; undefined where none is installed. */
export const redis = async (): Promise<Redis | undefined> => {
  const port = await freePort()
  const directory = mkdtempSync(join(tmpdir(), "shigoto-bench-redis-"))
  const child = spawn(
    "redis-server",
    ["--bind", "127.0.0.1", "--port", `${port}`, "--save", "", "--appendonly", "no"],
    {
      cwd: directory,
      stdio: "ignore"
    }
  )
  const failed = new Promise<"failed">((resolve) => {
    child.once("error", () => resolve("failed"))
    child.once("exit", () => resolve("failed"))
  })
  const remove = () => rmSync(directory, { recursive: true, force: true })
  const up = async () => {
    while (true) {
      const answer = await ask(port, "PING").catch(() => undefined)
      if (answer?.includes("PONG") === true) return "up" as const
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
  if ((await Promise.race([failed, up()])) === "failed") {
    remove()
    return undefined
  }
  const info = async (section: string, field: string) =>
    new RegExp(`${field}:(.*)\r`).exec(await ask(port, `INFO ${section}`))?.[1] ?? ""
  return {
    port,
    version: await info("server", "redis_version"),
    commands: async () => Number(await info("stats", "total_commands_processed")),
    flush: async () => {
      await ask(port, "FLUSHALL")
    },
    stop: async () => {
      child.kill("SIGTERM")
      await failed
      remove()
    }
  }
}

// internal

const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const probe = createServer()
    probe.on("error", reject)
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address()
      probe.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0))
    })
  })

/** One inline command, one answer: no client library is worth a PING. */
const ask = (port: number, command: string): Promise<string> =>
  new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1")
    let answer = ""
    socket.on("error", reject)
    socket.on("data", (data) => {
      answer += data.toString()
      const size = /^\$(\d+)\r\n/.exec(answer)
      const complete = size === null ? answer.endsWith("\r\n") : answer.length >= size[0].length + Number(size[1]) + 2
      if (complete) {
        socket.end()
        resolve(answer)
      }
    })
    socket.write(`${command}\r\n`)
  })
