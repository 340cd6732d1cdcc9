/**
 * `shigoto init`: a first worker, a config module and scripts, in files that are not there yet.
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { Failed, Refused } from "./internal/exit.ts"
import { fileNames } from "./internal/load.ts"
import { dryRun } from "./internal/options.ts"
import { Screen } from "./internal/screen.ts"

/**
 * The command.
 *
 * @category commands
 */
export const init = Command.make(
  "init",
  {
    dir: Flag.String("dir").pipe(
      Flag.withMetavar("<folder>"),
      Flag.withDescription("Where to write"),
      Flag.withDefault(".")
    ),
    dryRun
  },
  Effect.fnUntraced(function* ({ dir, dryRun }) {
    const screen = yield* Screen
    const there = [...new Set([...fileNames, ...files.keys()])].filter((name) => existsSync(join(dir, name)))
    if (there.length > 0) {
      return yield* new Refused({
        message: `${there.join(", ")} ${there.length === 1 ? "is" : "are"} there already; nothing was written.`,
        hint: "Move it away, or pass --dir for another folder."
      })
    }
    const { added, text } = yield* manifest(dir)
    const written = [...files.keys(), ...(text === undefined ? [] : ["package.json"])]
    if (!dryRun) {
      yield* Effect.try({
        try: () => {
          for (const [name, content] of files) {
            mkdirSync(dirname(join(dir, name)), { recursive: true })
            // Fails where somebody was faster.
            writeFileSync(join(dir, name), content, { flag: "wx" })
          }
          if (text !== undefined) writeFileSync(join(dir, "package.json"), text)
        },
        catch: (error) => new Failed({ message: `It cannot be written: ${(error as Error).message}` })
      })
    }
    yield* screen.show(
      { dir, written, scripts: added, dryRun },
      Effect.gen(function* () {
        for (const name of files.keys()) yield* screen.print(`${screen.paint(dryRun ? "·" : "✓", "green")} ${name}`)
        if (added.length > 0) {
          yield* screen.print(`${screen.paint(dryRun ? "·" : "✓", "green")} package.json: scripts ${added.join(", ")}`)
        }
        if (dryRun) return
        yield* screen.say(`
Next:
  npm install effect @effect/sql-pg effect-shigoto
  export DATABASE_URL=postgres://localhost/app
  npx shigoto migrate
  npx shigoto work
and in another terminal:
  npx shigoto enqueue send-email '{"to":"ada@example.com","subject":"Hello"}' --wait
  npx shigoto status`)
      })
    )
  })
).pipe(Command.withDescription("Write a first worker, shigoto.config.ts and scripts; never overwrites a file"))

// internal

const files: ReadonlyMap<string, string> = new Map([
  [
    "jobs/send-email.ts",
    `import { Effect, Schema } from "effect"
import { Job } from "effect-shigoto"

/** What a producer needs: \`yield* SendEmail.enqueue({ to, subject })\`. */
export const SendEmail = Job.make("send-email", {
  args: { to: Schema.String, subject: Schema.String },
  success: Schema.Struct({ messageId: Schema.String }),
  queue: "emails",
  maxAttempts: 5
})

/** What a node needs: the handler. It may run more than once, so it should not mind. */
export const SendEmailLive = SendEmail.toLayer(
  Effect.fn("SendEmail")(function* ({ subject, to }, job) {
    yield* Effect.log(\`Attempt \${job.attempt}: "\${subject}" goes to \${to}\`)
    return { messageId: \`message-\${job.id}\` }
  })
)
`
  ],
  [
    "shigoto.config.ts",
    `import { defineConfig } from "effect-shigoto/cli"
import { SendEmail, SendEmailLive } from "./jobs/send-email.ts"

export default defineConfig({
  // The settings of your application's own ShigotoConfig.layer.
  settings: { queues: { default: 10, emails: 5 } },
  // What \`shigoto enqueue\` checks args by.
  jobs: [SendEmail],
  // What \`shigoto work\` runs.
  workers: SendEmailLive
})
`
  ]
])

const scripts: Readonly<Record<string, string>> = {
  "shigoto:migrate": "shigoto migrate",
  "shigoto:work": "shigoto work"
}

/** The manifest with the scripts that it lacks; no text where there is nothing to add to. */
const manifest = Effect.fnUntraced(function* (dir: string) {
  const path = join(dir, "package.json")
  if (!existsSync(path)) return { added: [], text: undefined }
  return yield* Effect.try({
    try: () => {
      const before = readFileSync(path, "utf8")
      const parsed = JSON.parse(before) as { readonly scripts?: Readonly<Record<string, string>> } // as npm writes it
      const added = Object.keys(scripts).filter((name) => parsed.scripts?.[name] === undefined)
      if (added.length === 0) return { added, text: undefined }
      const missing = Object.fromEntries(added.map((name) => [name, scripts[name]]))
      const indent = /^([ \t]+)"/m.exec(before)?.[1] ?? "  "
      const after = { ...parsed, scripts: { ...parsed.scripts, ...missing } }
      return { added, text: `${JSON.stringify(after, undefined, indent)}\n` }
    },
    catch: (error) => new Failed({ message: `package.json cannot be read: ${(error as Error).message}` })
  })
})
