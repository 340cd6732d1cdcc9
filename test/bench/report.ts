/** What a run leaves: JSON with every sample, Markdown with ratios, goals and medians, an SVG with a bar for each system. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { cpus } from "node:os"
import type { Peer } from "./Adapter.ts"
import { type Goal, goals } from "./goals.ts"
import { bars, type Block, shown } from "./plot.ts"
import type { Metric, Workload } from "./workloads.ts"

/** One measurement. */
export interface Sample {
  readonly peer: string
  readonly workload: string
  readonly round: number
  /** Which part of the machine others used just before, from 0 to 1. */
  readonly busy: number
  readonly values: Readonly<Record<string, number | null>>
}

/** What the samples of a run have in common. */
export interface About {
  readonly started: string
  readonly quick: boolean
  readonly machine: string
  readonly versions: Readonly<Record<string, string>>
  readonly settings: Readonly<Record<string, string>>
}

export interface Run {
  readonly about: About
  readonly samples: ReadonlyArray<Sample>
  readonly peers: ReadonlyArray<Peer>
  readonly workloads: ReadonlyArray<Workload>
}

export const machine = (): string => `${cpus().length} × ${cpus()[0]?.model ?? "?"}`

/** Reads what `write` left, of several runs of one set of versions: pieces of what would be too long in one go. */
export const read = (files: ReadonlyArray<string>): Pick<Run, "about" | "samples"> => {
  const runs = files.map((file) => JSON.parse(readFileSync(file, "utf8")) as About & Pick<Run, "samples">)
  const [first] = runs
  if (first === undefined) throw new Error("There is nothing to merge")
  const { samples: _samples, ...about } = first
  const other = runs.find((run) => JSON.stringify(run.settings) !== JSON.stringify(first.settings))
  if (other !== undefined) throw new Error("The runs had different servers, so they make no common table")
  return {
    about: { ...about, versions: Object.assign({}, ...runs.map((run) => run.versions)) as About["versions"] },
    samples: runs.flatMap((run) => run.samples)
  }
}

/** Writes `name` with three endings into each folder, and returns the Markdown. */
export const write = (run: Run, name: string, folders: ReadonlyArray<URL>): string => {
  const text = markdown(run)
  for (const folder of folders) {
    mkdirSync(folder, { recursive: true })
    const json = JSON.stringify({ ...run.about, samples: run.samples }, undefined, 2)
    writeFileSync(new URL(`${name}.json`, folder), `${json}\n`)
    writeFileSync(new URL(`${name}.md`, folder), text)
    writeFileSync(new URL(`${name}.svg`, folder), bars("Benchmark results", blocks(run)))
  }
  return text
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
    .filter(Number.isFinite)

interface Row {
  readonly peer: Peer
  readonly value: number
  readonly ratio: number
  readonly range: string
}

/** How many times as good as a system ours is, whichever way better lies. */
const ratio = (metric: Metric, ours: number, theirs: number): number =>
  metric.better === "higher" ? ours / theirs : theirs / ours

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
        ratio: ratio(metric, ours, value),
        range: values.length > 1 ? `${shown(Math.min(...values))} – ${shown(Math.max(...values))}` : ""
      }
    ]
  })
}

const markdown = (run: Run): string => {
  const { machine, quick, settings, started, versions } = run.about
  const counts = new Map<string, number>()
  for (const { peer, workload } of run.samples)
    counts.set(`${peer} ${workload}`, (counts.get(`${peer} ${workload}`) ?? 0) + 1)
  const rounds = Math.max(0, ...counts.values())
  const about = `${started.slice(0, 10)}, up to ${rounds} round(s)${quick ? ", quick sizes: rough" : ""}. ${machine}.`
  const lines = [
    "# Results",
    "",
    about,
    "",
    Object.entries(versions)
      .map(([name, version]) => `${name} ${version}`)
      .join(" · "),
    "",
    `Server: ${Object.entries(settings)
      .map(([name, value]) => `\`${name}=${value}\``)
      .join(", ")}. Redis without persistence.`,
    "",
    `Just before each measurement others kept the machine busy to ${shown(100 * median(run.samples.map(({ busy }) => busy)))} % ` +
      `at the median and ${shown(100 * Math.max(...run.samples.map(({ busy }) => busy)))} % at most.`,
    "",
    "“Ours ×” is how many times as good as a system ours is: above 1 ours is better, whichever way better lies.",
    ...summary(run),
    ...goalLines(run)
  ]
  for (const workload of run.workloads) {
    const tables = Object.entries(workload.metrics).flatMap(([name, metric]) => {
      const rows = rowsOf(run, workload, name, metric)
      if (rows.length === 0) return []
      return [
        "",
        `| ${metric.title} | ours × | ${metric.unit} | from – to |`,
        "|---|---:|---:|---:|",
        ...rows.map((row) => `| ${row.peer.title} | ${shown(row.ratio)} | ${shown(row.value)} | ${row.range} |`)
      ]
    })
    if (tables.length > 0) lines.push("", `## ${workload.title} (\`${workload.name}\`)`, ...tables)
  }
  return `${lines.join("\n")}\n`
}

/** Every workload's first metric against every system, as ratios. */
const summary = (run: Run): ReadonlyArray<string> => {
  const others = run.peers.filter(({ name, variant }) => name !== "shigoto" && variant === "plain")
  const works = run.workloads.filter((workload) => workload.ours !== true)
  const rows = works.flatMap((workload) => {
    const [first] = Object.entries(workload.metrics)
    if (first === undefined) return []
    const rows = rowsOf(run, workload, ...first)
    const cells = others.map(({ name }) => rows.find(({ peer }) => peer.name === name))
    if (!cells.some((cell) => cell !== undefined)) return []
    return [`| ${workload.title}, ${first[1].title} | ${cells.map((cell) => shown(cell?.ratio)).join(" | ")} |`]
  })
  return rows.length === 0
    ? []
    : [
        "",
        "## Ours ×",
        "",
        `| | ${others.map(({ title }) => title).join(" | ")} |`,
        `|---|${others.map(() => "---:").join("|")}|`,
        ...rows
      ]
}

const goalLines = (run: Run): ReadonlyArray<string> => {
  const rows = goals.flatMap((goal) => goalLine(run, goal))
  const head = ["", "## Goals", "", "| workload | metric | than | wanted | measured | |", "|---|---|---|---:|---:|---|"]
  return rows.length === 0 ? [] : [...head, ...rows]
}

const goalLine = (
  run: Run,
  { metric: name, most, than, thatOf, wanted, workload: of }: Goal
): ReadonlyArray<string> => {
  const workload = run.workloads.find((workload) => workload.name === of)
  const metric = workload?.metrics[name]
  if (workload === undefined || metric === undefined) return []
  const ours = median(valuesOf(run, "shigoto", of, name))
  const theirs = than === undefined ? undefined : median(valuesOf(run, than, thatOf ?? of, name))
  const measured = theirs === undefined ? ours : ratio(metric, ours, theirs)
  if (!Number.isFinite(measured)) return []
  const below = theirs === undefined ? metric.better === "lower" : most === true
  const reached = below ? measured <= wanted : measured >= wanted
  const unit = theirs === undefined ? ` ${metric.unit}` : " ×"
  const title = run.peers.find(({ name }) => name === than)?.title ?? ""
  const whom = thatOf === undefined ? title : `${title}, \`${thatOf}\``
  const bound = `${below ? "≤" : "≥"} ${shown(wanted)}${unit}`
  return [
    `| \`${of}\` | ${metric.title} | ${whom} | ${bound} | ${shown(measured)}${unit} | ${reached ? "reached" : "**not reached**"} |`
  ]
}

/** One block of bars for the first metric of each workload. */
const blocks = (run: Run): ReadonlyArray<Block> =>
  run.workloads.flatMap((workload) => {
    const [first] = Object.entries(workload.metrics)
    if (first === undefined) return []
    const [name, metric] = first
    const rows = rowsOf(run, workload, name, metric)
    if (rows.length === 0) return []
    return [
      {
        title: `${workload.title}, ${metric.title} ${metric.unit}${metric.better === "lower" ? " (less is better)" : ""}`,
        bars: rows.map(({ peer, value }) => ({
          title: peer.title,
          value,
          kind: peer.name === "shigoto" ? ("ours" as const) : peer.limit ? ("limit" as const) : ("peer" as const)
        }))
      }
    ]
  })
