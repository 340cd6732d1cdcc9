/**
 * One running server: started under its watchdog, awaited until it takes connections, stopped with the scope.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { type ChildProcess, spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Path from "node:path"
import { type EmbeddedPostgresError, StartFailed } from "../EmbeddedPostgresError.ts"
import type { Binaries } from "./binaries.ts"
import { passwordFile } from "./cluster.ts"
import { type Account, attempt, environment, fail, outputKept, reasonOf, workingDirectory } from "./command.ts"
import type { Host } from "./host.ts"
import * as Watchdog from "./watchdog.ts"

export interface Running {
  readonly dataDir: string
  /** The socket's directory, or undefined when the server listens on 127.0.0.1 alone. */
  readonly socketDir: string | undefined
  readonly port: number
  readonly password: string | undefined
  readonly pid: Effect.Effect<number>
  readonly restart: (mode: "fast" | "immediate") => Effect.Effect<void, EmbeddedPostgresError>
}

export interface Settings {
  readonly dataDir: string | undefined
  readonly template: string | undefined
  readonly tmpDir: string
  readonly settings: Readonly<Record<string, string>>
}

export const start = (host: Host, who: Account | undefined, binaries: Binaries, options: Settings) =>
  startOnce(host, who, binaries, options).pipe(
    // Between finding a free port and binding it, another process may have taken it.
    Effect.retry({
      while: ({ reason }) => reason._tag === "StartFailed" && reason.output.includes("could not bind"),
      times: 5
    })
  )

// internal

const startOnce = Effect.fnUntraced(function* (
  host: Host,
  who: Account | undefined,
  binaries: Binaries,
  options: Settings
) {
  const socket = host.platform !== "win32" && fitsSocket(options.tmpDir)
  const port = socket ? defaultPort : yield* freePort
  const watchdog = yield* spawnWatchdog(host, who, {
    tmpDir: options.tmpDir,
    template: options.template,
    dataDir: options.dataDir,
    bin: binaries.bin,
    socket,
    // The last one wins: where the server listens is not the caller's to say.
    settings: [
      ...Object.entries(options.settings),
      ["listen_addresses", socket ? "" : "127.0.0.1"],
      ["port", String(port)],
      ...(socket ? [] : [["unix_socket_directories", ""] as const])
    ]
  })
  const workDir = yield* watchdog.workDir
  const dataDir = options.dataDir ?? Path.join(workDir, "data")
  yield* watchdog.ready(dataDir)
  const password = socket
    ? undefined
    : yield* attempt("reading the password", dataDir, () =>
        Fs.promises.readFile(Path.join(dataDir, passwordFile), "utf8")
      )
  const running: Running = {
    dataDir,
    socketDir: socket ? workDir : undefined,
    port,
    password,
    pid: Effect.sync(() => watchdog.state.pid),
    restart: (mode) =>
      Effect.suspend(() => {
        watchdog.state.pid = 0
        watchdog.child.stdin?.write(mode === "fast" ? "INT\n" : "QUIT\n")
        return watchdog.ready(dataDir)
      })
  }
  return running
})

const defaultPort = 5432

/** The system keeps a socket's path in 104 bytes (macOS, BSD) or 108 (Linux), with its end. */
const fitsSocket = (tmpDir: string): boolean =>
  Buffer.byteLength(Path.join(tmpDir, "shigoto-pg-XXXXXX", `.s.PGSQL.${defaultPort}`)) < 104

const freePort = Effect.callback<number, EmbeddedPostgresError>((resume) => {
  const probe = Net.createServer()
  probe.on("error", (error) => resume(fail(new StartFailed({ step: "finding a free port", output: error.message }))))
  probe.listen(0, "127.0.0.1", () => {
    const address = probe.address()
    probe.close(() => resume(Effect.succeed(typeof address === "object" && address !== null ? address.port : 0)))
  })
})

interface State {
  workDir: string | undefined
  /** 0 while a restart is under way. */
  pid: number
  errors: string
  ended: boolean
}

const spawnWatchdog = Effect.fnUntraced(function* (host: Host, who: Account | undefined, watched: Watchdog.Watched) {
  const state: State = { workDir: undefined, pid: 0, errors: "", ended: false }
  const ended = yield* Deferred.make<void>()
  const path = watched.dataDir ?? watched.tmpDir

  const child = yield* Effect.acquireRelease(
    Effect.try({
      try: () => {
        const [command, args] = Watchdog.command(host.platform, watched)
        const spawned = spawn(command, args, {
          ...who,
          env: environment(),
          cwd: workingDirectory(),
          stdio: ["pipe", "pipe", "pipe"],
          windowsHide: true,
          // A session of its own: Ctrl-C reaches this process alone, which still needs the database to drain.
          detached: true
        })
        follow(spawned, state, () => Deferred.doneUnsafe(ended, Effect.void))
        return spawned
      },
      catch: (cause) => cause
    }).pipe(Effect.catch((cause) => fail(reasonOf("starting the watchdog", String(cause), path)))),
    (child) =>
      Effect.suspend(() => {
        child.ref()
        child.stdin?.end()
        return Deferred.await(ended)
      })
  )

  const poll = <A>(look: () => A | undefined): Effect.Effect<A, EmbeddedPostgresError> =>
    Effect.gen(function* () {
      while (true) {
        const found = look()
        if (found !== undefined) return found
        if (state.ended) return yield* fail(reasonOf("the server", state.errors, path))
        yield* Effect.sleep("5 millis")
      }
    }).pipe(
      Effect.timeoutOrElse({
        duration: "60 seconds",
        orElse: () => fail(new StartFailed({ step: "becoming ready within 60 seconds", output: state.errors }))
      })
    )

  return {
    child,
    state,
    workDir: poll(() => state.workDir),
    // The way of pg_ctl: the last line of this file says so, whatever the settings do to the log.
    ready: (dataDir: string) =>
      poll(() => {
        if (state.pid === 0) return undefined
        const lines = readLines(Path.join(dataDir, "postmaster.pid"))
        return lines[0] === String(state.pid) && lines[7]?.startsWith("ready") === true ? true : undefined
      }).pipe(Effect.tap(() => Effect.sync(() => letGo(child))))
  }
})

/** Reads the protocol and the server's log; the log is read to the end so that the server never waits for its reader. */
const follow = (child: ChildProcess, state: State, onEnd: () => void): void => {
  let buffered = ""
  child.stdout?.on("data", (chunk: Buffer) => {
    buffered += chunk.toString("utf8")
    const lines = buffered.split("\n")
    buffered = lines.pop() ?? ""
    for (const line of lines) {
      if (line.startsWith("work ")) state.workDir = line.slice(5)
      if (line.startsWith("pid ")) state.pid = Number(line.slice(4))
    }
  })
  child.stderr?.on("data", (chunk: Buffer) => {
    state.errors = (state.errors + chunk.toString("utf8")).slice(-outputKept)
  })
  // The watchdog is gone: nobody is left to read what we write.
  child.stdin?.on("error", () => undefined)
  const end = () => {
    state.ended = true
    onEnd()
  }
  child.on("error", (error) => {
    state.errors += error.message
    end()
  })
  child.on("exit", end)
}

/** A program that has nothing else to do may end without closing its scope; the watchdog then stops the server. */
const letGo = (child: ChildProcess): void => {
  child.unref()
  for (const stream of [child.stdin, child.stdout, child.stderr]) {
    if (stream instanceof Net.Socket) stream.unref()
  }
}

const readLines = (path: string): ReadonlyArray<string> => {
  try {
    return Fs.readFileSync(path, "utf8").split("\n")
  } catch {
    return []
  }
}
