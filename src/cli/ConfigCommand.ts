/**
 * `shigoto config print`: which database and which settings commands use here, and who says so.
 */
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import { plainSetting } from "../Redaction.ts"
import * as ShigotoConfig from "../ShigotoConfig.ts"
import { environmentSettings, findTarget } from "./internal/connection.ts"
import { Loaded } from "./internal/load.ts"
import { Screen } from "./internal/screen.ts"
import { line } from "./internal/text.ts"

const print = Command.make(
  "print",
  {},
  Effect.fnUntraced(function* () {
    const screen = yield* Screen
    const loaded = yield* Loaded
    const config = yield* loaded.found
    const file = yield* loaded.file
    const target = yield* findTarget(config)
    const { schema: _, ...settings } = yield* ShigotoConfig.make({
      ...config?.settings,
      ...(yield* environmentSettings),
      ...(target === undefined ? {} : { schema: target.schema })
    })
    const shape = {
      database: target === undefined ? null : { target: target.shown, source: target.source },
      schema: target?.schema ?? ShigotoConfig.defaults.schema,
      module: file ?? null,
      jobs: config?.jobs?.map(({ name }) => name) ?? [],
      workers: config?.workers !== undefined,
      cipher: config?.cipher !== undefined,
      redactKeys: config?.redactKeys ?? [],
      settings: Object.fromEntries(Object.entries(settings).map(([name, value]) => [name, plainSetting(value)]))
    }
    const wide = Math.max(...Object.keys(shape.settings).map((name) => name.length))
    const field = (name: string, text: string): string => `${screen.paint(name.padEnd(wide), "dim")}  ${line(text)}`
    yield* screen.show(
      shape,
      screen.print(
        field(
          "database",
          shape.database === null ? "none is named" : `${shape.database.target} (${shape.database.source})`
        ),
        field("schema", shape.schema),
        field("module", shape.module ?? "none"),
        field("jobs", shape.jobs.join(", ") || "none"),
        field("workers", shape.workers ? "yes" : "none"),
        field("cipher", shape.cipher ? "yes" : "none"),
        field("redactKeys", shape.redactKeys.join(", ") || "the usual ones"),
        "",
        ...Object.entries(shape.settings).map(([name, value]) =>
          field(name, typeof value === "string" ? value : JSON.stringify(value))
        )
      )
    )
  })
).pipe(
  Command.withDescription("Print which database and settings are used here, and who says so; passwords are left out")
)

/**
 * The command.
 *
 * @category commands
 */
export const config = Command.make("config").pipe(
  Command.withDescription("Print the settings in force"),
  Command.withSubcommands([print])
)
