/**
 * What a module exports, as its source says it: signatures without bodies, and docstrings.
 *
 * The source is read, not the types that a compiler infers from it: every export has its type written down, in the words
 * that its author chose.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { parseSync } from "rolldown/utils"

export const root = Path.resolve(import.meta.dirname, "../../..")

/** One export. */
export interface Declaration {
  readonly name: string
  readonly signature: string
  /** Undefined where it shares that of the one before: an overload, or a type beside the value of the same name. */
  readonly doc: Doc | undefined
}

/** A docstring: Markdown, and its category. */
export interface Doc {
  readonly text: string
  readonly category: string | undefined
}

/** A field of an interface, or of a service. */
export interface Field {
  readonly name: string
  readonly type: string
  readonly optional: boolean
  readonly doc: string | undefined
}

/** A module: its file doc, what it declares, and what it passes on from other public modules. */
export interface Module {
  readonly path: string
  readonly doc: string
  readonly declarations: ReadonlyArray<Declaration>
  readonly passedOn: ReadonlyArray<{ readonly name: string; readonly from: string; readonly path: string }>
}

/** Reads a module; what it exports from private files counts as its own. */
export const readModule = (path: string): Module => {
  const file = parse(path)
  const declarations: Array<Declaration> = []
  const passedOn: Array<Module["passedOn"][number]> = []
  for (const node of file.body) {
    if (node.type === "ExportAllDeclaration") {
      const target = resolve(path, node)
      declarations.push(...readModule(target).declarations)
      continue
    }
    if (node.type !== "ExportNamedDeclaration") continue
    if (isNode(node["declaration"])) {
      declarations.push(...declared(file, node, node["declaration"]))
      continue
    }
    if (!isNode(node["source"])) throw new Error(`${path} exports names of its own apart from their declarations`)
    const target = resolve(path, node)
    for (const specifier of node["specifiers"] as ReadonlyArray<Node>) {
      const [from, name] = [nameOf(specifier["local"]), nameOf(specifier["exported"])]
      // What has a page of its own is named, the rest is shown: files behind a door are not for import.
      if (Path.posix.dirname(target) === "src") passedOn.push({ name, from, path: target })
      else declarations.push(...readModule(target).declarations.filter((declaration) => declaration.name === from))
    }
  }
  return { path, doc: fileDoc(file), declarations, passedOn }
}

/** The fields of an interface, a service, or a type of an object, by its name in a file. */
export const readFields = (path: string, name: string): ReadonlyArray<Field> => {
  const { inherited, own } = fieldsOf(path, name)
  return [...inherited, ...own]
}

/** The same without those that it extends. */
export const readOwnFields = (path: string, name: string): ReadonlyArray<Field> => fieldsOf(path, name).own

/** Whether a file has an interface, a class or a type of that name. */
export const declares = (path: string, name: string): boolean =>
  parse(path).body.some((node) => {
    const declaration = node.type === "ExportNamedDeclaration" ? node["declaration"] : node
    return isNode(declaration) && isNode(declaration["id"]) && nameOf(declaration["id"]) === name
  })

/** The interfaces of a file that tell what may be said of something. */
export const optionsIn = (path: string): ReadonlyArray<string> =>
  parse(path).body.flatMap((node) => {
    const declaration = node.type === "ExportNamedDeclaration" ? node["declaration"] : node
    if (!isNode(declaration) || declaration.type !== "TSInterfaceDeclaration") return []
    const name = nameOf(declaration["id"])
    return /(?:Options|Limits|Thresholds|Retention|Level|Environment)$/.test(name) ? [name] : []
  })

// internal

const fieldsOf = (path: string, name: string) => {
  const file = parse(path)
  for (const node of file.body) {
    const declaration = node.type === "ExportNamedDeclaration" ? node["declaration"] : node
    if (!isNode(declaration) || !isNode(declaration["id"]) || nameOf(declaration["id"]) !== name) continue
    const inherited = ((declaration["extends"] ?? []) as ReadonlyArray<Node>).flatMap((parent) =>
      // `Omit` and its kin leave fields out, and a table that repeats the others would say too much.
      isNode(parent["expression"]) && parent["expression"].type === "Identifier" && !isNode(parent["typeArguments"])
        ? fieldsOfName(file, nameOf(parent["expression"]))
        : []
    )
    return { inherited, own: members(declaration).map((member) => fieldOf(file, member)) }
  }
  throw new Error(`${path} has no ${name}`)
}

interface Node {
  readonly type: string
  readonly start: number
  readonly end: number
  readonly [key: string]: unknown
}

interface File {
  readonly path: string
  readonly text: string
  readonly body: ReadonlyArray<Node>
  readonly docs: ReadonlyArray<{ readonly start: number; readonly end: number; readonly value: string }>
}

const files = new Map<string, File>()

const parse = (path: string): File => {
  const known = files.get(path)
  if (known !== undefined) return known
  const text = Fs.readFileSync(Path.join(root, path), "utf8")
  const { comments, program } = parseSync(path, text)
  const docs = comments.filter(({ type, value }) => type === "Block" && value.startsWith("*"))
  // The parser's own types are those of JavaScript, and know no `Node` with any field.
  const file = { path, text, body: program.body as unknown as ReadonlyArray<Node>, docs }
  files.set(path, file)
  return file
}

const isNode = (value: unknown): value is Node => typeof value === "object" && value !== null && "type" in value

const nameOf = (node: unknown): string => {
  const { name, value } = node as { readonly name?: string; readonly value?: string }
  return name ?? value ?? "?"
}

const resolve = (from: string, node: Node): string => Path.posix.join(Path.posix.dirname(from), nameOf(node["source"]))

const slice = (file: File, node: Node): string => file.text.slice(node.start, node.end)

/** The first comment of a file, where it does not belong to what follows. */
const fileDoc = (file: File): string => {
  const [first] = file.docs
  const [statement] = file.body
  if (first === undefined || statement === undefined || first.start > statement.start) return ""
  const isOfExport = statement.type.startsWith("Export") && !isNode(statement["source"])
  return isOfExport ? "" : clean(first.value).text
}

/** The docstring right above a node. */
const docAt = (file: File, start: number): Doc | undefined => {
  const doc = file.docs.findLast(({ end }) => end <= start)
  return doc === undefined || file.text.slice(doc.end, start).trim() !== "" ? undefined : clean(doc.value)
}

const clean = (comment: string): Doc => {
  const lines = comment
    .replace(/^\*/, "")
    .split("\n")
    .map((line) => line.replace(/^\s*\* ?/, "").trimEnd())
  const category = lines.find((line) => line.startsWith("@category "))?.slice("@category ".length)
  const text = lines
    .filter((line) => !line.startsWith("@category "))
    .map((line) => line.replace(/^@see /, "See "))
    .join("\n")
    .replaceAll(/\{@link (\S+?)\}/g, "`$1`")
    .trim()
  return { text, category }
}

const declared = (file: File, node: Node, declaration: Node): ReadonlyArray<Declaration> => {
  const doc = docAt(file, node.start)
  if (declaration.type !== "VariableDeclaration") {
    const name = nameOf(declaration["id"])
    return [{ name, signature: dedent(headOf(file, declaration)), doc }]
  }
  return (declaration["declarations"] as ReadonlyArray<Node>).map((one) => {
    const name = nameOf(one["id"])
    return { name, signature: `const ${name}${dedent(valueOf(file, one))}`, doc }
  })
}

/** An interface or a type as it stands; a function without its body, a class as what it extends. */
const headOf = (file: File, declaration: Node): string => {
  if (declaration.type === "FunctionDeclaration") {
    return file.text.slice(declaration.start, (declaration["body"] as Node).start).trimEnd()
  }
  if (declaration.type !== "ClassDeclaration") return slice(file, declaration)
  const parent = declaration["superClass"]
  const own = `class ${nameOf(declaration["id"])}`
  if (!isNode(parent)) return own
  // `Context.Service<X, { … }>()("id")`: the shape says it all.
  const text = slice(file, parent)
    .replace(/\(\)\(\s*"[^"]*"\s*\)$/, "")
    .replace(/\("effect-shigoto[^"]*"\)\(\s*/, "()(")
  return text.startsWith("HttpApi") ? own : `${own} extends ${text}`
}

/** What follows the name of a constant: its type, or as much of its value as tells it. */
const valueOf = (file: File, one: Node): string => {
  const id = one["id"] as Node
  const value = one["init"] as Node
  if (isNode(id["typeAnnotation"])) return slice(file, id["typeAnnotation"])
  if (value.type === "ArrowFunctionExpression") return `: ${arrowOf(file, value)}`
  if (value.type !== "CallExpression") {
    const text = slice(file, value)
    return text.split("\n").length > 60 ? " = …" : ` = ${text}`
  }
  const inner = (value["arguments"] as ReadonlyArray<Node>)[0]
  const callee = isNode(value["callee"]) ? value["callee"] : value
  const made = inner?.type === "FunctionExpression" && isNode(inner["returnType"]) ? inner : undefined
  if (made !== undefined) return `: ${functionOf(file, made).replace("=> Effect.fn.Return<", "=> Effect.Effect<")}`
  const types = value["typeArguments"]
  if (isNode(types)) return `: ${slice(file, callee)}${slice(file, types)}`
  const text = slice(file, value)
  return ` = ${text.split("\n").length > 6 ? `${slice(file, callee)}(…)` : text}`
}

const arrowOf = (file: File, arrow: Node): string => {
  if (isNode(arrow["returnType"])) return functionOf(file, arrow)
  const body = arrow["body"] as Node
  const inner = body.type === "ArrowFunctionExpression" ? arrowOf(file, body) : "…"
  return `${parametersOf(file, arrow)} => ${inner}`
}

const functionOf = (file: File, made: Node): string =>
  `${parametersOf(file, made)} => ${slice(file, made["returnType"] as Node).replace(/^:\s*/, "")}`

/** A parameter with a default is optional, and one that is taken apart goes by `options`. */
const parametersOf = (file: File, made: Node): string => {
  const types = isNode(made["typeParameters"]) ? slice(file, made["typeParameters"]) : ""
  const given = made["params"] as ReadonlyArray<Node> | { readonly items: ReadonlyArray<Node> }
  const parameters = ("items" in given ? given.items : given).map((parameter: Node) => {
    const isDefaulted = parameter.type === "AssignmentPattern"
    const left = isDefaulted ? (parameter["left"] as Node) : parameter
    if (!isDefaulted && left.type !== "ObjectPattern") return slice(file, left)
    const type = isNode(left["typeAnnotation"]) ? slice(file, left["typeAnnotation"]) : ""
    return `${left.type === "ObjectPattern" ? "options" : nameOf(left)}${isDefaulted ? "?" : ""}${type}`
  })
  const line = `${types}(${parameters.join(", ")})`
  return line.length <= 100 ? line : `${types}(\n${parameters.map((parameter) => `  ${parameter}`).join(",\n")}\n)`
}

/** Takes off the indentation that all lines but the first share. */
const dedent = (text: string): string => {
  const [first = "", ...rest] = text.split("\n")
  const indents = rest.filter((line) => line.trim() !== "").map((line) => line.length - line.trimStart().length)
  const shared = Math.min(...indents)
  return [first, ...rest.map((line) => line.slice(Math.min(shared, line.length)))].join("\n").trimEnd()
}

/** The members of an interface, of `Context.Service<X, { … }>`, or of a type of an object. */
const members = (declaration: Node): ReadonlyArray<Node> => {
  const found: Array<Node> = []
  const visit = (value: unknown): void => {
    if (found.length > 0) return
    if (Array.isArray(value)) return value.forEach(visit)
    if (!isNode(value)) return
    if (value.type === "TSInterfaceBody") found.push(...(value["body"] as ReadonlyArray<Node>))
    else if (value.type === "TSTypeLiteral") found.push(...(value["members"] as ReadonlyArray<Node>))
    else Object.values(value).forEach(visit)
  }
  visit(declaration["body"] ?? declaration["typeAnnotation"])
  if (found.length === 0) visit([declaration["superTypeArguments"], declaration["superClass"]])
  return found.filter((member) => member.type === "TSPropertySignature" && isNode(member["typeAnnotation"]))
}

const fieldOf = (file: File, member: Node): Field => ({
  name: nameOf(member["key"]),
  type: slice(file, member["typeAnnotation"] as Node)
    .replace(/^:\s*/, "")
    .replaceAll(/\/\*\*.*?\*\//gs, "")
    .replaceAll(/\s+/g, " ")
    .replace(/^\| /, "")
    .replace(/ \| undefined$/, ""),
  optional: member["optional"] === true,
  doc: docAt(file, member.start)?.text.replaceAll(/\s+/g, " ")
})

/** The fields of an interface that a file has, or has imported. */
const fieldsOfName = (file: File, name: string): ReadonlyArray<Field> => {
  const importing = file.body.find(
    (node) =>
      node.type === "ImportDeclaration" &&
      (node["specifiers"] as ReadonlyArray<Node>).some((specifier) => nameOf(specifier["local"]) === name)
  )
  return readFields(importing === undefined ? file.path : resolve(file.path, importing), name)
}
