/** Where progress is shown: one line per queue, drawn again and again on a terminal, plain lines elsewhere. */
import { Effect } from "effect"

/** How far a queue has come. */
export interface QueueProgress {
  readonly queue: string
  readonly finished: number
  readonly total: number
  readonly running: number
  readonly waiting: number
  readonly retries: number
}

export interface Screen {
  /** Tells something that happened. */
  readonly say: (text: string) => Effect.Effect<void>
  /** Shows the latest progress. */
  readonly show: (progress: ReadonlyArray<QueueProgress>) => Effect.Effect<void>
  /** Leaves the progress as it is; what is said from here on comes below it. */
  readonly close: Effect.Effect<void>
}

/** A screen on standard output. */
export const make = (): Screen => (process.stdout.isTTY ? terminal() : plain())

/** How often there is something new to show. */
export const interval = process.stdout.isTTY ? "200 millis" : "2 seconds"

const terminal = (): Screen => {
  let drawn: ReadonlyArray<string> = []
  const wipe = () => (drawn.length === 0 ? "" : `\x1b[${drawn.length}A\x1b[0J`)
  const draw = (text: string, lines: ReadonlyArray<string>) => {
    process.stdout.write(`${wipe()}${text}${lines.map((line) => `${line}\n`).join("")}`)
    drawn = lines
  }
  return {
    close: Effect.sync(() => {
      drawn = []
    }),
    say: (text) => Effect.sync(() => draw(`${text}\n`, drawn)),
    show: (progress) =>
      Effect.sync(() => {
        const width = process.stdout.columns || 80
        // A line that wraps would be wiped only in part.
        draw(
          "",
          progress.map((queue) => bar(queue).slice(0, width - 1))
        )
      })
  }
}

const plain = (): Screen => {
  const started = performance.now()
  return {
    close: Effect.void,
    say: (text) => Effect.sync(() => process.stdout.write(`${text}\n`)),
    show: (progress) =>
      Effect.sync(() => {
        const seconds = ((performance.now() - started) / 1000).toFixed(1).padStart(5)
        const queues = progress.map(({ finished, queue, total }) => `${queue} ${finished}/${total}`)
        process.stdout.write(`${seconds} s  ${queues.join("  ")}\n`)
      })
  }
}

const bar = ({ finished, queue, retries, running, total, waiting }: QueueProgress): string => {
  const filled = Math.round((finished / Math.max(total, 1)) * 16)
  const done = `${finished}/${total}`.padStart(9)
  return `${queue.padEnd(9)} ${"█".repeat(filled)}${"░".repeat(16 - filled)} ${done}  ${running} running, ${waiting} waiting, ${retries} retries`
}
