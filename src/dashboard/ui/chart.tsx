/** A chart over time, and the same as a table: a picture alone tells nothing to who cannot see it. */
import { useEffect, useRef } from "react"
import uPlot from "uplot"
import "uplot/dist/uPlot.min.css"
import { Table } from "./kit.tsx"
import { inZone } from "./time.tsx"

/** `Scale.Distr.Logarithmic`, whose ambient enum has no value at run time. */
// oxlint-disable-next-line typescript/no-unsafe-enum-assignment -- the library tells its number alone
const logarithmic: uPlot.Scale.Distr = 3

export interface Series {
  readonly name: string
  /** The CSS variable of its colour. */
  readonly color: string
  readonly values: ReadonlyArray<number | null>
  readonly dashed?: boolean
}

/** Of the lines of a logarithm, those of powers of ten: all of them are a grey field where one span is wide. */
const powers: uPlot.Axis.Filter = (_, splits) =>
  splits.map((split) => (Number.isInteger(Math.log10(split)) ? split : null))

/** The larger of two units is enough beside an axis. */
const brief = (text: string): string => text.split(" ").slice(0, 2).join(" ")

const clock = (seconds: number): string => inZone(new Date(seconds * 1000).toISOString())

const Chart = (props: {
  readonly title: string
  /** In seconds. */
  readonly times: ReadonlyArray<number>
  readonly series: ReadonlyArray<Series>
  readonly kind: "bars" | "lines"
  readonly format: (value: number) => string
  readonly theme: string
  /** What happened at an instant, such as the start of a node. */
  readonly marks: ReadonlyArray<{ readonly name: string; readonly at: number }>
}) => {
  const { format, kind, marks, series, theme, times, title } = props
  const frame = useRef<HTMLDivElement>(null)
  useEffect(() => {
    const element = frame.current
    if (element === null) return
    const css = getComputedStyle(element)
    const color = (name: string): string => css.getPropertyValue(name).trim() || "gray"
    const axis = {
      stroke: color("--dim"),
      grid: { stroke: color("--line"), width: 1 },
      ticks: { stroke: color("--line") }
    }
    // Bars stand on each other: the first to be drawn is the sum of all.
    const heights =
      kind === "lines"
        ? series.map(({ values }) => [...values])
        : series.map((_, i) =>
            times.map((__, at) => series.slice(i).reduce((sum, { values }) => sum + (values[at] ?? 0), 0))
          )
    const isLong = (times.at(-1) ?? 0) - (times[0] ?? 0) > 2 * 86_400
    const moments = new Intl.DateTimeFormat(
      "en-GB",
      isLong ? { day: "numeric", month: "short" } : { hour: "2-digit", minute: "2-digit" }
    )
    const drawMarks = (plot: uPlot): void => {
      const { ctx } = plot
      const { height, left, top, width } = plot.bbox
      ctx.save()
      ctx.strokeStyle = color("--link")
      ctx.setLineDash([2, 4])
      ctx.beginPath()
      for (const { at } of marks) {
        const x = Math.round(plot.valToPos(at, "x", true))
        if (x < left || x > left + width) continue
        ctx.moveTo(x, top)
        ctx.lineTo(x, top + height)
      }
      ctx.stroke()
      ctx.restore()
    }
    const bars = uPlot.paths.bars?.({ size: [0.8, 40] })
    const plot = new uPlot(
      {
        width: element.clientWidth,
        height: 190,
        cursor: { points: { show: kind === "lines" } },
        legend: { show: false },
        hooks: { draw: [drawMarks] },
        scales: {
          y: kind === "lines" ? { distr: logarithmic, log: 10 } : { range: (_, __, max) => [0, Math.max(max * 1.1, 1)] }
        },
        axes: [
          { ...axis, values: (_, ticks) => ticks.map((tick) => moments.format(tick * 1000)) },
          {
            ...axis,
            ...(kind === "lines" && {
              grid: { ...axis.grid, filter: powers },
              ticks: { ...axis.ticks, filter: powers }
            }),
            size: 64,
            values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : brief(format(tick))))
          }
        ],
        series: [
          {},
          ...series.map((one) => ({
            label: one.name,
            stroke: color(one.color),
            width: kind === "bars" ? 0 : 2,
            ...(one.dashed === true && { dash: [6, 4] }),
            ...(kind === "bars" && bars !== undefined && { fill: color(one.color), paths: bars }),
            // A line of one point is none.
            points: { show: kind === "lines" && one.values.filter((value) => value !== null).length < 8, size: 6 },
            spanGaps: true
          }))
        ]
      },
      // A logarithm of nothing is none.
      [
        [...times],
        ...heights.map((row) => row.map((value) => (kind === "lines" && value === 0 ? null : (value ?? null))))
      ],
      element
    )
    const resized = new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height: 190 }))
    resized.observe(element)
    return () => {
      resized.disconnect()
      plot.destroy()
    }
  }, [times, series, kind, format, theme, marks])
  const told = times.flatMap((time, at) => (series.some(({ values }) => (values[at] ?? 0) !== 0) ? [{ time, at }] : []))
  const started = marks.filter(({ at }) => at >= (times[0] ?? 0))
  return (
    <figure>
      <figcaption>
        <b>{title}</b>
        <span className="legend">
          {series.map(({ color, name }) => (
            <span key={name} className={`key ${color.slice(2)}`}>
              {name}
            </span>
          ))}
        </span>
      </figcaption>
      <div ref={frame} aria-hidden="true" />
      <details>
        <summary>View as a table</summary>
        {started.length > 0 && (
          <p className="dim">
            Dotted lines are starts of nodes: {started.map(({ at, name }) => `${name} ${clock(at)}`).join(", ")}
          </p>
        )}
        <Table label={title} heads={["Time", ...series.map(({ name }) => name)]}>
          {told.map(({ at, time }) => (
            <tr key={time}>
              <th scope="row">{clock(time)}</th>
              {series.map(({ name, values }) => (
                <td key={name}>{values[at] == null ? "–" : format(values[at])}</td>
              ))}
            </tr>
          ))}
        </Table>
      </details>
    </figure>
  )
}

export default Chart
