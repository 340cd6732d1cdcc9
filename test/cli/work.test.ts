import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import * as Fs from "node:fs"
import * as Http from "node:http"
import * as Path from "node:path"
import { eventually } from "../setup/eventually.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"
import { canary, exec, shigoto, start } from "./support.ts"

const root = Path.join(import.meta.dirname, "..", "..")

/** A folder with a manifest of its own, in which `effect-shigoto` is this source tree. */
class Project extends Context.Service<Project, { readonly cwd: string }>()("test/cli/Project") {
  static readonly layer = Layer.effect(
    Project,
    Effect.acquireRelease(
      Effect.sync(() => {
        Fs.mkdirSync(Path.join(root, "dist"), { recursive: true })
        const cwd = Fs.mkdtempSync(Path.join(root, "dist", "project-"))
        Fs.mkdirSync(Path.join(cwd, "node_modules"))
        Fs.symlinkSync(root, Path.join(cwd, "node_modules", "effect-shigoto"))
        Fs.writeFileSync(Path.join(cwd, "package.json"), `{\n    "name": "app",\n    "type": "module"\n}\n`)
        return { cwd }
      }),
      ({ cwd }) => Effect.sync(() => Fs.rmSync(cwd, { recursive: true, force: true }))
    )
  )
}

const args = `{"to":"ada@example.com","subject":"Hello"}`

layer(Layer.merge(TestDatabase.layer(), Project.layer), { excludeTestServices: true })("in a new project", (it) => {
  it.effect("init writes what runs, and never overwrites", () =>
    Effect.gen(function* () {
      const { cwd } = yield* Project
      const dry = yield* shigoto(["init", "--dry-run"], { cwd })
      assert.strictEqual(dry.code, 0, dry.stderr)
      assert.isFalse(Fs.existsSync(Path.join(cwd, "shigoto.config.ts")))
      const first = yield* shigoto(["init", "--json"], { cwd })
      assert.deepStrictEqual(JSON.parse(first.stdout), {
        dir: ".",
        written: ["jobs/send-email.ts", "shigoto.config.ts", "package.json"],
        scripts: ["shigoto:migrate", "shigoto:work"],
        dryRun: false
      })
      assert.include(Fs.readFileSync(Path.join(cwd, "package.json"), "utf8"), `        "shigoto:work": "shigoto work"`)
      Fs.writeFileSync(
        Path.join(cwd, "tsconfig.json"),
        JSON.stringify({
          extends: "../../test/tsconfig.json",
          compilerOptions: { rootDir: "../.." },
          include: ["."],
          exclude: []
        })
      )
      const tsc = Path.join(root, "node_modules", "typescript", "bin", "tsc")
      const types = yield* exec(process.execPath, [tsc, "-p", cwd, "--pretty", "false"], {
        env: { PATH: process.env.PATH }
      })
      assert.deepStrictEqual([types.code, types.stdout], [0, ""])
      const worker = Path.join(cwd, "jobs", "send-email.ts")
      Fs.appendFileSync(worker, "// mine\n")
      const again = yield* shigoto(["init"], { cwd })
      assert.strictEqual(again.code, 5)
      assert.include(again.stderr, "shigoto.config.ts, jobs/send-email.ts are there already")
      assert.include(Fs.readFileSync(worker, "utf8"), "// mine")
    })
  )

  it.effect("enqueue checks args by the definition, takes them from anywhere, and says what it did", () =>
    Effect.gen(function* () {
      const { cwd } = yield* Project
      const inserted = yield* shigoto(["enqueue", "send-email", args, "--tag", "a", "--tag", "b", "--json"], { cwd })
      assert.strictEqual(inserted.code, 0, inserted.stderr)
      const { id, queue, state } = JSON.parse(inserted.stdout) as { id: number; queue: string; state: string }
      assert.deepStrictEqual([queue, state], ["emails", "available"])
      const { maxAttempts, tags } = JSON.parse((yield* shigoto(["jobs", "show", String(id), "--json"])).stdout) as {
        readonly maxAttempts: number
        readonly tags: ReadonlyArray<string>
      }
      assert.deepStrictEqual([maxAttempts, tags], [5, ["a", "b"]])
      const later = yield* shigoto(["enqueue", "send-email", "-", "--in", "1h30m"], { cwd, input: args })
      assert.match(later.stdout, /^#\d+ scheduled in emails\n$/)
      Fs.writeFileSync(Path.join(cwd, "args.json"), args)
      const file = yield* shigoto(["enqueue", "send-email", "@args.json", "--at", "2040-01-01T00:00:00Z"], { cwd })
      assert.match(file.stdout, /^#\d+ scheduled in emails\n$/)
      const count = (yield* shigoto(["jobs", "list", "--count"])).stdout
      for (const [code, ...words] of [
        [2, "send-email", `{"to":1,"subject":"x"}`],
        [2, "send-email", "{"],
        [2, "send-email", "@nowhere.json"],
        [2, "send-email", args, "--in", "5"],
        [2, "send-email", args, "--in", "1h", "--at", "2040-01-01T00:00:00Z"],
        [2, "send-email", args, "--priority", "99999"],
        [3, "nobody", "{}"],
        [0, "send-email", args, "--dry-run"]
      ] as const) {
        const ran = yield* shigoto(["enqueue", ...words], { cwd })
        assert.strictEqual(ran.code, code, `${words.join(" ")}: ${ran.stderr}`)
      }
      assert.strictEqual((yield* shigoto(["jobs", "list", "--count"])).stdout, count)
      const unknown = yield* shigoto(["enqueue", "anything", `[1,"two"]`, "--queue", "elsewhere"])
      assert.strictEqual(unknown.code, 0)
      assert.include(unknown.stderr, "The args are not checked")
    })
  )

  it.effect("work runs jobs, and a signal lets them end: exit code 0, lease given back", () =>
    Effect.gen(function* () {
      const { cwd } = yield* Project
      const once = yield* shigoto(["work", "--once", "--queues", "emails:2"], { cwd })
      assert.strictEqual(once.code, 0, once.stderr)
      assert.include(once.stderr, "emails:2 · 1 worker: send-email")
      assert.strictEqual(once.stdout, "")
      assert.strictEqual((yield* shigoto(["jobs", "list", "state:completed", "--count"])).stdout, "1\n")
      for (const signal of ["SIGTERM", "SIGINT"] as const) {
        const node = yield* start(["work"], /Working on/, { cwd })
        const done = yield* shigoto(["enqueue", "send-email", args, "--wait"], { cwd })
        assert.strictEqual(done.code, 0, done.stderr)
        assert.match((JSON.parse(done.stdout) as { readonly messageId: string }).messageId, /^message-\d+$/)
        node.child.kill(signal)
        assert.strictEqual(yield* node.exit, 0, node.seen.stderr)
        const { nodes } = JSON.parse((yield* shigoto(["nodes", "--json"])).stdout) as {
          readonly nodes: ReadonlyArray<{ readonly live: boolean }>
        }
        assert.isFalse(nodes.some(({ live }) => live))
      }
    })
  )

  it.effect("the example's config module runs, with the services that it provides itself", () =>
    Effect.gen(function* () {
      const config = ["--config", Path.join(root, "examples", "cli", "shigoto.config.ts")]
      assert.strictEqual((yield* shigoto(["enqueue", "convert", `{"celsius":"hot"}`, ...config])).code, 2)
      const inserted = yield* shigoto(["enqueue", "convert", `{"celsius":21}`, "--json", ...config])
      assert.strictEqual(inserted.code, 0, inserted.stderr)
      const { id } = JSON.parse(inserted.stdout) as { readonly id: number }
      assert.strictEqual((yield* shigoto(["work", "--once", ...config])).code, 0)
      const { result } = JSON.parse((yield* shigoto(["jobs", "show", String(id), "--json"])).stdout) as {
        readonly result: unknown
      }
      assert.deepStrictEqual(result, { fahrenheit: 69.80000000000001 })
      assert.strictEqual((yield* shigoto(["jobs", "delete", String(id), "--yes"])).code, 0)
    })
  )

  it.effect("enqueue checks args by what a node has told, where there is no config module", () =>
    Effect.gen(function* () {
      const node = yield* start(
        ["work", "--config", Path.join(root, "examples", "cli", "shigoto.config.ts")],
        /Working on/
      )
      const told = yield* eventually(shigoto(["workers", "schema", "convert"]), ({ code }) => code === 0)
      node.child.kill("SIGTERM")
      assert.strictEqual(yield* node.exit, 0)
      assert.deepInclude(JSON.parse(told.stdout), { dialect: "draft-2020-12" })
      assert.strictEqual((yield* shigoto(["workers", "schema", "nobody"])).code, 3)
      const wrong = yield* shigoto(["enqueue", "convert", `{"celsius":"hot"}`])
      assert.strictEqual(wrong.code, 2)
      assert.match(wrong.stderr, /The args do not match the schema of "convert": Expected .*\n +at \["celsius"\]/)
      const right = yield* shigoto(["enqueue", "convert", `{"celsius":1}`, "--dry-run", "--json"])
      assert.deepStrictEqual(JSON.parse(right.stdout), { worker: "convert", checked: true, dryRun: true })
      const untyped = yield* shigoto(["enqueue", "convert", `{"celsius":"hot"}`, "--untyped", "--dry-run", "--json"])
      assert.deepStrictEqual(JSON.parse(untyped.stdout), { worker: "convert", checked: false, dryRun: true })
    })
  )

  it.effect("with a cipher, what is encrypted is written, run and read; without it stays sealed", () =>
    Effect.gen(function* () {
      const { cwd } = yield* Project
      const key = Buffer.alloc(32, 7).toString("base64")
      Fs.writeFileSync(
        Path.join(cwd, "sealed.ts"),
        `import { Effect, Redacted, Schema } from "effect"
import { Cipher, Job } from "effect-shigoto"
import { defineConfig } from "effect-shigoto/cli"

const Seal = Job.make("seal", { args: { card: Schema.String }, success: Schema.String, queue: "vault" })

export default defineConfig({
  settings: { queues: { vault: 1 } },
  jobs: [Seal],
  workers: Seal.toLayer(({ card }) => Effect.succeed("charged " + card)),
  cipher: Cipher.layerAesGcm({ keys: [{ id: "k1", key: Redacted.make("${key}") }] })
})
`
      )
      const config = ["--config", "sealed.ts"]
      const inserted = yield* shigoto(["enqueue", "seal", `{"card":"${canary}"}`, "--json", ...config], { cwd })
      assert.strictEqual(inserted.code, 0, inserted.stderr)
      const { id } = JSON.parse(inserted.stdout) as { readonly id: number }
      const show = ["jobs", "show", String(id), "--json", "--reveal"]
      const closed = yield* shigoto(show)
      const { args } = JSON.parse(closed.stdout) as {
        readonly args: { readonly $encrypted: string; readonly problem: string }
      }
      assert.strictEqual(args.$encrypted, "k1")
      assert.include(args.problem, "k1")
      assert.notInclude(closed.stdout, canary)
      assert.include((yield* shigoto([...show, ...config], { cwd })).stdout, canary)
      assert.strictEqual((yield* shigoto(["work", "--once", ...config], { cwd })).code, 0)
      const done = JSON.parse((yield* shigoto([...show, ...config], { cwd })).stdout) as { readonly result: unknown }
      assert.strictEqual(done.result, `charged ${canary}`)

      // A second key becomes the first.
      const module = Fs.readFileSync(Path.join(cwd, "sealed.ts"), "utf8")
      const next = `{ id: "k2", key: Redacted.make("${Buffer.alloc(32, 8).toString("base64")}") }, `
      Fs.writeFileSync(Path.join(cwd, "rotated.ts"), module.replace("keys: [", `keys: [${next}`))
      const rotated = ["--config", "rotated.ts"]
      const reencrypt = ["encryption", "reencrypt"]
      const dry = yield* shigoto([...reencrypt, "--dry-run", "--json", ...rotated], { cwd })
      assert.deepStrictEqual(JSON.parse(dry.stdout), { key: "k2", values: 2, dryRun: true })
      assert.strictEqual((yield* shigoto([...reencrypt, ...rotated], { cwd })).code, 5)
      const moved = yield* shigoto([...reencrypt, "--yes", ...rotated], { cwd })
      assert.deepStrictEqual(moved, { code: 0, stdout: "✓ 1 row put under the key k2\n", stderr: "" })
      const { keys } = JSON.parse((yield* shigoto(["encryption", "keys", "--json"])).stdout) as {
        readonly keys: ReadonlyArray<{ readonly keyId: string | null; readonly values: number }>
      }
      assert.deepInclude(
        keys.map(({ keyId, values }) => ({ keyId, values })),
        { keyId: "k2", values: 2 }
      )
      assert.isFalse(keys.some(({ keyId }) => keyId === "k1"))
      assert.include((yield* shigoto([...show, ...rotated], { cwd })).stdout, canary)
      // The old module lacks the key: what it cannot read stays as it is, and is told.
      const back = yield* shigoto([...reencrypt, "--yes", "--json", ...config], { cwd })
      assert.strictEqual(back.code, 1)
      assert.deepInclude(JSON.parse(back.stdout), { key: "k1", changed: 0, left: 2, unreadable: 2 })
      assert.strictEqual((yield* shigoto(reencrypt, { cwd })).code, 2)
      assert.strictEqual((yield* shigoto(["jobs", "delete", String(id), "--yes"])).code, 0)
    })
  )

  it.effect("refuses a config module that is none, and says why", () =>
    Effect.gen(function* () {
      const { cwd } = yield* Project
      for (const [name, text, why] of [
        ["empty.ts", "export const a = 1", "it has no default export"],
        ["stranger.ts", "export default { quues: {} }", `it has no field "quues"`],
        ["wrong.ts", "export default { workers: 1 }", "workers is no Layer"],
        ["broken.ts", "export default {", "cannot be loaded"],
        ["idle.ts", "export default { jobs: [] }", "The config module has no workers"]
      ] as const) {
        Fs.writeFileSync(Path.join(cwd, name), text)
        const ran = yield* shigoto(["work", "--config", name], { cwd })
        assert.strictEqual(ran.code, name === "broken.ts" ? 1 : 2, ran.stderr)
        assert.include(ran.stderr, why)
      }
      const missing = yield* shigoto(["jobs", "list", "--config", "nowhere.ts"], { cwd })
      assert.strictEqual(missing.code, 2)
      assert.include(missing.stderr, "There is no config module nowhere.ts")
    })
  )

  it.effect("prune asks for a retention where nothing says one, and forgets what is past it", () =>
    Effect.gen(function* () {
      const { cwd } = yield* Project
      const unsaid = yield* shigoto(["prune", "--yes"])
      assert.strictEqual(unsaid.code, 2)
      assert.include(unsaid.stderr, "How long are completed jobs kept?")
      assert.strictEqual((yield* shigoto(["prune"], { cwd })).code, 5)
      const before = (yield* shigoto(["jobs", "list", "state:completed", "--count"])).stdout
      assert.strictEqual(before, "3\n")
      const kept = yield* shigoto(["prune", "--yes", "--json"], { cwd })
      assert.strictEqual(kept.code, 0, kept.stderr)
      assert.strictEqual((yield* shigoto(["jobs", "list", "state:completed", "--count"])).stdout, before)
      const none = ["--completed", "0s", "--discarded", "90d", "--cancelled", "14d"]
      const dry = JSON.parse((yield* shigoto(["prune", ...none, "--dry-run", "--json"])).stdout) as {
        readonly past: ReadonlyArray<{ readonly state: string; readonly count: number }>
      }
      assert.deepInclude(
        dry.past.map(({ count, state }) => ({ count, state })),
        { state: "completed", count: 3 }
      )
      assert.strictEqual((yield* shigoto(["prune", ...none, "--yes"])).code, 0)
      assert.strictEqual((yield* shigoto(["jobs", "list", "state:completed", "--count"])).stdout, "0\n")
    })
  )

  it.effect("bench measures in a schema of its own, and leaves nothing", () =>
    Effect.gen(function* () {
      const ran = yield* shigoto(["bench", "-n", "200", "-c", "5", "--json"])
      assert.strictEqual(ran.code, 0, ran.stderr)
      const report = JSON.parse(ran.stdout) as Record<string, number>
      for (const field of ["singleEnqueuesPerSecond", "bulkEnqueuesPerSecond", "completionsPerSecond"]) {
        assert.isAbove(report[field] ?? 0, 0, field)
      }
      const sql = yield* SqlClient.SqlClient
      const left =
        yield* sql`SELECT nspname::text FROM pg_namespace WHERE starts_with(nspname::text, 'shigoto_scratch')`
      assert.deepStrictEqual(left, [])
      assert.strictEqual((yield* shigoto(["jobs", "list", "worker:bench", "--count"])).stdout, "0\n")
    })
  )

  it.effect("dashboard serves who opens the address that it printed, and elsewhere who has the password", () =>
    Effect.gen(function* () {
      const { cwd } = yield* Project
      const opened = Path.join(cwd, "opened")
      for (const name of ["xdg-open", "open"]) {
        Fs.writeFileSync(Path.join(cwd, name), `#!/bin/sh\necho "$1" > '${opened}'\n`, { mode: 0o755 })
      }
      const server = yield* start(["dashboard", "--port", "0", "--open"], /http:\S+/, {
        env: { PATH: `${cwd}:${process.env["PATH"] ?? ""}`, SHIGOTO_DASHBOARD_READ_ONLY: "true" }
      })
      const [url = ""] = /http:\S+/.exec(server.seen.stdout) ?? []
      yield* eventually(
        Effect.sync(() => (Fs.existsSync(opened) ? Fs.readFileSync(opened, "utf8") : "")),
        (text) => text === `${url}\n`
      )
      const me = new URL("api/me", url).href
      assert.strictEqual((yield* request(me)).status, 401)
      assert.strictEqual((yield* request(`${me}?token=guess`)).status, 401)
      const welcome = yield* request(url)
      assert.deepStrictEqual([welcome.status, welcome.headers.location], [302, "/"])
      const [given = ""] = welcome.headers["set-cookie"] ?? []
      assert.match(given, /; HttpOnly; SameSite=Lax; Path=\/$/)
      const cookie = `other=1; ${given.split(";")[0]}`
      const own = yield* request(me, { cookie })
      assert.strictEqual(own.status, 200)
      const alone = { environment: null, instance: null, instances: [] }
      assert.deepStrictEqual(JSON.parse(own.body), { user: "cli", can: ["jobs:view"], queues: null, ...alone })
      assert.strictEqual((yield* request(me, { cookie, host: "rebound.example.com" })).status, 403)
      // The address was for one browser, which may still have it in its history; the next one is for another.
      assert.strictEqual((yield* request(url)).status, 401)
      assert.strictEqual((yield* request(url, { cookie })).status, 302)
      const next = yield* eventually(
        Effect.sync(() => /another browser: (\S+)/.exec(server.seen.stderr)?.[1]),
        (found) => found !== undefined
      )
      assert.strictEqual((yield* request(next ?? "")).headers["set-cookie"]?.length, 1)
      server.child.kill("SIGINT")
      assert.strictEqual(yield* server.exit, 0)

      const open = yield* shigoto(["dashboard", "--host", "0.0.0.0", "--port", "0"])
      assert.strictEqual(open.code, 5)
      assert.include(open.stderr, "SHIGOTO_DASHBOARD_PASSWORD")
      const env = { SHIGOTO_DASHBOARD_PASSWORD: "open sesame" }
      const guarded = yield* start(
        ["dashboard", "--host", "0.0.0.0", "--port", "0", "--base-path", "jobs"],
        /http:\S+/,
        { env }
      )
      const [, port = ""] = /:(\d+)\/jobs\//.exec(guarded.seen.stdout) ?? []
      const there = `http://127.0.0.1:${port}/jobs/api/me`
      assert.strictEqual((yield* request(there)).status, 401)
      const basic = (password: string) => ({ authorization: `Basic ${btoa(`me:${password}`)}` })
      assert.strictEqual((yield* request(there, basic("wrong"))).status, 401)
      assert.strictEqual((yield* request(there, basic("open sesame"))).status, 200)
      guarded.child.kill("SIGTERM")
      assert.strictEqual(yield* guarded.exit, 0)
    })
  )
})

// internal

const request = (url: string, headers: Record<string, string> = {}) =>
  Effect.callback<{
    readonly status: number
    readonly headers: Http.IncomingHttpHeaders
    readonly body: string
  }>((resume) => {
    Http.get(url, { headers }, (response) => {
      let body = ""
      response.setEncoding("utf8").on("data", (chunk: string) => (body += chunk))
      response.on("end", () =>
        resume(Effect.succeed({ status: response.statusCode ?? 0, headers: response.headers, body }))
      )
    })
  })
