/**
 * The tables in the guides that the sources make: options of an interface, and the variables of the environment.
 *
 * A guide marks the place: `<!-- options src/Job.ts WorkerOptions -->`, or `<!-- environment -->`, then the table, then
 * `<!-- end -->`. `<!-- own options … -->` leaves out what the interface extends.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { type Field, optionsIn, readFields, readOwnFields, root } from "./declarations.ts"

/** The guides with their tables made anew, and what the sources do not say. */
export interface Guides {
  readonly pages: ReadonlyMap<string, string>
  readonly missing: ReadonlyArray<string>
}

/** Makes the tables of all guides. */
export const makeGuides = (): Guides => {
  const pages = new Map<string, string>()
  const missing: Array<string> = []
  const guides = Fs.readdirSync(Path.join(root, "docs")).filter((name) => name.endsWith(".md"))
  for (const page of ["README.md", ...guides.map((name) => `docs/${name}`)]) {
    const text = Fs.readFileSync(Path.join(root, page), "utf8")
    const made = text.replaceAll(marked, (_, marker: string, kind: string, file: string, name: string) => {
      const read = kind === "own options" ? readOwnFields : readFields
      const table = kind === "environment" ? environment(missing) : optionsTable(file, name, read(file, name), missing)
      return `${marker}\n\n${table}\n\n<!-- end -->`
    })
    if (made.includes("<!-- end -->")) pages.set(page, made)
  }
  return { pages, missing }
}

/** The options of the library that no guide has a table of. */
export const untold = (pages: Iterable<string>): ReadonlyArray<string> => {
  const text = [...pages].join("\n")
  return [...publicOptions.keys()].filter((options) => !text.includes(`options ${options} -->`))
}

/** The tables of a page that tell of options and are not made from the sources: at least half of the rows name one. */
export const writtenByHand = (text: string): ReadonlyArray<string> => {
  // Of the command line, `--help` makes the pages.
  if (text.startsWith("<!-- Made ")) return []
  return [...text.replaceAll(marked, "").matchAll(/(?:^\|.*\n)+/gm)].flatMap(([table]) => {
    const [head = "", , ...rows] = table.trimEnd().split("\n")
    const named = rows.map((row) => /^\| *`(\w+)[`:?]/.exec(row)?.[1] ?? "")
    const isOfOptions = [...publicOptions.values()].some(
      (fields) => new Set(named.filter((name) => fields.has(name))).size >= Math.max(2, rows.length / 2)
    )
    return isOfOptions || /^\| *option/.test(head) ? [head] : []
  })
}

/** The table of an interface's fields. */
export const tableOf = (fields: ReadonlyArray<Field>): string =>
  [
    "| option | type | default | what it says |",
    "|---|---|---|---|",
    ...fields.map((field) => {
      const said = defaultOf(field)
      return `| \`${field.name}\` | ${code(shortened(field.type))} | ${cell(said?.value ?? "required")} | ${cell(said?.rest ?? field.doc ?? "")} |`
    })
  ].join("\n")

/** What an interface leaves unsaid: what a field is for, and what holds without it. */
export const missingIn = (name: string, fields: ReadonlyArray<Field>): ReadonlyArray<string> =>
  fields.flatMap((field) => {
    const said = defaultOf(field)
    const rest = said?.rest ?? field.doc ?? ""
    return [
      ...(rest === "" ? [`${name}.${field.name} does not say what it is`] : []),
      ...(field.optional && said === undefined ? [`${name}.${field.name} does not say what it defaults to`] : [])
    ]
  })

// internal

const marked = /(<!-- ((?:own )?options|environment)(?: (\S+) (\w+))? -->).*?<!-- end -->/gs

const optionsTable = (file: string, name: string, fields: ReadonlyArray<Field>, missing: Array<string>): string => {
  missing.push(...missingIn(`${file} ${name}`, fields))
  return tableOf(fields)
}

/** Parts a docstring into what the field says and what it defaults to. */
const defaultOf = ({ doc }: Field): { readonly value: string; readonly rest: string } | undefined => {
  const found = /(?:^| )Defaults to (.+?)\.(?= [A-Z`]|$)/.exec(doc ?? "")
  if (doc === undefined || found === null) return undefined
  const [whole, value = ""] = found
  return { value, rest: doc.replace(whole, "").trim() }
}

/** A type of an object or a function within a type says more in the reference than in a cell. */
const shortened = (type: string): string => {
  const plain = type.replaceAll("readonly ", "").replace(/^\((.*)\)$/, "$1")
  if (plain.length <= 60) return plain
  let short = plain
  for (let before = ""; before !== short;) {
    before = short
    short = short.replaceAll(/\{ [^{}…]*\}/g, "{ … }")
  }
  return short
}

/** Code with a backtick of its own stands between two. */
const code = (text: string): string => {
  const [open, close] = text.includes("`") ? ["`` ", " ``"] : ["`", "`"]
  return `${open}${cell(text)}${close}`
}

const cell = (text: string): string => text.replaceAll("|", "\\|")

/** The variables that the code reads, each with what it says. */
const environment = (missing: Array<string>): string => {
  const fields = new Map(readFields("src/ShigotoConfig.ts", "Options").map((field) => [field.name, field]))
  const config = [...sourceOf("src/ShigotoConfig.ts").matchAll(/(\w+): optional\(Config\.(\w+)\("(SHIGOTO_\w+)"\)\)/g)]
  if (config.some(([, field = ""]) => !fields.has(field))) missing.push("a variable of ShigotoConfig names no option")
  const ofLine = new Set(
    filesBelow("src/cli").flatMap((file) =>
      [...sourceOf(file).matchAll(/(?:text\(|process\.env\[|EnvConfig\.\w+\()"([A-Z_]+)"/g)].map(
        ([, name = ""]) => name
      )
    )
  )
  const rows = config.map(([, field = "", , variable = ""]) => {
    const example = field === "queues" ? ", such as `default=10,emails=5`" : ""
    const reader = ofLine.has(variable) ? "`layerFromEnv`, `shigoto`" : "`layerFromEnv`, `shigoto work`"
    return `| \`${variable}\` | ${reader} | \`${field}\` of the [settings](#settings)${example} |`
  })
  const known = new Set(config.map(([, , , variable = ""]) => variable))
  for (const variable of ofLine) {
    if (!commandLine.has(variable) && !known.has(variable)) missing.push(`tables.ts does not say what ${variable} is`)
  }
  for (const variable of commandLine.keys()) {
    if (!ofLine.has(variable)) missing.push(`tables.ts tells of ${variable}, which nothing reads`)
  }
  return [
    "| variable | read by | |",
    "|---|---|---|",
    "| `HOSTNAME` | `ShigotoConfig` | `nodeName`, where nothing else says it |",
    "| `NO_COLOR`, `FORCE_COLOR` | `shigoto` | whether it colours |",
    ...rows,
    ...[...commandLine].map(([variable, says]) => `| \`${variable}\` | \`shigoto\` | ${says} |`)
  ].join("\n")
}

const commandLine = new Map([
  ["SHIGOTO_DATABASE_URL", "the database, where no `--url` does"],
  ["DATABASE_URL", "the same, where neither of them does"],
  ["PGHOST", "the same in parts, where none of them does"],
  ["PGPORT", "its port"],
  ["PGUSER", "who connects"],
  ["PGPASSWORD", "with which password"],
  ["PGDATABASE", "to which database"],
  ["PGSSLMODE", "whether over TLS"],
  ["SHIGOTO_CONFIG", "the config module, where no `--config` does"],
  ["SHIGOTO_DASHBOARD_PORT", "`shigoto dashboard --port`"],
  ["SHIGOTO_DASHBOARD_HOST", "`--host`"],
  ["SHIGOTO_DASHBOARD_READ_ONLY", "`--read-only`"],
  ["SHIGOTO_DASHBOARD_BASE_PATH", "`--base-path`"],
  ["SHIGOTO_DASHBOARD_PASSWORD", "the password that the browser asks for; needed for other interfaces than 127.0.0.1"],
  ["TERM", "`dumb` moves nothing on the screen"]
])

const sourceOf = (file: string): string => Fs.readFileSync(Path.join(root, file), "utf8")

const filesBelow = (folder: string): ReadonlyArray<string> =>
  Fs.readdirSync(Path.join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => `${folder}/${name.replaceAll(Path.sep, "/")}`)

/** Not for users: their own options, with types that are erased, and the bounds of an encoder. */
const ofTheLibrary: ReadonlySet<string> = new Set([
  "src/internal/enqueueing.ts Options",
  "src/internal/worker.ts Options",
  "src/internal/encoder.ts Limits"
])

/** `src/Job.ts WorkerOptions` and its kin, each with the names of its own fields: all that users may pass. */
const publicOptions: ReadonlyMap<string, ReadonlySet<string>> = new Map(
  filesBelow("src")
    .filter((file) => !file.includes("/ui/"))
    .flatMap((file) =>
      optionsIn(file).map(
        (name) => [`${file} ${name}`, new Set(readOwnFields(file, name).map((field) => field.name))] as const
      )
    )
    .filter(([options, fields]) => !ofTheLibrary.has(options) && fields.size > 0)
)
