/** Runs the command line as a person does: in a process of its own, on pipes or in a terminal. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import { spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { TestDatabase } from "../setup/TestDatabase.ts"
import * as Job from "../../src/Job.ts"
import * as Outcome from "../../src/Signal.ts"
import { eventually } from "../setup/eventually.ts"
import { startNode } from "../integration/support.ts"

const bin = fileURLToPath(new URL("../../src/cli/bin.ts", import.meta.url))

/** The words that run the command line. */
export const argv: ReadonlyArray<string> = [process.execPath, "--conditions=source", bin]

export interface Ran {
  readonly code: number | string
  readonly stdout: string
  readonly stderr: string
}

/** Nothing of the environment of the test run decides what is seen. */
const environment = (url: string | undefined, more: Readonly<Record<string, string>>): NodeJS.ProcessEnv => ({
  PATH: process.env.PATH,
  HOME: process.env.HOME,
  LANG: "C.UTF-8",
  TERM: "xterm",
  // Most of the time of a command is the reading of its modules; Node checks each by what is in it.
  NODE_COMPILE_CACHE: join(tmpdir(), "effect-shigoto-compiled"),
  ...(url === undefined ? {} : { SHIGOTO_DATABASE_URL: url }),
  ...more
})

export interface Options {
  readonly env?: Readonly<Record<string, string>>
  readonly input?: string
  /** False for no database at all. */
  readonly database?: boolean
  readonly cwd?: string
}

/** Runs any program to its end. */
export const exec = (
  command: string,
  args: ReadonlyArray<string>,
  options: {
    readonly env: NodeJS.ProcessEnv
    readonly input?: string | undefined
    readonly cwd?: string | undefined
  }
): Effect.Effect<Ran> =>
  Effect.callback<Ran>((resume) => {
    const child = spawn(command, args, { env: options.env, cwd: options.cwd, stdio: "pipe" })
    let stdout = ""
    let stderr = ""
    child.stdout.setEncoding("utf8").on("data", (chunk: string) => (stdout += chunk))
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => (stderr += chunk))
    child.stdin.on("error", () => {})
    child.stdin.end(options.input ?? "")
    child.on("close", (code, signal) => resume(Effect.succeed({ code: code ?? signal ?? "unknown", stdout, stderr })))
    return Effect.sync(() => child.kill("SIGKILL"))
  })

/** Runs `shigoto …` on pipes, on the test's database. */
export const shigoto = Effect.fnUntraced(function* (args: ReadonlyArray<string>, options: Options = {}) {
  const [node = "", ...before] = argv
  return yield* exec(node, [...before, ...args], {
    env: yield* envOf(options),
    input: options.input,
    cwd: options.cwd
  })
})

/** Starts `shigoto …` on pipes and waits for what it says; killed with the scope. */
export const start = Effect.fnUntraced(function* (
  args: ReadonlyArray<string>,
  until: RegExp,
  options: Options & { readonly cwd?: string } = {}
) {
  const [node = "", ...before] = argv
  const env = yield* envOf(options)
  const child = yield* Effect.acquireRelease(
    Effect.sync(() => spawn(node, [...before, ...args], { env, cwd: options.cwd, stdio: "pipe" })),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )
  const seen = { stdout: "", stderr: "" }
  let ended: number | string | undefined
  child.on("close", (code, signal) => (ended = code ?? signal ?? "unknown"))
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => (seen.stdout += chunk))
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => (seen.stderr += chunk))
  const says = (what: RegExp) =>
    eventually(
      Effect.sync(() => ({ ...seen, ended })),
      ({ ended, stderr, stdout }) => what.test(stdout + stderr) || ended !== undefined
    )
  const first = yield* says(until)
  if (first.ended !== undefined && !until.test(first.stdout + first.stderr)) {
    return yield* Effect.die(new Error(`it ended with ${first.ended}: ${first.stderr}`))
  }
  return {
    child,
    seen,
    says,
    /** Waits for the end: the exit code, or the signal's name. */
    exit: Effect.map(
      eventually(
        Effect.sync(() => ended),
        (code) => code !== undefined
      ),
      (code) => code ?? "unknown"
    )
  }
})

/** Runs a line of shell in which `shigoto` is the command line. */
export const shell = Effect.fnUntraced(function* (text: string, options: Options = {}) {
  return yield* exec("bash", ["-c", `shigoto() { ${argv.map(quote).join(" ")} "$@"; }\n${text}`], {
    env: yield* envOf(options),
    input: options.input
  })
})

/** Runs `shigoto …` in a terminal of a size; `keys` are typed once the screen shows `until`, one after the other. */
export const terminal = Effect.fnUntraced(function* (
  args: ReadonlyArray<string>,
  options: Options & {
    readonly columns?: number
    readonly rows?: number
    readonly keys?: ReadonlyArray<{ readonly until: string | RegExp; readonly type: string }>
  } = {}
) {
  const env = yield* envOf(options)
  const { columns = 80, keys = [], rows = 24 } = options
  const line = `trap : INT; stty cols ${columns} rows ${rows} -echoctl; ${[...argv, ...args].map(quote).join(" ")}; echo "[$?]"`
  return yield* Effect.callback<Ran>((resume) => {
    const child = spawn("script", ["-qfec", line, "/dev/null"], { env, stdio: "pipe" })
    let screen = ""
    let typed = 0
    let seen = 0
    child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
      screen += chunk
      for (let next = keys[typed]; next !== undefined; next = keys[typed]) {
        const at = screen.slice(seen).search(next.until)
        if (at < 0) break
        seen = screen.length
        typed++
        child.stdin.write(next.type)
      }
    })
    child.stdin.on("error", () => {})
    child.on("close", () => {
      const [, code = "unknown"] = /\[(\d+)\]\s*$/.exec(screen) ?? []
      resume(
        Effect.succeed({
          code: Number(code),
          stdout: screen.replace(/\[\d+\]\s*$/, "").replaceAll("\r\n", "\n"),
          stderr: ""
        })
      )
    })
    return Effect.sync(() => child.kill("SIGKILL"))
  })
})

/** A person at a terminal, who types lines and keys and looks at the screen. */
export interface Session {
  /** Clears the screen, types a line, and waits until the screen shows something; by default, the prompt again. */
  readonly line: (text: string, until?: RegExp) => Effect.Effect<string>
  /** Types text as it is, or a key by tmux's name for it, and waits in the same way. */
  readonly keys: (keys: string, until?: RegExp) => Effect.Effect<string>
  readonly resize: (columns: number, rows: number, until: RegExp) => Effect.Effect<string>
  /** What was on the screen after each of these, without what differs from run to run. */
  readonly transcript: Effect.Effect<string>
}

/** Opens a terminal that is really one, tmux's, with a shell in it; gone with the scope. */
export const session = Effect.fnUntraced(function* (columns: number, rows: number, options: Options = {}) {
  const env = yield* envOf(options)
  const name = `shigoto-${randomUUID()}`
  const tmux = (...args: ReadonlyArray<string>) => exec("tmux", ["-L", name, "-f", "/dev/null", ...args], { env })
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "shigoto-session-"))),
    (path) => Effect.sync(() => rmSync(path, { recursive: true }))
  )
  const setup = join(folder, "setup")
  // The number of a line tells its prompt from that of the one before.
  writeFileSync(setup, `PS1='[$?] \\#$ '; shigoto() { ${argv.map(quote).join(" ")} "$@"; }\n`)
  yield* Effect.acquireRelease(
    tmux("new-session", "-d", "-x", `${columns}`, "-y", `${rows}`, `bash --noprofile --rcfile ${quote(setup)}`),
    () => tmux("kill-server")
  )
  const screen = Effect.map(tmux("capture-pane", "-p"), ({ stdout }) => stdout.replaceAll(/ +$/gm, "").trimEnd())
  const parts: Array<string> = []
  let lines = 1
  const shows = (until: RegExp = new RegExp(`\\] ${lines}\\$$`)) =>
    Effect.tap(
      eventually(screen, (text) => until.test(text)),
      (text) => Effect.sync(() => parts.push(text))
    )
  yield* shows()
  parts.length = 0
  return {
    line: (text: string, until?: RegExp) =>
      Effect.gen(function* () {
        lines++
        yield* tmux("send-keys", "C-l")
        yield* tmux("send-keys", "-l", text)
        yield* tmux("send-keys", "Enter")
        return yield* shows(until)
      }),
    keys: (keys: string, until?: RegExp) =>
      Effect.andThen(
        tmux("send-keys", keys),
        Effect.suspend(() => shows(until))
      ),
    resize: (wide: number, high: number, until: RegExp) =>
      Effect.andThen(tmux("resize-window", "-x", `${wide}`, "-y", `${high}`), shows(until)),
    transcript: Effect.sync(() =>
      normal(`${parts.map((part) => part.replaceAll(/\] \d+\$/g, "] $")).join(`\n${"─".repeat(20)}\n`)}\n`)
        // How wide a span is decides how far its column is from the next.
        .replaceAll(/^(?:.*<span>.*|.*INSERTED.*)$/gm, (row) => row.replaceAll(/ {2,}/g, "  "))
    )
  } satisfies Session
})

/** Several command lines and what they answered, as text in which nothing differs from run to run. */
export const transcript = Effect.fnUntraced(function* (
  lines: ReadonlyArray<string>,
  options: { readonly columns?: number } = {}
) {
  const parts: Array<string> = []
  for (const text of lines) {
    const args = [...text.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, bare]) => quoted ?? bare ?? "")
    const { code, stderr, stdout } =
      options.columns === undefined ? yield* shigoto(args) : yield* terminal(args, { columns: options.columns })
    parts.push(
      `$ shigoto ${text}\n${stdout}${stderr === "" ? "" : stderr.replaceAll(/^/gm, "2> ").replace(/2> $/, "")}[${code}]\n`
    )
  }
  return normal(parts.join("\n"))
})

/** Takes out what differs from run to run. */
export const normal = (text: string): string =>
  text
    .replaceAll("\u001b", "␛")
    .replaceAll(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/g, "<instant>")
    .replaceAll(/\d\d:\d\d:\d\d\s+UTC/g, "<clock>")
    .replaceAll(/(?:in )?(?<![[\d;])\b\d+(?:\.\d)?(?:ms|s|m|h|d)(?:\d+[smh])?(?: ago)?\b/g, "<span>")
    .replaceAll(/ +<span>/g, " <span>")
    .replaceAll(/postgres \d+(\.\d+)?/g, "postgres <version>")
    .replaceAll(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d/g, "<local>")
    .replaceAll(/\b[0-9a-f]{13,14}\b/g, "<hash>")
    .replaceAll(/\bv\d+\b/g, "v<n>")
    .replaceAll(/\bversion \d+|\b\d+ steps/g, (found) => found.replace(/\d+/, "<n>"))
    .replaceAll(/((^|\n).*\b0001_core\b.*)(\n.*\b\d{4}_\w+\b.*)+/g, "$1\n…")
    .replaceAll(/"fingerprint": ?"\w+"/g, '"fingerprint": "<hash>"')
    .replaceAll(/\S+@\S+\/shigoto_test_\w+/g, "<target>")
    // How long it is decides where lines are broken.
    .replaceAll(/ ·\s+<target>\s+·\s+/g, " · <target> · ")
    .replaceAll(/"postgres": "[^"]*"/g, '"postgres": "<version>"')
    .replaceAll(/^ +at .*\n/gm, "")
    .replaceAll(/(\\n +at [^"\\]*)+/g, "")

export const canary = "canary-7f3a9c"

export const Mail = Job.make("send-email", {
  args: { to: Schema.String, password: Schema.optional(Schema.String) },
  success: Schema.Struct({ sent: Schema.Boolean, sessionToken: Schema.String }),
  queue: "mails",
  maxAttempts: 2,
  tags: ["welcome"]
})

export const Hostile = Job.make("evil\u202eworker", { args: Schema.Json, queue: "キュー", maxAttempts: 1 })

const workers = Layer.mergeAll(
  Mail.toLayer(
    Effect.fn(function* ({ password, to }) {
      yield* Effect.logInfo(`logging in as ${to} with ${password}`)
      if (to.startsWith("bad")) {
        return yield* Effect.die(new Error(`550 ${to} rejected\u001b]0;owned\u0007 after AUTH password=${canary}`))
      }
      return { sent: true, sessionToken: canary }
    }),
    { captureLogs: true }
  ),
  Hostile.toLayer(() => Outcome.discard("no\u001b[2J\u009b31m\u202eway"))
)

/** Fills the database: jobs in several states, with secrets and with what would steer a terminal. */
export const seed = Effect.gen(function* () {
  const node = yield* startNode({ workers, config: { queues: { mails: 1, キュー: 1 }, nodeName: "seeder" } })
  const [good, bad] = yield* node.run(
    Effect.gen(function* () {
      const [good] = yield* Mail.enqueueAll([{ to: "ada@example.com", password: canary }])
      const bad = yield* Mail.enqueue({ to: "bad@example.com", password: canary }, { maxAttempts: 1 })
      const evil = yield* Hostile.enqueue({ "\u001b[31mkey": "\u001b[2J\u009b31m\u202e", apiKey: canary })
      yield* eventually(node.jobs.get(evil.id), (job) => job.state === "discarded")
      return [good, bad] as const
    })
  )
  yield* eventually(node.jobs.get(bad.id), (job) => job.state === "discarded")
  yield* eventually(node.jobs.get((good ?? bad).id), (job) => job.state === "completed")
  // What handlers logged is stored a little later than what became of them.
  yield* eventually(node.jobs.logs(bad.id), (lines) => lines.length > 0)
  yield* node.run(Mail.enqueue({ to: "later@example.com", password: canary }, { delay: "30 days" }))
  yield* node.stop
  // Ages of days are as wide in a minute as they are now, and with them the columns of tables.
  const sql = yield* SqlClient.SqlClient
  yield* sql`UPDATE shigoto.jobs SET inserted_at = inserted_at - interval '50.5 hours'`
  yield* sql`
    UPDATE shigoto.jobs_archive
    SET inserted_at = inserted_at - interval '50.5 hours', finished_at = finished_at - interval '50.5 hours'`
})

// internal

const envOf = (options: Options) =>
  options.database === false
    ? Effect.succeed(environment(undefined, options.env ?? {}))
    : Effect.map(TestDatabase, (database) => environment(Redacted.value(database.url), options.env ?? {}))

const quote = (word: string): string => `'${word.replaceAll("'", `'\\''`)}'`
