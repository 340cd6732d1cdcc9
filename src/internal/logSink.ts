/** Keeps what handlers log with their jobs: bounded for each attempt and for the node, written in batches. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Formatter from "effect/Formatter"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import type { Attempt } from "../CurrentJob.ts"
import { JobStore } from "../JobStore.ts"
import { sanitize } from "./json.ts"
import type { Quoting } from "./quotes.ts"
import type { NewLine } from "./sql/logs.ts"

/** How much one attempt may log. */
export interface LogLimits {
  /** How many lines are kept of one attempt. Defaults to 1,000. */
  readonly maxLines?: number | undefined
  /** How many bytes of text they have together. Defaults to 64 KiB. */
  readonly maxBytes?: number | undefined
}

/** Where lines go. */
export class LogSink extends Context.Service<
  LogSink,
  {
    /** Runs an attempt so that what it logs is kept too, up to the limits; one more line says that there was more. */
    readonly capture: <A, E, R>(
      job: Attempt,
      limits: LogLimits,
      run: Effect.Effect<A, E, R>,
      quoting: Quoting | undefined
    ) => Effect.Effect<A, E, R>
  }
>()("effect-shigoto/internal/LogSink") {}

/** Writes at most four times a second; what is pending is written as the scope closes. */
export const layer: Layer.Layer<LogSink, never, JobStore> = Layer.effect(
  LogSink,
  Effect.gen(function* () {
    const { insight } = yield* JobStore
    const context = yield* Effect.context<never>()
    const scope = yield* Effect.scope
    const fork = Effect.runForkWith(context)
    let pending: Array<NewLine> = []
    let writing = false

    // Lines that the database does not take now are dropped: logs must not pile up behind an outage.
    const writeOnce = Effect.suspend(() => {
      const lines = pending.slice(0, batchSize)
      pending = pending.slice(batchSize)
      return Effect.ignore(insight.appendLogs(lines))
    })
    const write = Effect.gen(function* () {
      while (pending.length > 0) {
        yield* Effect.uninterruptible(writeOnce)
        if (pending.length < batchSize) yield* Effect.sleep("250 millis")
      }
      writing = false
    })
    yield* Effect.addFinalizer(() => Effect.repeat(writeOnce, { while: () => pending.length > 0 }))
    const push = (line: NewLine): void => {
      if (pending.length >= pendingLimit) return
      pending.push(line)
      if (writing) return
      writing = true
      fork(Effect.forkIn(write, scope))
    }
    return LogSink.of({
      capture: (job, { maxBytes = 65_536, maxLines = 1000 }, run, quoting) =>
        Effect.contextWith((current) => {
          let lines = 0
          let bytes = 0
          const logger = Logger.make(({ cause, date, logLevel, message }) => {
            if (lines > maxLines || bytes > maxBytes) return
            lines++
            const text = sanitize(textOf(message, cause), Math.min(maxBytes, maxLineBytes))
            bytes += text.length
            const isOver = lines > maxLines || bytes > maxBytes
            const quotes = isOver ? undefined : quoting?.(text)
            push({
              id: job.id,
              attempt: job.attempt,
              epoch: job.epoch,
              line: lines,
              at: date,
              level: isOver ? "Warn" : logLevel,
              message: isOver
                ? `Nothing more of this attempt is kept: the limit is ${maxLines} lines or ${maxBytes} bytes.`
                : text,
              ...(quotes === undefined ? {} : { quotes })
            })
          })
          const loggers = new Set([...Context.get(current, Logger.CurrentLoggers), logger])
          return Effect.provideService(run, Logger.CurrentLoggers, loggers)
        })
    })
  })
)

// internal

const batchSize = 500

/** The most lines of a node that wait to be written. */
const pendingLimit = 10_000

/** The most bytes of one line. */
const maxLineBytes = 8192

const textOf = (message: unknown, cause: Cause.Cause<unknown>): string => {
  const parts = (Array.isArray(message) ? message : [message]).map((part) =>
    typeof part === "string" ? part : Formatter.format(part)
  )
  return [...parts, ...(cause.reasons.length === 0 ? [] : [Cause.pretty(cause)])].join(" ")
}
