/** What a run leaves: JSON with every sample, Markdown with medians and ratios to ours, an SVG with a bar for each system. */
import { mkdirSync, writeFileSync } from "node:fs"
import { cpus } from "node:os"
import type { Peer } from "./Adapter.ts"
import type { Metric, Workload } from "./workloads.ts"

/** One measurement. */
export interface Sample {
  readonly peer: string
  readonly workload: string
  readonly round: number
  readonly values: Readonly<Record<string, number>>
}

export interface Run {
  readonly samples: ReadonlyArray<Sample>
  readonly peers: ReadonlyArray<Peer>
  readonly workloads: ReadonlyArray<Workload>
  readonly about: {
    readonly started: Date
    readonly rounds: number
    readonly quick: boolean
    readonly versions: Readonly<Record<string, string>>
    readonly settings: Readonly<Record<string, string>>
  }
  readonly folders: ReadonlyArray<URL>
}

/** Writes the three files into each folder, and the Markdown to standard output. */
export const write = (run: Run): void => {
  const text = markdown(run)
  const json = {
    ...run.about,
    machine: `${cpus().length} × ${cpus()[0]?.model ?? "?"}`,
    samples: run.samples
  }
  for (const folder of run.folders) {
    mkdirSync(folder, { recursive: true })
    writeFileSync(new URL("results.json", folder), `${JSON.stringify(json, undefined, 2)}\n`)
    writeFileSync(new URL("results.md", folder), text)
    writeFileSync(new URL("results.svg", folder), svg(run))
  }
  console.log(`\n${text}`)
}

// internal

const median = (values: ReadonlyArray<number>): number => {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  return sorted.length === 0
    ? Number.NaN
    : sorted.length % 2 === 1
      ? (sorted[middle] ?? Number.NaN)
      : ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2
}

const valuesOf = (run: Run, peer: string, workload: string, metric: string): ReadonlyArray<number> =>
  run.samples
    .filter((sample) => sample.peer === peer && sample.workload === workload)
    .map((sample) => sample.values[metric] ?? Number.NaN)
    .filter((value) => Number.isFinite(value))

const shown = (value: number): string =>
  !Number.isFinite(value)
    ? "–"
    : value >= 1000
      ? Math.round(value).toLocaleString("en")
      : value >= 100
        ? value.toFixed(0)
        : value.toFixed(value >= 10 ? 1 : 2)

interface Row {
  readonly peer: Peer
  readonly value: number
  readonly ratio: number
  readonly range: string
}

/** The ratio is how many times better than ours a system is, whichever way better lies. */
const rowsOf = (run: Run, workload: Workload, name: string, metric: Metric): ReadonlyArray<Row> => {
  const ours = median(valuesOf(run, "shigoto", workload.name, name))
  return run.peers.flatMap((peer) => {
    const values = valuesOf(run, peer.name, workload.name, name)
    if (values.length === 0) return []
    const value = median(values)
    return [
      {
        peer,
        value,
        ratio: metric.better === "higher" ? value / ours : ours / value,
        range: values.length > 1 ? `${shown(Math.min(...values))} – ${shown(Math.max(...values))}` : ""
      }
    ]
  })
}

const markdown = (run: Run): string => {
  const { quick, rounds, settings, started, versions } = run.about
  const lines = [
    "# Results",
    "",
    `${started.toISOString().slice(0, 10)}, ${rounds} round(s)${quick ? ", quick sizes: rough" : ""}. ` +
      `${cpus().length} × ${cpus()[0]?.model ?? "?"}.`,
    "",
    Object.entries(versions)
      .map(([name, version]) => `${name} ${version}`)
      .join(" · "),
    "",
    `Server: ${Object.entries(settings)
      .map(([name, value]) => `\`${name}=${value}\``)
      .join(", ")}. Redis without persistence.`,
    "",
    "“× ours” is how many times better than ours a system is: below 1 ours is better."
  ]
  for (const workload of run.workloads) {
    const tables = Object.entries(workload.metrics).flatMap(([name, metric]) => {
      const rows = rowsOf(run, workload, name, metric)
      if (rows.length === 0) return []
      return [
        "",
        `| ${metric.title} | × ours | ${metric.unit} | from – to |`,
        "|---|---:|---:|---:|",
        ...rows.map((row) => `| ${row.peer.title} | ${shown(row.ratio)} | ${shown(row.value)} | ${row.range} |`)
      ]
    })
    if (tables.length > 0) lines.push("", `## ${workload.title} (\`${workload.name}\`)`, ...tables)
  }
  return `${lines.join("\n")}\n`
}

const width = 720
const left = 170
const bar = 16
const gap = 5

/** One block of bars for the first metric of each workload, scaled by the best of the block. */
const svg = (run: Run): string => {
  const parts: Array<string> = []
  let y = 10
  const text = (x: number, content: string, more = "") =>
    parts.push(`<text x="${x}" y="${y + 12}"${more}>${escape(content)}</text>`)
  for (const workload of run.workloads) {
    const [first] = Object.entries(workload.metrics)
    if (first === undefined) continue
    const [name, metric] = first
    const rows = rowsOf(run, workload, name, metric)
    if (rows.length === 0) continue
    const most = Math.max(...rows.map((row) => row.value))
    text(
      10,
      `${workload.title}, ${metric.title} ${metric.unit}${metric.better === "lower" ? " (less is better)" : ""}`,
      ` class="title"`
    )
    y += bar + gap
    for (const row of rows) {
      const kind = row.peer.name === "shigoto" ? "ours" : row.peer.limit ? "limit" : "peer"
      const length = Math.max(((width - left - 110) * row.value) / most, 1)
      text(left - 8, row.peer.title, ` text-anchor="end"`)
      parts.push(`<rect class="${kind}" x="${left}" y="${y}" width="${length.toFixed(1)}" height="${bar}" rx="2"/>`)
      text(left + length + 6, shown(row.value))
      y += bar + gap
    }
    y += 14
  }
  const style =
    "text{font:12px system-ui,sans-serif;fill:#57606a}.title{font-weight:600}" +
    ".ours{fill:#2da44e}.peer{fill:#8c959f}.limit{fill:#d0d7de}" +
    "@media(prefers-color-scheme:dark){text{fill:#adbac7}.limit{fill:#444c56}}"
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${y}" role="img" aria-label="Benchmark results"><style>${style}</style>${parts.join("")}</svg>\n`
}

const escape = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;")
