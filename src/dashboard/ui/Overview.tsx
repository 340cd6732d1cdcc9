/** Is work flowing, is it late, is it failing, is anyone working it: at one glance. */
import { lazy, Suspense, useMemo } from "react"
import { type History, query } from "./api.ts"
import type { Series } from "./chart.tsx"
import { FailureTable } from "./Failures.tsx"
import { duration, Empty, jobsLink, navigate, number, Page, useGet } from "./kit.tsx"
import { QueueTable } from "./Queues.tsx"
import { useTheme } from "./theme.ts"

const Chart = lazy(() => import("./chart.tsx"))

export const spans = ["1h", "6h", "24h", "7d", "90d"] as const

const Tile = (props: {
  readonly label: string
  readonly value: string
  readonly note?: string | undefined
  readonly href: string
  readonly tone?: "good" | "warn" | "bad" | undefined
}) => (
  <li>
    <a href={props.href} className={props.tone}>
      <span>{props.label}</span>
      <b>{props.value}</b>
      <small>{props.note ?? "\u00a0"}</small>
    </a>
  </li>
)

/** A count that took too long is unknown, and not nothing. */
const counted = (count: number | null): string => (count === null ? "many" : number(count))

export const Overview = ({ search }: { readonly search: URLSearchParams }) => {
  const asked = search.get("span")
  const span = spans.find((one) => one === asked) ?? "1h"
  const overview = useGet("overview", "overview")
  const hour = useGet("history", "history?span=1h")
  const queues = useGet("queues", "queues")
  const failures = useGet("failures", "failures")
  const data = overview.data
  const sum = (kind: "completed" | "failed" | "discarded"): number =>
    hour.data?.points.reduce((total, point) => total + point[kind], 0) ?? 0
  const failed = sum("failed") + sum("discarded")
  const oldest = data?.oldestMillis ?? null
  const rows = (queues.data?.queues ?? []).toSorted((a, b) => (b.oldestMillis ?? 0) - (a.oldestMillis ?? 0))
  return (
    <Page title="Overview" query={overview}>
      {data !== undefined && (
        <>
          {data.reasons.length > 0 && (
            <ul className="problems" aria-label="Problems">
              {data.reasons.map((reason) => (
                <li key={`${reason.tag} ${reason.message}`} className={data.status === "down" ? "bad" : "warn"}>
                  <span aria-hidden="true">▲</span> {reason.message}
                </li>
              ))}
            </ul>
          )}
          <ul className="tiles">
            <Tile label="Waiting" value={counted(data.waiting)} href={jobsLink("state:available")} />
            <Tile
              label="Oldest waiting"
              value={oldest === null ? "–" : duration(oldest)}
              href={`#/jobs${query({ q: "state:available", order: "due" })}`}
              tone={oldest === null || oldest < 60_000 ? undefined : oldest < 300_000 ? "warn" : "bad"}
            />
            <Tile
              label="Running"
              value={counted(data.running)}
              note={data.slots === null ? undefined : `of ${number(data.slots)} slots`}
              href={jobsLink("state:executing")}
            />
            <Tile
              label="Failed in an hour"
              value={hour.data?.points.length === 0 && failed === 0 ? "0" : number(failed)}
              note={`${counted(data.retryable)} to be retried`}
              href="#/failures"
              tone={failed > 0 ? "warn" : undefined}
            />
            <Tile
              label="Done per minute"
              value={number(Math.round(sum("completed") / 60))}
              href={jobsLink("state:completed")}
            />
            <Tile
              label="Nodes"
              value={number(data.nodes.live)}
              note={data.nodes.silent > 0 ? `${data.nodes.silent} silent` : undefined}
              href="#/nodes"
              tone={data.nodes.live === 0 ? "bad" : data.nodes.silent > 0 ? "warn" : undefined}
            />
          </ul>
          <div className="title">
            <h2>Throughput and latency</h2>
            <label>
              Span{" "}
              <select value={span} onChange={(event) => navigate("/", { span: event.target.value })}>
                {spans.map((one) => (
                  <option key={one}>{one}</option>
                ))}
              </select>
            </label>
          </div>
          <Charts span={span} />
          <h2>Queues, the longest wait first</h2>
          <QueueTable rows={rows} />
          <h2>Failing</h2>
          <FailureTable rows={(failures.data ?? []).slice(0, 5)} />
        </>
      )}
    </Page>
  )
}

/** Throughput and latency of all, of a queue or of a worker. */
export const Charts = (props: { readonly span: string; readonly queue?: string; readonly worker?: string }) => {
  const { queue, span, worker } = props
  const history = useGet("history", `history${query({ span, queue, worker })}`)
  const theme = useTheme()
  const drawn = useMemo(() => (history.data === undefined ? undefined : draw(history.data)), [history.data])
  if (history.error !== null) return <p role="alert">{history.error.message}</p>
  if (drawn === undefined) return <p className="dim">Loading…</p>
  if (history.data?.points.length === 0) {
    return (
      <Empty code="ShigotoConfig.layer({ history: true })">
        Nothing has ended in this span, or no node keeps a history: one that is told to writes what its attempts did
        every ten seconds.
      </Empty>
    )
  }
  return (
    <Suspense fallback={<p className="dim">Loading…</p>}>
      <div className="charts">
        <Chart
          title="Ends per step"
          kind="bars"
          format={number}
          theme={theme}
          times={drawn.times}
          series={drawn.ends}
        />
        <Chart
          title="Run and wait, ≈ estimated"
          kind="lines"
          format={duration}
          theme={theme}
          times={drawn.times}
          series={drawn.latency}
        />
      </div>
    </Suspense>
  )
}

const draw = ({ from, points, stepMillis, to }: History) => {
  const start = Math.floor(Date.parse(from) / stepMillis) * stepMillis
  const byStep = new Map(points.map((point) => [Math.floor((Date.parse(point.at) - start) / stepMillis), point]))
  const steps = Math.max(Math.ceil((Date.parse(to) - start) / stepMillis), 1)
  const times = Array.from({ length: steps }, (_, i) => (start + i * stepMillis) / 1000)
  const read = (value: (point: History["points"][number]) => number | null | undefined, none: number | null) =>
    times.map((_, i) => {
      const point = byStep.get(i)
      return point === undefined ? none : (value(point) ?? none)
    })
  const ends: ReadonlyArray<Series> = [
    { name: "completed", color: "--good", values: read((point) => point.completed, 0) },
    { name: "failed", color: "--warn", values: read((point) => point.failed, 0) },
    { name: "discarded", color: "--bad", values: read((point) => point.discarded, 0) },
    { name: "cancelled", color: "--dim", values: read((point) => point.cancelled, 0) }
  ]
  const latency: ReadonlyArray<Series> = [
    { name: "run p50", color: "--run", values: read(({ run }) => run?.p50, null) },
    { name: "run p95", color: "--link", values: read(({ run }) => run?.p95, null) },
    { name: "wait p50", color: "--warn", values: read(({ wait }) => wait?.p50, null) },
    { name: "wait p95", color: "--bad", values: read(({ wait }) => wait?.p95, null) },
    { name: "oldest waiting", color: "--dim", dashed: true, values: read(({ depth }) => depth?.oldestMillis, null) }
  ]
  return { times, ends, latency }
}
