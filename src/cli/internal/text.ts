/** Text on its way to a terminal: what is in data never steers it, and what is too wide is cut between graphemes. */
import { displayWidth } from "effect/cli/CliOutput"
import * as Duration from "effect/Duration"

/** One line: control characters and what turns the direction of text around are shown, not obeyed. */
export const line = (text: string): string => text.replaceAll(/[\t\n\r\u2028\u2029]+/g, " ").replaceAll(unsafe, escaped)

/** Several lines, each of them safe. */
export const lines = (text: string): ReadonlyArray<string> =>
  text.split(/\r\n|[\n\r\u2028\u2029]/).map((one) => one.replaceAll("\t", "  ").replaceAll(unsafe, escaped))

/** JSON that is safe in a terminal too: JSON itself lets C1 controls and marks of direction stand. */
export const json = (value: unknown, indent?: number): string =>
  (JSON.stringify(value, undefined, indent) ?? "null").replaceAll(
    unsafe,
    // Line ends are the layout: those in data are escaped by then.
    (char) => (char === "\n" ? char : `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`)
  )

/** How many columns a text takes. */
export const width: (text: string) => number = displayWidth

/** Cuts a line to a number of columns, with an ellipsis where it was longer. */
export const cut = (text: string, columns: number): string => {
  if (width(text) <= columns) return text
  let kept = ""
  let taken = 0
  for (const { segment } of graphemes.segment(text)) {
    const wide = width(segment)
    if (taken + wide > columns - 1) break
    kept += segment
    taken += wide
  }
  return columns <= 0 ? "" : `${kept}…`
}

/** Breaks a line between words, so that none is wider than a number of columns unless one word is. */
export const wrap = (text: string, columns: number): ReadonlyArray<string> => {
  if (width(text) <= columns) return [text]
  const broken: Array<string> = []
  for (const word of text.split(" ")) {
    const last = broken.at(-1)
    if (last !== undefined && width(last) + 1 + width(word) <= columns) broken[broken.length - 1] = `${last} ${word}`
    else broken.push(word)
  }
  return broken
}

/** Fills a line up to a number of columns. */
export const pad = (text: string, columns: number, side: "left" | "right" = "left"): string => {
  const filling = " ".repeat(Math.max(0, columns - width(text)))
  return side === "left" ? text + filling : filling + text
}

/** A duration for people: the two largest units. */
export const duration = (millis: number): string => {
  const whole = Math.max(0, Math.round(millis))
  if (whole < 1000) return `${whole}ms`
  if (whole < 10_000) return `${(Math.floor(whole / 100) / 10).toFixed(1)}s`
  const { days, hours, minutes, seconds } = Duration.parts(Duration.millis(whole))
  if (days > 0) return hours > 0 ? `${days}d${hours}h` : `${days}d`
  if (hours > 0) return minutes > 0 ? `${hours}h${minutes}m` : `${hours}h`
  return minutes > 0 ? (seconds > 0 ? `${minutes}m${seconds}s` : `${minutes}m`) : `${seconds}s`
}

/** A moment seen from another: `3m12s ago`, `in 5s`. */
export const relative = (at: number, now: number): string =>
  at > now ? `in ${duration(at - now)}` : `${duration(now - at)} ago`

/** A number with thin groups of three. */
export const count = (value: number): string => String(value).replaceAll(/\B(?=(\d{3})+$)/g, " ")

/** A noun in the number that fits. */
export const many = (value: number, one: string, several: string = `${one}s`): string =>
  `${count(value)} ${value === 1 ? one : several}`

// internal

const graphemes = new Intl.Segmenter(undefined, { granularity: "grapheme" })

/** C0, DEL, C1, and the marks that reorder, hide or break lines. */
const unsafe =
  // eslint-disable-next-line no-control-regex, no-misleading-character-class
  /[\u0000-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g

const escaped = (char: string): string => {
  const code = char.charCodeAt(0)
  return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`
}
