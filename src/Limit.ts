/**
 * How often jobs may start, over all nodes: kept when they are claimed, by the database's clock.
 *
 * A job that its limit does not admit is not claimed: it costs no attempt, keeps its place, and does not stand in the
 * way of jobs that are not limited.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import { nameProblem, shown } from "./internal/names.ts"
import { strayOption } from "./internal/options.ts"
import { algorithms, type Rule } from "./internal/rate.ts"
import { InvalidConfig } from "./ShigotoError.ts"

/**
 * How a rate is kept.
 *
 * @category models
 */
export type Algorithm = Rule["algorithm"]

/**
 * A rate.
 *
 * @category models
 */
export interface Options<Args = unknown> {
  /** How many units each window brings; an integer from 1 to 1,000,000. */
  readonly limit: number
  /** How long a window is, from 10 milliseconds to 31 days. */
  readonly window: Duration.Input
  /** How units come back as time goes by. Defaults to `sliding-window`: never more than the limit in any window. */
  readonly algorithm?: Algorithm | undefined
  /**
   * How many units may be spent at one instant, for `token-bucket` and `gcra`. Defaults to the limit, for `gcra` to a
   * tenth of it.
   */
  readonly burst?: number | undefined
  /**
   * How many units one job takes: a number, or by its args; then at most what may be spent at one instant. Defaults to
   * 1.
   */
  readonly cost?: number | ((args: Args) => number) | undefined
  /**
   * Whether each node keeps an account of its own, so that the rate is that of every node. Defaults to false: it is that
   * of all together.
   */
  readonly local?: boolean | undefined
  /** Whether each partition key has an account of its own; jobs without a key share one. Defaults to false. */
  readonly perKey?: boolean | undefined
}

/**
 * A limit; workers that are given the same name share it.
 *
 * @category models
 */
export interface Limit<in Args = unknown> {
  readonly name: string
  readonly rule: Rule
  /** Zero where `costOf` says it. */
  readonly cost: number
  /** What a job takes of the rate, by its args. */
  readonly costOf?: ((args: Args) => number) | undefined
  readonly perKey: boolean
  /** Whether each node keeps an account of its own. */
  readonly local: boolean
}

/**
 * Makes a limit that several workers may share by its name; throws where a field cannot be used.
 *
 * **Gotchas**
 *
 * All nodes must run the same definition: each keeps to its own, on the one account.
 *
 * @category constructors
 */
export const make = <Args = unknown>(name: string, options: Options<Args>): Limit<Args> => {
  const problem = nameProblem(name)
  if (problem !== undefined) throw invalid("name", name, problem)
  if (typeof options !== "object" || options === null) throw refused("rateLimit", options, "it must be an object")
  const stray = strayOption(options, known)
  if (stray !== undefined) throw invalid(stray.name, options[stray.name as keyof Options<Args>], stray.why) // as it was written
  const { algorithm = "sliding-window", cost = 1, limit, local = false, perKey = false } = options
  if (!algorithms.includes(algorithm))
    throw invalid("algorithm", algorithm, `it must be one of ${algorithms.join(", ")}`)
  if (!Number.isInteger(limit) || limit < 1 || limit > 1_000_000) {
    throw invalid("limit", limit, "it must be an integer from 1 to 1,000,000")
  }
  const window = Duration.fromInput(options.window)
  const windowMillis = Option.isSome(window) ? Duration.toMillis(window.value) : Number.NaN
  if (!(windowMillis >= 10 && windowMillis <= 31 * 86_400_000)) {
    throw invalid("window", options.window, "it must be a duration from 10 milliseconds to 31 days")
  }
  const bursts = algorithm === "token-bucket" || algorithm === "gcra"
  if (options.burst !== undefined && !bursts) {
    throw invalid("burst", options.burst, `${algorithm} has none; leave it out, or use token-bucket or gcra`)
  }
  const burst = options.burst === undefined ? usualBurst(algorithm, limit) : options.burst
  if (!Number.isInteger(burst) || burst < 1 || burst > limit) {
    throw invalid("burst", burst, "it must be an integer from 1 to the limit")
  }
  if (typeof perKey !== "boolean") throw invalid("perKey", perKey, "it must be true or false")
  if (typeof local !== "boolean") throw invalid("local", local, "it must be true or false")
  const rule: Rule = { algorithm, limit, windowMillis, burst }
  if (typeof cost === "function") return { name, rule, cost: 0, costOf: cost, perKey, local }
  if (!Number.isFinite(cost) || cost <= 0) throw invalid("cost", cost, "it must be a number above zero, or a function")
  if (cost > burst) throw invalid("cost", cost, `no job could ever start: at most ${burst} may be spent at one instant`)
  return { name, rule, cost, perKey, local }
}

// internal

const usualBurst = (algorithm: Algorithm, limit: number): number =>
  algorithm === "leaky-bucket" ? 1 : algorithm === "gcra" ? Math.ceil(limit / 10) : limit

const known = ["limit", "window", "algorithm", "burst", "cost", "local", "perKey"]

const invalid = (field: string, value: unknown, why: string): InvalidConfig => refused(`rateLimit.${field}`, value, why)

const refused = (field: string, value: unknown, why: string): InvalidConfig =>
  new InvalidConfig({ field, value: shown(value), message: `${field} cannot be ${shown(value)}: ${why}.` })
