/** What all views are made of. Text from the database is only ever text: nothing here makes HTML of it. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query"
import { type ReactNode, useEffect, useRef, useState } from "react"
import type { Permission } from "../Access.ts"
import { type Answer, type Answers, Exact, get, post, query, Refused, term } from "./api.ts"

/** Colour never tells a state alone: each has its glyph and its word. */
const glyphs: Readonly<Record<string, string>> = {
  scheduled: "◷",
  blocked: "◔",
  available: "○",
  executing: "▶",
  retryable: "↻",
  completed: "✓",
  discarded: "✕",
  cancelled: "⊘"
}

/** All states, in the order of a job's life. */
export const states: ReadonlyArray<string> = Object.keys(glyphs)

/** Asks, and asks again as soon as there is news of it. */
export const useGet = <K extends keyof Answers>(kind: K, path: string, isWanted = true) =>
  useQuery({ queryKey: [kind, path], queryFn: () => get(kind, path), enabled: isWanted })

export const useCan = () => {
  const me = useGet("me", "me")
  return (permission: Permission) => me.data?.can.includes(permission) ?? false
}

export const jobsLink = (q: string): string => `#/jobs${query({ q })}`
export const number = (value: number): string => value.toLocaleString("en")

/** A length of time in at most two units. */
export const duration = (millis: number): string => {
  if (millis < 1000) return `${Math.round(millis)} ms`
  const seconds = millis / 1000
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`
  const parts = (
    [
      ["d", 86_400],
      ["h", 3600],
      ["min", 60],
      ["s", 1]
    ] as const
  ).map(([unit, size], i, all) => {
    const within = i === 0 ? Infinity : (all[i - 1]?.[1] ?? Infinity)
    return [Math.floor((seconds % within) / size), unit] as const
  })
  const first = parts.findIndex(([count]) => count > 0)
  return parts
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count} ${unit}`)
    .join(" ")
}

// oxlint-disable-next-line no-restricted-properties -- the viewer's own clock
const now = (): number => Date.now()

export const State = ({ state }: { readonly state: string }) => (
  <span className={`state ${state}`}>
    <span aria-hidden="true">{glyphs[state] ?? "?"}</span> {state}
  </span>
)

/** An instant, as the distance from now; exactly on hover and for those who cannot hover. */
export const Time = ({ at }: { readonly at: string | null }) => {
  const [, tick] = useState(0)
  useEffect(() => {
    const timer = setInterval(() => tick((count) => count + 1), 10_000)
    return () => clearInterval(timer)
  }, [])
  if (at === null) return <span className="dim">–</span>
  const millis = Date.parse(at) - now()
  const text = Math.abs(millis) < 1000 ? "now" : millis < 0 ? `${duration(-millis)} ago` : `in ${duration(millis)}`
  return (
    <time dateTime={at} title={`${new Date(at).toLocaleString()} (${at})`}>
      {text}
    </time>
  )
}

/** A page: its title, what went wrong, and its content once there is an answer. */
export const Page = (props: {
  readonly title: ReactNode
  readonly query?: { readonly error: Error | null; readonly isPending: boolean; readonly data: unknown }
  readonly actions?: ReactNode
  readonly children: ReactNode
}) => {
  const { error = null, isPending = false, data } = props.query ?? {}
  const isGone = error instanceof Refused && error.status === 404
  return (
    <>
      <div className="title">
        <h1>{props.title}</h1>
        {props.actions}
      </div>
      {error !== null && <p role="alert">{error.message}</p>}
      {isPending ? (
        <p className="dim">Loading…</p>
      ) : isGone || (error !== null && data === undefined) ? null : (
        props.children
      )}
    </>
  )
}

/** A sentence and the code that would fill an empty page. */
export const Empty = ({ children, code }: { readonly children: ReactNode; readonly code?: string }) => (
  <div className="empty">
    <p>{children}</p>
    {code !== undefined && <pre tabIndex={0}>{code}</pre>}
  </div>
)

export const Table = (props: {
  readonly label: string
  readonly heads: ReadonlyArray<ReactNode>
  readonly children: ReactNode
}) => (
  <div className="scroll" role="region" aria-label={props.label} tabIndex={0}>
    <table>
      <thead>
        <tr>
          {props.heads.map((head, i) => (
            <th key={i} scope="col">
              {head}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>{props.children}</tbody>
    </table>
  </div>
)

/** A button that asks the server for something, and says what it answered; one that destroys asks back first. */
export const Action = (props: {
  readonly label: string
  readonly about: string
  readonly path: string
  readonly body?: object
  /** What is asked before; nothing for what can be taken back. */
  readonly confirm?: string
  readonly onDone?: () => void
}) => {
  const client = useQueryClient()
  const [asks, setAsks] = useState(false)
  const action = useMutation({
    mutationFn: () => post<Answer>(props.path, props.body),
    onSuccess: () => props.onDone?.(),
    onSettled: () => client.invalidateQueries()
  })
  const told = action.error?.message ?? action.data?.detail ?? action.data?.outcome
  const name = `${props.label} ${props.about}`
  return (
    <span className="action">
      <button
        type="button"
        disabled={action.isPending}
        onClick={() => (props.confirm === undefined ? action.mutate() : setAsks(true))}
        aria-label={name}
      >
        {props.label}
      </button>
      {asks && (
        <Dialog title={`${name}?`} onClose={() => setAsks(false)}>
          <p>{props.confirm}</p>
          <p className="row">
            <button
              type="button"
              className="danger"
              onClick={() => {
                setAsks(false)
                action.mutate()
              }}
            >
              {props.label}
            </button>
            <button type="button" onClick={() => setAsks(false)}>
              Leave it
            </button>
          </p>
        </Dialog>
      )}
      <span role="status" className={action.isError ? "bad" : "dim"}>
        {told}
      </span>
    </span>
  )
}

/** A modal window; Escape and a click beside it close it. */
export const Dialog = (props: {
  readonly title: string
  readonly onClose: () => void
  readonly children: ReactNode
}) => {
  const dialog = useRef<HTMLDialogElement>(null)
  useEffect(() => dialog.current?.showModal(), [])
  return (
    <dialog
      ref={dialog}
      aria-label={props.title}
      onClose={props.onClose}
      onClick={(event) => event.target === dialog.current && dialog.current?.close()}
    >
      <div>
        <h2>{props.title}</h2>
        {props.children}
      </div>
    </dialog>
  )
}

/** JSON as text, with integers of any size as they were written. */
export const shown = (value: unknown, indent = ""): string => {
  const inner = `${indent}  `
  if (value instanceof Exact) return value.digits
  if (Array.isArray(value)) {
    if (value.length === 0) return "[]"
    return `[\n${value.map((item) => inner + shown(item, inner)).join(",\n")}\n${indent}]`
  }
  if (typeof value === "object" && value !== null) {
    const entries = Object.entries(value)
    if (entries.length === 0) return "{}"
    return `{\n${entries.map(([key, item]) => `${inner}${JSON.stringify(key)}: ${shown(item, inner)}`).join(",\n")}\n${indent}}`
  }
  return JSON.stringify(value) ?? "null"
}

/** The most characters of a value that are shown unasked. */
const foldedLength = 32_768

export const Json = ({ title, value }: { readonly title: string; readonly value: unknown }) => {
  const [isWhole, setWhole] = useState(false)
  const [copied, setCopied] = useState(false)
  const text = shown(value)
  const isLong = text.length > foldedLength
  return (
    <details open={value !== null}>
      <summary>
        {title} {isLong && <span className="dim">{number(text.length)} characters</span>}
      </summary>
      <div className="json">
        <button
          type="button"
          aria-label={`Copy ${title.toLowerCase()}`}
          onClick={() => void navigator.clipboard?.writeText(text).then(() => setCopied(true))}
        >
          {copied ? "Copied" : "Copy"}
        </button>
        <pre tabIndex={0} aria-label={title}>
          {isLong && !isWhole ? `${text.slice(0, foldedLength)}…` : text}
        </pre>
        {isLong && !isWhole && (
          <button type="button" onClick={() => setWhole(true)}>
            Show all of it
          </button>
        )}
      </div>
    </details>
  )
}

/** Parts of a whole, drawn to scale and told in words. */
export const Parts = (props: {
  readonly label: string
  readonly parts: ReadonlyArray<readonly [kind: string, count: number]>
}) => {
  const total = props.parts.reduce((sum, [, count]) => sum + count, 0)
  const starts = props.parts.map((_, i) => props.parts.slice(0, i).reduce((sum, [, count]) => sum + count, 0))
  const words = props.parts.flatMap(([kind, count]) => (count > 0 ? [`${number(count)} ${kind}`] : [])).join(", ")
  return (
    <span className="parts">
      <svg
        viewBox="0 0 100 6"
        preserveAspectRatio="none"
        role="img"
        aria-label={`${props.label}: ${words || "nothing"}`}
      >
        <rect width="100" height="6" className="rest" />
        {total > 0 &&
          props.parts.map(([kind, count], i) => (
            <rect
              key={kind}
              className={`part ${kind}`}
              x={((starts[i] ?? 0) / total) * 100}
              width={(count / total) * 100}
              height="6"
            />
          ))}
      </svg>
      <span>{words}</span>
    </span>
  )
}

/** A link to a queue's or a worker's jobs. */
export const JobsOf = ({ field, value }: { readonly field: "queue" | "worker"; readonly value: string }) => (
  <a href={jobsLink(term(field, value))}>{value}</a>
)

/** A page's parameter in the address: what is shown is in the address, so that it can be sent to somebody. */
export const navigate = (path: string, values: Readonly<Record<string, string | null | undefined>> = {}): void => {
  location.hash = `${path}${query(values)}`
}
