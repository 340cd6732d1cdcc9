/** Throughput and latency of all, of a queue or of a worker. */
import { lazy, Suspense, useMemo } from "react"
import { type History, query } from "./api.ts"
import type { Series } from "./chart.tsx"
import { Empty, number, useGet } from "./kit.tsx"
import { useTheme } from "./preferences.ts"
import { duration } from "./time.tsx"

const Chart = lazy(() => import("./chart.tsx"))

export const spans = ["1h", "6h", "24h", "7d", "90d"] as const

export const Charts = (props: { readonly span: string; readonly queue?: string; readonly worker?: string }) => {
  const { queue, span, worker } = props
  const history = useGet("history", `history${query({ span, queue, worker })}`)
  const nodes = useGet("nodes", "nodes")
  const theme = useTheme()
  const drawn = useMemo(() => (history.data === undefined ? undefined : draw(history.data)), [history.data])
  const starts = (nodes.data ?? []).map(({ name, startedAt }) => ({ name, at: Date.parse(startedAt) / 1000 }))
  const told = JSON.stringify(starts)
  const marks = useMemo(() => starts, [told])
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
  const shared = { theme, marks, times: drawn.times }
  return (
    <Suspense fallback={<p className="dim">Loading…</p>}>
      <div className="charts">
        <Chart {...shared} title={`Ends per ${drawn.step}`} kind="bars" format={number} series={drawn.ends} />
        <Chart {...shared} title="Run and wait, ≈ estimated" kind="lines" format={duration} series={drawn.latency} />
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
  return { times, ends, latency, step: duration(stepMillis) }
}
