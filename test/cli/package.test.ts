import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { TestDatabase } from "../setup/TestDatabase.ts"
import { exec } from "./support.ts"

const root = Path.join(import.meta.dirname, "..", "..")

layer(TestDatabase.layerDatabase(), { excludeTestServices: true })("as installed", (it) => {
  it.effect("the compiled executable runs with nothing beside the library's peers", () =>
    Effect.gen(function* () {
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "shigoto-installed-"))),
        (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true, force: true }))
      )
      const modules = Path.join(folder, "node_modules")
      const own = Path.join(modules, "effect-shigoto")
      Fs.mkdirSync(Path.join(modules, "@effect"), { recursive: true })
      Fs.mkdirSync(own)
      for (const peer of ["effect", "@effect/sql-pg"]) {
        Fs.symlinkSync(Fs.realpathSync(Path.join(root, "node_modules", peer)), Path.join(modules, peer))
      }
      const tsc = Path.join(root, "node_modules", "typescript", "bin", "tsc")
      const out = ["--outDir", Path.join(own, "dist"), "--declaration", "false", "--declarationMap", "false"]
      const built = yield* exec(process.execPath, [tsc, "-p", root, ...out], { env: { PATH: process.env.PATH } })
      assert.deepStrictEqual([built.code, built.stdout], [0, ""])
      Fs.copyFileSync(Path.join(root, "package.json"), Path.join(own, "package.json"))
      const { bin, version } = JSON.parse(Fs.readFileSync(Path.join(own, "package.json"), "utf8")) as {
        readonly bin: { readonly shigoto: string }
        readonly version: string
      }
      const file = Path.join(own, bin.shigoto)
      assert.isTrue(Fs.readFileSync(file, "utf8").startsWith("#!/usr/bin/env node\n"))
      const url = Redacted.value((yield* TestDatabase).url)
      const run = (...args: ReadonlyArray<string>) =>
        exec(process.execPath, [file, ...args], { env: { PATH: process.env.PATH, DATABASE_URL: url }, cwd: folder })
      assert.strictEqual((yield* run("--version")).stdout, `${version}\n`)
      assert.strictEqual((yield* run("migrate", "status")).code, 0)
      const listed = yield* run("jobs", "list", "--json")
      assert.deepStrictEqual(JSON.parse(listed.stdout), { jobs: [], next: null })
      // The door that config modules import.
      Fs.writeFileSync(
        Path.join(folder, "shigoto.config.mjs"),
        `import { defineConfig } from "effect-shigoto/cli"\nexport default defineConfig({ jobs: [] })\n`
      )
      const typed = yield* run("enqueue", "nobody")
      assert.strictEqual(typed.code, 3, typed.stderr)
    })
  )
})
