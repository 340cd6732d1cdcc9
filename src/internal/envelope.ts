/**
 * How encrypted values stand in the database: `{"$enc": "1.<key id>.<base64>"}`, a JSON value like any other.
 *
 * A value of somebody's own that looks like this is stored as `{"$enc": [value]}`, so the two cannot be mistaken.
 */
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

/**
 * A stored value cannot be decrypted, or is not encrypted and has to be; the handler was not called.
 *
 * @category attempts
 */
export class DecryptionError extends Schema.TaggedError<DecryptionError>("effect-shigoto/DecryptionError")(
  "DecryptionError",
  {
    reason: Schema.Literals(["UnknownKey", "Tampered", "Plaintext", "NoCipher"]),
    /** The key that it names; absent where it is not encrypted. */
    keyId: Schema.optionalKey(Schema.String),
    message: Schema.String
  }
) {}

/** Where a value belongs; it cannot be read anywhere else. */
export interface Place {
  readonly field: "args" | "result" | "error" | "cron" | "callback" | "fallback" | "input" | "log" | "reason"
  /** The id of the job or batch, or the name of the cron entry; with the attempt for an error. */
  readonly of: number | string
  /** The job's name, where the value stands beside it. */
  readonly worker?: string | undefined
}

/** What encrypts values and reads them again. */
export interface Sealer {
  /** The key that encrypts. */
  readonly keyId: string
  /** Encrypts a JSON text into the JSON text of an envelope. */
  readonly seal: (text: string, place: Place) => Effect.Effect<string>
  /** Reads the JSON text in an envelope. */
  readonly open: (envelope: string, place: Place) => Effect.Effect<string, DecryptionError>
  /** Makes a text that is the same for the same text and tells nothing about it. */
  readonly blind: (text: string) => Effect.Effect<string>
  /** Whether jobs are encrypted that do not say. */
  readonly byDefault: boolean
  /** Whether values that are not encrypted may be run. */
  readonly allowPlaintext: boolean
}

/**
 * Stands for a value that cannot be read here, and says why.
 *
 * @category models
 */
export class Encrypted extends Data.TaggedClass("Encrypted")<{
  /** The key that it needs; undefined where it is not encrypted and should be. */
  readonly keyId: string | undefined
  readonly problem: DecryptionError
}> {}

/** The content of a stored value that is an envelope. */
export const envelopeOf = (value: unknown): string | undefined => {
  const inner = marked(value)
  return typeof inner === "string" ? inner : undefined
}

/** A stored value that is no envelope, as it was given. */
export const unescaped = (value: unknown): unknown => {
  const inner = marked(value)
  return Array.isArray(inner) && inner.length === 1 ? (inner[0] as unknown) : value // nothing is known of it
}

/** The JSON text to store for a JSON text that is not to be encrypted. */
export const escaped = (text: string): string => (looksMarked(text) ? `{"${mark}":[${text}]}` : text)

/** Whether a text is stored otherwise than it is. */
export const looksMarked = (text: string): boolean => text.startsWith(`{"${mark}":`)

/** The JSON text of an envelope. */
export const envelope = (content: string): string => JSON.stringify({ [mark]: content })

/** The name of the key that an envelope needs. */
export const keyIdOf = (content: string): string => content.split(".", 2)[1] ?? ""

// internal

const mark = "$enc"

const marked = (value: unknown): unknown =>
  typeof value === "object" && value !== null && mark in value && Object.keys(value).length === 1
    ? value[mark]
    : undefined
