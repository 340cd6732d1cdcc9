/** Whether a job is meant, and why not. */
import * as Equal from "effect/Equal"
import * as Formatter from "effect/Formatter"
import type { JobRow, JobState } from "../../JobRow.ts"

/** A filter with its types erased. */
export interface Wanted {
  readonly name: string | undefined
  readonly args: unknown
  readonly queue: string | undefined
  readonly tags: ReadonlyArray<string>
  readonly states: ReadonlyArray<JobState>
}

/** A job, and its args as its schema reads them; the encoded ones where there is no schema or it refuses them. */
export interface Candidate {
  readonly row: JobRow
  readonly args: unknown
}

/** Each condition that a job does not meet, in words; empty where it is meant. */
export const mismatches = (wanted: Wanted, { args, row }: Candidate): ReadonlyArray<string> => {
  const found: Array<string> = []
  if (wanted.name !== undefined && row.worker !== wanted.name) found.push(`its job is ${show(row.worker)}`)
  if (wanted.queue !== undefined && row.queue !== wanted.queue) found.push(`its queue is ${show(row.queue)}`)
  if (!wanted.states.includes(row.state)) found.push(`it is ${row.state}`)
  const missing = wanted.tags.filter((tag) => !row.tags.includes(tag))
  if (missing.length > 0)
    found.push(`it lacks the ${missing.length > 1 ? "tags" : "tag"} ${missing.map(show).join(", ")}`)
  // Producers think in decoded values, SQL and other languages in encoded ones: either will do.
  const encoded = wanted.args === undefined ? undefined : difference(wanted.args, row.args, "args")
  if (encoded !== undefined) {
    const decoded = difference(wanted.args, args, "args")
    if (decoded !== undefined) found.push(decoded)
  }
  return found
}

/** A value in a few words. */
export const show = (value: unknown): string => {
  const text = Formatter.format(value)
  return text.length > 200 ? `${text.slice(0, 200)}…` : text
}

// internal

/** The first place where `found` lacks what is wanted. */
const difference = (wanted: unknown, found: unknown, path: string): string | undefined => {
  if (Array.isArray(wanted)) {
    if (!Array.isArray(found) || found.length !== wanted.length) return unlike(wanted, found, path)
    return first(wanted.keys(), (i) => difference(wanted[i], found[i], `${path}[${i}]`))
  }
  if (isPlain(wanted)) {
    if (typeof found !== "object" || found === null) return unlike(wanted, found, path)
    const fields: Record<string, unknown> = { ...found }
    return first(Object.keys(wanted), (key) => difference(wanted[key], fields[key], `${path}.${key}`))
  }
  return Equal.equals(wanted, found) ? undefined : unlike(wanted, found, path)
}

const first = <A>(items: Iterable<A>, find: (item: A) => string | undefined): string | undefined => {
  for (const item of items) {
    const found = find(item)
    if (found !== undefined) return found
  }
  return undefined
}

const unlike = (wanted: unknown, found: unknown, path: string): string =>
  `${path} is ${show(found)}, not ${show(wanted)}`

const isPlain = (value: unknown): value is Readonly<Record<string, unknown>> => {
  if (typeof value !== "object" || value === null) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}
