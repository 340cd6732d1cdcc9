/**
 * Where commands write: data on standard output, talk on standard error.
 *
 * A terminal gets colours and tables that fit it; a pipe gets lines of tab-separated columns; `--json` and `--ndjson`
 * get the same data as JSON, whatever it is written to.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { TerminalCapabilities } from "effect/cli/TerminalCapabilities"
import { Encrypted } from "../../Cipher.ts"
import { type Carried, defaultRedactKeys, makeRedactText, makeSecrets, redact } from "../../Redaction.ts"
import { UsageError } from "./exit.ts"
import { Loaded } from "./load.ts"
import { Json, Ndjson, Reveal } from "./options.ts"
import { cut, json, line, lines as safeLines, pad, width, wrap } from "./text.ts"

/** How something is painted. */
export type Paint = "bold" | "dim" | "red" | "green" | "yellow" | "blue" | "cyan"

/** A cell of a table: text, and how it is painted. */
export type Cell = string | readonly [text: string, paint: Paint | undefined]

/** A column of a table. */
export interface Column {
  readonly title: string
  readonly align?: "left" | "right"
  /** Whether it may be cut where the terminal is too narrow, and to how few columns at least. */
  readonly shrinkTo?: number
  /** Left out where the terminal is too narrow; the highest first. */
  readonly optional?: number
}

/** Whose secrets are meant. */
interface OfWorker {
  readonly worker?: string
}

/** What commands write to. */
export class Screen extends Context.Service<
  Screen,
  {
    /** Whether a name tells of a secret. */
    readonly isSecret: (name: string) => boolean
    /** Takes for secret what the schemas of workers say is. */
    readonly hide: (told: ReadonlyMap<string, ReadonlyArray<string>>) => void
    readonly format: "text" | "json" | "ndjson"
    /** Whether standard output is a terminal. */
    readonly isTerminal: boolean
    /** Whether somebody can be asked. */
    readonly isInteractive: boolean
    /** Whether progress is drawn on standard error. */
    readonly isAnimated: boolean
    /** Breaks a line between words where the terminal, as wide as it is now, would break it anywhere. */
    readonly wrap: (text: string) => ReadonlyArray<string>
    readonly paint: (text: string, paint: Paint | undefined) => string
    /** Writes to standard output, as it is, and waits where nobody reads. */
    readonly write: (text: string) => Effect.Effect<void>
    /** Writes lines that hold nothing but what is safe. */
    readonly print: (...text: ReadonlyArray<string>) => Effect.Effect<void>
    /** Says something to the person, beside the data; the text may hold anything. */
    readonly say: (text: string, paint?: Paint) => Effect.Effect<void>
    /** Writes on standard error as it is. */
    readonly draw: (text: string) => Effect.Effect<void>
    /** The lines of a table: aligned in a terminal, else apart by tabs. */
    readonly lines: (columns: ReadonlyArray<Column>, rows: ReadonlyArray<ReadonlyArray<Cell>>) => ReadonlyArray<string>
    /** Writes a table. */
    readonly table: (columns: ReadonlyArray<Column>, rows: ReadonlyArray<ReadonlyArray<Cell>>) => Effect.Effect<void>
    /** Writes JSON where it is asked for, else what `human` writes. */
    readonly show: <E, R>(value: unknown, human: Effect.Effect<void, E, R>) => Effect.Effect<void, E, R>
    /** The same for lists, which are an object with one field as JSON and a line for each item as NDJSON. */
    readonly showList: <A, E, R>(
      list: {
        readonly name: string
        readonly items: ReadonlyArray<A>
        readonly more?: Readonly<Record<string, unknown>>
      },
      human: Effect.Effect<void, E, R>
    ) => Effect.Effect<void, E, R>
    /** Hides the secrets of a job, unless `--reveal`. */
    readonly redact: (job: Carried & OfWorker) => Carried
    /** Hides secrets in args for a worker that are not of a job, unless `--reveal`. */
    readonly redactValue: (args: unknown, worker: string) => unknown
    /** Hides the secrets of a job in a text about it, unless `--reveal`. */
    readonly redactText: (job: Carried & OfWorker) => (text: string, quotes?: unknown) => string
  }
>()("effect-shigoto/cli/Screen") {}

/** Provides the streams of the process. */
export const layer = Layer.effect(
  Screen,
  Effect.gen(function* () {
    const asJson = yield* Json
    const asLines = yield* Ndjson
    const reveal = yield* Reveal
    if (asJson && asLines) {
      return yield* new UsageError({ message: "--json and --ndjson exclude each other: choose one." })
    }
    const { canColor } = yield* TerminalCapabilities
    const format = asJson ? "json" : asLines ? "ndjson" : "text"
    const isTerminal = process.stdout.isTTY
    const columns = () => (isTerminal ? widthOf(process.stdout) : undefined)
    const colored = canColor && format === "text"
    const config = yield* (yield* Loaded).named
    const keys = [...defaultRedactKeys, ...(config?.redactKeys ?? [])]
    let secrets = makeSecrets(keys, new Map())
    const paint = (text: string, how: Paint | undefined): string =>
      colored && how !== undefined && text !== "" ? `\u001b[${codes[how]}m${text}\u001b[0m` : text
    const write = writer(() => process.stdout)
    const draw = writer(() => process.stderr)
    const lines: Screen["Service"]["lines"] = (head, rows) => {
      const wide = columns()
      return wide === undefined
        ? [head.map(({ title }) => title), ...rows.map((row) => row.map(textOf))].map((row) => row.join("\t"))
        : layout(head, rows, wide, paint)
    }
    const print = (...text: ReadonlyArray<string>) => write(text.map((one) => `${one}\n`).join(""))
    return Screen.of({
      isSecret: (name) => secrets(undefined)(name),
      hide: (told) => {
        secrets = makeSecrets(keys, told)
      },
      format,
      isTerminal,
      isInteractive: process.stdin.isTTY && process.stderr.isTTY,
      isAnimated: process.stderr.isTTY && format === "text" && process.env["TERM"] !== "dumb",
      wrap: (text) => {
        const wide = columns()
        return wide === undefined ? [text] : wrap(text, wide)
      },
      paint,
      write,
      print,
      say: (text, how) =>
        draw(
          talk(text)
            .map((one) => `${paint(one, how)}\n`)
            .join("")
        ),
      draw,
      lines,
      table: (head, rows) => print(...lines(head, rows)),
      show: (value, human) => (format === "text" ? human : print(json(value, format === "json" ? 2 : undefined))),
      showList: ({ items, more = {}, name }, human) =>
        format === "text"
          ? human
          : format === "json"
            ? print(json({ [name]: items, ...more }, 2))
            : items.length === 0
              ? Effect.void
              : print(...items.map((item) => json(item))),
      redact: (job) => {
        const legible = { ...job, args: sealed(job.args), result: sealed(job.result) }
        return reveal ? legible : redact(legible, secrets(job.worker))
      },
      redactValue: (value, worker) =>
        reveal
          ? sealed(value)
          : redact(
              { args: sealed(value), result: undefined, meta: {}, errors: [], cancelReason: undefined },
              secrets(worker)
            ).args,
      redactText: (job) => (reveal ? (text) => text : makeRedactText(job, secrets(job.worker)))
    })
  })
)

/** What is said to the person, as lines: safe, and broken between words where standard error is a terminal. */
export const talk = (text: string): ReadonlyArray<string> =>
  safeLines(text).flatMap((one) => (process.stderr.isTTY ? wrap(one, widthOf(process.stderr) - 2) : [one]))

/** Lays a table out within a number of columns. */
export const layout = (
  head: ReadonlyArray<Column>,
  rows: ReadonlyArray<ReadonlyArray<Cell>>,
  columns: number,
  paint: (text: string, paint: Paint | undefined) => string
): ReadonlyArray<string> => {
  const natural = head.map(({ title }, i) => Math.max(width(title), ...rows.map((row) => width(textOf(row[i] ?? "")))))
  const shown = new Set(head.keys())
  const total = () => [...shown].reduce((sum, i) => sum + (widths[i] ?? 0), 0) + gap * (shown.size - 1)
  const widths = [...natural]
  const shrink = () => {
    while (total() > columns) {
      const widest = [...shown]
        .filter((i) => (widths[i] ?? 0) > (head[i]?.shrinkTo ?? Infinity))
        .toSorted((a, b) => (widths[b] ?? 0) - (widths[a] ?? 0))[0]
      if (widest === undefined) return
      widths[widest] = (widths[widest] ?? 0) - 1
    }
  }
  shrink()
  while (total() > columns) {
    const last = [...shown]
      .filter((i) => head[i]?.optional !== undefined)
      .toSorted((a, b) => (head[b]?.optional ?? 0) - (head[a]?.optional ?? 0))[0]
    if (last === undefined) break
    shown.delete(last)
    for (const i of shown) widths[i] = natural[i] ?? 0
    shrink()
  }
  const order = [...shown]
  const row = (cells: ReadonlyArray<Cell>, fixed?: Paint): string => {
    let used = 0
    const parts = order.map((i, at) => {
      const cell = cells[i] ?? ""
      const left = columns - used
      const wide = Math.min(widths[i] ?? 0, left)
      const text = cut(textOf(cell), wide)
      used += wide + gap
      const isLast = at === order.length - 1
      const align = head[i]?.align ?? "left"
      const filled = isLast && align === "left" ? text : pad(text, wide, align === "left" ? "left" : "right")
      return left <= 0 ? "" : paint(filled, fixed ?? (typeof cell === "string" ? undefined : cell[1]))
    })
    return parts
      .filter((part) => part !== "" || parts.length === 1)
      .join(" ".repeat(gap))
      .trimEnd()
  }
  return [
    row(
      head.map(({ title }) => title),
      "dim"
    ),
    ...rows.map((cells) => row(cells))
  ]
}

// internal

const gap = 2

const codes: Readonly<Record<Paint, number>> = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, blue: 34, cyan: 36 }

/** What is encrypted and cannot be read here, in a word that a value of an application is not. */
const sealed = (value: unknown): unknown =>
  value instanceof Encrypted ? { $encrypted: value.keyId ?? null, problem: value.problem.message } : value

/** The text of a cell, from data or not: nothing in it reaches the terminal unseen. */
const textOf = (cell: Cell): string => line(typeof cell === "string" ? cell : cell[0])

/** Columns of a terminal as wide as it is now; one that does not say is taken for the usual. */
const widthOf = (stream: NodeJS.WriteStream): number => Math.max(20, stream.columns || 80)

/** Waits for the reader; one that has gone ends the process elsewhere. */
const writer =
  (stream: () => NodeJS.WriteStream) =>
  (text: string): Effect.Effect<void> =>
    text === ""
      ? Effect.void
      : Effect.callback<void>((resume) => {
          stream().write(text, () => resume(Effect.void))
        })
