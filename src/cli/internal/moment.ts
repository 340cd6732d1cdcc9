/** Durations as people type them. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { UsageError } from "./exit.ts"

/** Reads `5m`, `1h30m` or `5 minutes`. */
export const readDuration = (flag: string, text: string): Effect.Effect<Duration.Duration, UsageError> => {
  const parts = [...text.matchAll(/(\d{1,9})(ms|w|d|h|m|s)/g)]
  if (parts.length > 0 && parts.map(([all]) => all).join("") === text) {
    const millis = parts.reduce((sum, [, amount, unit]) => sum + Number(amount) * (units.get(unit ?? "") ?? 0), 0)
    return Effect.succeed(Duration.millis(millis))
  }
  const parsed = Duration.fromInput(text as Duration.Input) // whatever was typed: it says itself whether it is one
  return Option.isSome(parsed) && !/^\d+$/.test(text)
    ? Effect.succeed(parsed.value)
    : Effect.fail(
        new UsageError({ message: `--${flag} cannot be ${JSON.stringify(text)}: write 90s, 5m, 1h30m or 14d.` })
      )
}

// internal

const units: ReadonlyMap<string, number> = new Map([
  ["w", 604_800_000],
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["m", 60_000],
  ["s", 1000],
  ["ms", 1]
])
