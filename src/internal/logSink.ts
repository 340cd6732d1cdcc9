/** Keeps what handlers log with their jobs: bounded for each attempt and for the node, written in batches. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Formatter from "effect/Formatter"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import { type Attempt, CurrentJob } from "../CurrentJob.ts"
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
    /**
     * A logger for all attempts of a worker: what is logged in the context of a job is kept, up to the limits of an
     * attempt; one more line says that there was more.
     */
    readonly logger: (limits: LogLimits) => Logger.Logger<unknown, void>
    /** Says what the texts of an attempt quote that stands nowhere in its row. */
    readonly quoting: (job: Attempt, quoting: Quoting) => void
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
    const quotings = new WeakMap<Attempt, Quoting>()
    return LogSink.of({
      quoting: (job, quoting) => {
        quotings.set(job, quoting)
      },
      logger: ({ maxBytes = 65_536, maxLines = 1000 }) => {
        const kept = new WeakMap<Attempt, { lines: number; bytes: number }>()
        return Logger.make(({ cause, date, fiber, logLevel, message }) => {
          const job = Context.getOrUndefined(fiber.context, CurrentJob)
          if (job === undefined) return
          const so = kept.get(job) ?? { lines: 0, bytes: 0 }
          if (so.lines > maxLines || so.bytes > maxBytes) return
          const text = sanitize(textOf(message, cause), Math.min(maxBytes, maxLineBytes))
          const { bytes, lines } = { lines: so.lines + 1, bytes: so.bytes + text.length }
          kept.set(job, { lines, bytes })
          const isOver = lines > maxLines || bytes > maxBytes
          const quotes = isOver ? undefined : quotings.get(job)?.(text)
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
      }
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
