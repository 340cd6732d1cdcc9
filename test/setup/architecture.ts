import * as Path from "node:path/posix"
import { parseSync } from "rolldown/utils"
import type { Exception } from "./levels.ts"

/** The rules of the layout, over files in memory: path from the repository's root → text. */
export interface Input {
  readonly files: ReadonlyMap<string, string>
  readonly levels: ReadonlyArray<{ readonly name: string; readonly files: ReadonlyArray<string> }>
  readonly doors: ReadonlyArray<string>
  readonly sqlHomes: ReadonlyArray<string>
  readonly exceptions: ReadonlyArray<Exception>
}

/** One sentence per breach, `rule: file …`; empty when the code is as the design says. */
export const breaches = (input: Input): Array<string> => {
  const parsed = [...input.files].map(([path, text]) => parse(path, text))
  const excused = new Set<Exception>()
  const found = [
    ...parsed.flatMap((file) => file.errors.map((error) => `syntax: ${file.path}: ${error}`)),
    ...unplaced(input),
    ...upward(input, parsed),
    ...cycles(parsed),
    ...parsed.flatMap((file) => packages(input, file)),
    ...parsed.flatMap((file) => doorImports(input, file)),
    ...parsed.flatMap((file) => strayed(input, file)),
    ...parsed.flatMap(tooLong),
    ...parsed.filter(isPublic).flatMap(undocumented)
  ].filter((breach) => {
    const exception = input.exceptions.find(
      (e) => breach.startsWith(`${e.rule}: ${e.file} `) && breach.includes(e.what)
    )
    if (exception !== undefined) excused.add(exception)
    return exception === undefined
  })
  const idle = input.exceptions.filter((exception) => !excused.has(exception))
  return [...found, ...idle.map((e) => `exception: ${e.file} no longer needs "${e.rule}: ${e.what}"`)]
}

/** 500 lines are two files that have not been told apart yet. */
export const maxLines = 500

// internal

interface Node {
  readonly type: string
  readonly start: number
  readonly end: number
  readonly [key: string]: unknown
}

interface File {
  readonly path: string
  readonly text: string
  readonly errors: ReadonlyArray<string>
  readonly body: ReadonlyArray<Node>
  readonly docs: ReadonlyArray<{ readonly start: number; readonly end: number }>
  /** What it imports, types too: relative specifiers resolved to paths. */
  readonly imports: ReadonlyArray<string>
  /** The text of each string and template, the holes of a template as `?`. */
  readonly strings: ReadonlyArray<{ readonly text: string; readonly tag: string | undefined }>
}

const parse = (path: string, text: string): File => {
  const { program, comments, errors } = parseSync(path, text)
  const body = program.body as unknown as ReadonlyArray<Node>
  const imports = new Set<string>()
  const strings: Array<{ text: string; tag: string | undefined }> = []
  const tags = new Map<unknown, string>()
  for (const node of walk(body)) {
    const source = node["source"] as Node | null | undefined
    if (typeof source?.["value"] === "string" && importing.has(node.type)) imports.add(resolve(path, source["value"]))
    if (node.type === "TaggedTemplateExpression") tags.set(node["quasi"], lastName(node["tag"] as Node))
    if (node.type === "TemplateLiteral") {
      const parts = (node["quasis"] as ReadonlyArray<{ value: { raw: string } }>).map((quasi) => quasi.value.raw)
      strings.push({ text: parts.join("?"), tag: tags.get(node) })
    }
    if (node.type === "Literal" && typeof node["value"] === "string")
      strings.push({ text: node["value"], tag: undefined })
  }
  const docs = comments.filter((comment) => comment.type === "Block" && comment.value.startsWith("*"))
  return { path, text, errors: errors.map((error) => error.message), body, docs, imports: [...imports], strings }
}

const importing = new Set([
  "ImportDeclaration",
  "ExportNamedDeclaration",
  "ExportAllDeclaration",
  "ImportExpression",
  "TSImportType"
])

function* walk(value: unknown): Generator<Node> {
  if (Array.isArray(value)) for (const item of value) yield* walk(item)
  else if (typeof value === "object" && value !== null) {
    if (typeof (value as Node).type === "string") yield value as Node
    for (const child of Object.values(value)) yield* walk(child)
  }
}

const resolve = (from: string, specifier: string) =>
  specifier.startsWith(".") ? Path.join(Path.dirname(from), specifier) : specifier

/** The name a template is tagged with: `sql`, also in `client.sql` and `sql.unsafe`'s holder. */
const lastName = (tag: Node): string => {
  if (tag.type === "Identifier") return tag["name"] as string
  if (tag.type === "MemberExpression") return lastName(tag["property"] as Node)
  if (tag.type === "CallExpression") return lastName(tag["callee"] as Node)
  return ""
}

const isOwn = (imported: string) => imported.startsWith("src/") || imported.startsWith("migrations/")

const isPublic = (file: File) => file.path.startsWith("src/") && !file.path.includes("/internal/")

const doorOf = (input: Input, path: string) => input.doors.find((door) => path.startsWith(`src/${door}/`))

const levelOf = (input: Input, path: string) =>
  input.levels.findIndex((level) =>
    level.files.some((file) => (file.endsWith("/*") ? path.startsWith(file.slice(0, -1)) : file === path))
  )

const unplaced = (input: Input) =>
  [...input.files.keys()]
    .filter((path) => levelOf(input, path) < 0)
    .map((path) => `level: ${path} has no level yet: place it in test/setup/levels.ts`)

const upward = (input: Input, files: ReadonlyArray<File>) =>
  files.flatMap((file) =>
    file.imports.filter(isOwn).flatMap((imported) => {
      if (!input.files.has(imported)) return [`import: ${file.path} imports ${imported}, which is not there`]
      const [from, to] = [levelOf(input, file.path), levelOf(input, imported)]
      if (imported === "src/index.ts") return [`import: ${file.path} imports the front door: name the module`]
      if (from < 0 || to <= from) return []
      return [`level: ${file.path} (${input.levels[from]?.name}) points up to ${imported} (${input.levels[to]?.name})`]
    })
  )

/** Each cycle once, from its first file in the order of the alphabet. */
const cycles = (files: ReadonlyArray<File>) => {
  const imports = new Map(files.map((file) => [file.path, file.imports.filter(isOwn)]))
  const found = new Set<string>()
  const done = new Set<string>()
  const visit = (path: string, trail: ReadonlyArray<string>): void => {
    const at = trail.indexOf(path)
    if (at >= 0) {
      const ring = trail.slice(at)
      const first = ring.indexOf(ring.toSorted()[0]!)
      const turned = [...ring.slice(first), ...ring.slice(0, first)]
      found.add(`cycle: ${[...turned, turned[0]].join(" → ")}`)
      return
    }
    if (done.has(path)) return
    for (const next of imports.get(path) ?? []) visit(next, [...trail, path])
    done.add(path)
  }
  for (const path of [...imports.keys()].toSorted()) visit(path, [])
  return [...found]
}

const packages = (input: Input, file: File) => {
  const door = doorOf(input, file.path)
  const allowed = [
    /^effect\/(?!internal\/)/,
    /^@effect\/sql-pg\//,
    ...(door === undefined ? [] : [/^node:/]),
    // Optional peers of the doors that talk to a terminal or serve HTTP on their own.
    ...(door === "cli" || door === "dashboard" ? [/^@effect\/platform-node\//] : [])
  ]
  return file.imports
    .filter((imported) => !isOwn(imported) && !allowed.some((pattern) => pattern.test(imported)))
    .map((imported) => `package: ${file.path} imports ${imported}, which is no dependency of this part`)
}

const doorImports = (input: Input, file: File) => {
  const door = doorOf(input, file.path)
  return file.imports.filter(isOwn).flatMap((imported) => {
    const target = doorOf(input, imported)
    if (door === undefined) return target === undefined ? [] : [`door: ${file.path} imports the door ${imported}`]
    if (target === door || (isOwn(imported) && imported.startsWith("src/") && !imported.includes("/internal/")))
      return []
    return [`door: ${file.path} imports ${imported}, which users cannot`]
  })
}

/** Statements, not words in a message: upper case, and followed by what follows in SQL. */
const statement =
  /\b(SELECT\s+[\w*?("']|INSERT\s+INTO\s|UPDATE\s+\S+\s+(AS\s+\w+\s+)?SET\s|DELETE\s+FROM\s|CREATE\s+(\w+\s+)*(TABLE|INDEX|SCHEMA|VIEW|TYPE|FUNCTION|DATABASE)\s|ALTER\s+(TABLE|SYSTEM|DATABASE|ROLE)\s|DROP\s+(TABLE|INDEX|SCHEMA|VIEW|TYPE|FUNCTION|DATABASE)\s|TRUNCATE\s+\S|LISTEN\s+["\w?]|NOTIFY\s+["\w?])/

const strayed = (input: Input, file: File) =>
  input.sqlHomes.some((home) => file.path.startsWith(home))
    ? []
    : file.strings
        .filter(({ text, tag }) => tag === "sql" || statement.test(text))
        .map(
          ({ text }) =>
            `sql: ${file.path} holds SQL outside its home: ${text.trim().split(/\s+/).slice(0, 6).join(" ")}`
        )

const tooLong = (file: File) => {
  const lines = file.text.trimEnd().split("\n").length
  return lines <= maxLines ? [] : [`size: ${file.path} has ${lines} lines, and ${maxLines} is the wall`]
}

const undocumented = (file: File) => {
  const documented = new Set<string>()
  const bare: Array<string> = []
  const isDocumented = (node: Node) =>
    file.docs.some((doc) => doc.end <= node.start && file.text.slice(doc.end, node.start).trim() === "")
  for (const node of file.body) {
    if (node.type === "ExportDefaultDeclaration") bare.push("default")
    if (node.type !== "ExportNamedDeclaration" || typeof (node["source"] as Node | null)?.type === "string") continue
    const names = declared(node)
    // Overloads, and a type beside the value of the same name, share the docstring of the first.
    if (isDocumented(node)) for (const name of names) documented.add(name)
    else bare.push(...names.filter((name) => !documented.has(name)))
  }
  return bare.map((name) => `docs: ${file.path} exports ${name} without a docstring right above it`)
}

const declared = (node: Node): Array<string> => {
  const declaration = node["declaration"] as Node | null
  if (declaration === null) {
    return (node["specifiers"] as ReadonlyArray<{ exported: { name?: string; value?: string } }>).map(
      ({ exported }) => exported.name ?? exported.value ?? "?"
    )
  }
  if (declaration.type === "VariableDeclaration") {
    return (declaration["declarations"] as ReadonlyArray<{ id: { name?: string } }>).map(({ id }) => id.name ?? "?")
  }
  return [(declaration["id"] as { name?: string } | null)?.name ?? "?"]
}
