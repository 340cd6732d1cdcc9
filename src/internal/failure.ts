/** From any failure of a handler to the bounded, storable record of it. */
import * as Cause from "effect/Cause"
import type { AttemptFailure } from "../JobRow.ts"
import { fingerprintOf } from "./fingerprint.ts"
import { describe, sanitize, utf8Length } from "./json.ts"
import type { Quoting } from "./quotes.ts"

/** The largest record, in bytes; the cause is cut first. */
export const maxFailureBytes = 16 * 1024

/** The largest encoded error that is kept, in bytes. */
export const maxErrorBytes = 8 * 1024

/** Records a failed attempt; never throws, whatever was thrown. `encoded` is the error by its schema, as JSON text. */
export const failureOf = (
  error: unknown,
  cause: Cause.Cause<unknown> | undefined,
  attempt: { readonly attempt: number; readonly at: Date; readonly node: string; readonly worker: string },
  encoded?: string,
  quoting?: Quoting
): AttemptFailure => {
  const tag = fit(tagOf(error), 128)
  const message = fit(messageOf(error), 4096)
  const base = {
    attempt: attempt.attempt,
    at: attempt.at.toISOString(),
    node: attempt.node,
    tag,
    message,
    fingerprint: fingerprintOf(attempt.worker, tag, message),
    ...(encoded === undefined ? {} : { error: JSON.parse(encoded) as unknown }) // nothing is known of it
  }
  const room = maxFailureBytes - 5120 - utf8Length(encoded ?? "")
  const pretty = cause === undefined ? "" : fit(prettyOf(cause), room)
  const failure = pretty === "" ? base : { ...base, cause: pretty }
  const quotes = quoting?.([message, encoded ?? "", pretty].join("\n"))
  if (quotes === undefined) return failure
  const left = room - utf8Length(JSON.stringify(quotes))
  return { ...failure, ...(pretty === "" ? {} : { cause: fit(pretty, left) }), quotes }
}

// internal

const fit = (text: string, maxBytes: number): string => {
  // The ellipsis of a cut text takes three bytes.
  const cut = sanitize(text, maxBytes - 2)
  return utf8Length(cut) <= maxBytes ? cut : sanitize(text, Math.floor(maxBytes / 3))
}

const read = (value: unknown, key: string): unknown => {
  try {
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>)[key] : undefined // asked for a key
  } catch {
    return undefined
  }
}

const tagOf = (error: unknown): string => {
  const tag = read(error, "_tag")
  if (typeof tag === "string" && tag !== "") return tag
  const name = read(error, "name")
  return typeof name === "string" && name !== "" ? name : error === null ? "null" : typeof error
}

const messageOf = (error: unknown): string => {
  const message = read(error, "message")
  if (typeof message === "string" && message !== "") return message
  if (typeof error !== "object" || error === null) return describe(error)
  try {
    return JSON.stringify(error) ?? "(no message)"
  } catch {
    return "(no message)"
  }
}

const prettyOf = (cause: Cause.Cause<unknown>): string => {
  try {
    return Cause.pretty(cause)
  } catch {
    return ""
  }
}
