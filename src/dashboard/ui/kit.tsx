/** What all views are made of. Text from the database is only ever text: nothing here makes HTML of it. */
import { useQuery } from "@tanstack/react-query"
import type { ReactNode } from "react"
import type { Permission } from "../Access.ts"
import { type Answers, get, query, Refused, take, term } from "./api.ts"

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
  useQuery({
    queryKey: [kind, path],
    queryFn: () => get(kind, path),
    initialData: () => take(kind, path),
    enabled: isWanted
  })

export const useCan = () => {
  const me = useGet("me", "me")
  return (permission: Permission) => me.data?.can.includes(permission) ?? false
}

export const jobsLink = (q: string): string => `#/jobs${query({ q })}`
export const queueLink = (name: string): string => `#/queues/${encodeURIComponent(name)}`
export const workerLink = (name: string): string => `#/workers/${encodeURIComponent(name)}`
export const number = (value: number): string => value.toLocaleString("en")

/** How much something takes. */
export const size = (bytes: number): string => {
  const unit = Math.min(Math.floor(Math.log2(Math.max(bytes, 1)) / 10), 4)
  const value = bytes / 1024 ** unit
  return `${value < 10 && unit > 0 ? value.toFixed(1) : Math.round(value)} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`
}

export const State = ({ state }: { readonly state: string }) => (
  <span className={`state ${state}`}>
    <span aria-hidden="true">{glyphs[state] ?? "?"}</span> {state}
  </span>
)

/** A number that leads to the jobs that it counts; there may be more of them than were counted. */
export const Count = (props: { readonly q: string; readonly value: number | string; readonly isAtLeast?: boolean }) => (
  <a className={props.value === 0 ? "count none" : "count"} href={jobsLink(props.q)}>
    {typeof props.value === "number" ? `${number(props.value)}${props.isAtLeast === true ? "+" : ""}` : props.value}
  </a>
)

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
        <span className="row">{props.actions}</span>
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

/** A column; numbers stand under each other. */
type Head = ReactNode | { readonly count: string }

const isCount = (head: Head): head is { readonly count: string } =>
  typeof head === "object" && head !== null && "count" in head

export const Table = (props: {
  readonly label: string
  readonly heads: ReadonlyArray<Head>
  readonly children: ReactNode
  /** Whether somebody points at a row. */
  readonly onPoint?: (isInside: boolean) => void
}) => (
  <div
    className="scroll"
    role="region"
    aria-label={props.label}
    tabIndex={0}
    onPointerEnter={() => props.onPoint?.(true)}
    onPointerLeave={() => props.onPoint?.(false)}
  >
    <table>
      <thead>
        <tr>
          {props.heads.map((head, i) => (
            <th key={i} scope="col" className={isCount(head) ? "number" : undefined}>
              {isCount(head) ? head.count : head}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>{props.children}</tbody>
    </table>
  </div>
)

/** Names and what they stand for. */
export const Facts = ({ facts }: { readonly facts: ReadonlyArray<readonly [name: string, value: ReactNode]> }) => (
  <dl>
    {facts.map(([name, value]) => (
      <div key={name}>
        <dt>{name}</dt>
        <dd>{value}</dd>
      </div>
    ))}
  </dl>
)

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
  <a href={jobsLink(term(field, value))}>Jobs</a>
)

/** A page's parameter in the address: what is shown is in the address, so that it can be sent to somebody. */
export const navigate = (path: string, values: Readonly<Record<string, string | null | undefined>> = {}): void => {
  location.hash = `${path}${query(values)}`
}
