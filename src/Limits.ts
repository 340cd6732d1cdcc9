/**
 * What handlers tell a limit at run time: that a job took more or less than it was reckoned at, or that the service
 * behind the limit asked for a pause.
 *
 * Both hold for all nodes with their next claim, at once and whatever becomes of a transaction around them.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type { LimitStanding } from "./internal/sql/limitView.ts"
import { shown } from "./internal/names.ts"
import { JobStore } from "./JobStore.ts"
import type { Limit } from "./Limit.ts"
import { InvalidConfig, type StorageFailure } from "./ShigotoError.ts"

export type { LimitStanding } from "./internal/sql/limitView.ts"

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
     * Later jobs wait until the account is in order again.
     */
    readonly charge: (limit: Limit, amount: number) => Effect.Effect<void, InvalidConfig | StorageFailure>
    /** Starts no further job under the limit until the time is over, as after a 429 with its `Retry-After`. */
    readonly backOff: (limit: Limit, retryAfter: Duration.Input) => Effect.Effect<void, InvalidConfig | StorageFailure>
    /** The limits of the workers of all live nodes, by worker, and how they stand. */
    readonly list: Effect.Effect<ReadonlyArray<LimitStanding>, StorageFailure>
  }
>()("effect-shigoto/Limits") {}

/**
 * Provides the control over limits.
 *
 * @category layers
 */
export const layer: Layer.Layer<Limits, never, JobStore> = Layer.effect(
  Limits,
  Effect.map(JobStore, ({ limits }) =>
    Limits.of({
      list: limits.standings,
      charge: (limit, amount) =>
        Number.isFinite(amount) && Math.abs(amount) <= 1e9
          ? limits.charge(limit, amount)
          : Effect.fail(invalid("amount", amount, "it must be a number from -1e9 to 1e9")),
      backOff: (limit, retryAfter) => {
        const duration = Duration.fromInput(retryAfter)
        const millis = Option.isSome(duration) ? Duration.toMillis(duration.value) : Number.NaN
        return millis > 0 && millis <= 31 * 86_400_000
          ? limits.backOff(limit, millis)
          : Effect.fail(invalid("retryAfter", retryAfter, "it must be a duration above zero and up to 31 days"))
      }
    })
  )
)

// internal

const invalid = (field: string, value: unknown, why: string): InvalidConfig =>
  new InvalidConfig({ field, value: shown(value), message: `${field} cannot be ${shown(value)}: ${why}.` })
