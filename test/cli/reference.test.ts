import { assert, describe, expect, it } from "@effect/vitest"
import * as CliOutput from "effect/cli/CliOutput"
import * as Command from "effect/cli/Command"
import type { FlagDoc, HelpDoc } from "effect/cli/HelpDoc"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Cli from "../../src/cli/Cli.ts"
import * as Environment from "../../src/cli/internal/environment.ts"
import { exitCodes } from "../../src/cli/internal/exit.ts"
import * as Options from "../../src/cli/internal/options.ts"

const docs = Path.join(import.meta.dirname, "..", "..", "docs")

/** What `--help` says of a command, as data. */
const helpOf = Effect.fnUntraced(function* (path: ReadonlyArray<string>) {
  const shown: Array<HelpDoc> = []
  const presenter = CliOutput.layerPresenter({
    present: (event) => Effect.sync(() => event._tag === "Help" && shown.push(event.helpDoc))
  })
  yield* Command.runWith(Cli.command, { version: "0" })([...path, "--help"]).pipe(
    Effect.provide(Layer.mergeAll(presenter, Environment.layer, Options.builtIns))
  )
  assert.strictEqual(shown.length, 1, path.join(" "))
  return shown[0] as HelpDoc // just counted
})

const cell = (text: string): string => text.replaceAll("|", "\\|")

const flagRow = (flag: FlagDoc): string =>
  `| \`${cell([`--${flag.name}`, ...flag.aliases].join(", ") + (flag.type === "boolean" ? "" : ` ${flag.type}`))}\` | ${cell(Option.getOrElse(flag.description, () => ""))}${flag.required ? " **Required.**" : ""} |`

const table = (title: string, rows: ReadonlyArray<string>): ReadonlyArray<string> =>
  rows.length === 0 ? [] : [`| ${title} | |`, "|---|---|", ...rows, ""]

const section = (path: ReadonlyArray<string>, help: HelpDoc): ReadonlyArray<string> => [
  `${"#".repeat(Math.min(path.length + 1, 4))} ${["shigoto", ...path].join(" ")}`,
  "",
  `${help.description}.`.replace(/\.\.$/, "."),
  "",
  "```",
  help.usage,
  "```",
  "",
  ...table(
    "argument",
    (help.args ?? []).map(
      (arg) =>
        `| \`${arg.name}\` | ${cell(Option.getOrElse(arg.description, () => ""))}${arg.required ? " **Required.**" : ""} |`
    )
  ),
  ...table("flag", help.flags.map(flagRow)),
  ...(path.length === 0 ? table("flag of every command", (help.globalFlags ?? []).map(flagRow)) : []),
  ...(help.examples ?? []).flatMap(({ command, description }) => [
    "```sh",
    `# ${description ?? ""}`,
    command,
    "```",
    ""
  ])
]

const walk = (path: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<string>, unknown> =>
  Effect.gen(function* () {
    const help = yield* helpOf(path)
    const below = yield* Effect.forEach(
      (help.subcommands ?? []).flatMap(({ commands }) => commands),
      ({ name }) => walk([...path, name])
    )
    return [...section(path, help), ...below.flat()]
  })

describe("the reference", () => {
  it.effect("docs/cli-reference.md is what --help says", () =>
    Effect.gen(function* () {
      const lines = yield* walk([])
      const text = ["<!-- Made by test/cli/reference.test.ts from --help: run it with -u. -->", "", ...lines]
        .join("\n")
        .replace(/^## shigoto$/m, "# shigoto")
      yield* Effect.promise(() => expect(text).toMatchFileSnapshot(Path.join(docs, "cli-reference.md")))
    })
  )

  it("docs/cli.md tells every command and every exit code", () => {
    const guide = Fs.readFileSync(Path.join(docs, "cli.md"), "utf8")
    const groups = Cli.command.subcommands.flatMap(({ commands }) => commands.map(({ name }) => name))
    assert.deepStrictEqual(
      groups.filter((name) => !guide.includes(`shigoto ${name}`) && !guide.includes(`\`${name}`)),
      []
    )
    const codes = [...guide.matchAll(/^\| (\d+) \|/gm)].map(([, code]) => Number(code))
    assert.deepStrictEqual(codes, Object.values(exitCodes))
  })
})
