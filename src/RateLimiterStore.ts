/**
 * Effect's rate limiters on PostgreSQL, for jobs and for everything else: as `RateLimiter.layerStoreRedis`, in the
 * database that is there already.
 *
 * A key is exact over all processes, by the database's clock. Calls of one process for one key that come up together
 * are answered by one write. A database that cannot be asked is a `RateLimitStoreError`: nothing was consumed for sure.
 */
import type { PgClient } from "@effect/sql-pg/PgClient"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { RateLimiterError, RateLimiterStore, RateLimitStoreError } from "effect/persistence/RateLimiter"
import { forever } from "./internal/loop.ts"
import { shown } from "./internal/names.ts"
import {
  type Bucket,
  consumeLearned,
  countTokens,
  hearFeedback,
  type Learned,
  type Step,
  takeTokens,
  type Window
} from "./internal/rateCells.ts"
import { cellName } from "./internal/sql/cell.ts"
import * as JobStore from "./JobStore.ts"
import * as Migrations from "./Migrations.ts"
import { ShigotoConfig } from "./ShigotoConfig.ts"

/**
 * Provides the store behind `RateLimiter.layer`, outside of jobs as well as in their handlers; brings the schema up to
 * date as `ShigotoConfig.migrate` says.
 *
 * **Details**
 *
 * Limiters that are given the same `prefix`, none by default, share their keys. What a call consumes stays consumed,
 * whatever becomes of a transaction around it. Keys are forgotten once they say nothing any more.
 *
 * @category layers
 */
export const layer = (
  options: { readonly prefix?: string | undefined } = {}
): Layer.Layer<RateLimiterStore, Migrations.MigrationError, PgClient | ShigotoConfig> =>
  Layer.effect(RateLimiterStore, make(options.prefix ?? "")).pipe(
    Layer.provide(JobStore.layer),
    Layer.provide(Migrations.layerConfigured)
  )

// internal

const make = Effect.fnUntraced(function* (prefix: string) {
  const { cells } = yield* JobStore.JobStore
  const { pruneInterval } = yield* ShigotoConfig
  yield* forever("rate limiter", Effect.andThen(Effect.ignore(cells.prune), Effect.sleep(pruneInterval)))

  /** Makes a step on what is stored under a key; what is stored there was made by the same kind of step. */
  const step = <Value, A>(
    kind: "window" | "bucket" | "learned",
    verb: string,
    key: string,
    numbers: Readonly<Record<string, number>>,
    take: (stored: Value | undefined, now: number) => Step<A, Value>
  ): Effect.Effect<A, RateLimiterError> => {
    const name = cellName(`rate-limiter.${kind}`, `${prefix}${key}`)
    const bad = Object.entries(numbers).find(([, value]) => !Number.isFinite(value) || value < 0)
    if (name === undefined) return refuse(`key cannot be ${shown(key)}: with its prefix it may have 1,000 bytes.`)
    if (bad !== undefined)
      return refuse(`${bad[0]} cannot be ${shown(bad[1])}: it must be zero or a finite number above.`)
    return Effect.mapError(
      cells.change(name, (value, now) => take(value as Value | undefined, now)), // as it was stored by the same kind
      (cause) => storeError(`Failed to execute ${verb} rate limiting command`, cause)
    )
  }
  return RateLimiterStore.of({
    fixedWindow: ({ key, limit, refillRate, tokens }) => {
      const refillMillis = Duration.toMillis(refillRate)
      return step(
        "window",
        "fixedWindow",
        key,
        { tokens, refillRate: refillMillis },
        (stored: Window | undefined, now) => countTokens(stored, { tokens, refillMillis, limit }, now)
      )
    },
    tokenBucket: ({ allowOverflow, key, limit, refillRate, tokens }) => {
      const refillMillis = Duration.toMillis(refillRate)
      return step(
        "bucket",
        "tokenBucket",
        key,
        { tokens, limit, refillRate: refillMillis },
        (stored: Bucket | undefined, now) => takeTokens(stored, { tokens, refillMillis, limit, allowOverflow }, now)
      )
    },
    adaptiveConsume: (options) =>
      step(
        "learned",
        "adaptiveConsume",
        options.key,
        { tokens: options.tokens, fallbackWindow: Duration.toMillis(options.fallbackWindow) },
        (stored: Learned | undefined, now) => consumeLearned(stored, options, now)
      ),
    adaptiveFeedback: (options) =>
      options.status !== 429 || options.retryAfter === undefined
        ? Effect.void
        : step(
            "learned",
            "adaptiveFeedback",
            options.key,
            { tokens: options.tokens },
            (stored: Learned | undefined, now) => hearFeedback(stored, options, now)
          )
  })
})

const storeError = (message: string, cause?: unknown): RateLimiterError =>
  new RateLimiterError({ reason: new RateLimitStoreError({ message, cause }) })

const refuse = (message: string): Effect.Effect<never, RateLimiterError> => Effect.fail(storeError(message))
