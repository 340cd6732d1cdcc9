/**
 * Which jobs: one filter for listing, counting and bulk operations, and one text for it in URLs and on command lines.
 *
 *     worker:send-email state:retryable,discarded tag:vip args.user.id:42 finished:..7d priority:>=3
 *
 * All conditions hold at once. What is misspelt or makes no sense is refused by name, never left out: a filter that is
 * wider than was meant is how the wrong jobs are deleted.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { jsonOrWord, quoted, quotedJson, quotedStep, type Token, tokens, words } from "./internal/filterText.ts"
import { stringify } from "./internal/json.ts"
import { nameProblem, shown } from "./internal/names.ts"
import { type BatchId, type JobId, type JobState, states } from "./JobRow.ts"
import { InvalidFilter } from "./ShigotoError.ts"

/**
 * One value, or any of several.
 *
 * @category models
 */
export type AnyOf<A> = A | ReadonlyArray<A>

/**
 * One number, any of several, or a range that includes both of its ends.
 *
 * @category models
 */
export type Numbers<A extends number = number> =
  | AnyOf<A>
  | { readonly min?: A | undefined; readonly max?: A | undefined }

/**
 * An instant, or a duration for the instant that lies so long ago by the database's clock.
 *
 * @category models
 */
export type Moment = DateTime.DateTime | Date | Duration.Input

/**
 * A span of time that includes its beginning and not its end; `{ to: "7 days" }` is all that is older than 7 days.
 *
 * @category models
 */
export interface Times {
  readonly from?: Moment | undefined
  readonly to?: Moment | undefined
}

/**
 * Which jobs; a field that is left out says nothing, and without any it is every job.
 *
 * **Details**
 *
 * As text, each field is a token `field:value`: several values are apart by commas, ranges are written `10..20`,
 * `..20`, `<20` or `>=10`, spans of time `2026-01-31T00:00:00Z..` or, counted back from now, `7d..1h`, and `<1h` for
 * younger and `>1h` for older than an hour. A tag that is there twice means both tags. `args.user.id:42` asks for
 * `{ user: { id: 42 } }` in the args, `args.user.id:"42"` for the string.
 *
 * @category models
 */
export interface Filter {
  readonly id?: Numbers<JobId> | undefined
  readonly worker?: AnyOf<string> | undefined
  readonly queue?: AnyOf<string> | undefined
  readonly state?: AnyOf<JobState> | undefined
  /** Has all of them. */
  readonly tag?: AnyOf<string> | undefined
  readonly batch?: Numbers<BatchId> | undefined
  readonly partitionKey?: AnyOf<string> | undefined
  /** The group of its last failure: see `Jobs.failures`. A job that has succeeded is in none. */
  readonly fingerprint?: AnyOf<string> | undefined
  /**
   * Part of the message of its last failure, case mattering, or the failure's tag. A job that has succeeded has none; of
   * an encrypted message only the tag is known.
   */
  readonly error?: AnyOf<string> | undefined
  /**
   * The name of the node that runs it or ran it, or of its last failure. The names of nodes that are gone are known from
   * failures alone.
   */
  readonly node?: AnyOf<string> | undefined
  /** The cron entry of whose ticks it is, for as long as the history of completed jobs is kept. */
  readonly cron?: AnyOf<string> | undefined
  readonly priority?: Numbers | undefined
  readonly attempt?: Numbers | undefined
  readonly inserted?: Times | undefined
  /** When it may run, or was due when it last ran. */
  readonly due?: Times | undefined
  readonly finished?: Times | undefined
  /** JSON that its encoded args contain, as `@>` has it in PostgreSQL. */
  readonly args?: unknown
  /** JSON that its meta contains. */
  readonly meta?: Readonly<Record<string, unknown>> | undefined
}

/**
 * An instant as a statement takes it.
 *
 * @category models
 */
export type Bound = { readonly at: Date } | { readonly agoMillis: number }

/**
 * A filter that has been checked; what it does not ask for is absent.
 *
 * @category models
 */
export interface Checked {
  readonly anyOf: Readonly<Partial<Record<NameField, ReadonlyArray<string>>>>
  readonly tags?: ReadonlyArray<string>
  readonly numbers: Readonly<
    Partial<
      Record<NumberField, { readonly in: ReadonlyArray<number> } | { readonly min?: number; readonly max?: number }>
    >
  >
  readonly times: Readonly<Partial<Record<TimeField, { readonly from?: Bound; readonly to?: Bound }>>>
  /** JSON text. */
  readonly json: Readonly<Partial<Record<JsonField, string>>>
}

/**
 * Says whether a filter asks for anything at all.
 *
 * @category guards
 */
export const isEmpty = (checked: Checked): boolean =>
  checked.tags === undefined &&
  [checked.anyOf, checked.numbers, checked.times, checked.json].every((part) => Object.keys(part).length === 0)

/**
 * Checks a filter, from wherever it came.
 *
 * @category constructors
 */
export const check = (filter: Filter): Result.Result<Checked, InvalidFilter> => {
  if (typeof filter !== "object" || filter === null || Array.isArray(filter)) {
    return refuse("filter", filter, "it is an object")
  }
  const anyOf: Partial<Record<NameField, ReadonlyArray<string>>> = {}
  const numbers: { -readonly [K in NumberField]?: Checked["numbers"][K] } = {}
  const times: { -readonly [K in TimeField]?: Checked["times"][K] } = {}
  const json: Partial<Record<JsonField, string>> = {}
  let tags: ReadonlyArray<string> | undefined
  for (const [field, value] of Object.entries(filter) as ReadonlyArray<[string, unknown]>) {
    // whatever a user wrote
    if (value === undefined) continue
    if (field === "tag" || isIn(nameFields, field)) {
      const names = namesOf(field, value)
      if (Result.isFailure(names)) return Result.fail(names.failure)
      if (field === "tag") tags = names.success
      else anyOf[field] = names.success
    } else if (isIn(numberFields, field)) {
      const found = numbersOf(field, value)
      if (Result.isFailure(found)) return Result.fail(found.failure)
      numbers[field] = found.success
    } else if (isIn(timeFields, field)) {
      const found = timesOf(field, value)
      if (Result.isFailure(found)) return Result.fail(found.failure)
      times[field] = found.success
    } else if (isIn(jsonFields, field)) {
      const found = jsonOf(field, value)
      if (Result.isFailure(found)) return Result.fail(found.failure)
      json[field] = found.success
    } else return refuse(field, value, unknownField)
  }
  return Result.succeed({ anyOf, numbers, times, json, ...(tags === undefined ? {} : { tags }) })
}

/**
 * Reads the text of a filter.
 *
 * @category parsing
 */
export const parse = (text: string): Result.Result<Filter, InvalidFilter> => {
  const split = tokens(text)
  if (Result.isFailure(split)) return refuse("filter", split.failure.at, split.failure.why)
  const found = new Map<string, unknown>()
  for (const token of split.success) {
    const { field } = token
    const read = readToken(token, found.get(field))
    if (Result.isFailure(read)) return Result.fail(read.failure)
    found.set(field, read.success)
  }
  const filter = Object.fromEntries(found) as Filter // checked below
  const checked = check(filter)
  return Result.isFailure(checked) ? Result.fail(checked.failure) : Result.succeed(filter)
}

/**
 * The text of a filter, which `parse` reads as the same filter; throws where the filter is refused.
 *
 * @category formatting
 */
export const format = (filter: Filter): string => {
  const checked = Result.getOrThrow(check(filter))
  const parts: Array<string> = []
  for (const field of nameFields) {
    const names = checked.anyOf[field]
    if (names !== undefined) parts.push(`${field}:${names.map(quoted).join(",")}`)
  }
  for (const tag of checked.tags ?? []) parts.push(`tag:${quoted(tag)}`)
  for (const field of numberFields) {
    const numbers = checked.numbers[field]
    if (numbers === undefined) continue
    parts.push(`${field}:${"in" in numbers ? numbers.in.join(",") : `${numbers.min ?? ""}..${numbers.max ?? ""}`}`)
  }
  for (const field of timeFields) {
    const times = checked.times[field]
    if (times !== undefined) parts.push(`${field}:${boundText(times.from)}..${boundText(times.to)}`)
  }
  for (const field of jsonFields) {
    const json = checked.json[field]
    if (json !== undefined) parts.push(...jsonTokens(field, JSON.parse(json)))
  }
  return parts.join(" ")
}

// internal

const nameFields = ["worker", "queue", "state", "partitionKey", "fingerprint", "error", "node", "cron"] as const
const numberFields = ["id", "batch", "priority", "attempt"] as const
const timeFields = ["inserted", "due", "finished"] as const
const jsonFields = ["args", "meta"] as const

type NameField = (typeof nameFields)[number]
type NumberField = (typeof numberFields)[number]
type TimeField = (typeof timeFields)[number]
type JsonField = (typeof jsonFields)[number]

const isIn = <A extends string>(fields: ReadonlyArray<A>, field: string): field is A =>
  (fields as ReadonlyArray<string>).includes(field) // to ask of any text

const unknownField = `there is no such field; the fields are ${["id", "tag", ...nameFields, ...numberFields.slice(1), ...timeFields, ...jsonFields].join(", ")}`

/** The most values of one field. */
const maxValues = 10_000

/** The largest JSON to look for, in bytes. */
const maxJsonBytes = 64 * 1024

const refuse = (field: string, value: unknown, why: string): Result.Result<never, InvalidFilter> =>
  Result.fail(
    new InvalidFilter({
      field,
      value: shown(value),
      message: `${field} cannot be ${shown(value)}: ${why}.`
    })
  )

const listOf = (field: string, value: unknown): Result.Result<ReadonlyArray<unknown>, InvalidFilter> => {
  const list: ReadonlyArray<unknown> = Array.isArray(value) ? value : [value]
  if (list.length === 0) return refuse(field, value, "it is empty; leave it out for any value")
  return list.length > maxValues ? refuse(field, list.length, `at most ${maxValues} values`) : Result.succeed(list)
}

const namesOf = (field: string, value: unknown): Result.Result<ReadonlyArray<string>, InvalidFilter> => {
  const list = listOf(field, value)
  if (Result.isFailure(list)) return Result.fail(list.failure)
  for (const name of list.success) {
    const problem =
      field === "state"
        ? isIn(states, name as string) // isIn says no to all else
          ? undefined
          : `the states are ${states.join(", ")}`
        : nameProblem(name)
    if (problem !== undefined) return refuse(field, name, problem)
  }
  return Result.succeed(list.success as ReadonlyArray<string>) // each was found to be a name
}

const numbersOf = (
  field: string,
  value: unknown
): Result.Result<
  { readonly in: ReadonlyArray<number> } | { readonly min?: number; readonly max?: number },
  InvalidFilter
> => {
  const wrong = (one: unknown): boolean => !Number.isSafeInteger(one)
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    const ends = endsOf(field, value, ["min", "max"])
    if (Result.isFailure(ends)) return Result.fail(ends.failure)
    for (const end of Object.values(ends.success)) if (wrong(end)) return refuse(field, end, "it is no integer")
    return Result.succeed(ends.success)
  }
  const list = listOf(field, value)
  if (Result.isFailure(list)) return Result.fail(list.failure)
  const bad = list.success.find(wrong)
  return bad === undefined && !list.success.includes(undefined)
    ? Result.succeed({ in: list.success as ReadonlyArray<number> }) // each was found to be an integer
    : refuse(field, bad, "it is no integer")
}

/** The ends of a range that are there: at least one, and nothing else. */
const endsOf = (field: string, value: object, names: readonly [string, string]) => {
  const ends = Object.entries(value).filter(([, end]) => end !== undefined)
  const other = ends.find(([name]) => !names.includes(name))
  return other === undefined && ends.length > 0
    ? Result.succeed(Object.fromEntries(ends) as Record<string, unknown>) // its values are read before they are used
    : refuse(field, other?.[0] ?? "{}", `a range has ${names.join(" or ")} or both`)
}

const timesOf = (
  field: string,
  value: unknown
): Result.Result<{ readonly from?: Bound; readonly to?: Bound }, InvalidFilter> => {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return refuse(field, value, "a span of time is { from, to }")
  }
  const ends = endsOf(field, value, ["from", "to"])
  if (Result.isFailure(ends)) return Result.fail(ends.failure)
  const bounds: Record<string, Bound> = {}
  for (const [name, end] of Object.entries(ends.success)) {
    const bound = boundOf(end)
    if (bound === undefined) {
      return refuse(field, end, `${name} is an instant, or a duration for how long ago, of at most 1,000 years`)
    }
    bounds[name] = bound
  }
  return Result.succeed(bounds)
}

/** The years 1 to 9999. */
const firstInstant = -62_135_596_800_000
const lastInstant = 253_402_300_799_999
const maxAgoMillis = 1000 * 365.25 * 24 * 3_600_000

const boundOf = (moment: unknown): Bound | undefined => {
  if (moment instanceof Date || DateTime.isDateTime(moment)) {
    const at = moment instanceof Date ? moment : DateTime.toDateUtc(moment)
    return at.getTime() >= firstInstant && at.getTime() <= lastInstant ? { at } : undefined
  }
  const duration = Duration.fromInput(moment as Duration.Input) // whatever a user wrote
  const agoMillis = Option.isSome(duration) ? Math.floor(Duration.toMillis(duration.value)) : Number.NaN
  return agoMillis >= 0 && agoMillis <= maxAgoMillis ? { agoMillis } : undefined
}

const jsonOf = (field: string, value: unknown): Result.Result<string, InvalidFilter> => {
  if (field === "meta" && (typeof value !== "object" || value === null || Array.isArray(value))) {
    return refuse(field, value, "it is no object")
  }
  const text = stringify(value, maxJsonBytes)
  if (Result.isFailure(text)) return refuse(field, value, `${text.failure.reason} at ${text.failure.path}`)
  return text.success._tag === "Text"
    ? Result.succeed(text.success.text)
    : refuse(field, `${text.success.size} bytes`, `at most ${maxJsonBytes} bytes of JSON`)
}

const readToken = (token: Token, before: unknown): Result.Result<unknown, InvalidFilter> => {
  const { field, path, value } = token
  if (isIn(jsonFields, field)) return readJson(token, before)
  if (path.length > 0) return refuse(`${field}.${path.join(".")}`, value, "only args and meta have paths")
  if (isIn(numberFields, field)) {
    return before === undefined ? readNumbers(field, value) : refuse(field, value, "it is there twice")
  }
  if (isIn(timeFields, field)) {
    return before === undefined ? readTimes(field, value) : refuse(field, value, "it is there twice")
  }
  if (field !== "tag" && !isIn(nameFields, field)) return refuse(field, value, unknownField)
  const list = words(value)
  if (list === undefined) return refuse(field, value, "quote what holds white space, commas, quotes or brackets")
  if (field === "tag" && list.length > 1) return refuse(field, value, "several tags are several tokens: a job has all")
  if (before === undefined) return Result.succeed(list.length === 1 ? list[0] : list)
  return field === "tag"
    ? Result.succeed([before, list].flat())
    : refuse(field, value, "it is there twice; write several values apart by commas")
}

const readNumbers = (field: string, value: string): Result.Result<unknown, InvalidFilter> => {
  const integer = /^-?\d{1,16}$/
  const range = /^(-?\d{1,16})?\.\.(-?\d{1,16})?$/.exec(value)
  if (range !== null) {
    const [, min, max] = range
    return Result.succeed({
      ...(min === undefined ? {} : { min: Number(min) }),
      ...(max === undefined ? {} : { max: Number(max) })
    })
  }
  const compared = /^(<=?|>=?)(-?\d{1,16})$/.exec(value)
  if (compared !== null) {
    const [, sign = "", text] = compared
    const bound = Number(text) + (sign === "<" ? -1 : sign === ">" ? 1 : 0)
    return Result.succeed(sign.startsWith("<") ? { max: bound } : { min: bound })
  }
  const list = value.split(",")
  if (!list.every((one) => integer.test(one))) {
    return refuse(field, value, "write 5, 5,6, 5..9, ..9 or 5.., or <9, <=9, >5, >=5")
  }
  return Result.succeed(list.length === 1 ? Number(list[0]) : list.map(Number))
}

const unitMillis: ReadonlyMap<string, number> = new Map([
  ["w", 604_800_000],
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["m", 60_000],
  ["s", 1000],
  ["ms", 1]
])

const readTimes = (field: string, value: string): Result.Result<unknown, InvalidFilter> => {
  const help = "write 7d..1h, ..1h, 2026-01-31T00:00:00Z.., or >1h for older than an hour; units are w d h m s ms"
  const compared = /^([<>])(\d.*)$/.exec(value)
  if (compared !== null) {
    const ago = momentOf(compared[2] ?? "")
    if (!Duration.isDuration(ago)) return refuse(field, value, help)
    return Result.succeed(compared[1] === ">" ? { to: ago } : { from: ago })
  }
  const [from, to, ...more] = value.split("..")
  if (from === undefined || to === undefined || more.length > 0) return refuse(field, value, help)
  const ends: Record<string, unknown> = {}
  for (const [name, text] of [
    ["from", from],
    ["to", to]
  ] as const) {
    if (text === "") continue
    const moment = momentOf(text)
    if (moment === undefined) return refuse(field, value, help)
    ends[name] = moment
  }
  return Result.succeed(ends)
}

const momentOf = (text: string): DateTime.Utc | Duration.Duration | undefined => {
  const ago = /^(\d{1,15})(w|d|h|m|s|ms)$/.exec(text)
  if (ago !== null) return Duration.millis(Number(ago[1]) * (unitMillis.get(ago[2] ?? "") ?? Number.NaN))
  // A day alone is read as its beginning in UTC; an instant names its offset, since nobody knows whose clock is meant.
  if (!/^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,3})?)?(Z|[+-]\d\d:\d\d))?$/.test(text)) return undefined
  return Option.getOrUndefined(DateTime.make(text))
}

const boundText = (bound: Bound | undefined): string => {
  if (bound === undefined) return ""
  if ("at" in bound) return bound.at.toISOString()
  for (const [unit, millis] of unitMillis) {
    if (bound.agoMillis >= millis && bound.agoMillis % millis === 0) return `${bound.agoMillis / millis}${unit}`
  }
  return "0s"
}

const readJson = ({ field, path, value }: Token, before: unknown): Result.Result<unknown, InvalidFilter> => {
  const name = [field, ...path.map(quotedStep)].join(".")
  const parsed = jsonOrWord(value)
  if (parsed === undefined) return refuse(name, value, "it is no JSON and no bare word")
  const nested = path.reduceRight<unknown>((inner, step) => own(step, inner), parsed)
  if (before === undefined) return Result.succeed(nested)
  const merged = together(before, nested)
  return merged === undefined ? refuse(name, value, "it contradicts what the filter says of it before") : merged
}

/** Two objects as one; undefined where both say something of the same place. */
const together = (a: unknown, b: unknown): Result.Result<unknown> | undefined => {
  if (!isPlain(a) || !isPlain(b)) return undefined
  const merged = new Map(Object.entries(a))
  for (const [key, value] of Object.entries(b)) {
    const both = merged.has(key) ? together(merged.get(key), value) : Result.succeed(value)
    if (both === undefined || Result.isFailure(both)) return undefined
    merged.set(key, both.success)
  }
  return Result.succeed(Object.fromEntries(merged))
}

/** An object of one property, whatever its name: `__proto__` is one too. */
const own = (key: string, value: unknown): Record<string, unknown> => Object.fromEntries([[key, value]])

const isPlain = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const jsonTokens = (prefix: string, value: unknown): ReadonlyArray<string> =>
  isPlain(value) && Object.keys(value).length > 0
    ? Object.entries(value).flatMap(([key, inner]) => jsonTokens(`${prefix}.${quotedStep(key)}`, inner))
    : [`${prefix}:${quotedJson(value)}`]
