/**
 * The text of a filter: tokens of a field, a colon and a value, apart by white space.
 *
 * A value that holds white space, a comma, a quote or a bracket stands in double quotes and is a JSON string; a value
 * of args or meta is any JSON, or a bare word for a string.
 */
import * as Result from "effect/Result"

/** One token: its field, the path below it, and the text of its value. */
export interface Token {
  readonly field: string
  readonly path: ReadonlyArray<string>
  readonly value: string
}

/** Splits a text into its tokens, or says which part is none. */
export const tokens = (text: string): Result.Result<ReadonlyArray<Token>, { readonly at: string; why: string }> => {
  const found: Array<Token> = []
  for (const word of split(text, isSpace)) {
    const head = /^([A-Za-z]+)((?:\.(?:[^\s":.,[\]{}]+|"(?:[^"\\]|\\.)*"))*):(.+)$/s.exec(word)
    if (head === null) return Result.fail({ at: word, why: "a token is a field, a colon and a value" })
    const [, field = "", path = "", value = ""] = head
    const segments: Array<string> = []
    for (const [, bare, quoted] of path.matchAll(/\.(?:([^\s":.,[\]{}]+)|("(?:[^"\\]|\\.)*"))/gs)) {
      const segment = quoted === undefined ? bare : json(quoted)
      if (typeof segment !== "string") return Result.fail({ at: word, why: "its path holds no JSON string" })
      segments.push(segment)
    }
    found.push({ field, path: segments, value })
  }
  return Result.succeed(found)
}

/** The values of a list, apart by commas; undefined where one of them is no word and no JSON string. */
export const words = (value: string): ReadonlyArray<string> | undefined => {
  const found: Array<string> = []
  for (const part of split(value, (char) => char === ",", true)) {
    const word = part.startsWith('"') ? json(part) : isBare(part) ? part : undefined
    if (typeof word !== "string") return undefined
    found.push(word)
  }
  return found
}

/** A JSON value, or a bare word as a string; undefined where it is neither. */
export const jsonOrWord = (value: string): unknown => {
  const parsed = json(value)
  return parsed === undefined && isBare(value) ? value : parsed
}

/** A word as it stands in a list: bare where it can. */
export const quoted = (word: string): string => (isBare(word) ? word : JSON.stringify(word))

/** A JSON value as it stands in a token: a string bare where it would be read as the same string. */
export const quotedJson = (value: unknown): string =>
  typeof value === "string" && isBare(value) && json(value) === undefined ? value : JSON.stringify(value)

/** A step of a path as it stands in a token. */
export const quotedStep = (step: string): string => (/^[^\s":.,[\]{}]+$/.test(step) ? step : JSON.stringify(step))

// internal

const isBare = (word: string): boolean => /^[^\s",[\]{}]+$/.test(word)

const isSpace = (char: string): boolean => /\s/.test(char)

/** Undefined for what is no JSON: no JSON value is undefined. */
const json = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Splits where `separates` says so, outside of quotes and brackets. */
const split = (text: string, separates: (char: string) => boolean, keepEmpty = false): ReadonlyArray<string> => {
  const parts: Array<string> = []
  let part = ""
  let inString = false
  let depth = 0
  for (let i = 0; i < text.length; i++) {
    const char = text[i] as string // below the length
    if (inString) {
      if (char === "\\") {
        part += char
        i++
      } else if (char === '"') inString = false
    } else if (char === '"') inString = true
    else if (char === "[" || char === "{") depth++
    else if (char === "]" || char === "}") depth--
    else if (depth <= 0 && separates(char)) {
      if (keepEmpty || part !== "") parts.push(part)
      part = ""
      continue
    }
    part += text[i] ?? ""
  }
  if (keepEmpty || part !== "") parts.push(part)
  return parts
}
