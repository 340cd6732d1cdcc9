/** The flags that every command understands, wherever they stand on the command line. */
import * as CliConfig from "effect/cli/CliConfig"
import * as Command from "effect/cli/Command"
import * as Completions from "effect/cli/Completions"
import * as Flag from "effect/cli/Flag"
import * as GlobalFlag from "effect/cli/GlobalFlag"

/** The database. */
export const Url = GlobalFlag.Setting("url")({
  flag: Flag.Redacted("url").pipe(
    Flag.withMetavar("<postgres://…>"),
    Flag.withDescription("The database; else SHIGOTO_DATABASE_URL, DATABASE_URL or the PG* variables"),
    Flag.optional
  )
})

/** The PostgreSQL schema. */
export const SchemaName = GlobalFlag.Setting("schema")({
  flag: Flag.String("schema").pipe(
    Flag.withMetavar("<name>"),
    Flag.withDescription("The PostgreSQL schema of the tables; else SHIGOTO_SCHEMA, else shigoto"),
    Flag.optional
  )
})

/** The config module. */
export const ConfigFile = GlobalFlag.Setting("config")({
  flag: Flag.String("config").pipe(
    Flag.withMetavar("<file>"),
    Flag.withDescription("The config module; else SHIGOTO_CONFIG; what needs one also finds shigoto.config.ts"),
    Flag.optional
  )
})

/** One JSON value. */
export const Json = GlobalFlag.Setting("json")({
  flag: Flag.Boolean("json").pipe(Flag.withDescription("Print one JSON value"), Flag.withDefault(false))
})

/** One JSON value a line. */
export const Ndjson = GlobalFlag.Setting("ndjson")({
  flag: Flag.Boolean("ndjson").pipe(
    Flag.withDescription("Print one JSON value a line, and each item of a list on its own"),
    Flag.withDefault(false)
  )
})

/** Secrets in the clear. */
export const Reveal = GlobalFlag.Setting("reveal")({
  flag: Flag.Boolean("reveal").pipe(
    Flag.withDescription("Show what is hidden in args, results, meta, errors and logs"),
    Flag.withDefault(false)
  )
})

/** The shells that command lines can be completed in. */
export const shells = ["bash", "zsh", "fish", "powershell"] as const

/** The script that completes command lines: the one of `effect/cli` leaves out flags that every command understands. */
export const completionScript = (command: Command.Command.Any, shell: (typeof shells)[number]): string => {
  const flags = { url: Url.flag, schema: SchemaName.flag, config: ConfigFile.flag, json: Json.flag }
  const shared = Completions.fromCommand(
    Command.make("all", { ...flags, ndjson: Ndjson.flag, reveal: Reveal.flag, help: GlobalFlag.Help.flag })
  ).flags
  const add = (one: Completions.CommandDescriptor): Completions.CommandDescriptor => ({
    ...one,
    flags: [...one.flags, ...shared],
    subcommands: one.subcommands.map(add)
  })
  return `${Completions.generate(command.name, shell, add(Completions.fromCommand(command)))}\n`
}

/** All of them. */
export const all = [Url, SchemaName, ConfigFile, Json, Ndjson, Reveal] as const

/** Those of `effect/cli`, without the wizard: a filter or a URL is not put together by questions. */
export const builtIns = CliConfig.layer({
  builtIns: [GlobalFlag.Help, GlobalFlag.Version, GlobalFlag.LogLevel]
})

/** For commands that change much at once. */
export const yes = Flag.Boolean("yes").pipe(
  Flag.withAlias("y"),
  Flag.withDescription("Do it without asking"),
  Flag.withDefault(false)
)

/** For commands that change anything. */
export const dryRun = Flag.Boolean("dry-run").pipe(
  Flag.withDescription("Say what would be done, and do nothing"),
  Flag.withDefault(false)
)

/** A whole number within limits. */
export const int = (name: string, min: number, max: number): Flag.Flag<number> =>
  Flag.Int(name).pipe(
    Flag.filter(
      (value) => value >= min && value <= max,
      (value) => `${value} is not from ${min} to ${max}`
    )
  )
