/**
 * What the texts of an attempt quote of what stands nowhere in its row: args that its flow computed, results that it
 * waited for. It is kept beside a text under its names, so that whoever shows the text can tell what is a secret.
 */
import type { Attempt } from "../CurrentJob.ts"

/** Finds what a text quotes; undefined where that is nothing. */
export type Quoting = (text: string) => unknown

/** What an attempt's texts may quote beside its row; undefined where there is nothing. `computed` is from its flow. */
export const quotingOf = (computed: unknown, { dependencies }: Attempt): Quoting | undefined =>
  computed === undefined && dependencies.size === 0
    ? undefined
    : (text) => quoted([computed, [...dependencies.values()].map(({ result }) => result)], text)

/** The parts of a value that a text quotes, as what holds them; undefined for none. */
export const quoted = (value: unknown, text: string): unknown => {
  let room = maxQuotedBytes
  const prune = (part: unknown, name: string): unknown => {
    if (Array.isArray(part)) {
      const items = part.map((item) => prune(item, "")).filter((item) => item !== undefined)
      return items.length === 0 ? undefined : items
    }
    if (typeof part === "object" && part !== null) {
      const entries = Object.entries(part)
        .map(([key, item]) => [key, prune(item, key)] as const)
        .filter(([, item]) => item !== undefined)
      return entries.length === 0 ? undefined : Object.fromEntries(entries)
    }
    if (typeof part !== "string" && typeof part !== "number") return undefined
    const said = String(part)
    // Redaction leaves short values alone: they would blacken half of an innocent text.
    if (said.length < 4 || !(text.includes(said) || text.includes(JSON.stringify(said).slice(1, -1)))) return undefined
    room -= said.length + name.length + 8
    return room < 0 ? undefined : part
  }
  return prune(value, "")
}

// internal

/** The most that is kept beside a text: a failure and its quotes are bounded together. */
const maxQuotedBytes = 4096
