/**
 * The machine the server is to run on: what tests replace, and who the server runs as.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import { createRequire } from "node:module"
import * as Os from "node:os"
import * as Path from "node:path"
import { type Account, run } from "./command.ts"

export interface Host {
  readonly platform: string
  readonly arch: string
  readonly uid: number | undefined
  /** Path of a package's main entry. Throws when the package is not installed. */
  readonly resolve: (packageName: string) => string
  /** Where sockets, temporary databases and the cache may go; the first one that the server's user can enter is taken. */
  readonly tmpDirs: ReadonlyArray<string>
}

export const Host: Context.Reference<Host> = Context.Reference<Host>("effect-shigoto/embedded/Host", {
  defaultValue: (): Host => ({
    platform: process.platform,
    arch: process.arch,
    uid: process.getuid?.(),
    resolve,
    tmpDirs: process.platform === "win32" ? [Os.tmpdir()] : [Os.tmpdir(), "/tmp", "/var/tmp"]
  })
})

/**
 * PostgreSQL refuses to run as root. An existing data directory keeps its owner, so that a database once started by an
 * ordinary user still opens for that user after a start with sudo.
 */
export const account = Effect.fnUntraced(function* (host: Host, dataDir: string | undefined) {
  if (host.uid !== 0) return undefined
  const owner = dataDir === undefined ? undefined : Fs.statSync(dataDir, { throwIfNoEntry: false })
  if (owner !== undefined && owner.uid !== 0) return { uid: owner.uid, gid: owner.gid } satisfies Account
  for (const name of ["postgres", "nobody"]) {
    const uid = yield* idOf("-u", name)
    const gid = yield* idOf("-g", name)
    if (uid !== undefined && gid !== undefined) return { uid, gid } satisfies Account
  }
  return { uid: 65534, gid: 65534 } satisfies Account
})

/** Whether `who` may pass through every directory down to `path`, judged by the mode bits. */
export const canEnter = (path: string, who: Account | undefined): boolean => {
  if (who === undefined) return true
  for (let at = path; ; at = Path.dirname(at)) {
    const stat = Fs.statSync(at, { throwIfNoEntry: false })
    if (stat !== undefined) {
      const shift = stat.uid === who.uid ? 6 : stat.gid === who.gid ? 3 : 0
      if (((stat.mode >> shift) & 1) === 0) return false
    }
    if (at === Path.dirname(at)) return true
  }
}

// internal

const idOf = (flag: string, name: string) =>
  run("id", [flag, name]).pipe(
    Effect.map(({ code, output }) => (code === 0 ? Number(output.trim()) : undefined)),
    Effect.map((id) => (Number.isInteger(id) ? id : undefined))
  )

/** From this library first, as an installed peer; then from where the program runs, as with linked checkouts. */
const resolve = (packageName: string): string => {
  try {
    return createRequire(import.meta.url).resolve(packageName)
  } catch {
    return createRequire(Path.join(process.cwd(), "package.json")).resolve(packageName)
  }
}
