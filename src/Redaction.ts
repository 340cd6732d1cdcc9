/**
 * Hides secrets on the way out to people: values under telling names, the same values wherever else the job quotes
 * them, and what looks like a credential in any text. The dashboard and the command line share these rules.
 */
import * as Duration from "effect/Duration"
import * as Redacted from "effect/Redacted"
import type { JobRow } from "./JobRow.ts"

/**
 * Names whose values are hidden, written in any style: `apiKey`, `api_key`, `API-KEY`.
 *
 * @category constants
 */
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

/**
 * Stands among the names of secret fields for everything, where a secret is under no name of its own.
 *
 * @category constants
 */
export const everything = "*"

/**
 * What stands in place of a secret.
 *
 * @category constants
 */
export const hidden = "••••••"

/**
 * What a viewer may see of what a job carries.
 *
 * @category models
 */
export type Carried = Pick<JobRow, "args" | "result" | "meta" | "errors" | "cancelReason">

/**
 * Says whether a name tells of a secret: it contains one of the keys, in any style, or is one of the fields that a
 * worker's schemas say are `Redacted`.
 *
 * @category constructors
 */
export const makeIsSecret = (
  keys: ReadonlyArray<string>,
  fields: ReadonlySet<string> = new Set()
): ((name: string) => boolean) => {
  const plain = keys.map(normal)
  // The same few names come thousands of times in the args of one job.
  const known = new Map<string, boolean>()
  const look = (name: string): boolean => {
    const normalName = normal(name)
    return fields.has(name) || plain.some((key) => normalName.includes(key))
  }
  return (name) => {
    const found = known.get(name)
    if (found !== undefined) return found
    const isSecret = look(name)
    if (known.size < 1000) known.set(name, isSecret)
    return isSecret
  }
}

/**
 * Says for each worker whether a name tells of a secret: the keys, and the fields of any worker's schemas, since jobs quote
 * each other. `told` is `Jobs.secretFields`.
 *
 * @category constructors
 */
export const makeSecrets = (
  keys: ReadonlyArray<string>,
  told: ReadonlyMap<string, ReadonlyArray<string>>
): ((worker: string | undefined) => (name: string) => boolean) => {
  const named = [...told.values()].flat().filter((field) => field !== everything)
  return (worker) => {
    const isWhole = worker !== undefined && told.get(worker)?.includes(everything) === true
    return makeIsSecret(keys, new Set(isWhole ? [...named, everything] : named))
  }
}

/**
 * Hides what stands under secret names, and where those values are quoted.
 *
 * @category redacting
 */
export const redact = (job: Carried, isSecret: (name: string) => boolean): Carried => {
  const inText = makeRedactText(job, isSecret)
  const inValue = (value: unknown): unknown => {
    if (typeof value === "string") return inText(value)
    if (Array.isArray(value)) return value.map(inValue)
    if (typeof value !== "object" || value === null) return value
    return Object.fromEntries(
      Object.entries(value).map(([name, item]) => [inText(name), isSecret(name) ? hidden : inValue(item)])
    )
  }
  const whole = (value: unknown): unknown => (isSecret(everything) && value !== undefined ? hidden : inValue(value))
  return {
    args: whole(job.args),
    result: whole(job.result),
    meta: inValue(job.meta) as JobRow["meta"], // an object stays one
    errors: job.errors.map((error) => ({
      ...error,
      message: inText(error.message),
      ...(error.error === undefined ? {} : { error: whole(error.error) }),
      ...(error.cause === undefined ? {} : { cause: inText(error.cause) }),
      ...(error.quotes === undefined ? {} : { quotes: whole(error.quotes) })
    })),
    cancelReason: job.cancelReason === undefined ? undefined : inText(job.cancelReason)
  }
}

/**
 * Makes what hides a job's secrets in other texts about it, such as its logs; `quotes` is what a line says it quotes.
 *
 * @category constructors
 */
export const makeRedactText = (
  job: Carried,
  isSecret: (name: string) => boolean
): ((text: string, quotes?: unknown) => string) => {
  const collect = (secrets: Set<string>, value: unknown, secret: boolean): void => {
    if (Array.isArray(value)) for (const item of value) collect(secrets, item, secret)
    else if (typeof value === "object" && value !== null) {
      for (const [name, item] of Object.entries(value)) collect(secrets, item, secret || isSecret(name))
      // A short value would blacken half of an innocent text.
    } else if (secret && String(value).length >= 4) secrets.add(String(value))
  }
  const ofJob = new Set<string>()
  const errors = job.errors.map(({ error, quotes }) => [error, quotes])
  collect(ofJob, [job.args, job.result, errors], isSecret(everything))
  collect(ofJob, job.meta, false)
  const longestFirst = (secrets: Iterable<string>) => [...secrets].toSorted((a, b) => b.length - a.length)
  const usual = longestFirst(ofJob)
  const and = (quotes: unknown): ReadonlyArray<string> => {
    const secrets = new Set(ofJob)
    collect(secrets, quotes, isSecret(everything))
    return longestFirst(secrets)
  }
  return (text, quotes) => {
    let clean = text
    for (const secret of quotes === undefined ? usual : and(quotes)) {
      for (const form of new Set([secret, JSON.stringify(secret).slice(1, -1)])) clean = clean.replaceAll(form, hidden)
    }
    return redactText(clean, isSecret)
  }
}

/**
 * Hides what looks like a credential: the password of a URL, `Bearer …`, and `name=value` or `name: value` under a
 * secret name.
 *
 * @category redacting
 */
export const redactText = (text: string, isSecret: (name: string) => boolean): string => {
  // Most strings have neither sign: there are thousands of them in the args of one job.
  if (!/[=:\s]/.test(text)) return text
  return text
    .replaceAll(/(\b[a-z][a-z0-9+.-]*:\/\/[^\s:@/?#]*):[^\s@/]+@/gi, `$1:${hidden}@`)
    .replaceAll(/\b(Bearer|Basic)\s+[\w.~+/=-]{8,}/gi, `$1 ${hidden}`)
    .replaceAll(
      // A name begins where none is before it, or each letter of a long word would be tried as its beginning.
      /(["']?)(?<![\w.-])([\w.-]{2,200})\1(\s*[=:]\s*)("(?:[^"\\]|\\.)+"|'[^']+'|[^\s,;&"'(){}[\]<>]{4,})/g,
      (all, quote: string, name: string, sign: string) =>
        isSecret(name) ? `${quote}${name}${quote}${sign}${hidden}` : all
    )
}

/**
 * Says whether JSON asks for a value under a secret name: to search for a secret is to guess it.
 *
 * @category guards
 */
export const asksForSecret = (value: unknown, isSecret: (name: string) => boolean): boolean =>
  typeof value === "object" &&
  value !== null &&
  Object.entries(value).some(([name, item]) => isSecret(name) || asksForSecret(item, isSecret))

/**
 * Gives a setting as JSON, for people; a secret and a function say only that they are there.
 *
 * @category redacting
 */
export const plainSetting = (value: unknown): unknown => {
  if (Redacted.isRedacted(value)) return hidden
  if (Duration.isDuration(value)) return Duration.format(value)
  if (value instanceof Map) return Object.fromEntries([...value].map(([name, one]) => [name, plainSetting(one)]))
  if (typeof value === "function") return "(a function)"
  if (typeof value === "number" && !Number.isFinite(value)) return null
  if (Array.isArray(value)) return value.map(plainSetting)
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, plainSetting(one)]))
  }
  return value ?? null
}

// internal

const normal = (name: string): string => name.toLowerCase().replaceAll(/[^a-z0-9]/g, "")
