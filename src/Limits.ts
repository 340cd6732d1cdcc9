/**
 * What handlers and operators tell a limit at run time: that a job took more or less than it was reckoned at, that the
 * service behind the limit asked for a pause, or that another number is to hold.
 *
 * All of it holds for all nodes with their next claim, at once and whatever becomes of a transaction around it.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type { LimitStanding } from "./internal/sql/limitView.ts"
import { CurrentJob } from "./CurrentJob.ts"
import { nameProblem, shown } from "./internal/names.ts"
import { JobStore } from "./JobStore.ts"
import { type Limit, make, type Options } from "./Limit.ts"
import { Notifier } from "./Notifier.ts"
import { maxConcurrency } from "./ShigotoConfig.ts"
import { InvalidConfig, type StorageFailure } from "./ShigotoError.ts"

export type { LimitStanding } from "./internal/sql/limitView.ts"

/**
 * Which account of a limit by partition key is meant; in a handler, that of the job in hand by default.
 *
 * @category models
 */
export interface Of {
  readonly partitionKey?: string | undefined
}

/**
 * A rate as operators set it.
 *
 * @category models
 */
export type Rate = Pick<Options, "limit" | "window" | "algorithm" | "burst">

/**
 * The limits at run time.
 *
 * @category services
 */
export class Limits extends Context.Service<
  Limits,
  {
    /**
     * Spends units beyond what jobs cost when they were claimed; a negative amount gives units back.
     *
     * Later jobs wait until the account is in order again; of a local limit, those of this node.
     */
    readonly charge: (
      limit: Limit<never>,
      amount: number,
      of?: Of
    ) => Effect.Effect<void, InvalidConfig | StorageFailure>
    /**
     * Starts no further job under the limit until the time is over, as after a 429 with its `Retry-After`; of a limit by
     * partition key, no further one of that key, or of any where there is none; of a local one, on this node.
     */
    readonly backOff: (
      limit: Limit<never>,
      retryAfter: Duration.Input,
      of?: Of
    ) => Effect.Effect<void, InvalidConfig | StorageFailure>
    /**
     * Sets a rate in place of the one in the code, on all nodes and until it is taken back with `undefined`; with a
     * partition key, for that key alone.
     *
     * What was spent counts on. A cost above what may be spent at one instant then counts as that much.
     */
    readonly change: (
      limit: Limit<never>,
      rate: Rate | undefined,
      of?: Of
    ) => Effect.Effect<void, InvalidConfig | StorageFailure>
    /**
     * Sets the `globalConcurrency` of a worker that has one in place of that in the code, until it is taken back with
     * `undefined`; jobs above a lower number end as they would.
     */
    readonly changeConcurrency: (
      worker: string,
      concurrency: number | undefined
    ) => Effect.Effect<void, InvalidConfig | StorageFailure>
    /** The limits of the workers and queues of all live nodes, and how they stand. */
    readonly list: Effect.Effect<ReadonlyArray<LimitStanding>, StorageFailure>
  }
>()("effect-shigoto/Limits") {}

/**
 * Provides the control over limits.
 *
 * @category layers
 */
export const layer: Layer.Layer<Limits, never, JobStore | Notifier> = Layer.effect(
  Limits,
  Effect.gen(function* () {
    const { afterCommit, limits } = yield* JobStore
    const notifier = yield* Notifier
    /** What is said of an account, and not of the rule: the key of it. */
    const accountOf = (limit: Limit<never>, given: Of | undefined) =>
      limit.local && limits.node() === undefined
        ? invalid("limit", limit.name, "each node keeps it for itself, and this process runs no jobs")
        : keyOf(limit, given)
    const keyOf = Effect.fnUntraced(function* (limit: Limit<never>, given: Of | undefined) {
      const key = given?.partitionKey
      if (key === undefined) {
        const job = limit.perKey ? yield* Effect.serviceOption(CurrentJob) : Option.none()
        return Option.match(job, { onNone: () => "", onSome: ({ partitionKey = "" }) => partitionKey })
      }
      const why = limit.perKey ? nameProblem(key) : `the limit "${limit.name}" is not perKey, so it has one account`
      return why === undefined ? key : yield* invalid("partitionKey", key, why)
    })
    /** Nodes that were told when there is room ask again at once. */
    const tell = afterCommit(notifier.send({ _tag: "Queues" }))
    return Limits.of({
      list: limits.standings,
      charge: Effect.fnUntraced(function* (limit, amount, of) {
        if (!(Number.isFinite(amount) && Math.abs(amount) <= 1e9)) {
          return yield* invalid("amount", amount, "it must be a number from -1e9 to 1e9")
        }
        yield* limits.charge(limit, amount, yield* accountOf(limit, of))
        if (amount < 0) yield* tell
      }),
      backOff: Effect.fnUntraced(function* (limit, retryAfter, of) {
        const duration = Duration.fromInput(retryAfter)
        const millis = Option.isSome(duration) ? Duration.toMillis(duration.value) : Number.NaN
        if (!(millis > 0 && millis <= 31 * 86_400_000)) {
          return yield* invalid("retryAfter", retryAfter, "it must be a duration above zero and up to 31 days")
        }
        yield* limits.backOff(limit, millis, yield* accountOf(limit, of))
      }),
      change: Effect.fnUntraced(function* (limit, rate, of) {
        const checked =
          rate === undefined
            ? undefined
            : yield* Effect.try({
                try: () => make(limit.name, { ...rate, cost: Number.MIN_VALUE }).rule,
                catch: (error) => {
                  if (error instanceof InvalidConfig) return error
                  throw error
                }
              })
        yield* limits.change(limit, of?.partitionKey === undefined ? "" : yield* keyOf(limit, of), checked)
        yield* tell
      }),
      changeConcurrency: Effect.fnUntraced(function* (worker, concurrency) {
        const problem = nameProblem(worker)
        if (problem !== undefined) return yield* invalid("worker", worker, problem)
        if (
          concurrency !== undefined &&
          !(Number.isInteger(concurrency) && concurrency >= 1 && concurrency <= maxConcurrency)
        ) {
          return yield* invalid("concurrency", concurrency, `it must be an integer from 1 to ${maxConcurrency}`)
        }
        yield* limits.setPlaces(worker, concurrency)
        yield* tell
      })
    })
  })
)

// internal

const invalid = (field: string, value: unknown, why: string): InvalidConfig =>
  new InvalidConfig({ field, value: shown(value), message: `${field} cannot be ${shown(value)}: ${why}.` })
