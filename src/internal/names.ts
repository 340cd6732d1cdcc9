/**
 * The one grammar of names: workers, queues, tags and partition keys are 1 to 128 bytes of UTF-8 without control
 * characters and without white space at either end.
 *
 * Everything legal works everywhere: in SQL (always a parameter), in notifications (8,000 bytes), in URLs, in metrics.
 */
import { sanitize, textProblem, utf8Length } from "./json.ts"

/** Longest name in bytes of UTF-8. */
export const maxNameBytes = 128

/** Says what is wrong with a name, or undefined. */
export const nameProblem = (value: unknown): string | undefined => {
  if (typeof value !== "string") return `it is a ${typeof value}, not a string`
  if (value.length === 0) return "it is empty"
  const size = utf8Length(value)
  if (size > maxNameBytes) return `it has ${size} bytes, the limit is ${maxNameBytes}`
  // eslint-disable-next-line no-control-regex
  if (/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/.test(value)) return "it holds a control character"
  if (value.trim() !== value) return "it begins or ends with white space"
  return textProblem(value)
}

/** A value as it may stand in an error message: quoted, on one line, at most 80 characters. */
export const shown = (value: unknown): string => {
  try {
    return sanitize(typeof value === "string" || isPlain(value) ? JSON.stringify(value) : String(value), 80)
  } catch {
    return `(a ${typeof value} that cannot be shown)`
  }
}

/** Longest name of a schema in bytes of UTF-8: channels are named after it, with room for a suffix. */
const maxSchemaBytes = 41

/** Says what is wrong with the name of a schema, or undefined; what only has to be quoted is right. */
export const schemaProblem = (schema: unknown): string | undefined => {
  const problem = nameProblem(schema)
  if (problem !== undefined || typeof schema !== "string") return problem
  const size = utf8Length(schema)
  return size > maxSchemaBytes
    ? `it has ${size} bytes, the limit is ${maxSchemaBytes}`
    : /[.$\\]/.test(schema)
      ? "it holds a dot, a dollar sign or a backslash"
      : schema.startsWith("pg_") || reserved.has(schema)
        ? "it is PostgreSQL's own"
        : undefined
}

// internal

/** Whether its text says no more than that it is an object. */
const isPlain = (value: unknown): boolean =>
  typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype

/** PostgreSQL's own schemas; in `public` others may make objects. */
const reserved = new Set(["information_schema", "public"])
