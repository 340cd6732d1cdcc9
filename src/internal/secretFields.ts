/** Which fields a schema says are `Redacted`: by their names, as they are stored. */
import type * as SchemaAST from "effect/SchemaAST"
import { everything } from "../Redaction.ts"

/** The names of the fields whose values are secret, in the encoded form; `*` where these cannot be told from others. */
export const secretFields = (asts: ReadonlyArray<SchemaAST.AST>): ReadonlyArray<string> => {
  const names = new Set<string>()
  for (const ast of asts) collect(ast, everything, (name) => names.add(name), new Set())
  return [...names].toSorted()
}

// internal

const collect = (ast: SchemaAST.AST, under: string, add: (name: string) => void, seen: Set<SchemaAST.AST>): void => {
  // Only what is suspended can lead back to itself.
  if (ast._tag === "Suspend") {
    if (seen.has(ast)) return
    seen.add(ast)
  }
  const inside = (one: SchemaAST.AST, name = under) => collect(one, name, add, seen)
  if (isRedacted(ast)) return add(under)
  const stored = ast.encoding?.at(-1)?.to
  if (stored !== undefined) {
    // Names of fields may change on their way into the database; what cannot be found again there is hidden as a whole.
    return isSecret(ast) && !isSecret(stored) ? add(under) : inside(stored)
  }
  for (const one of partsOf(ast)) inside(one)
  if (ast._tag === "Objects") {
    for (const { name, type } of ast.propertySignatures) inside(type, String(name))
  }
}

const isRedacted = (ast: SchemaAST.AST): boolean =>
  ast._tag === "Declaration" &&
  (ast.annotations?.["representation"] as { readonly id?: string } | undefined)?.id === "effect/schema/Redacted" // set by Schema.Redacted

/** The parts that have no name. */
const partsOf = (ast: SchemaAST.AST): ReadonlyArray<SchemaAST.AST> => {
  switch (ast._tag) {
    case "Declaration":
      return ast.typeParameters
    case "Arrays":
      return [...ast.elements, ...ast.rest]
    case "Union":
      return ast.types
    case "Suspend":
      return [ast.thunk()]
    case "Objects":
      return ast.indexSignatures.map(({ type }) => type)
    default:
      return []
  }
}

const isSecret = (ast: SchemaAST.AST, seen = new Set<SchemaAST.AST>()): boolean => {
  if (isRedacted(ast)) return true
  if (seen.has(ast)) return false
  seen.add(ast)
  const fields = ast._tag === "Objects" ? ast.propertySignatures.map(({ type }) => type) : []
  return [...partsOf(ast), ...fields].some((one) => isSecret(one, seen))
}
