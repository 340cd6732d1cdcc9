/**
 * Hides secrets on the way out: values under telling names, and the same values wherever else the job quotes them.
 */
import type { JobRow } from "../../JobRow.ts"

/** Names whose values are hidden, written in any style: `apiKey`, `api_key`, `API-KEY`. */
export const defaultRedactKeys: ReadonlyArray<string> = [
  "password",
  "passwd",
  "passphrase",
  "secret",
  "token",
  "authorization",
  "cookie",
  "apiKey",
  "accessKey",
  "privateKey",
  "credential",
  "signature"
]

/** What stands in place of a secret. */
export const hidden = "••••••"

/** What a viewer may see of what a job carries. */
export type Carried = Pick<JobRow, "args" | "result" | "meta" | "errors" | "cancelReason">

/** Says whether a name tells of a secret: it contains one of the keys, in any style. */
export const makeIsSecret = (keys: ReadonlyArray<string>): ((name: string) => boolean) => {
  const plain = keys.map(normal)
  return (name) => plain.some((key) => normal(name).includes(key))
}

/** Hides what stands under secret names, and where those values are quoted. */
export const redact = (job: Carried, isSecret: (name: string) => boolean): Carried => {
  const secrets = new Set<string>()
  const collect = (value: unknown, secret: boolean): void => {
    if (Array.isArray(value)) for (const item of value) collect(item, secret)
    else if (typeof value === "object" && value !== null) {
      for (const [name, item] of Object.entries(value)) collect(item, secret || isSecret(name))
      // A short value would blacken half of an innocent text.
    } else if (secret && String(value).length >= 4) secrets.add(String(value))
  }
  for (const value of [job.args, job.result, job.meta]) collect(value, false)
  const longestFirst = [...secrets].toSorted((a, b) => b.length - a.length)
  const inText = (text: string): string => {
    let clean = text
    for (const secret of longestFirst) {
      for (const form of new Set([secret, JSON.stringify(secret).slice(1, -1)])) clean = clean.replaceAll(form, hidden)
    }
    return clean
  }
  const inValue = (value: unknown): unknown => {
    if (typeof value === "string") return inText(value)
    if (Array.isArray(value)) return value.map(inValue)
    if (typeof value !== "object" || value === null) return value
    return Object.fromEntries(
      Object.entries(value).map(([name, item]) => [inText(name), isSecret(name) ? hidden : inValue(item)])
    )
  }
  return {
    args: inValue(job.args),
    result: inValue(job.result),
    meta: inValue(job.meta) as JobRow["meta"], // an object stays one
    errors: job.errors.map((error) => ({
      ...error,
      message: inText(error.message),
      ...(error.cause === undefined ? {} : { cause: inText(error.cause) })
    })),
    cancelReason: job.cancelReason === undefined ? undefined : inText(job.cancelReason)
  }
}

/** Says whether JSON asks for a value under a secret name: to search for a secret is to guess it. */
export const asksForSecret = (value: unknown, isSecret: (name: string) => boolean): boolean =>
  typeof value === "object" &&
  value !== null &&
  Object.entries(value).some(([name, item]) => isSecret(name) || asksForSecret(item, isSecret))

// internal

const normal = (name: string): string => name.toLowerCase().replaceAll(/[^a-z0-9]/g, "")
