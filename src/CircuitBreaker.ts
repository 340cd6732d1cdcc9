/**
 * When a worker stops on a node because its attempts keep failing, and how it finds out that they would succeed again.
 *
 * | a circuit is | attempts of the worker on this node | it leaves by |
 * |---|---|---|
 * | closed | start as ever | too many failures or slow calls among the last ones: open |
 * | open | do not start; jobs are not even claimed | `openFor`: half-open |
 * | half-open | start, as many as there are probes | so many successes: closed; the first failure: open |
 *
 * Jobs that wait for a circuit lose no attempt and stay available to other nodes, whose circuits are their own.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { shown } from "./internal/names.ts"
import { strayOption } from "./internal/options.ts"
import { type AttemptError, InvalidConfig } from "./ShigotoError.ts"

/**
 * What a worker says of its circuit breaker.
 *
 * @category models
 */
export interface Options<Error = unknown> {
  /**
   * Whether each node has a circuit of its own, or all share one in the database: `shared` opens by the attempts of all
   * nodes, for all nodes. Defaults to `local`.
   */
  readonly state?: "local" | "shared" | undefined
  /** The share of failures that opens the circuit, above 0 and up to 1. Defaults to 0.5. */
  readonly failureRate?: number | undefined
  /** Of how many attempts, the last ones, shares are taken; it does not open before so many. Defaults to 20. */
  readonly window?: number | undefined
  /** How long it stays open. Defaults to 30 seconds. */
  readonly openFor?: Duration.Input | undefined
  /** How many attempts must succeed before it closes, and how many of them may run at once. Defaults to 3. */
  readonly probes?: number | undefined
  /** An attempt that takes longer is slow, also if it succeeds; a slow probe opens it again. Defaults to never. */
  readonly slowerThan?: Duration.Input | undefined
  /** The share of slow attempts that opens the circuit, above 0 and up to 1; needs `slowerThan`. Defaults to 0.5. */
  readonly slowRate?: number | undefined
  /**
   * Which errors count; one that does not is neither a failure nor a success. Args or secrets that cannot be read,
   * signals such as `Job.snooze`, cancels and stops never count. Defaults to all others, timeouts and defects included.
   */
  readonly counts?: ((error: Error | AttemptError) => boolean) | undefined
}

/**
 * A circuit breaker's options, checked and complete.
 *
 * @category models
 */
export interface Rule {
  readonly state: "local" | "shared"
  readonly failureRate: number
  readonly window: number
  readonly openMillis: number
  readonly probes: number
  /** Infinity for none. */
  readonly slowMillis: number
  readonly slowRate: number
}

/**
 * The most attempts that a circuit looks back on.
 *
 * @category constants
 */
export const maxWindow = 10_000

/**
 * The most attempts that a shared circuit looks back on: its calls are written with each of them.
 *
 * @category constants
 */
export const maxSharedWindow = 1000

/**
 * Checks options and fills in what they leave out.
 *
 * @category rules
 */
export const check = (options: Options<never>): Result.Result<Rule, InvalidConfig> => {
  if (typeof options !== "object" || options === null) {
    return Result.fail(refused("circuitBreaker", options, "it must be an object"))
  }
  const { failureRate = 0.5, openFor = "30 seconds", probes = 3, slowerThan, slowRate = 0.5, window = 20 } = options
  const { state = "local" } = options
  const most = state === "shared" ? maxSharedWindow : maxWindow
  const openMillis = millisOf(openFor)
  const slowMillis = slowerThan === undefined ? Infinity : millisOf(slowerThan)
  const stray = strayOption(options, known)
  const problem =
    stray !== undefined
      ? refuse(stray.name, options[stray.name as keyof Options], stray.why) // as it was written
      : state !== "local" && state !== "shared"
        ? refuse("state", state, "it must be local or shared")
        : !isShare(failureRate)
          ? refuse("failureRate", failureRate, "it must be above 0 and at most 1")
          : !isCount(window, most)
            ? refuse("window", window, `it must be an integer from 1 to ${most}`)
            : !(openMillis > 0 && openMillis <= maxOpenMillis)
              ? refuse("openFor", openFor, "it must be a duration above zero and up to 24 days")
              : !isCount(probes, maxWindow)
                ? refuse("probes", probes, `it must be an integer from 1 to ${maxWindow}`)
                : !(slowMillis > 0)
                  ? refuse("slowerThan", slowerThan, "it must be a duration above zero")
                  : !isShare(slowRate)
                    ? refuse("slowRate", slowRate, "it must be above 0 and at most 1")
                    : options.slowRate !== undefined && slowerThan === undefined
                      ? refuse("slowRate", slowRate, "it needs slowerThan beside it")
                      : options.counts !== undefined && typeof options.counts !== "function"
                        ? refuse("counts", options.counts, "it must be a function")
                        : undefined
  return problem === undefined
    ? Result.succeed({ state, failureRate, window, openMillis, probes, slowMillis, slowRate })
    : Result.fail(problem)
}

// internal

const known = ["state", "failureRate", "window", "openFor", "probes", "slowerThan", "slowRate", "counts"]

/** What a timer can wait: 2^31 - 1 milliseconds. */
const maxOpenMillis = 2_147_483_647

const isShare = (value: number): boolean => typeof value === "number" && value > 0 && value <= 1

const isCount = (value: number, most: number): boolean => Number.isInteger(value) && value >= 1 && value <= most

const millisOf = (input: Duration.Input): number => {
  const parsed = Duration.fromInput(input)
  return Option.isSome(parsed) ? Duration.toMillis(parsed.value) : Number.NaN
}

const refuse = (name: string, value: unknown, why: string): InvalidConfig =>
  refused(`circuitBreaker.${name}`, value, why)

const refused = (field: string, value: unknown, why: string): InvalidConfig =>
  new InvalidConfig({ field, value: shown(value), message: `${field} cannot be ${shown(value)}: ${why}.` })
