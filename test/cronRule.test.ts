import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import { execFileSync } from "node:child_process"
import { fileURLToPath } from "node:url"
import { type CronProblem, type CronRule, last, next, parse } from "../src/internal/cronRule.ts"

const minute = 60_000
const hour = 60 * minute
const day = 24 * hour

const rule = (expression: string, options: Parameters<typeof parse>[1] = {}): CronRule =>
  Result.getOrThrowWith(parse(expression, options), (problem) => new Error(`${problem.field}: ${problem.reason}`))

const refused = (expression: string, options: Parameters<typeof parse>[1] = {}): CronProblem | undefined =>
  Result.match(parse(expression, options), { onFailure: (problem) => problem, onSuccess: () => undefined })

/** The ticks in (after, upTo]. */
const ticksIn = (made: CronRule, after: number, upTo: number): ReadonlyArray<number> => {
  const found: Array<number> = []
  for (let tick = next(made, after); tick !== undefined && tick <= upTo; tick = next(made, tick)) {
    assert.isAbove(tick, found.at(-1) ?? after, "ticks rise")
    found.push(tick)
  }
  return found
}

const iso = (ticks: ReadonlyArray<number>): ReadonlyArray<string> =>
  ticks.map((tick) => new Date(tick).toISOString().replace(":00.000Z", "Z").replace(".000Z", "Z"))

// The oracle: fields as sets, and a zone as segments of equal offset that Intl shows.

interface Segment {
  readonly start: number
  readonly end: number
  readonly offset: number
}

const segmentsOf = (zone: string, from: number, to: number): ReadonlyArray<Segment> => {
  const format = new Intl.DateTimeFormat("en-US", {
    timeZone: zone,
    hourCycle: "h23",
    year: "numeric",
    month: "numeric",
    day: "numeric",
    hour: "numeric",
    minute: "numeric",
    second: "numeric"
  })
  const offsetOf = (instant: number): number => {
    const parts: Record<string, number> = {}
    for (const { type, value } of format.formatToParts(instant)) parts[type] = Number(value)
    const { day: date = 0, hour: hours = 0, minute: minutes = 0, month = 0, second = 0, year = 0 } = parts
    return Date.UTC(year, month - 1, date, hours, minutes, second) - instant
  }
  const segments: Array<Segment> = []
  let start = from
  let offset = offsetOf(from)
  for (let at = from; at < to; at += 15 * minute) {
    if (offsetOf(at + 15 * minute) === offset) continue
    let change = at
    while (offsetOf(change) === offset) change += minute
    segments.push({ start, end: change, offset })
    start = change
    offset = offsetOf(change)
  }
  return [...segments, { start, end: to, offset }]
}

interface Field {
  readonly text: string
  readonly values: ReadonlySet<number>
}

interface Expression {
  readonly text: string
  readonly matches: (wall: number) => boolean
}

const expressionOf = (fields: readonly [Field | undefined, Field, Field, Field, Field, Field]): Expression => {
  const [seconds, minutes, hours, days, months, weekdays] = fields
  const both = days.text.startsWith("*") || weekdays.text.startsWith("*")
  return {
    text: fields.flatMap((field) => (field === undefined ? [] : [field.text])).join(" "),
    matches: (wall) => {
      const inDay = ((wall % day) + day) % day
      if (!hours.values.has(Math.floor(inDay / hour)) || !minutes.values.has(Math.floor(inDay / minute) % 60))
        return false
      const second = Math.floor(inDay / 1000) % 60
      if (!(seconds?.values.has(second) ?? second === 0)) return false
      const date = new Date(wall)
      const inDays = days.values.has(date.getUTCDate())
      const inWeekdays = weekdays.values.has(date.getUTCDay())
      return months.values.has(date.getUTCMonth() + 1) && (both ? inDays && inWeekdays : inDays || inWeekdays)
    }
  }
}

/** All ticks within the segments, one step of the wall clock after the other. */
const expected = (
  expression: Expression,
  segments: ReadonlyArray<Segment>,
  policy: { readonly onGap: "run" | "skip"; readonly onOverlap: "first" | "both" },
  window: { readonly after: number; readonly upTo: number; readonly step: number }
): ReadonlyArray<number> => {
  const found = new Set<number>()
  for (const [i, segment] of segments.entries()) {
    const before = segments[i - 1]
    const start = Math.max(segment.start, window.after)
    for (
      let at = Math.ceil(start / window.step) * window.step;
      at < segment.end && at <= window.upTo;
      at += window.step
    ) {
      const wall = at + segment.offset
      const shownBefore =
        before !== undefined && wall < before.end + before.offset && wall >= before.start + before.offset
      if (!(shownBefore && policy.onOverlap === "first") && expression.matches(wall)) found.add(at)
    }
    if (before === undefined || policy.onGap === "skip") continue
    for (let wall = before.end + before.offset; wall < segment.start + segment.offset; wall += window.step) {
      if (expression.matches(wall)) found.add(segment.start)
    }
  }
  return [...found].filter((tick) => tick > window.after && tick <= window.upTo).toSorted((a, b) => a - b)
}

/** The same numbers in every run. */
const dice = (seed: number) => {
  let state = seed
  const roll = (sides: number): number => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)
    return ((mixed ^ (mixed >>> 14)) >>> 0) % sides
  }
  return { roll, between: (min: number, max: number) => min + roll(max - min + 1) }
}
type Dice = ReturnType<typeof dice>

const range = (from: number, to: number, step = 1): ReadonlyArray<number> =>
  Array.from({ length: Math.max(Math.floor((to - from) / step) + 1, 0) }, (_, i) => from + i * step)

const randomField = (
  { between, roll }: Dice,
  min: number,
  max: number,
  options: { readonly names?: ReadonlyArray<string>; readonly stars: number; readonly sunday?: boolean }
): Field => {
  const spell = (value: number): string => {
    const name = options.names?.[value - min]
    return name === undefined || roll(2) === 0 ? String(value) : roll(2) === 0 ? name : name.toLowerCase()
  }
  const item = (): Field => {
    const from = between(min, max)
    const to = between(from, max)
    const step = between(1, Math.max(1, Math.floor((max - min) / 2)))
    switch (roll(4)) {
      case 0:
        return { text: `${spell(from)}-${spell(to)}`, values: new Set(range(from, to)) }
      case 1:
        return { text: `${spell(from)}-${spell(to)}/${step}`, values: new Set(range(from, to, step)) }
      default:
        return options.sunday === true && roll(6) === 0
          ? { text: "7", values: new Set([0]) }
          : { text: spell(from), values: new Set([from]) }
    }
  }
  if (roll(100) < options.stars) return { text: "*", values: new Set(range(min, max)) }
  if (roll(5) === 0) {
    const step = between(1, Math.max(1, Math.floor(max / 2)))
    return { text: `*/${step}`, values: new Set(range(min, max, step)) }
  }
  const items = Array.from({ length: between(1, 3) }, item)
  return {
    text: items.map(({ text }) => text).join(","),
    values: new Set(items.flatMap(({ values }) => [...values]))
  }
}

const monthNames = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split(" ")
const dayNames = "SUN MON TUE WED THU FRI SAT".split(" ")

const randomExpression = (random: Dice, seconds: boolean): Expression =>
  expressionOf([
    seconds ? randomField(random, 0, 59, { stars: 10 }) : undefined,
    randomField(random, 0, 59, { stars: 15 }),
    randomField(random, 0, 23, { stars: 35 }),
    randomField(random, 1, 31, { stars: 60 }),
    randomField(random, 1, 12, { stars: 75, names: monthNames }),
    randomField(random, 0, 6, { stars: 60, names: dayNames, sunday: true })
  ])

const policies = (["run", "skip"] as const).flatMap((onGap) =>
  (["first", "both"] as const).map((onOverlap) => ({ onGap, onOverlap }))
)

const years: ReadonlyArray<readonly [zone: string, year: number]> = [
  ["America/New_York", 2026],
  ["Europe/Berlin", 2027],
  ["Australia/Lord_Howe", 2026],
  // By three hours, twice; back again in the year after.
  ["Antarctica/Casey", 2010],
  // One minute past midnight.
  ["Antarctica/Casey", 2020],
  // The day that never was: 30 December.
  ["Pacific/Apia", 2011],
  ["Pacific/Apia", 2012],
  // Never changes, at an odd offset.
  ["Asia/Kathmandu", 2026]
]

describe("cronRule against an oracle", () => {
  for (const [zone, year] of years) {
    it(`ticks through ${year} in ${zone} as the oracle does, by all policies`, () => {
      const from = Date.UTC(year, 0, 1)
      const to = Date.UTC(year + 1, 0, 1)
      const segments = segmentsOf(zone, from - 2 * day, to + 2 * day)
      const random = dice(year + zone.length)
      const changes = segments.slice(1).map(({ start }) => start)
      for (let round = 0; round < 8; round++) {
        const seconds = round % 4 === 3
        const expression = randomExpression(random, seconds)
        for (const policy of policies) {
          const made = rule(expression.text, { timezone: zone, ...policy })
          const whole = { after: from, upTo: to, step: minute }
          const ticks = seconds ? undefined : expected(expression, segments, policy, whole)
          const windows =
            ticks !== undefined && ticks.length < 400
              ? [whole]
              : changes
                  .filter((change) => change > from && change < to)
                  .map((change) =>
                    seconds
                      ? { after: change - 2 * hour, upTo: change + 4 * hour, step: 1000 }
                      : { after: change - 30 * hour, upTo: change + 30 * hour, step: minute }
                  )
          for (const window of windows) {
            const wanted = window === whole ? ticks : expected(expression, segments, policy, window)
            const message = `${expression.text} ${zone} ${JSON.stringify(policy)}`
            assert.deepStrictEqual(iso(ticksIn(made, window.after, window.upTo)), iso(wanted ?? []), message)
            for (let i = 0; i < 3; i++) {
              const after = window.after + random.roll(window.upTo - window.after)
              const upTo = after + random.roll(window.upTo - after + 1)
              const max = random.between(1, 5)
              const within = (wanted ?? []).filter((tick) => tick > after && tick <= upTo)
              assert.deepStrictEqual(iso(last(made, { after, upTo, max })), iso(within.slice(-max)), message)
            }
          }
        }
      }
    })
  }
})

describe("cronRule", () => {
  it("has a policy for each local time that a change of the clock skips or repeats", () => {
    const spring = [Date.UTC(2027, 2, 28), Date.UTC(2027, 2, 28, 4)] as const
    const autumn = [Date.UTC(2027, 9, 30, 23), Date.UTC(2027, 9, 31, 4)] as const
    const berlin = (expression: string, [after, upTo]: readonly [number, number], options = {}) =>
      iso(ticksIn(rule(expression, { timezone: "Europe/Berlin", ...options }), after, upTo)).map((tick) =>
        tick.slice(11)
      )
    // 02:00 to 03:00 is not there on 28 March; the first instant after it is 01:00 UTC.
    assert.deepStrictEqual(berlin("30 2 * * *", spring), ["01:00Z"])
    assert.deepStrictEqual(berlin("0,15,30,45 2 * * *", spring), ["01:00Z"])
    assert.deepStrictEqual(berlin("0 2,3 * * *", spring), ["01:00Z"])
    assert.deepStrictEqual(berlin("30 2 * * *", spring, { onGap: "skip" }), [])
    assert.deepStrictEqual(berlin("30 * * * *", spring), ["00:30Z", "01:30Z", "02:30Z", "03:30Z"])
    assert.deepStrictEqual(berlin("30 */2 * * *", spring), ["02:30Z"])
    // 02:00 to 03:00 is there twice on 31 October: from 00:00 and from 01:00 UTC.
    assert.deepStrictEqual(berlin("30 2 * * *", autumn), ["00:30Z"])
    assert.deepStrictEqual(berlin("30 2 * * *", autumn, { onOverlap: "both" }), ["00:30Z", "01:30Z"])
    assert.deepStrictEqual(berlin("*/30 * * * *", autumn).length, 10)
    assert.deepStrictEqual(berlin("0 * * * *", autumn), ["00:00Z", "01:00Z", "02:00Z", "03:00Z", "04:00Z"])
    assert.deepStrictEqual(berlin("*/30 1-3 * * *", autumn), ["23:30Z", "00:00Z", "00:30Z", "02:00Z", "02:30Z"])
  })

  it("ticks when either of two restricted days matches, and when both do where one starts with a star", () => {
    const march = [Date.UTC(2026, 1, 28, 23, 59), Date.UTC(2026, 2, 31, 23)] as const
    const dates = (expression: string) => ticksIn(rule(expression), ...march).map((tick) => new Date(tick).getUTCDate())
    assert.deepStrictEqual(dates("0 0 13 * FRI"), [6, 13, 20, 27])
    assert.deepStrictEqual(dates("0 0 1 * MON"), [1, 2, 9, 16, 23, 30])
    assert.deepStrictEqual(dates("0 0 * * MON"), [2, 9, 16, 23, 30])
    assert.deepStrictEqual(dates("0 0 13 * *"), [13])
    assert.deepStrictEqual(dates("0 0 */2 * MON"), [9, 23])
    assert.deepStrictEqual(dates("0 0 1-7 * */2"), [1, 3, 5, 7])
  })

  it("reads names, ranges, steps, lists, 7 as Sunday, and nicknames", () => {
    const same = (one: string, other: string) => {
      const from = Date.UTC(2026, 0, 1)
      const upTo = from + 800 * day
      const ticks = last(rule(one), { after: from, upTo, max: 400 })
      assert.isNotEmpty(ticks, one)
      assert.deepStrictEqual(ticks, last(rule(other), { after: from, upTo, max: 400 }), `${one} = ${other}`)
    }
    same("0 0 * * 7", "0 0 * * 0")
    same("0 0 * * 5-7", "0 0 * * FRI,sat,Sun")
    same("0 0 * * MON-FRI", "0 0 * * 1-5")
    same("0 0 1 jan-MAR,12 *", "0 0 1 1,2,3,12 *")
    same("*/20 0-4/2 * * *", "0,20,40 0,2,4 * * *")
    same("5/20 * * * *", "5,25,45 * * * *")
    same("  0   0  *  * * ", "0 0 * * *")
    same("30 0 0 * * *", "30 0 0 */1 * *")
    same("@yearly", "0 0 1 1 *")
    same("@annually", "0 0 1 1 *")
    same("@monthly", "0 0 1 * *")
    same("@weekly", "0 0 * * 0")
    same("@daily", "0 0 * * *")
    same("@midnight", "0 0 * * *")
    same("@Hourly", "0 * * * *")
    assert.deepStrictEqual(iso(ticksIn(rule("*/20 59 23 31 12 *"), Date.UTC(2026, 0, 1), Date.UTC(2027, 0, 1))), [
      "2026-12-31T23:59Z",
      "2026-12-31T23:59:20Z",
      "2026-12-31T23:59:40Z"
    ])
  })

  it.each([
    ["", "expression"],
    ["* * * *", "expression"],
    ["* * * * * * *", "expression"],
    ["MON", "expression"],
    ["@foo", "expression"],
    ["@", "expression"],
    ["@reboot", "expression"],
    ["60 * * * *", "minutes"],
    ["-1 * * * *", "minutes"],
    ["*/0 * * * *", "minutes"],
    ["*/60 * * * *", "minutes"],
    ["*/1.5 * * * *", "minutes"],
    ["*/x * * * *", "minutes"],
    ["1-2/3/4 * * * *", "minutes"],
    ["1-2-3 * * * *", "minutes"],
    ["5-1 * * * *", "minutes"],
    ["1,,2 * * * *", "minutes"],
    [", * * * *", "minutes"],
    ["1, * * * *", "minutes"],
    ["0x10 * * * *", "minutes"],
    ["1e1 * * * *", "minutes"],
    ["1.0 * * * *", "minutes"],
    ["+1 * * * *", "minutes"],
    ["١ * * * *", "minutes"],
    ["NaN * * * *", "minutes"],
    ["? * * * *", "minutes"],
    ["** * * * *", "minutes"],
    ["MON * * * *", "minutes"],
    ["0 25 * * *", "hours"],
    ["0 24 * * *", "hours"],
    ["0 22-2 * * *", "hours"],
    ["0 0 0 * *", "days"],
    ["0 0 32 * *", "days"],
    ["0 0 L * *", "days"],
    ["0 0 1 0 *", "months"],
    ["0 0 1 13 *", "months"],
    ["0 0 1 FOO *", "months"],
    ["0 0 1 MON *", "months"],
    ["0 0 * * 8", "weekdays"],
    ["0 0 * * FRI-MON", "weekdays"],
    ["0 0 * * MON#2", "weekdays"],
    ["60 0 0 * * *", "seconds"],
    ["* 60 * * * *", "minutes"]
  ])("refuses %j and names the field %s", (expression, field) => {
    const problem = refused(expression)
    assert.strictEqual(problem?.field, field)
    assert.isNotEmpty(problem?.reason)
    assert.isBelow(problem?.reason.length ?? 0, 400)
  })

  it.each([
    "Mars/Phobos",
    "+25:00",
    "+02:00",
    "FOO+3",
    "",
    " ",
    "europe/stockholm",
    "EUROPE/STOCKHOLM",
    "Europe/stockholm",
    "local",
    "utc"
  ])("refuses the time zone %j", (timezone) => {
    const problem = refused("* * * * *", { timezone })
    assert.strictEqual(problem?.field, "timezone")
    assert.include(problem?.reason, "IANA")
  })

  it.each([
    "UTC",
    "Etc/UTC",
    "GMT",
    "Europe/Stockholm",
    "Asia/Kolkata",
    "Asia/Calcutta",
    "America/Argentina/Buenos_Aires",
    "America/Port-au-Prince",
    "Etc/GMT+5",
    "EST5EDT"
  ])("keeps the time zone %s as it is written", (timezone) => {
    assert.strictEqual(rule("@daily", { timezone }).timezone, timezone)
  })

  it("refuses what is longer than any schedule, and what is no string", () => {
    assert.strictEqual(refused("*".repeat(10_240))?.field, "expression")
    assert.strictEqual(refused(`0 0 ${"1,".repeat(5000)}1 * *`)?.field, "expression")
    assert.strictEqual(refused(undefined as never)?.field, "expression")
    assert.strictEqual(refused(5 as never)?.field, "expression")
  })

  it("says that a date which never comes never ticks", () => {
    for (const expression of ["0 0 31 2 *", "0 0 30 2 *", "0 0 31 4,6,9,11 *"]) {
      for (const timezone of ["UTC", "Europe/Berlin"]) {
        const made = rule(expression, { timezone })
        assert.isUndefined(next(made, Date.UTC(2026, 0, 1)))
        assert.deepStrictEqual(last(made, { after: 0, upTo: Date.UTC(2026, 0, 1), max: 3 }), [])
      }
    }
    assert.deepStrictEqual(iso([next(rule("0 0 29 2 *"), Date.UTC(2096, 2, 1)) ?? 0]), ["2104-02-29T00:00Z"])
  })

  it("does not care for the process's own zone", () => {
    const script = `
      const { next, parse } = await import(${JSON.stringify(new URL("../src/internal/cronRule.ts", import.meta.url).href)})
      const ticks = []
      for (const timezone of [undefined, "Europe/Berlin", "Pacific/Apia"]) {
        const made = parse("30 2 * * *", { timezone }).success
        for (let i = 0, at = Date.UTC(2011, 11, 1); i < 400; i++) ticks.push((at = next(made, at)))
      }
      console.log(JSON.stringify(ticks))`
    const root = fileURLToPath(new URL("..", import.meta.url))
    const outputs = ["UTC", "America/New_York", "Pacific/Apia", "Australia/Lord_Howe"].map((TZ) =>
      execFileSync(process.execPath, ["--input-type=module", "-e", script], {
        cwd: root,
        env: { ...process.env, TZ },
        encoding: "utf8"
      })
    )
    assert.strictEqual((JSON.parse(outputs[0] ?? "[]") as ReadonlyArray<number>).length, 1200)
    assert.strictEqual(new Set(outputs).size, 1)
  })
})
