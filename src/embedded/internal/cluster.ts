/**
 * The files of a database: initialised once per machine and cloned for temporary databases, initialised in place for
 * those that are kept.
 */
import * as Effect from "effect/Effect"
import { randomBytes } from "node:crypto"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { DataDirUnusable } from "../EmbeddedPostgresError.ts"
import type { Binaries } from "./binaries.ts"
import { entry, withScratch } from "./cache.ts"
import { type Account, attempt, fail, reasonOf, run } from "./command.ts"
import { canEnter, type Host } from "./host.ts"

export const superuser = "postgres"

/** The password for TCP connections lies in the data directory, which is closed to all but the server's user. */
export const passwordFile = "effect-shigoto.password"

/** The path of an initialised data directory, to be cloned and never to be run itself. */
export const template = (host: Host, who: Account | undefined, binaries: Binaries) =>
  entry(host, who, `template-${layout}-${binaries.version}-${who?.uid ?? "own"}`, (directory) =>
    initialise(host, who, binaries, Path.join(directory, "data"), ["--no-sync"])
  ).pipe(Effect.map((directory) => Path.join(directory, "data")))

/** Makes `dataDir` ready to be run: initialises it when it is missing or empty, checks it otherwise. */
export const prepare = Effect.fnUntraced(function* (
  host: Host,
  who: Account | undefined,
  binaries: Binaries,
  dataDir: string
) {
  const unusable = (detail: string) => fail(new DataDirUnusable({ dataDir, detail }))
  const parent = Path.dirname(dataDir)
  yield* attempt("creating the parent of dataDir", dataDir, () => Fs.promises.mkdir(parent, { recursive: true }))
  if (!canEnter(Fs.realpathSync(parent), who)) {
    yield* unusable(
      `PostgreSQL does not run as root, and the user it runs as (uid ${who?.uid}) cannot enter ${parent}. ` +
        "Choose a dataDir that other users can reach, or start this program as an ordinary user."
    )
  }
  const files = yield* attempt("reading dataDir", dataDir, () =>
    Fs.promises.readdir(dataDir).catch((error) => (error.code === "ENOENT" ? undefined : Promise.reject(error)))
  )
  if (files === undefined) {
    yield* initialiseNew(host, who, binaries, dataDir)
    return
  }
  if (files.length === 0) {
    // In place: what exists already may be a mount point, which cannot be renamed over.
    yield* initialise(host, who, binaries, dataDir, [])
    return
  }
  if (!files.includes("PG_VERSION")) {
    yield* unusable("it is not empty, and what it holds is not a database. Choose another directory.")
  }
  const major = yield* attempt("reading dataDir", dataDir, () =>
    Fs.promises.readFile(Path.join(dataDir, "PG_VERSION"), "utf8")
  )
  if (major.trim() !== binaries.major) {
    yield* unusable(
      `it was made by PostgreSQL ${major.trim()} and the installed binaries are ${binaries.major}. ` +
        `Install the binaries of version ${major.trim()}, or dump and restore into another dataDir.`
    )
  }
})

// internal

/** Rises when `initialise` changes, so that older templates are left alone. */
const layout = 1

/**
 * UTF-8 whatever the environment says: without these flags an unset LANG gives SQL_ASCII. The built-in C.UTF-8 sorts by
 * code point, the same on every machine, and still folds the case of all letters. PostgreSQL has it from 17 on; C before
 * that sorts alike and folds ASCII letters only.
 */
const initialise = Effect.fnUntraced(function* (
  host: Host,
  who: Account | undefined,
  binaries: Binaries,
  dataDir: string,
  flags: ReadonlyArray<string>
) {
  const password = randomBytes(24).toString("base64url")
  yield* withScratch(host, who, (scratch) =>
    Effect.gen(function* () {
      const pwfile = Path.join(scratch, "password")
      yield* attempt("preparing initdb", dataDir, async () => {
        await Fs.promises.mkdir(dataDir, { recursive: true, mode: 0o700 })
        await writePrivate(pwfile, password, who)
        if (who !== undefined) await Fs.promises.chown(dataDir, who.uid, who.gid)
      })
      const args = [
        `--pgdata=${dataDir}`,
        `--username=${superuser}`,
        `--pwfile=${pwfile}`,
        "--auth-local=trust",
        "--auth-host=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
        ...(Number(binaries.major) >= 17 ? ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] : []),
        "--no-instructions",
        ...flags
      ]
      const { code, output } = yield* run(Path.join(binaries.bin, "initdb"), args, who)
      if (code !== 0) yield* fail(reasonOf("initdb", output, dataDir))
      yield* attempt("keeping the password", dataDir, () =>
        writePrivate(Path.join(dataDir, passwordFile), password, who)
      )
    })
  )
})

const writePrivate = async (path: string, content: string, who: Account | undefined): Promise<void> => {
  await Fs.promises.writeFile(path, content, { mode: 0o600 })
  if (who !== undefined) await Fs.promises.chown(path, who.uid, who.gid)
}

/** Beside its place and then renamed, so that a start that was killed halfway leaves no half of a database there. */
const initialiseNew = Effect.fnUntraced(function* (
  host: Host,
  who: Account | undefined,
  binaries: Binaries,
  dataDir: string
) {
  const beside = `${dataDir}.partial-${randomBytes(4).toString("hex")}`
  yield* initialise(host, who, binaries, beside, []).pipe(
    Effect.andThen(
      attempt("creating dataDir", dataDir, () =>
        Fs.promises
          .rename(beside, dataDir)
          // Somebody else was first. Which of us may run it, the server's lock file decides.
          .catch((error) => (Fs.existsSync(Path.join(dataDir, "PG_VERSION")) ? undefined : Promise.reject(error)))
      )
    ),
    Effect.ensuring(Effect.promise(() => Fs.promises.rm(beside, { recursive: true, force: true })))
  )
})
