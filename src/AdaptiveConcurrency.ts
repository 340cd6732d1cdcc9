/**
 * A concurrency that finds itself: up while attempts do well, down when they fail or slow down. In place of a fixed
 * number, for a worker or for a queue, on each node by itself.
 *
 * | algorithm | up by about one for each round of attempts | down |
 * |---|---|---|
 * | `aimd` | while they succeed, none slower than `slowerThan` | times `backoff` at a failure, once for all that ran then |
 * | `gradient` | while they take about as long as usual | in proportion, as they take longer than `tolerance` times that |
 *
 * It goes up only while at least half of it is in use, so that quiet times teach nothing wrong.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { shown } from "./internal/names.ts"
import { strayOption } from "./internal/options.ts"
import { type AttemptError, InvalidConfig } from "./ShigotoError.ts"

/**
 * How a concurrency adapts.
 *
 * @category models
 */
export interface Options<Error = unknown> {
  /** How it moves. Defaults to `aimd`: additive increase, multiplicative decrease. */
  readonly algorithm?: "aimd" | "gradient" | undefined
  /** It never falls below this. Defaults to 1. */
  readonly min?: number | undefined
  /** It never rises above this. Defaults to 100. */
  readonly max?: number | undefined
  /** Where it begins as the node starts. Defaults to 20, or what the bounds allow. */
  readonly initial?: number | undefined
  /** What it is multiplied by as it falls, from 0.1 to below 1. Defaults to 0.9. */
  readonly backoff?: number | undefined
  /** `aimd` alone: an attempt that takes longer counts as a failure. Defaults to never. */
  readonly slowerThan?: Duration.Input | undefined
  /** `gradient` alone: how many times longer than usual attempts may take, from 1. Defaults to 2. */
  readonly tolerance?: number | undefined
  /** `gradient` alone: over how many attempts, at least, an average is taken. Defaults to 50. */
  readonly window?: number | undefined
  /**
   * Which errors are a reason to fall. Defaults to all but args and secrets that cannot be read; signals such as
   * `Job.snooze`, cancels and stops never are.
   */
  readonly counts?: ((error: Error | AttemptError) => boolean) | undefined
}

/**
 * Checked options with nothing left out.
 *
 * @category models
 */
export interface Rule {
  readonly algorithm: "aimd" | "gradient"
  readonly min: number
  readonly max: number
  readonly initial: number
  readonly backoff: number
  /** Infinity for none. */
  readonly slowMillis: number
  readonly tolerance: number
  readonly window: number
}

/**
 * Checks options and fills in what they leave out; `field` is how they are called in a refusal.
 *
 * @category rules
 */
export const check = (field: string, options: Options<never>, most: number): Result.Result<Rule, InvalidConfig> => {
  const { algorithm = "aimd", backoff = 0.9, min = 1, slowerThan, tolerance = 2, window = 50 } = options
  const { max = Math.max(100, isCount(min, 1, most) ? min : 0) } = options
  const { initial = Math.min(Math.max(20, min), max) } = options
  const slowMillis = slowerThan === undefined ? Infinity : millisOf(slowerThan)
  const unknown = strayOption(options, known)
  const others = algorithm === "aimd" ? (["tolerance", "window"] as const) : (["slowerThan"] as const)
  const stray = others.find((key) => options[key] !== undefined)
  const problems: ReadonlyArray<readonly [name: string, value: unknown, isFine: boolean, why: string]> = [
    [unknown?.name ?? "", options[unknown?.name as keyof Options], unknown === undefined, unknown?.why ?? ""], // as it was written
    ["algorithm", algorithm, algorithm === "aimd" || algorithm === "gradient", "it must be aimd or gradient"],
    ["min", min, isCount(min, 1, most), `it must be an integer from 1 to ${most}`],
    ["max", max, isCount(max, min, most), `it must be an integer from min, ${shown(min)}, to ${most}`],
    ["initial", initial, isCount(initial, min, max), `it must be an integer from min, ${min}, to max, ${max}`],
    ["backoff", backoff, backoff >= 0.1 && backoff < 1, "it must be at least 0.1 and below 1"],
    [stray ?? "", options[stray ?? "max"], stray === undefined, `${algorithm} has no use for it`],
    ["slowerThan", slowerThan, slowMillis > 0, "it must be a duration above zero"],
    ["tolerance", tolerance, tolerance >= 1 && tolerance < Infinity, "it must be a number from 1"],
    ["window", window, isCount(window, 1, 10_000), "it must be an integer from 1 to 10,000"],
    ["counts", options.counts, ["undefined", "function"].includes(typeof options.counts), "it must be a function"]
  ]
  const problem = problems.find(([, , isFine]) => !isFine)
  if (problem === undefined) {
    return Result.succeed({ algorithm, min, max, initial, backoff, slowMillis, tolerance, window })
  }
  const [name, value, , why] = problem
  return Result.fail(
    new InvalidConfig({
      field: `${field}.${name}`,
      value: shown(value),
      message: `${field}.${name} cannot be ${shown(value)}: ${why}.`
    })
  )
}

// internal

const known = ["algorithm", "min", "max", "initial", "backoff", "slowerThan", "tolerance", "window", "counts"]

const isCount = (value: number, least: number, most: number): boolean =>
  Number.isInteger(value) && value >= least && value <= most

const millisOf = (input: Duration.Input): number => {
  const parsed = Duration.fromInput(input)
  return Option.isSome(parsed) ? Duration.toMillis(parsed.value) : Number.NaN
}
