/** Throughput and latency of all, of a queue or of a worker; or of all, told apart. */
import { lazy, Suspense, useMemo } from "react"
import { type History, type HistoryBy, query } from "./api.ts"
import type { Series } from "./chart.tsx"
import { Empty, number, useGet } from "./kit.tsx"
import { useTheme } from "./preferences.ts"
import { duration } from "./time.tsx"

const Chart = lazy(() => import("./chart.tsx"))

export const spans = ["1h", "6h", "24h", "7d", "90d"] as const

/** What charts tell apart. */
export const groupings = ["state", "queue", "worker"] as const

/** Of all, of a queue or of a worker: what ended how, and how long it took. */
export const Charts = (props: { readonly span: string; readonly queue?: string; readonly worker?: string }) => {
  const { queue, span, worker } = props
  const history = useGet("history", `history${query({ span, queue, worker })}`)
  const drawn = useMemo(() => (history.data === undefined ? undefined : draw(history.data)), [history.data])
  return <Pair of={history} isEmpty={history.data?.points.length === 0} drawn={drawn} />
}

/** By queue or by worker: those of which most ended, and the rest. */
export const ChartsBy = (props: { readonly span: string; readonly by: "queue" | "worker" }) => {
  const { by, span } = props
  const history = useGet("historyBy", `history-by${query({ by, span })}`)
  const drawn = useMemo(() => (history.data === undefined ? undefined : drawBy(history.data, by)), [history.data, by])
  return <Pair of={history} isEmpty={history.data?.groups.length === 0} drawn={drawn} />
}

interface Drawn {
  readonly times: ReadonlyArray<number>
  readonly ends: ReadonlyArray<Series>
  readonly latency: ReadonlyArray<Series>
  /** What the latency is of. */
  readonly of: string
  readonly step: string
}

const Pair = (props: {
  readonly of: { readonly error: Error | null }
  readonly isEmpty: boolean
  readonly drawn: Drawn | undefined
}) => {
  const { drawn, isEmpty, of } = props
  const nodes = useGet("nodes", "nodes")
  const theme = useTheme()
  const starts = (nodes.data ?? []).map(({ name, startedAt }) => ({ name, at: Date.parse(startedAt) / 1000 }))
  const told = JSON.stringify(starts)
  const marks = useMemo(() => starts, [told])
  if (of.error !== null) return <p role="alert">{of.error.message}</p>
  if (drawn === undefined) return <p className="dim">Loading…</p>
  if (isEmpty) {
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
        <Chart {...shared} title={`${drawn.of}, ≈ estimated`} kind="lines" format={duration} series={drawn.latency} />
      </div>
    </Suspense>
  )
}

/** The steps of a span, and how values of what happened are laid out along them. */
const layOut = ({ from, stepMillis, to }: Pick<History, "from" | "stepMillis" | "to">) => {
  const start = Math.floor(Date.parse(from) / stepMillis) * stepMillis
  const steps = Math.max(Math.ceil((Date.parse(to) - start) / stepMillis), 1)
  return {
    step: duration(stepMillis),
    times: Array.from({ length: steps }, (_, i) => (start + i * stepMillis) / 1000),
    along: <P extends { readonly at: string }>(points: ReadonlyArray<P>) => {
      const byStep = new Map(points.map((point) => [Math.floor((Date.parse(point.at) - start) / stepMillis), point]))
      return (value: (point: P) => number | null | undefined, none: number | null): ReadonlyArray<number | null> =>
        Array.from({ length: steps }, (_, i) => {
          const point = byStep.get(i)
          return point === undefined ? none : (value(point) ?? none)
        })
    }
  }
}

const draw = (history: History): Drawn => {
  const { along, step, times } = layOut(history)
  const read = along(history.points)
  return {
    times,
    step,
    of: "Run and wait",
    ends: [
      { name: "completed", color: "--good", values: read((point) => point.completed, 0) },
      { name: "failed", color: "--warn", values: read((point) => point.failed, 0) },
      { name: "discarded", color: "--bad", values: read((point) => point.discarded, 0) },
      { name: "cancelled", color: "--dim", values: read((point) => point.cancelled, 0) }
    ],
    latency: [
      { name: "run p50", color: "--run", values: read(({ run }) => run?.p50, null) },
      { name: "run p95", color: "--link", values: read(({ run }) => run?.p95, null) },
      { name: "wait p50", color: "--warn", values: read(({ wait }) => wait?.p50, null) },
      { name: "wait p95", color: "--bad", values: read(({ wait }) => wait?.p95, null) },
      { name: "oldest waiting", color: "--dim", dashed: true, values: read(({ depth }) => depth?.oldestMillis, null) }
    ]
  }
}

/** Colours that say nothing but which is which. */
const colors = ["--blue", "--teal", "--violet", "--orange", "--pink", "--olive"] as const

// A queue is late, a worker is slow.
const drawBy = (history: HistoryBy, by: "queue" | "worker"): Drawn => {
  const { along, step, times } = layOut(history)
  const series = (
    value: (point: HistoryBy["groups"][number]["points"][number]) => number | null | undefined,
    none: number | null
  ): ReadonlyArray<Series> =>
    history.groups.map(({ name, points }, i) => ({
      name: name ?? "the rest",
      color: (name === null ? undefined : colors[i]) ?? "--dim",
      values: along(points)(value, none)
    }))
  return {
    times,
    step,
    of: by === "queue" ? "Wait p95" : "Run p95",
    ends: series(({ completed, failed }) => completed + failed, 0),
    latency: series(({ run, wait }) => (by === "queue" ? wait : run)?.p95, null)
  }
}
