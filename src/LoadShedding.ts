/**
 * What a node does without while it has too much to do: jobs of low priority first. They are not claimed, so they lose
 * nothing and wait in their place, for this node or any other.
 *
 * | while | no job starts of a priority below |
 * |---|---|
 * | `share` of `maxInFlight` attempts run | the `below` of that level |
 * | `maxInFlight` attempts run | any |
 * | jobs of a queue have waited longer than `target`, all of them for an `interval` | the lowest level, then one more after another while it lasts (CoDel) |
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { shown } from "./internal/names.ts"
import { strayOption } from "./internal/options.ts"
import { InvalidConfig } from "./ShigotoError.ts"

/**
 * When a node sheds load.
 *
 * @category models
 */
export interface Options {
  /** How many attempts run on this node at once, over all its queues. Defaults to what the queues allow. */
  readonly maxInFlight?: number | undefined
  /** How long jobs of a queue may wait for a slot. Defaults to any time. */
  readonly target?: Duration.Input | undefined
  /** For how long all of them have to wait longer. Defaults to ten times `target`. */
  readonly interval?: Duration.Input | undefined
  /**
   * What is shed, lowest priority first; `share` is of `maxInFlight`. Jobs of the highest level's priority and above are
   * never shed. Defaults to `[{ below: 0, share: 0.8 }]`.
   */
  readonly levels?: ReadonlyArray<Level> | undefined
}

/**
 * Jobs of a priority below some number, and up to which share of the node's places they start.
 *
 * @category models
 */
export interface Level {
  /** The priority below which jobs are of this level. */
  readonly below: number
  /** Up to which share of `maxInFlight` they start, from 0 to 1. */
  readonly share: number
}

/**
 * Checked options with nothing left out; Infinity for what is not limited.
 *
 * @category models
 */
export interface Rule {
  readonly maxInFlight: number
  readonly targetMillis: number
  readonly intervalMillis: number
  readonly levels: ReadonlyArray<Level>
}

/**
 * Checks options and fills in what they leave out.
 *
 * @category rules
 */
export const check = (options: Options, most: number): Result.Result<Rule, InvalidConfig> => {
  const { interval, levels = [{ below: 0, share: 0.8 }], maxInFlight = Infinity, target } = options
  const targetMillis = target === undefined ? Infinity : millisOf(target)
  const intervalMillis = interval === undefined ? targetMillis * 10 : millisOf(interval)
  const stray = strayOption(options, known)
  const isWithout = options.maxInFlight === undefined && target === undefined
  const problem =
    stray !== undefined
      ? refuse(stray.name, options[stray.name as keyof Options], stray.why) // as it was written
      : isWithout
        ? refuse("target", target, "give it, or maxInFlight, or leave shedding out")
        : options.maxInFlight !== undefined && !isInteger(maxInFlight, 1, most)
          ? refuse("maxInFlight", maxInFlight, `it must be an integer from 1 to ${most}`)
          : !(targetMillis > 0)
            ? refuse("target", target, "it must be a duration above zero")
            : interval !== undefined && target === undefined
              ? refuse("interval", interval, "it needs target beside it")
              : !(intervalMillis >= targetMillis)
                ? refuse("interval", interval, "it must be a duration, at least as long as target")
                : levelsProblem(levels)
  return problem === undefined
    ? Result.succeed({ maxInFlight, targetMillis, intervalMillis, levels })
    : Result.fail(problem)
}

// internal

const known = ["maxInFlight", "target", "interval", "levels"]

const levelsProblem = (levels: ReadonlyArray<Level>): InvalidConfig | undefined => {
  if (!Array.isArray(levels) || levels.length === 0) return refuse("levels", levels, "it must have at least one level")
  for (const [i, level] of levels.entries()) {
    const { below, share }: Level = level
    const before: Level = levels[i - 1] ?? { below: -32_768, share: 0 }
    if (!isInteger(below, before.below + 1, 32_767)) {
      return refuse(`levels[${i}].below`, below, `it must be an integer above ${before.below} and up to 32767`)
    }
    if (!(share > before.share && share <= 1)) {
      return refuse(`levels[${i}].share`, share, `it must be above ${before.share} and at most 1`)
    }
  }
  return undefined
}

const isInteger = (value: number, least: number, most: number): boolean =>
  Number.isInteger(value) && value >= least && value <= most

const millisOf = (input: Duration.Input): number => {
  const parsed = Duration.fromInput(input)
  return Option.isSome(parsed) ? Duration.toMillis(parsed.value) : Number.NaN
}

const refuse = (name: string, value: unknown, why: string): InvalidConfig =>
  new InvalidConfig({
    field: `shedding.${name}`,
    value: shown(value),
    message: `shedding.${name} cannot be ${shown(value)}: ${why}.`
  })
