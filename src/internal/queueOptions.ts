/** The queues of a node as they are written down, checked; every bad value is refused with its field's name. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as AdaptiveConcurrency from "../AdaptiveConcurrency.ts"
import * as Limit from "../Limit.ts"
import { InvalidConfig } from "../ShigotoError.ts"
import { nameProblem, shown } from "./names.ts"
import { strayOption } from "./options.ts"
import { isSameRate } from "./rate.ts"

/**
 * A queue with more to say than how many of its jobs run at once on each node.
 *
 * @category models
 */
export interface QueueOptions {
  /** A number, or how it finds itself; then operators can only scale it down from there. */
  readonly concurrency: number | Omit<AdaptiveConcurrency.Options, "counts">
  /**
   * Whether partition keys take turns, each as often as its weight says; jobs without a key are one partition. Defaults
   * to false, unless `partitionConcurrency` is given.
   */
  readonly fair?: boolean | { readonly weight: (key: string | undefined) => number } | undefined
  /** How many jobs of one partition key run at once on all nodes together. Defaults to no limit. */
  readonly partitionConcurrency?: number | ((key: string | undefined) => number) | undefined
  /**
   * How often jobs of the queue start on all nodes together, whatever their worker: a rate of its own, or a `Limit.make`
   * that it shares with others. Defaults to no limit.
   */
  readonly rateLimit?: Limit.Limit | Limit.Options | undefined
  /**
   * How large its part of `shedding.maxInFlight` is beside those of the other queues that have work. Defaults to 1; from
   * 0.001 to 1,000,000.
   */
  readonly weight?: number | undefined
  /**
   * How long a job has to wait for as much as one priority more: so that jobs of low priority come to their turn. Not
   * for a fair queue. Defaults to for ever: a higher priority always comes first.
   */
  readonly aging?: Duration.Input | undefined
  /**
   * Whether every node that runs the queue runs each of its jobs, once for each incarnation, also one that starts within
   * the window after the job was due. The window defaults to 10 minutes, and is at most 7 days. To be said on all nodes
   * alike. Defaults to false.
   */
  readonly broadcast?: boolean | { readonly window: Duration.Input } | undefined
}

/**
 * The rule of a fair queue.
 *
 * @category models
 */
export interface Partitions {
  /** Whether any key's concurrency is limited. */
  readonly isLimited: boolean
  readonly weight: (key: string | undefined) => number
  readonly concurrency: (key: string | undefined) => number
}

/**
 * The largest concurrency of one queue on one node.
 *
 * @category constants
 */
export const maxConcurrency = 100_000

/** Units of time, in milliseconds. */
export const minute = 60_000
export const hour = 60 * minute
export const day = 24 * hour
export const century = 36_525 * day

/** Refuses a value. */
export const invalid = (field: string, value: unknown, why: string): InvalidConfig =>
  new InvalidConfig({ field, value: shown(value), message: `${field} cannot be ${shown(value)}: ${why}.` })

/** A checked integer. */
export const integer = (field: string, value: number, min: number, max: number): Effect.Effect<number, InvalidConfig> =>
  Number.isInteger(value) && value >= min && value <= max
    ? Effect.succeed(value)
    : Effect.fail(invalid(field, value, `it must be an integer from ${min} to ${max}`))

/** A checked duration. */
export const duration = (
  field: string,
  value: Duration.Input,
  min: number,
  max: number
): Effect.Effect<Duration.Duration, InvalidConfig> => {
  const parsed = Duration.fromInput(value)
  const millis = Option.isSome(parsed) ? Duration.toMillis(parsed.value) : Number.NaN
  return Option.isSome(parsed) && millis >= min && millis <= max
    ? Effect.succeed(parsed.value)
    : Effect.fail(invalid(field, value, `it must be a duration from ${min} to ${max} milliseconds`))
}

/** Checks queues and fills in what they leave out. */
export const makeQueues = Effect.fnUntraced(function* (queues: Readonly<Record<string, number | QueueOptions>>) {
  if (typeof queues !== "object" || queues === null || Array.isArray(queues)) {
    return yield* invalid("queues", queues, "it must be an object of names and their concurrency")
  }
  const made = new Map<string, number>()
  const partitions = new Map<string, Partitions>()
  const adaptive = new Map<string, AdaptiveConcurrency.Rule>()
  const weights = new Map<string, number>()
  const aging = new Map<string, number>()
  const broadcast = new Map<string, Duration.Duration>()
  const rates = new Map<string, Limit.Limit>()
  for (const [name, given] of Object.entries(queues)) {
    const problem = nameProblem(name)
    if (problem !== undefined) return yield* invalid("queues", name, `as a queue's name, ${problem}`)
    const options = typeof given === "object" && given !== null ? given : { concurrency: given }
    const stray = strayOption(options, known)
    if (stray !== undefined) return yield* invalid(`queues.${name}`, stray.name, stray.why)
    const { concurrency } = options
    if (typeof concurrency === "object" && concurrency !== null) {
      const field = `queues.${name}.concurrency`
      if ("counts" in concurrency) return yield* invalid(`${field}.counts`, "a function", "that is for workers to say")
      const rule = AdaptiveConcurrency.check(field, concurrency, maxConcurrency)
      if (Result.isFailure(rule)) return yield* rule.failure
      adaptive.set(name, rule.success)
      made.set(name, rule.success.max)
    } else made.set(name, yield* integer(`queues.${name}`, concurrency, 1, maxConcurrency))
    const { broadcast: everywhere = false, fair = false, partitionConcurrency, weight = 1 } = options
    if (!(weight >= 1e-3 && weight <= 1e6)) {
      return yield* invalid(`queues.${name}.weight`, weight, "it must be from 0.001 to 1,000,000")
    }
    if (weight !== 1) weights.set(name, weight)
    if (typeof fair !== "boolean" && typeof fair?.weight !== "function") {
      return yield* invalid(`queues.${name}.fair`, fair, "it must be true, false or { weight: (key) => number }")
    }
    if (typeof partitionConcurrency === "number") {
      yield* integer(`queues.${name}.partitionConcurrency`, partitionConcurrency, 1, maxConcurrency)
    } else if (partitionConcurrency !== undefined && typeof partitionConcurrency !== "function") {
      const why = "it must be an integer or a function of the key"
      return yield* invalid(`queues.${name}.partitionConcurrency`, partitionConcurrency, why)
    }
    if (fair !== false || partitionConcurrency !== undefined) {
      partitions.set(name, partitionsOf(name, fair, partitionConcurrency))
    }
    if (options.aging !== undefined) {
      aging.set(name, Duration.toMillis(yield* duration(`queues.${name}.aging`, options.aging, 1, 30 * day)))
    }
    if (options.aging !== undefined && (partitions.has(name) || everywhere !== false)) {
      return yield* invalid(
        `queues.${name}.aging`,
        options.aging,
        "a fair or broadcast queue takes its jobs by partition, not by age"
      )
    }
    if (options.rateLimit !== undefined) {
      const rate = yield* rateOf(name, options.rateLimit)
      const [other] = [...rates].find(([, one]) => one.name === rate.name && !isSameRate(one, rate)) ?? []
      if (other !== undefined) {
        const why = `the queue "${other}" says different things of the rate of that name, which both share`
        return yield* invalid(`queues.${name}.rateLimit`, rate.name, why)
      }
      rates.set(name, rate)
    }
    if (everywhere === false) continue
    const field = `queues.${name}.broadcast`
    if (everywhere !== true && (typeof everywhere !== "object" || everywhere === null)) {
      return yield* invalid(field, everywhere, "it must be true, false or { window }")
    }
    if (partitions.has(name)) return yield* invalid(field, everywhere, "a fair queue shares jobs out, and cannot")
    const misspelt = everywhere === true ? undefined : strayOption(everywhere, ["window"])
    if (misspelt !== undefined) return yield* invalid(field, misspelt.name, misspelt.why)
    const window = everywhere === true ? "10 minutes" : everywhere.window
    broadcast.set(name, yield* duration(`${field}.window`, window, 1000, 7 * day))
  }
  return { queues: made, partitions, rates, adaptive, broadcast, weights, aging }
})

// internal

const known = ["concurrency", "fair", "partitionConcurrency", "rateLimit", "weight", "aging", "broadcast"]

const rateOf = (queue: string, given: Limit.Limit | Limit.Options): Effect.Effect<Limit.Limit, InvalidConfig> =>
  Effect.try({
    try: () => {
      if (typeof given !== "object" || given === null) throw invalid("rateLimit", given, "it must be an object")
      const made = "rule" in given ? given : Limit.make(`queue ${queue}`, given)
      if (made.costOf === undefined) return made
      throw invalid("rateLimit.cost", "a function", "jobs of any worker take of it, so it must be a number")
    },
    catch: (error) => {
      if (!(error instanceof InvalidConfig)) throw error
      const { field, message, value } = error
      return new InvalidConfig({ field: `queues.${queue}.${field}`, value, message: `queues.${queue}.${message}` })
    }
  })

/** What functions give is checked as it is used: then a claim fails, loudly, and admits nothing. */
const partitionsOf = (
  queue: string,
  fair: NonNullable<QueueOptions["fair"]>,
  concurrency: QueueOptions["partitionConcurrency"]
): Partitions => ({
  isLimited: concurrency !== undefined,
  weight: (key) => {
    if (typeof fair === "boolean") return 1
    const weight = fair.weight(key)
    if (weight >= 1e-3 && weight <= 1e6) return weight
    throw invalid(`queues.${queue}.fair.weight`, weight, `of ${shown(key)}, it must be from 0.001 to 1,000,000`)
  },
  concurrency: (key) => {
    const places = typeof concurrency === "function" ? concurrency(key) : (concurrency ?? Infinity)
    if (places === Infinity || (Number.isInteger(places) && places >= 1)) return places
    throw invalid(`queues.${queue}.partitionConcurrency`, places, `of ${shown(key)}, it must be a positive integer`)
  }
})
