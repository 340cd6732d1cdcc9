/** How a command ends: what is said on standard error, and with which number. */
import * as CliError from "effect/cli/CliError"
import * as Schema from "effect/Schema"
import { isSqlError } from "effect/sql/SqlError"
import type { SchemaVersionMismatch, StorageError, StorageUnavailable } from "../../ShigotoError.ts"

/** The exit codes, which scripts rely on. */
export const exitCodes = {
  ok: 0,
  /** The command could not do what it was asked, or found something wrong. */
  failure: 1,
  /** The command line makes no sense; nothing was done. */
  usage: 2,
  /** What was named is not there. */
  notFound: 3,
  /** The schema is not at the version of this code. */
  schema: 4,
  /** A change was not confirmed, or what is there does not allow it. */
  refused: 5,
  /** Ctrl-C. */
  interrupted: 130,
  /** SIGTERM. */
  terminated: 143
} as const

/** The command line makes no sense. */
export class UsageError extends Schema.TaggedError<UsageError>("effect-shigoto/cli/UsageError")("UsageError", {
  message: Schema.String,
  hint: Schema.optionalKey(Schema.String)
}) {}

/** A change was not confirmed, or what is there does not allow it. */
export class Refused extends Schema.TaggedError<Refused>("effect-shigoto/cli/Refused")("Refused", {
  message: Schema.String,
  hint: Schema.optionalKey(Schema.String)
}) {}

/** What was named is not there. */
export class NotFound extends Schema.TaggedError<NotFound>("effect-shigoto/cli/NotFound")("NotFound", {
  message: Schema.String
}) {}

/** The command could not do what it was asked. */
export class Failed extends Schema.TaggedError<Failed>("effect-shigoto/cli/Failed")("Failed", {
  message: Schema.String,
  hint: Schema.optionalKey(Schema.String)
}) {}

/** The command has told all there is to tell, and what it found is not well. */
export class Unwell extends Schema.TaggedError<Unwell>("effect-shigoto/cli/Unwell")("Unwell", {
  code: Schema.Int
}) {}

/** What is said of a failure; no lines where all has been said. */
export interface Told {
  readonly code: number
  readonly message: string | undefined
  readonly hint: string | undefined
}

/** Tells a failure. */
export const tell = (error: unknown): Told => {
  if (CliError.isCliError(error)) {
    // A help that was shown for want of a subcommand is an error of usage too; the presenter has told all.
    return { code: exitCodes.usage, message: undefined, hint: undefined }
  }
  if (isSqlError(error)) {
    return {
      code: exitCodes.failure,
      message: `The database cannot be used: ${causeOf(error.reason.cause) ?? error.message}`,
      hint: reachable
    }
  }
  const { _tag: tag = "", hint, message } = fieldsOf(error)
  if (tag === "StorageUnavailable" && (error as StorageUnavailable).code === "57014") {
    // by its tag
    return {
      code: exitCodes.failure,
      message: "The database took too long to answer, and was told to stop.",
      hint: "Narrow the filter: a worker, a queue, a state, or a span of time."
    }
  }
  if (tag === "StorageUnavailable") {
    return {
      code: exitCodes.failure,
      message: `The database does not answer: ${causeOf((error as StorageUnavailable).cause) ?? message}`,
      hint: reachable
    }
  }
  if (tag === "StorageError") {
    const { cause, code } = error as StorageError // by its tag
    const said = causeOf(cause) ?? message
    if (/^(28|3D)/.test(code)) {
      return { code: exitCodes.failure, message: `The database does not let us in: ${said}`, hint: named }
    }
    if (code === "42501") return { code: exitCodes.failure, message: `The database refused: ${said}`, hint: rights }
  }
  if (tag === "SchemaVersionMismatch" && (error as SchemaVersionMismatch).found === 0) {
    // by its tag
    // Only its first sentence: the rest is about code.
    return { code: exitCodes.schema, message: message?.replace(/(?<=tables\.).*$/s, ""), hint: "Run: shigoto migrate" }
  }
  if (tag === "Unwell") return { code: (error as Unwell).code, message: undefined, hint: undefined } // by its tag
  return {
    code: codes.get(tag) ?? (tag.startsWith("Invalid") ? exitCodes.usage : exitCodes.failure),
    message: message ?? String(error),
    hint: hint ?? (tag === "SchemaVersionMismatch" ? schemaHint(error as SchemaVersionMismatch) : undefined) // by its tag
  }
}

// internal

const reachable = "Check --url, SHIGOTO_DATABASE_URL, DATABASE_URL or the PG* variables, and that the server runs."

const named = "Check the user, the password and the database's name: --url, SHIGOTO_DATABASE_URL, DATABASE_URL or PG*."

const rights =
  "Connect as a role that may; whoever owns the tables gives rights with: shigoto migrate grants <role> --part <part>"

const codes: ReadonlyMap<string, number> = new Map([
  ["UsageError", exitCodes.usage],
  ["ArgsTooLarge", exitCodes.usage],
  ["JobNotFound", exitCodes.notFound],
  ["BatchNotFound", exitCodes.notFound],
  ["CronNotFound", exitCodes.notFound],
  ["NotFound", exitCodes.notFound],
  ["SchemaVersionMismatch", exitCodes.schema],
  ["Refused", exitCodes.refused]
])

const fieldsOf = (
  error: unknown
): {
  readonly _tag?: string
  readonly message?: string | undefined
  readonly hint?: string | undefined
  readonly cause?: unknown
  readonly reason?: unknown
} => (typeof error === "object" && error !== null ? error : {})

const schemaHint = ({ expected, found }: SchemaVersionMismatch): string =>
  found < expected ? "Run: shigoto migrate" : "Use the effect-shigoto of the application that made it."

/** The server's or the system's own words, below what the driver wraps around them. */
const causeOf = (cause: unknown): string | undefined => {
  const { cause: deeper, message, reason } = fieldsOf(cause)
  const below = deeper ?? reason
  return (below === undefined ? undefined : causeOf(below)) ?? (message === "" ? undefined : message)
}
