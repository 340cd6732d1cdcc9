/**
 * JSON as PostgreSQL stores it: checks a value before it is sent, and names the path of what cannot be stored.
 *
 * `JSON.stringify` turns NaN into null, drops undefined and calls `toJSON`; `jsonb` refuses NUL and unpaired
 * surrogates. Neither may happen silently, so the value is walked first.
 */
import * as Result from "effect/Result"

/** Deepest nesting of arrays and objects that is accepted; `JSON.stringify` overflows the stack at some thousands. */
export const maxDepth = 256

/** Why a value is no JSON, and where. */
export interface Problem {
  readonly path: string
  readonly reason: string
}

/** The value's JSON text, or its size once it is known to pass the limit. */
export type Encoded =
  | { readonly _tag: "Text"; readonly text: string }
  | { readonly _tag: "TooLarge"; readonly size: number }

/**
 * Turns a JSON value into text of at most `limit` bytes of UTF-8.
 *
 * Negative zero becomes zero, as in JSON; object properties that are undefined are left out, as if absent.
 */
export const stringify = (value: unknown, limit: number): Result.Result<Encoded, Problem> => {
  const plain = encodePlain(value, limit)
  if (plain !== undefined) return Result.succeed(plain)
  const walk: Walk = { path: [], seen: new Set(), size: 0, limit }
  try {
    const problem = check(value, walk)
    if (problem !== undefined) return Result.fail(problem)
    if (walk.size > limit) return Result.succeed({ _tag: "TooLarge", size: walk.size })
    const text = JSON.stringify(value)
    const size = utf8Length(text)
    return Result.succeed(size > limit ? { _tag: "TooLarge", size } : { _tag: "Text", text })
  } catch (cause) {
    return Result.fail(at(walk, `reading the value threw: ${describe(cause)}`))
  }
}

/** Bytes of a text in UTF-8. */
export const utf8Length = (text: string): number => {
  let size = text.length
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code < 0x80) continue
    if (code < 0x800) size += 1
    else if (code >= 0xd800 && code < 0xdc00) {
      // a pair is four bytes and two units
      size += 2
      i++
    } else size += 2
  }
  return size
}

// eslint-disable-next-line no-control-regex
const nul = /\u0000/g
const loneSurrogate = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/

/** Says why PostgreSQL would refuse or bend a text, or undefined where it would not. */
export const textProblem = (text: string): string | undefined =>
  text.includes("\u0000") ? "NUL" : loneSurrogate.test(text) ? "unpaired surrogate" : undefined

/** Makes any text storable: NUL becomes U+2400, an unpaired surrogate U+FFFD, and the rest is cut at `max` units. */
export const sanitize = (text: string, max: number): string => {
  const cut = text.length > max ? `${text.slice(0, max - 1)}…` : text
  const clean = cut.includes("\u0000") ? cut.replace(nul, "\u2400") : cut
  return clean.isWellFormed() ? clean : clean.toWellFormed()
}

/** Text for any thrown value, even one whose `toString` throws. */
export const describe = (value: unknown): string => {
  try {
    return value instanceof Error ? value.message : String(value)
  } catch {
    return "(a value that cannot be shown)"
  }
}

// internal

/**
 * What can be told of a value without remembering where one is: its text, or that it is too large; undefined for what
 * the walk has to look at.
 *
 * Nothing is checked that `JSON.stringify` proves by itself: it escapes NUL and unpaired surrogates, and what is not
 * nested too deep has no cycle.
 */
const encodePlain = (value: unknown, limit: number): Encoded | undefined => {
  try {
    const left = weigh(value, limit, 0)
    if (left < 0) return left === notPlain ? undefined : { _tag: "TooLarge", size: limit - left }
    const text = JSON.stringify(value)
    // No unit takes more than three bytes.
    return text.length * 3 <= limit && !text.includes("\\u") ? { _tag: "Text", text } : undefined
  } catch {
    return undefined
  }
}

const notPlain = -Infinity

/** What is left of a limit after a value of plain JSON at its least size; `notPlain` for any other. */
const weigh = (value: unknown, left: number, depth: number): number => {
  if (left < 0) return left
  if (typeof value === "string") return left - value.length - 2
  if (typeof value === "number") return Number.isFinite(value) ? left - 1 : notPlain
  if (typeof value === "boolean" || value === null) return left - 4
  if (typeof value !== "object" || depth === maxDepth || "toJSON" in value) return notPlain
  const prototype: unknown = Object.getPrototypeOf(value)
  if (Array.isArray(value)) {
    if (prototype !== Array.prototype) return notPlain
    let rest = left - value.length - 1
    // A hole is read as undefined, which is not plain.
    for (let i = 0; i < value.length && rest >= 0; i++) rest = weigh(value[i], rest, depth + 1)
    return rest
  }
  if (prototype !== Object.prototype && prototype !== null) return notPlain
  let rest = left - 1
  for (const key of Object.keys(value)) {
    const item = (value as Readonly<Record<string, unknown>>)[key] // a key of it
    if (item !== undefined) rest = weigh(item, rest - key.length - 4, depth + 1)
    if (rest < 0) break
  }
  return rest
}

interface Walk {
  readonly path: Array<string | number>
  readonly seen: Set<object>
  readonly limit: number
  size: number
}

const at = (walk: Walk, reason: string): Problem => ({
  path: walk.path.reduce<string>(
    (path, key) => (typeof key === "number" ? `${path}[${key}]` : `${path}.${sanitize(key, 60)}`),
    "$"
  ),
  reason
})

const check = (value: unknown, walk: Walk): Problem | undefined => {
  switch (typeof value) {
    case "string": {
      walk.size += value.length + 2
      if (walk.size > walk.limit) return undefined
      const reason = textProblem(value)
      return reason === undefined ? undefined : at(walk, reason)
    }
    case "number":
      walk.size += 1
      return Number.isFinite(value) ? undefined : at(walk, `${value} is not a JSON number`)
    case "boolean":
      walk.size += 4
      return undefined
    case "object":
      return value === null ? undefined : checkObject(value, walk)
    case "undefined":
      return at(walk, "undefined is not JSON")
    default:
      return at(walk, `a ${typeof value} is not JSON`)
  }
}

const checkObject = (value: object, walk: Walk): Problem | undefined => {
  if (walk.path.length >= maxDepth) return at(walk, `depth: nested deeper than ${maxDepth}`)
  if (walk.seen.has(value)) return at(walk, "cycle")
  walk.seen.add(value)
  const problem = Array.isArray(value) ? checkArray(value, walk) : checkRecord(value, walk)
  walk.seen.delete(value)
  return problem
}

const checkArray = (value: ReadonlyArray<unknown>, walk: Walk): Problem | undefined => {
  if (Object.getPrototypeOf(value) !== Array.prototype) {
    return at(walk, `an instance of ${className(Object.getPrototypeOf(value))} is not JSON`)
  }
  if ("toJSON" in value) return at(walk, "an array with a toJSON method is not JSON")
  walk.size += 1 + value.length
  for (let i = 0; i < value.length; i++) {
    if (walk.size > walk.limit) return undefined
    walk.path.push(i)
    const problem = i in value ? check(value[i], walk) : at(walk, "a hole in an array is not JSON")
    if (problem !== undefined) return problem
    walk.path.pop()
  }
  return undefined
}

const checkRecord = (value: object, walk: Walk): Problem | undefined => {
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype !== Object.prototype && prototype !== null) {
    return at(walk, `an instance of ${className(prototype)} is not JSON`)
  }
  if (typeof (value as { readonly toJSON?: unknown }).toJSON === "function") {
    // asked for a key
    return at(walk, "an object with a toJSON method is not JSON")
  }
  walk.size += 1
  for (const [key, item] of Object.entries(value)) {
    if (item === undefined) continue
    walk.path.push(key)
    walk.size += key.length + 4
    if (walk.size > walk.limit) return undefined
    const reason = textProblem(key)
    const problem = reason === undefined ? check(item, walk) : at(walk, `${reason} in a key`)
    if (problem !== undefined) return problem
    walk.path.pop()
  }
  return undefined
}

const className = (prototype: unknown): string => {
  const name = (prototype as { readonly constructor?: { readonly name?: unknown } } | null)?.constructor?.name // asked for a key
  return typeof name === "string" && name !== "" ? name : "a class"
}
