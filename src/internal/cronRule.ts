/**
 * Cron arithmetic: a checked expression in a time zone, and the instants at which it ticks.
 *
 * `effect/Cron` reads the expression and walks the wall clock; the step from wall clock to instant is made here, since
 * it is a matter of policy:
 *
 * | the local time | with fixed hours | with `*` or a step of `*` as hours |
 * |---|---|---|
 * | is skipped by a change of the clock | ticks once, at the first instant after the gap | does not tick |
 * | happens twice | ticks the first time | ticks both times |
 *
 * `onGap` and `onOverlap` choose otherwise. The rule of fixed against running hours is Vixie cron's, and so is that of the
 * two days: where neither the day of the month nor the day of the week starts with `*`, either is enough; else both must
 * match.
 */
import * as Cron from "effect/Cron"
import * as DateTime from "effect/DateTime"
import * as Option from "effect/Option"
import * as Result from "effect/Result"

/** A checked expression in a time zone. */
export interface CronRule {
  readonly expression: string
  readonly timezone: string
  readonly onGap: "run" | "skip"
  readonly onOverlap: "first" | "both"
  /** Reads the wall clock as if it were UTC. */
  readonly wall: Cron.Cron
  /** Undefined for UTC, where wall clock and instant are one. */
  readonly zone: DateTime.TimeZone.Named | undefined
}

/** What cannot be used, and why. */
export interface CronProblem {
  readonly field: string
  readonly reason: string
}

/** Checks an expression and a zone; nothing is bent, every problem names its field. */
export const parse = (
  expression: string,
  options: {
    readonly timezone?: string | undefined
    readonly onGap?: "run" | "skip" | undefined
    readonly onOverlap?: "first" | "both" | undefined
  } = {}
): Result.Result<CronRule, CronProblem> => {
  if (typeof expression !== "string") return problem("expression", `it is a ${typeof expression}, not a string`)
  if (expression.length > maxLength) return problem("expression", `it has more than ${maxLength} characters`)
  const text = expression.trim()
  const spelled = text.startsWith("@") ? nicknames.get(text.toLowerCase()) : text
  if (spelled === undefined) return problem("expression", `${text} is none of ${[...nicknames.keys()].join(", ")}`)
  const fields = spelled.split(/\s+/)
  if (fields.length !== 5 && fields.length !== 6) {
    return problem("expression", `it has ${fields.length} fields; there are five, or six with seconds first`)
  }
  const names = fields.length === 6 ? fieldNames : fieldNames.slice(1)
  for (const [i, name] of names.entries()) {
    // effect/Cron reads what Number reads: "" as 0, "0x10" as 16.
    if (!grammar.test(fields[i] ?? "")) return problem(name, `"${fields[i]}" is no list of values, ranges and steps`)
    // One field at a time, so that the reason has a field's name.
    const alone = Cron.parse(names.map((_, k) => (k === i ? fields[i] : "*")).join(" "), "UTC")
    if (Result.isFailure(alone)) return problem(name, `"${fields[i]}": ${alone.failure.message}`)
  }
  const timezone = options.timezone ?? "UTC"
  const zone = zoneOf(timezone)
  if (zone === undefined) return problem("timezone", `"${timezone}" is no IANA time zone, such as Europe/Berlin`)
  const wall = Cron.parse(fields.join(" "), "UTC")
  if (Result.isFailure(wall)) return problem("expression", wall.failure.message)
  const runsAllHours = (fields[fields.length - 4] ?? "").startsWith("*")
  return Result.succeed({
    expression: text,
    timezone,
    onGap: options.onGap ?? (runsAllHours ? "skip" : "run"),
    onOverlap: options.onOverlap ?? (runsAllHours ? "both" : "first"),
    wall: wall.success,
    zone: zone.id === "UTC" ? undefined : zone
  })
}

/** The first tick after an instant, in milliseconds of Unix time; undefined where the rule never ticks again. */
export const next = (rule: CronRule, after: number): number | undefined => {
  const { zone } = rule
  if (zone === undefined) return nextWall(rule, after)
  const wallAfter = after + offsetAt(zone, after)
  const repeated = rule.onOverlap === "both" ? firstRepeated(rule, zone, after, wallAfter) : undefined
  for (let wall = nextWall(rule, wallAfter); wall !== undefined; wall = nextWall(rule, wall)) {
    const instant = instantOf(rule, zone, wall, after)
    if (instant !== undefined) return repeated === undefined ? instant : Math.min(instant, repeated)
  }
  return repeated
}

/** The last `max` ticks in (after, upTo], oldest first. */
export const last = (
  rule: CronRule,
  range: { readonly after: number; readonly upTo: number; readonly max: number }
): ReadonlyArray<number> => {
  let span = 60_000
  while (true) {
    const from = Math.max(range.upTo - span, range.after)
    const ticks: Array<number> = []
    for (let tick = next(rule, from); tick !== undefined && tick <= range.upTo; tick = next(rule, tick)) {
      ticks.push(tick)
    }
    if (ticks.length >= range.max || from === range.after) return ticks.slice(-range.max)
    span *= 4
  }
}

// internal

const maxLength = 256
const value = "([0-9]{1,2}|[A-Za-z]{3})"
const item = `(\\*|${value}(-${value})?)(/[0-9]{1,2})?`
const grammar = new RegExp(`^${item}(,${item})*$`)
const fieldNames = ["seconds", "minutes", "hours", "days", "months", "weekdays"]

const nicknames: ReadonlyMap<string, string> = new Map([
  ["@yearly", "0 0 1 1 *"],
  ["@annually", "0 0 1 1 *"],
  ["@monthly", "0 0 1 * *"],
  ["@weekly", "0 0 * * 0"],
  ["@daily", "0 0 * * *"],
  ["@midnight", "0 0 * * *"],
  ["@hourly", "0 * * * *"]
])

const problem = (field: string, reason: string): Result.Result<never, CronProblem> => Result.fail({ field, reason })

/** A zone by its exact IANA name; offsets, other spellings and unknown names are none. */
const zoneOf = (name: string): DateTime.TimeZone.Named | undefined => {
  if (!/^[A-Z][A-Za-z0-9_+-]*(\/[A-Z][A-Za-z0-9_+-]*)*$/.test(name)) return undefined
  const zone = Option.getOrUndefined(DateTime.zoneMakeNamed(name))
  // Intl reads any spelling; a name and its canonical one may differ, as for aliases, but not in case alone.
  const misspelled = zone?.id !== name && zone?.id.toLowerCase() === name.toLowerCase()
  return misspelled ? undefined : zone
}

/** The first matching wall-clock time after one, both as if in UTC; undefined for a rule that never matches. */
const nextWall = (rule: CronRule, after: number): number | undefined => {
  const found = Result.try(() => Cron.next(rule.wall, new Date(after)).getTime())
  return Result.isSuccess(found) ? found.success : undefined
}

const offsetAt = (zone: DateTime.TimeZone.Named, instant: number): number =>
  DateTime.zonedOffset(DateTime.makeZonedUnsafe(instant, { timeZone: zone }))

/** No zone changes by more than a day; Apia once skipped one. */
const day = 24 * 3_600_000
const reach = day + 2 * 3_600_000

/** The instant that stands for a wall-clock time by the rule's policies, if it lies after another one. */
const instantOf = (rule: CronRule, zone: DateTime.TimeZone.Named, wall: number, after: number): number | undefined => {
  const candidates = [offsetAt(zone, wall - reach), offsetAt(zone, wall + reach)]
    .map((offset) => wall - offset)
    .filter((instant) => instant + offsetAt(zone, instant) === wall)
    .toSorted((a, b) => a - b)
  const [first] = candidates
  const second = candidates[candidates.length - 1]
  if (first === undefined) {
    if (rule.onGap === "skip") return undefined
    const end = changeBetween(zone, wall - reach, wall + reach)
    return end > after ? end : undefined
  }
  if (first > after) return first
  return rule.onOverlap === "both" && second !== undefined && second > after ? second : undefined
}

/** The first instant at which the zone's offset differs from that at `from`. */
const changeBetween = (zone: DateTime.TimeZone.Named, from: number, to: number): number => {
  const before = offsetAt(zone, from)
  let low = from
  let high = to
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2)
    if (offsetAt(zone, middle) === before) low = middle
    else high = middle
  }
  return high
}

/** While the clock is about to go back: the first match of the hours to come that the wall clock has shown already. */
const firstRepeated = (
  rule: CronRule,
  zone: DateTime.TimeZone.Named,
  after: number,
  wallAfter: number
): number | undefined => {
  const before = wallAfter - after
  const later = offsetAt(zone, after + day)
  if (later >= before) return undefined
  const change = changeBetween(zone, after, after + day)
  const wall = nextWall(rule, change + later - 1)
  return wall !== undefined && wall <= wallAfter ? wall - later : undefined
}
