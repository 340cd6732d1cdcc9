/**
 * What handlers logged, for workers whose logs are kept: by job, in the order of its claims.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import { shown } from "./internal/names.ts"
import type { JobId } from "./JobRow.ts"
import type { JobStore } from "./JobStore.ts"
import { InvalidFilter, type StorageFailure } from "./ShigotoError.ts"

/**
 * Which lines of a job's logs to read.
 *
 * @category models
 */
export interface LogOptions {
  /** Only lines after this one: the last of the page before. Defaults to the beginning. */
  readonly after?: { readonly epoch: number; readonly line: number } | undefined
  /** How many, from 1 to 10,000. Defaults to 1,000. */
  readonly limit?: number | undefined
}

/**
 * A line that a handler logged.
 *
 * @category models
 */
export interface LogLine {
  readonly attempt: number
  /** The claim that it belongs to: an attempt that snoozed runs again under the same number. */
  readonly epoch: number
  /** Counted from 1 within the claim. */
  readonly line: number
  /** By the clock of the node that ran the attempt. */
  readonly at: DateTime.Utc
  readonly level: string
  readonly message: string
  /** The values that it quotes and that stand nowhere in the job's row, as for a failure; absent where there are none. */
  readonly quotes?: unknown
}

/**
 * Reads what the handlers of a job logged, the oldest first.
 *
 * @category accessors
 */
export const read = Effect.fnUntraced(function* (
  store: JobStore["Service"],
  id: JobId,
  options: LogOptions
): Effect.fn.Return<ReadonlyArray<LogLine>, InvalidFilter | StorageFailure> {
  const { after = { epoch: 0, line: 0 }, limit = 1000 } = options
  const refuse = (field: string, value: unknown, why: string) =>
    new InvalidFilter({ field, value: shown(value), message: `${field} cannot be ${shown(value)}: ${why}.` })
  if (!(Number.isInteger(limit) && limit >= 1 && limit <= 10_000)) {
    return yield* refuse("limit", limit, "it is an integer from 1 to 10,000")
  }
  if (!isPosition(after.epoch) || !isPosition(after.line)) {
    return yield* refuse("after", after, "it is the epoch and line of the last one read")
  }
  const rows = yield* store.insight.logs({ id, after, limit })
  return rows.map(({ attempt, epoch, level, line, logged_at, message, quotes }) => ({
    attempt,
    epoch,
    line,
    at: DateTime.fromDateUnsafe(logged_at),
    level,
    message,
    ...(quotes === undefined ? {} : { quotes })
  }))
})

// internal

const isPosition = (value: number): boolean => Number.isInteger(value) && value >= 0 && value <= 2_147_483_647
