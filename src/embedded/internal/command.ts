/**
 * Running one program to its end, and turning what went wrong into a reason.
 */
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import * as Os from "node:os"
import {
  DataDirInUse,
  EmbeddedPostgresError,
  type EmbeddedPostgresErrorReason,
  NoSpace,
  StartFailed
} from "../EmbeddedPostgresError.ts"

/** Whom the server runs as. `undefined` where that is the caller itself. */
export interface Account {
  readonly uid: number
  readonly gid: number
}

/**
 * Nothing of the user's environment reaches the server: PGDATA, PGPORT, PGOPTIONS and LC_* would each change what runs.
 * English messages are needed to tell the reasons apart.
 */
export const environment = (): Record<string, string> => ({
  PATH: process.env.PATH ?? "/usr/local/bin:/usr/bin:/bin",
  LC_ALL: "C",
  TZ: "UTC",
  ...(process.platform === "win32" && {
    SystemRoot: process.env.SystemRoot ?? "C:\\Windows",
    ComSpec: process.env.ComSpec ?? "C:\\Windows\\System32\\cmd.exe",
    TEMP: Os.tmpdir(),
    TMP: Os.tmpdir()
  })
})

/** The caller's own directory may be closed to the server's user; this one never is. */
export const workingDirectory = (): string => (process.platform === "win32" ? Os.tmpdir() : "/")

/** Never fails: a program that cannot be started ends with code -1 and the system's words. */
export const run = (
  command: string,
  args: ReadonlyArray<string>,
  who?: Account
): Effect.Effect<{ readonly code: number; readonly output: string }> =>
  Effect.callback<{ readonly code: number; readonly output: string }>((resume) => {
    const child = spawn(command, args, {
      ...who,
      env: environment(),
      cwd: workingDirectory(),
      stdio: ["ignore", "pipe", "pipe"],
      windowsHide: true
    })
    let output = ""
    const collect = (chunk: Buffer) => {
      output = (output + chunk.toString("utf8")).slice(-outputKept)
    }
    child.stdout.on("data", collect)
    child.stderr.on("data", collect)
    child.on("error", (error) => resume(Effect.succeed({ code: -1, output: error.message })))
    child.on("close", (code) => resume(Effect.succeed({ code: code ?? -1, output })))
    return Effect.sync(() => child.kill("SIGKILL"))
  }).pipe(
    // Node reports some refusals by an event and throws others.
    Effect.catchDefect((defect) => Effect.succeed({ code: -1, output: String(defect) }))
  )

export const outputKept = 8_000

export const fail = (reason: EmbeddedPostgresErrorReason): Effect.Effect<never, EmbeddedPostgresError> =>
  Effect.fail(new EmbeddedPostgresError({ reason }))

/** What PostgreSQL's words mean. `path` is the directory the step wrote to. */
export const reasonOf = (step: string, output: string, path: string): EmbeddedPostgresErrorReason => {
  if (/No space left on device|ENOSPC|Disk quota exceeded|EDQUOT/.test(output)) return new NoSpace({ path })
  if (/lock file "postmaster.pid" already exists|pre-existing shared memory block/.test(output)) {
    const pid = /\(PID (\d+)\)/.exec(output)?.[1]
    return new DataDirInUse({ dataDir: path, ...(pid !== undefined && { pid: Number(pid) }) })
  }
  return new StartFailed({ step, output: output.trim() })
}

/** A step over files: its rejection becomes a reason. */
export const attempt = <A>(
  step: string,
  path: string,
  evaluate: () => Promise<A>
): Effect.Effect<A, EmbeddedPostgresError> =>
  Effect.tryPromise({
    try: evaluate,
    catch: (cause) => new EmbeddedPostgresError({ reason: reasonOf(step, String(cause), path) })
  })
