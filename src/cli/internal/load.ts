/** Finds and loads the config module. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { existsSync } from "node:fs"
import { resolve } from "node:path"
import { pathToFileURL } from "node:url"
import type { Config } from "../Config.ts"
import { Failed, UsageError } from "./exit.ts"
import { ConfigFile } from "./options.ts"

/** The config module, loaded at most once. */
export class Loaded extends Context.Service<
  Loaded,
  {
    /** What `--config` names, or nothing. */
    readonly named: Effect.Effect<Config | undefined, UsageError | Failed>
    /** What `--config` names, or what is found in the working directory, or nothing. */
    readonly found: Effect.Effect<Config | undefined, UsageError | Failed>
    /** The file of `found`. */
    readonly file: Effect.Effect<string | undefined>
  }
>()("effect-shigoto/cli/Loaded") {}

/** The names under which a config module is looked for. */
export const fileNames: ReadonlyArray<string> = ["ts", "mts", "js", "mjs"].map((ending) => `shigoto.config.${ending}`)

/** Provides the module. */
export const layer = Layer.effect(
  Loaded,
  Effect.gen(function* () {
    const flag = Option.getOrUndefined(yield* ConfigFile) ?? (process.env["SHIGOTO_CONFIG"] || undefined)
    const own = yield* Effect.cached(flag === undefined ? Effect.undefined : load(flag))
    const file = yield* Effect.cached(Effect.sync(() => flag ?? fileNames.find((one) => existsSync(one))))
    const beside = yield* Effect.cached(
      Effect.flatMap(file, (name) => (name === undefined ? Effect.undefined : load(name)))
    )
    return Loaded.of({ named: own, found: flag === undefined ? beside : own, file })
  })
)

// internal

const load = Effect.fnUntraced(function* (path: string) {
  const file = resolve(path)
  if (!existsSync(file)) {
    return yield* new UsageError({ message: `There is no config module ${path}.`, hint: "shigoto init writes one." })
  }
  const module = yield* Effect.tryPromise({
    try: () => import(pathToFileURL(file).href) as Promise<{ readonly default?: unknown }>, // a module
    catch: (error) =>
      new Failed({
        message: `The config module ${path} cannot be loaded: ${error instanceof Error ? error.message : String(error)}`,
        hint: "Node runs TypeScript by stripping types: enums, decorators and imports without an ending do not work there."
      })
  })
  const config = module.default
  const problem = problemOf(config)
  if (problem !== undefined) {
    return yield* new UsageError({
      message: `The config module ${path} cannot be used: ${problem}.`,
      hint: "It says: export default defineConfig({ … }), with defineConfig from effect-shigoto/cli."
    })
  }
  return config as Config // checked as far as it can be
})

const problemOf = (config: unknown): string | undefined => {
  if (typeof config !== "object" || config === null) return "it has no default export"
  const known = ["url", "pool", "settings", "jobs", "workers", "cipher", "redactKeys"]
  const fields = config as Record<string, unknown> // an object, as checked above
  const stranger = Object.keys(fields).find((field) => !known.includes(field))
  if (stranger !== undefined) return `it has no field "${stranger}"; there are ${known.join(", ")}`
  for (const field of ["workers", "cipher"]) {
    if (fields[field] !== undefined && !Layer.isLayer(fields[field])) return `${field} is no Layer`
  }
  for (const field of ["jobs", "redactKeys"]) {
    if (fields[field] !== undefined && !Array.isArray(fields[field])) return `${field} is no array`
  }
  return fields["url"] === undefined || typeof fields["url"] === "string" ? undefined : "url is no string"
}
