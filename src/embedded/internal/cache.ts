/**
 * Directories made once per machine and user, and shared by every later start: binaries that other users can reach, and
 * freshly initialised databases.
 *
 * An entry appears whole or not at all: it is built aside and renamed into place, so processes that race each build
 * their own and the first rename wins. It carries the number and the size of its files, so an entry that was thinned
 * out since (by a cleaner of /tmp, say) is seen and built again.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { type EmbeddedPostgresError, StartFailed } from "../EmbeddedPostgresError.ts"
import { type Account, attempt, fail, reasonOf } from "./command.ts"
import { canEnter, type Host } from "./host.ts"

/** The first temporary directory that the server's user can pass through. */
export const tmpDir = (host: Host, who: Account | undefined): Effect.Effect<string, EmbeddedPostgresError> =>
  Effect.suspend(() => {
    const found = host.tmpDirs.find((dir) => Fs.existsSync(dir) && canEnter(dir, who))
    return found === undefined
      ? fail(new StartFailed({ step: "finding a temporary directory", output: noTmpDir(host) }))
      : Effect.succeed(Fs.realpathSync(found))
  })

/** The path of the entry `name`, built by `build` into an empty directory when it is missing or damaged. */
export const entry = Effect.fnUntraced(function* (
  host: Host,
  who: Account | undefined,
  name: string,
  build: (directory: string) => Effect.Effect<void, EmbeddedPostgresError>
) {
  const root = yield* cacheRoot(host, who)
  const path = Path.join(root, name)
  if (intact(path)) return path
  yield* withScratch(host, who, (scratch) =>
    Effect.gen(function* () {
      const directory = Path.join(scratch, "entry")
      yield* attempt("writing to the cache", root, async () => {
        await Fs.promises.mkdir(directory)
        await Fs.promises.chmod(directory, 0o755)
      })
      yield* build(directory)
      yield* publish(scratch, path)
    })
  )
  return path
})

/** Runs `use` with an empty directory that the server's user can enter, and removes it. */
export const withScratch = Effect.fnUntraced(function* <A>(
  host: Host,
  who: Account | undefined,
  use: (directory: string) => Effect.Effect<A, EmbeddedPostgresError>
) {
  const root = yield* cacheRoot(host, who)
  yield* sweep(root)
  return yield* Effect.acquireUseRelease(
    attempt("writing to the cache", root, async () => {
      const scratch = await Fs.promises.mkdtemp(Path.join(root, scratchPrefix))
      await Fs.promises.chmod(scratch, who === undefined ? 0o700 : 0o711)
      return scratch
    }),
    use,
    (scratch) => Effect.promise(() => remove(scratch))
  )
})

// internal

const scratchPrefix = ".scratch-"
const manifestName = "manifest"

/**
 * In a directory that everybody may write to, somebody else could have put binaries under our name: only a directory
 * that is ours and closed to other writers counts.
 */
const cacheRoot = (host: Host, who: Account | undefined) =>
  Effect.suspend(() => {
    for (const base of host.tmpDirs) {
      if (!Fs.existsSync(base) || !canEnter(base, who)) continue
      const root = Path.join(
        Fs.realpathSync(base),
        host.uid === undefined ? "effect-shigoto" : `effect-shigoto-${host.uid}`
      )
      try {
        Fs.mkdirSync(root, { mode: 0o755 })
        Fs.chmodSync(root, 0o755)
      } catch (error) {
        const reason = reasonOf("creating the cache", String(error), root)
        if (reason._tag === "NoSpace") return fail(reason)
        // There already, or not to be had; what is there decides.
      }
      const stat = Fs.lstatSync(root, { throwIfNoEntry: false })
      if (stat === undefined || !stat.isDirectory()) continue
      if (host.uid === undefined || (stat.uid === host.uid && (stat.mode & 0o022) === 0)) return Effect.succeed(root)
    }
    return fail(new StartFailed({ step: "finding a directory for the cache", output: noTmpDir(host) }))
  })

const noTmpDir = (host: Host) =>
  `None of ${host.tmpDirs.join(", ")} is a directory that this process can write to and the server's user can enter. ` +
  "Set TMPDIR to one that is."

const publish = Effect.fnUntraced(function* (scratch: string, path: string) {
  const built = Path.join(scratch, "entry")
  const rename = attempt("writing to the cache", path, async () => {
    await Fs.promises.writeFile(Path.join(built, manifestName), measure(built))
    await Fs.promises.rename(built, path)
  })
  // Damaged: moved away in one step, so that nobody meets half of it.
  const clear = Effect.promise(() => Fs.promises.rename(path, Path.join(scratch, "damaged")).catch(() => undefined))
  yield* rename.pipe(
    Effect.catch((error) =>
      intact(path) ? Effect.void : Effect.andThen(clear, rename.pipe(Effect.mapError(() => error)))
    ),
    // Between the two steps another process may have put its own there.
    Effect.catch((error) => (intact(path) ? Effect.void : Effect.fail(error)))
  )
})

const intact = (path: string): boolean => {
  try {
    return Fs.readFileSync(Path.join(path, manifestName), "utf8") === measure(path)
  } catch {
    return false
  }
}

const measure = (path: string): string => {
  let files = 0
  let bytes = 0
  for (const file of Fs.readdirSync(path, { recursive: true, withFileTypes: true })) {
    if (file.parentPath === path && file.name === manifestName) continue
    files++
    if (file.isFile()) bytes += Fs.lstatSync(Path.join(file.parentPath, file.name)).size
  }
  return `${files} files, ${bytes} bytes\n`
}

/** A process that was killed while it worked in a scratch directory has left it; no work there takes ten minutes. */
const sweep = Effect.fnUntraced(function* (root: string) {
  const now = yield* Clock.currentTimeMillis
  yield* Effect.promise(async () => {
    const files = await Fs.promises.readdir(root).catch(() => [])
    await Promise.all(
      files
        .filter((file) => file.startsWith(scratchPrefix))
        .map(async (file) => {
          const stat = await Fs.promises.stat(Path.join(root, file)).catch(() => undefined)
          if (stat !== undefined && now - stat.mtimeMs > 600_000) await remove(Path.join(root, file))
        })
    )
  })
})

const remove = (path: string) => Fs.promises.rm(path, { recursive: true, force: true }).catch(() => undefined)
