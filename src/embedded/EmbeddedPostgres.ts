/**
 * A real PostgreSQL, started from the binaries that npm ships and stopped with the scope: the zero-set-up database of
 * demos and tests.
 *
 * The server listens on a unix socket in a directory that only its user can enter, and asks for no password there. On
 * Windows, and where the temporary directory's path is too long for a socket, it listens on a free port of 127.0.0.1
 * instead and asks for a random password, which lies in the data directory. `Server.url` works in both cases, for
 * PgClient (a socket's directory travels as `?host=`), libpq and child processes alike.
 *
 * Without `dataDir` the database is temporary: a clone of a template that is initialised once per machine and user (in
 * a directory under the system's temporary one), without syncing to disk, and gone with the scope. With `dataDir` it is
 * kept and every commit is durable.
 *
 * A small watchdog process stops the server and removes temporary directories however the parent ends, by SIGKILL too.
 * As root, which PostgreSQL refuses, the server runs as the owner of `dataDir`, else as `postgres`, else as `nobody`.
 * Nothing of the environment (PGOPTIONS, LANG, …) reaches it: UTF-8, collation C.UTF-8 and UTC, always. Which PostgreSQL
 * it is, 14 to 18, is the version of the package that is installed; before 17 the collation is C.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type * as SqlClient from "effect/sql/SqlClient"
import type * as SqlError from "effect/sql/SqlError"
import * as Path from "node:path"
import type { EmbeddedPostgresError } from "./EmbeddedPostgresError.ts"
import * as Binaries from "./internal/binaries.ts"
import * as Cache from "./internal/cache.ts"
import * as Cluster from "./internal/cluster.ts"
import { account, Host } from "./internal/host.ts"
import * as Running from "./internal/server.ts"

export {
  DataDirInUse,
  DataDirUnusable,
  EmbeddedPostgresError,
  EmbeddedPostgresErrorReason,
  NoSpace,
  PackageMissing,
  StartFailed,
  UnsupportedPlatform
} from "./EmbeddedPostgresError.ts"

/**
 * How the server is to run.
 *
 * @category models
 */
export interface Options {
  /**
   * The directory to keep the database in, made when it is missing. Only one server can run on it at a time.
   * Defaults to a temporary one, removed at the end.
   */
  readonly dataDir?: string | undefined
  /**
   * Whether commits survive a crash of the machine. `false` turns `fsync`, `synchronous_commit` and
   * `full_page_writes` off. Defaults to true with `dataDir`, to false without.
   */
  readonly durable?: boolean | undefined
  /** Server settings, as in postgresql.conf: `{ max_connections: "300" }`. Defaults to none. */
  readonly settings?: Readonly<Record<string, string>> | undefined
}

/**
 * How the server is to run, and settings of the client's pool such as `maxConnections` (defaults to 10).
 *
 * @category models
 */
export interface LayerOptions
  extends
    Options,
    Omit<
      PgClient.PgPoolConfig,
      "url" | "host" | "port" | "path" | "ssl" | "database" | "username" | "password" | "stream"
    > {}

/**
 * What a client needs to connect: spread it into `PgClient.layer({ ...server.clientConfig })`.
 *
 * @category models
 */
export interface ClientConfig {
  readonly host: string
  readonly port: number
  readonly username: string
  readonly password?: Redacted.Redacted
  readonly database: string
}

/**
 * A running server.
 *
 * @category models
 */
export interface Server extends ClientConfig {
  /** The socket's directory; undefined when the server listens on 127.0.0.1 instead. `host` is the one or the other. */
  readonly socketDir: string | undefined
  readonly dataDir: string
  readonly clientConfig: ClientConfig
  /** Connects from anywhere on this machine, other processes of the same user included. */
  readonly url: Redacted.Redacted
  /** The process id of the server (not of its watchdog). It changes with `restart`. */
  readonly pid: Effect.Effect<number>
  /**
   * Stops the server and starts it again at the same address, and waits until it takes connections.
   *
   * `fast` ends every session and writes a checkpoint. `immediate` is a crash: the next start recovers from the log,
   * and with `durable: false` the last commits may be lost.
   */
  readonly restart: (mode: "fast" | "immediate") => Effect.Effect<void, EmbeddedPostgresError>
}

/**
 * Starts a server and stops it (fast shutdown) when the scope closes.
 *
 * A temporary database is ready in well under a second, the first one of a machine and a new `dataDir` in about two.
 *
 * @category constructors
 */
export const make = (options: Options = {}): Effect.Effect<Server, EmbeddedPostgresError, Scope.Scope> =>
  Effect.gen(function* () {
    const host = yield* Host
    const dataDir = options.dataDir === undefined ? undefined : Path.resolve(options.dataDir)
    const who = yield* account(host, dataDir)
    const binaries = yield* Binaries.locate(host, who)
    if (dataDir !== undefined) yield* Cluster.prepare(host, who, binaries, dataDir)
    const running = yield* Running.start(host, who, binaries, {
      dataDir,
      template: dataDir === undefined ? yield* Cluster.template(host, who, binaries) : undefined,
      tmpDir: yield* Cache.tmpDir(host, who),
      settings: { ...((options.durable ?? dataDir !== undefined) ? {} : notDurable), ...options.settings }
    })
    const clientConfig: ClientConfig = {
      host: running.socketDir ?? "127.0.0.1",
      port: running.port,
      username: Cluster.superuser,
      ...(running.password !== undefined && { password: Redacted.make(running.password) }),
      database: "postgres"
    }
    const server: Server = {
      ...clientConfig,
      clientConfig,
      socketDir: running.socketDir,
      dataDir: running.dataDir,
      url: url(running),
      pid: running.pid,
      restart: (mode) => live(running.restart(mode))
    }
    return server
  }).pipe(live)

/**
 * Provides `PgClient` and `SqlClient` on a server of its own.
 *
 * The pool keeps real time, whatever `Clock` the surroundings use: a TestClock neither starves nor expires it.
 *
 * Each call is another server. Bind the layer to a constant to share it.
 *
 * @category layers
 */
export const layer = (
  options: LayerOptions = {}
): Layer.Layer<PgClient.PgClient | SqlClient.SqlClient, EmbeddedPostgresError | SqlError.SqlError> => {
  const { dataDir, durable, settings, ...client } = options
  return PgClient.layerFrom(
    Effect.flatMap(make({ dataDir, durable, settings }), (server) =>
      PgClient.make({ ...client, ...server.clientConfig })
    ).pipe(live)
  )
}

// internal

const live: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R> = Effect.provideService(
  Clock.Clock,
  Clock.Clock.defaultValue()
)

const notDurable = { fsync: "off", synchronous_commit: "off", full_page_writes: "off" }

const url = ({ password, port, socketDir }: Running.Running): Redacted.Redacted =>
  Redacted.make(
    socketDir === undefined
      ? `postgres://${Cluster.superuser}:${password}@127.0.0.1:${port}/postgres`
      : `postgres://${Cluster.superuser}@localhost:${port}/postgres?host=${encodeURIComponent(socketDir)}`
  )
