/** The command line of the runner. */
import { parseArgs } from "node:util"
import { type FaultKind, kinds } from "./plan.ts"

export interface Options {
  readonly seeds: ReadonlyArray<number>
  readonly seconds: number
  readonly faults: ReadonlyArray<FaultKind>
  readonly workers: number
  readonly producers: number
  /** After how many jobs producers stop; undefined for when the time is over. */
  readonly jobs: number | undefined
  /** Jobs a second. */
  readonly rate: number
  /** Milliseconds between two faults, on average. */
  readonly pace: number
  /** The database's default. */
  readonly isolation: string
  /** Whether the fence of the settle is taken out, to see that the checker sees. */
  readonly breakFence: boolean
  /** Whether bounds of time count. */
  readonly timed: boolean
}

export const usage = `npm run chaos -- [options]

  --minutes N        how long faults strike; then all is healed and must drain (2)
  --jobs N           instead: faults strike until about N jobs were enqueued and all but a few have ended
  --seed S[,S…]      where chance begins; a seed draws the same workload and the same plan again (random)
  --faults a,b,…     only these: ${kinds.join(", ")}
                     "none" for a calm run, "-a,-b" for all but these
  --workers N        worker processes, 76 slots each (3)
  --producers N      producer processes (2)
  --rate N           jobs a second (60; 40 with --ci)
  --pace N           milliseconds between two faults, on average (700); more where processes are slow to start
  --isolation LEVEL  the database's default: read-committed, repeatable-read or serializable (read-committed)
  --break-fence      take the epoch out of the settle statement: the run must then fail
  --ci               about 90 seconds: fixed seeds; what only a slow machine breaks is told and does not count
  --help`

export const parse = (argv: ReadonlyArray<string>): Options | string => {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      minutes: { type: "string" },
      jobs: { type: "string" },
      seed: { type: "string" },
      faults: { type: "string" },
      workers: { type: "string", default: "3" },
      producers: { type: "string", default: "2" },
      rate: { type: "string" },
      pace: { type: "string", default: "700" },
      isolation: { type: "string", default: "read-committed" },
      "break-fence": { type: "boolean", default: false },
      ci: { type: "boolean", default: false },
      help: { type: "boolean", default: false }
    }
  })
  const faults = chosen(values.faults)
  const numbers = [
    values.minutes ?? "2",
    values.workers,
    values.producers,
    values.rate ?? (values.ci ? "40" : "60"),
    values.pace,
    values.jobs ?? "1"
  ].map(Number)
  const isKnown = ["read-committed", "repeatable-read", "serializable"].includes(values.isolation)
  if (values.help || typeof faults === "string" || !isKnown || numbers.some((number) => !(number > 0))) {
    return typeof faults === "string" ? `${faults}\n\n${usage}` : usage
  }
  const [minutes, workers, producers, rate, pace] = numbers as [number, number, number, number, number]
  return {
    seeds:
      values.seed !== undefined
        ? values.seed.split(",").map(Number)
        : values.ci
          ? [1, 2]
          : [Math.floor(Math.random() * 1_000_000)],
    seconds: values.minutes === undefined && values.ci ? 12 : values.jobs === undefined ? minutes * 60 : Infinity,
    jobs: values.jobs === undefined ? undefined : Number(values.jobs),
    faults,
    workers,
    producers,
    rate,
    pace,
    isolation: values.isolation.replace("-", " "),
    breakFence: values["break-fence"],
    timed: !values.ci
  }
}

// internal

const chosen = (text: string | undefined): ReadonlyArray<FaultKind> | string => {
  if (text === undefined) return kinds
  if (text === "none") return []
  const names = text.split(",")
  const unknown = names.find((name) => !(kinds as ReadonlyArray<string>).includes(name.replace(/^-/, "")))
  if (unknown !== undefined) return `There is no fault "${unknown}".`
  const without = names.filter((name) => name.startsWith("-")).map((name) => name.slice(1))
  return without.length > 0
    ? kinds.filter((kind) => !without.includes(kind))
    : kinds.filter((kind) => names.includes(kind))
}
