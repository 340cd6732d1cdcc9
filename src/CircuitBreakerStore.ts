/**
 * Effect's circuit breakers on PostgreSQL, for everything that is no worker: as `CircuitBreaker.layerStoreRedis`, in the
 * database that is there already. A worker has an option for its own, `circuitBreaker`.
 *
 * A key is one circuit over all processes, by the database's clock. A database that cannot be asked is a
 * `CircuitBreakerStoreError`; what a breaker makes of it is its `onStoreError`.
 */
import type { PgClient } from "@effect/sql-pg/PgClient"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import {
  CircuitBreakerError,
  CircuitBreakerStore,
  CircuitBreakerStoreError,
  CircuitHalfOpen,
  CircuitOpen
} from "effect/persistence/CircuitBreaker"
import { admit, type Breaker, record, renew, type Spans, stateOf } from "./internal/breakerCells.ts"
import { forever, warn } from "./internal/loop.ts"
import { shown } from "./internal/names.ts"
import { cellName } from "./internal/sql/cell.ts"
import type { Change } from "./internal/store/cells.ts"
import * as JobStore from "./JobStore.ts"
import * as Migrations from "./Migrations.ts"
import { ShigotoConfig } from "./ShigotoConfig.ts"
import { InvalidConfig } from "./ShigotoError.ts"

/**
 * What a store of circuits may be told.
 *
 * @category models
 */
export interface Options {
  /** What sets its keys apart from those of other stores. Defaults to nothing. */
  readonly prefix?: string | undefined
  /**
   * How long a probe holds its place without a sign of life; it is renewed while the probe runs. Defaults to 10
   * seconds.
   */
  readonly probeLease?: Duration.Input | undefined
  /** After how long without a call a key is forgotten. Defaults to one hour. */
  readonly idleTimeToLive?: Duration.Input | undefined
}

/**
 * Provides the store behind `CircuitBreaker.layer`; brings the schema up to date as `ShigotoConfig.migrate` says.
 *
 * **Details**
 *
 * Stores with the same `prefix` share their keys. What is told of a call counts, whatever becomes of a transaction
 * around it.
 *
 * @category layers
 */
export const layer = (
  options: Options = {}
): Layer.Layer<CircuitBreakerStore, Migrations.MigrationError | InvalidConfig, PgClient | ShigotoConfig> =>
  Layer.effect(CircuitBreakerStore, make(options)).pipe(
    Layer.provide(JobStore.layer),
    Layer.provide(Migrations.layerConfigured)
  )

// internal

const make = Effect.fnUntraced(function* (options: Options) {
  const spans: Spans = {
    leaseMillis: yield* millisOf("probeLease", options.probeLease ?? "10 seconds"),
    idleMillis: yield* millisOf("idleTimeToLive", options.idleTimeToLive ?? "1 hour")
  }
  const { cells } = yield* JobStore.JobStore
  const { pruneInterval } = yield* ShigotoConfig
  yield* forever("circuit breaker", Effect.andThen(Effect.ignore(cells.prune), Effect.sleep(pruneInterval)))

  const change = <A>(
    key: string,
    message: string,
    make: (stored: Breaker | undefined, now: number) => ReturnType<Change<A>>
  ): Effect.Effect<A, CircuitBreakerError> => {
    const name = cellName("circuit-breaker", `${options.prefix ?? ""}${key}`)
    return name === undefined
      ? Effect.fail(storeError(`key cannot be ${shown(key)}: with its prefix it may have 1,000 bytes.`))
      : Effect.mapError(
          cells.change(name, (value, now) => make(value as Breaker | undefined, now)), // stored under this name alone
          (cause) => storeError(message, cause)
        )
  }
  /** Renews a probe's lease until it is lost, which a renewal can never undo. */
  const hold = Effect.fnUntraced(function* (key: string, generation: number) {
    while (true) {
      yield* Effect.sleep(spans.leaseMillis / 3)
      const renewed = yield* Effect.exit(
        change(key, "Failed to renew a probe lease", (stored, now) => renew(stored, generation, spans, now))
      )
      if (renewed._tag === "Success" && !renewed.value) return
      if (renewed._tag === "Failure") {
        yield* warn("Shigoto cannot renew a probe's lease and keeps trying", renewed.cause)
      }
    }
  })
  return CircuitBreakerStore.of({
    admit: Effect.fnUntraced(function* (key) {
      const found = yield* change(key, "Failed to admit a call through the circuit", (stored, now) =>
        admit(stored, key, spans, now)
      )
      if (found._tag === "HalfOpen") return yield* new CircuitBreakerError({ reason: new CircuitHalfOpen({ key }) })
      if (found._tag === "Open") {
        const retryAfter = Duration.millis(found.retryMillis)
        return yield* new CircuitBreakerError({ reason: new CircuitOpen({ key, retryAfter }) })
      }
      const { admission } = found
      if (admission.probe) yield* Effect.forkScoped(Effect.interruptible(hold(key, admission.generation)))
      return admission
    }),
    record: ({ openFor, ...told }) => {
      const openForMillis = Math.ceil(Duration.toMillis(openFor))
      return openForMillis >= 0 && openForMillis <= longestMillis
        ? change(told.key, "Failed to record an outcome", (stored, now) =>
            record(stored, { ...told, openForMillis }, spans, now)
          )
        : Effect.fail(storeError(`openFor cannot be ${shown(openForMillis)} ms: it may last ${longestMillis} ms.`))
    },
    state: (key) =>
      change(key, "Failed to read the circuit state", (stored, now) => ({ answer: stateOf(stored, key, now) }))
  })
})

/** A hundred years, in milliseconds: instants beyond would not be told from each other for ever. */
const longestMillis = 100 * 366 * 86_400_000

const millisOf = (field: string, input: Duration.Input): Effect.Effect<number, InvalidConfig> => {
  const parsed = Duration.fromInput(input)
  const millis = Option.isSome(parsed) ? Math.ceil(Duration.toMillis(parsed.value)) : Number.NaN
  return millis >= 1 && millis <= longestMillis
    ? Effect.succeed(millis)
    : Effect.fail(
        new InvalidConfig({
          field,
          value: shown(input),
          message: `${field} cannot be ${shown(input)}: it must be a duration from a millisecond to a hundred years.`
        })
      )
}

const storeError = (message: string, cause?: unknown): CircuitBreakerError =>
  new CircuitBreakerError({ reason: new CircuitBreakerStoreError({ message, cause }) })
