/** Is work flowing, is it late, is it failing, is anyone working it: at one glance. */
import type { ReactNode } from "react"
import { type History, type Overview as Sample, query, term } from "./api.ts"
import { Charts, ChartsBy, groupings, spans } from "./Charts.tsx"
import { FailureTable } from "./Failures.tsx"
import { jobsLink, navigate, number, Page, queueLink, useGet, workerLink } from "./kit.tsx"
import { QueueTable } from "./Queues.tsx"
import { Line } from "./spark.tsx"
import { duration } from "./time.tsx"

export const Overview = ({ search }: { readonly search: URLSearchParams }) => {
  const asked = search.get("span")
  const span = spans.find((one) => one === asked) ?? "1h"
  const queue = search.get("queue") ?? ""
  const by = groupings.find((one) => one === search.get("by")) ?? "state"
  const show = (values: { readonly span?: string; readonly queue?: string; readonly by?: string }) =>
    navigate("/", { span: asked, queue, by: search.get("by"), ...values })
  const overview = useGet("overview", "overview")
  const queues = useGet("queues", "queues")
  const failures = useGet("failures", "failures")
  const rows = (queues.data?.queues ?? []).toSorted((a, b) => (b.oldestMillis ?? 0) - (a.oldestMillis ?? 0))
  const names = rows.map(({ name }) => name).toSorted()
  return (
    <Page title="Overview" query={overview}>
      {overview.data !== undefined && (
        <>
          <Problems of={overview.data} />
          <Tiles of={overview.data} />
          <div className="title">
            <h2>Throughput and latency</h2>
            <span className="row">
              <label>
                By{" "}
                <select
                  aria-label="Group by"
                  value={by}
                  // Of one queue, neither it nor the workers of others can be told apart.
                  onChange={(event) => show({ by: event.target.value, queue: "" })}
                >
                  {groupings.map((one) => (
                    <option key={one}>{one}</option>
                  ))}
                </select>
              </label>
              <label>
                Of{" "}
                <select value={queue} onChange={(event) => show({ queue: event.target.value, by: "" })}>
                  <option value="">all queues</option>
                  {names.map((name) => (
                    <option key={name}>{name}</option>
                  ))}
                </select>
              </label>
              <label>
                Span{" "}
                <select value={span} onChange={(event) => show({ span: event.target.value })}>
                  {spans.map((one) => (
                    <option key={one}>{one}</option>
                  ))}
                </select>
              </label>
            </span>
          </div>
          {by === "state" ? <Charts span={span} {...(queue !== "" && { queue })} /> : <ChartsBy span={span} by={by} />}
          <h2>Queues, the longest wait first</h2>
          <QueueTable rows={rows} />
          <h2>Failing</h2>
          <FailureTable rows={(failures.data ?? []).slice(0, 5)} />
        </>
      )}
    </Page>
  )
}

const Problems = ({ of: { reasons, status } }: { readonly of: Sample }) =>
  reasons.length === 0 ? null : (
    <ul className="problems" aria-label="Problems">
      {reasons.map(({ message, node, queue, tag, worker }) => (
        <li key={`${tag} ${message}`} className={status === "down" ? "bad" : "warn"}>
          <span aria-hidden="true">▲</span> {message}{" "}
          {queue !== null ? (
            <a href={queueLink(queue)}>Show</a>
          ) : worker !== null ? (
            <a href={workerLink(worker)}>Show</a>
          ) : node !== null ? (
            <a href="#/nodes">Show</a>
          ) : null}
        </li>
      ))}
    </ul>
  )

type Tone = "warn" | "bad" | undefined

const Tile = (props: {
  readonly label: string
  readonly value: string
  readonly note?: string | undefined
  readonly href: string
  readonly tone?: Tone
  readonly children?: ReactNode
}) => (
  <li>
    <a href={props.href} className={props.tone}>
      <span>{props.label}</span>
      <b>{props.value}</b>
      <small>{props.note}</small>
      {props.children}
    </a>
  </li>
)

/** A count that took too long is unknown, and not nothing; one that stopped at its limit is at least so many. */
const counted = (data: Sample, count: number | null, state: Sample["atLeast"][number]): string =>
  count === null ? "many" : `${number(count)}${data.atLeast.includes(state) ? "+" : ""}`

/** What happened in each minute of the last hour, also in those in which nothing did. */
const minutes = (history: History | undefined, value: (point: History["points"][number]) => number) => {
  const values = Array.from({ length: 60 }, () => 0)
  if (history === undefined) return values
  const last = Math.floor(Date.parse(history.to) / history.stepMillis)
  for (const point of history.points) {
    const place = 59 - (last - Math.floor(Date.parse(point.at) / history.stepMillis))
    if (place >= 0) values[place] = value(point)
  }
  return values
}

const Tiles = ({ of: data }: { readonly of: Sample }) => {
  const { data: hour } = useGet("history", "history?span=1h")
  const done = minutes(hour, ({ completed }) => completed)
  const failures = minutes(hour, ({ discarded, failed }) => failed + discarded)
  const depth = minutes(hour, (point) => point.depth?.available ?? 0)
  const failed = failures.reduce((sum, one) => sum + one, 0)
  const oldest = data.oldestMillis
  const share = data.running === null || !data.slots ? undefined : Math.round((data.running / data.slots) * 100)
  return (
    <ul className="tiles">
      <Tile label="Waiting" value={counted(data, data.waiting, "available")} href={jobsLink("state:available")}>
        <Line label="Waiting in the last hour" values={depth} />
      </Tile>
      <Tile
        label="Oldest waiting"
        value={oldest === null ? "–" : duration(oldest)}
        note="due and not yet started"
        href={`#/jobs${query({ q: "state:available", order: "due" })}`}
        tone={oldest === null || oldest < 60_000 ? undefined : oldest < 300_000 ? "warn" : "bad"}
      />
      <Tile
        label="Running"
        value={counted(data, data.running, "executing")}
        note={
          data.slots === null ? undefined : `of ${number(data.slots)} slots${share === undefined ? "" : `, ${share} %`}`
        }
        href={jobsLink("state:executing")}
      />
      <Tile
        label="Failed in an hour"
        value={number(failed)}
        note={`${counted(data, data.retryable, "retryable")} to be retried`}
        href="#/failures"
        tone={failed > 0 ? "warn" : undefined}
      >
        <Line label="Failures in the last hour" values={failures} />
      </Tile>
      <Tile
        label="Done per minute"
        value={number(Math.round(done.slice(-5).reduce((sum, one) => sum + one, 0) / 5))}
        note="over five minutes"
        href={`#/jobs${query({ q: term("state", "completed"), order: "finished" })}`}
      >
        <Line label="Done in the last hour" values={done} />
      </Tile>
      <Tile
        label="Nodes"
        value={number(data.nodes.live)}
        note={data.nodes.silent > 0 ? `${data.nodes.silent} silent` : "all heard of"}
        href="#/nodes"
        tone={data.nodes.live === 0 ? "bad" : data.nodes.silent > 0 ? "warn" : undefined}
      />
    </ul>
  )
}
