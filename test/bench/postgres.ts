/**
 * The PostgreSQL of a run: the embedded one, the server programs of a directory, or a server of a URL.
 *
 * Whichever programs run, the server is durable, has the same settings and is reached over a socket in a directory of
 * its own, started as a user that is not root and stopped with the run.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { readdirSync, readFileSync } from "node:fs"
import { chown, mkdtemp, rm } from "node:fs/promises"
import { join } from "node:path"
import * as pg from "pg"
import * as EmbeddedPostgres from "../../src/embedded/EmbeddedPostgres.ts"
import * as Cache from "../../src/embedded/internal/cache.ts"
import { run } from "../../src/embedded/internal/command.ts"
import { account, Host } from "../../src/embedded/internal/host.ts"
import * as Running from "../../src/embedded/internal/server.ts"

/** The PostgreSQL of a run. */
export interface Postgres {
  readonly version: string
  readonly settings: Readonly<Record<string, string>>
  /** Makes an empty database and returns its URL. */
  readonly create: (name: string) => Promise<string>
  readonly drop: (name: string) => Promise<void>
  /** Asks the maintenance database. */
  readonly query: <Row extends pg.QueryResultRow>(text: string) => Promise<ReadonlyArray<Row>>
  /** CPU time of the server's processes so far in milliseconds; undefined where this machine cannot tell. */
  readonly cpuMillis: () => number | undefined
  readonly stop: () => Promise<void>
}

/** Where the server comes from. */
export interface Source {
  readonly url: string | undefined
  /** A directory with `initdb` and `postgres`, such as `/usr/lib/postgresql/15/bin`. */
  readonly bin: string | undefined
  readonly synchronousCommit: boolean
}

/** Starts a durable server for this run, or connects to the given one. */
export const postgres = async (source: Source): Promise<Postgres> => {
  const scope = Scope.makeUnsafe()
  const settings = {
    max_connections: "400",
    shared_buffers: "1GB",
    // A checkpoint in the middle of a measurement would hit one system and spare the next.
    max_wal_size: "16GB",
    checkpoint_timeout: "1h",
    fsync: "on",
    full_page_writes: "on",
    synchronous_commit: source.synchronousCommit ? "on" : "off",
    // Counts statements where a workload switches it on for its database, and costs nothing elsewhere.
    shared_preload_libraries: "pg_stat_statements",
    "pg_stat_statements.track": "none"
  }
  const given = source.url === undefined ? undefined : { url: source.url, pid: undefined }
  const { pid, url } =
    given ??
    (await Effect.runPromise(
      Scope.provide(source.bin === undefined ? embedded(settings) : programs(source.bin, settings), scope)
    ))
  const admin = new pg.Pool({ connectionString: url, max: 2 })
  admin.on("error", console.error)
  const query = async <Row extends pg.QueryResultRow>(text: string) => (await admin.query<Row>(text)).rows
  const names = ["fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size", "wal_level"]
  const known = await query<{ name: string; setting: string }>(
    `SELECT name, current_setting(name) AS setting
     FROM pg_settings
     WHERE name IN (${names.map((name) => `'${name}'`).join(", ")})`
  )
  const [server] = await query<{ version: string }>("SELECT current_setting('server_version') AS version")
  return {
    version: server?.version ?? "",
    settings: Object.fromEntries(known.map(({ name, setting }) => [name, setting])),
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
    cpuMillis: () => (pid === undefined ? undefined : cpuOf(pid)),
    stop: async () => {
      await admin.end()
      await Effect.runPromise(Scope.close(scope, Exit.void))
    }
  }
}

/** Asks a measurement's own database. */
export const inDatabase = async <Row extends pg.QueryResultRow>(
  url: string,
  text: string
): Promise<ReadonlyArray<Row>> => {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    return (await client.query<Row>(text)).rows
  } finally {
    await client.end()
  }
}

// internal

type Settings = Readonly<Record<string, string>>

const embedded = (settings: Settings) =>
  EmbeddedPostgres.make({ durable: true, settings }).pipe(
    Effect.flatMap((server) => Effect.map(server.pid, (pid) => ({ url: Redacted.value(server.url), pid })))
  )

/** The embedded server's own way of running, with the programs of another installation. */
const programs = Effect.fnUntraced(function* (bin: string, settings: Settings) {
  const host = yield* Host
  const who = yield* account(host, undefined)
  const tmpDir = yield* Cache.tmpDir(host, who)
  const dataDir = yield* Effect.acquireRelease(
    Effect.promise(() => mkdtemp(join(tmpDir, "shigoto-bench-postgres-"))),
    (directory) => Effect.promise(() => rm(directory, { recursive: true, force: true }))
  )
  if (who !== undefined) yield* Effect.promise(() => chown(dataDir, who.uid, who.gid))
  const told = yield* run(join(bin, "postgres"), ["--version"], who)
  const version = /PostgreSQL\) (\S+)/.exec(told.output)?.[1]
  if (version === undefined) throw new Error(`${bin} holds no PostgreSQL that runs: ${told.output}`)
  const flags = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-instructions"]
  const made = yield* run(join(bin, "initdb"), [`--pgdata=${dataDir}`, ...flags], who)
  if (made.code !== 0) throw new Error(`initdb of ${bin} failed: ${made.output}`)
  const binaries = { bin, version, major: version.split(".")[0] ?? "" }
  const running = yield* Running.start(host, who, binaries, { dataDir, template: undefined, tmpDir, settings })
  const socket = running.socketDir === undefined ? "" : `?host=${encodeURIComponent(running.socketDir)}`
  return { url: `postgres://postgres@localhost:${running.port}/postgres${socket}`, pid: yield* running.pid }
})

/** What the server and its children have used, those that have ended included, as Linux tells in hundredths of a second. */
const cpuOf = (server: number): number | undefined => {
  const ticksOf = (pid: string) => {
    try {
      const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
        .replace(/^.*\) /, "")
        .split(" ")
        .map(Number)
      const [parent, ...times] = [1, 11, 12, 13, 14].map((at) => fields[at] ?? 0)
      return { parent, own: (times[0] ?? 0) + (times[1] ?? 0), ended: (times[2] ?? 0) + (times[3] ?? 0) }
    } catch {
      return undefined
    }
  }
  const main = ticksOf(`${server}`)
  if (main === undefined) return undefined
  const children = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(ticksOf)
    .filter((ticks) => ticks?.parent === server)
  return (main.own + main.ended + children.reduce((sum, ticks) => sum + (ticks?.own ?? 0), 0)) * 10
}
