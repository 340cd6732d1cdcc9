import { assert, describe, it } from "@effect/vitest"
import * as Cron from "effect/Cron"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { defaultCapMillis, defaultDelayMillis, fromSchedule, isUsable, maxDelayMillis } from "../src/Backoff.ts"

const now = Date.UTC(2026, 2, 14, 15, 9, 26)

const delays = <E, R>(
  schedule: Schedule.Schedule<unknown, string, E, R>,
  attempts: number,
  options: { readonly id?: number; readonly now?: number } = {}
) =>
  Effect.forEach(
    Array.from({ length: attempts }, (_, i) => i + 1),
    (attempt) => fromSchedule(schedule, { id: options.id ?? 7, attempt, error: "boom", now: options.now ?? now })
  )

describe("the default backoff", () => {
  it.prop(
    "is finite, not negative and capped for every attempt up to 2^31",
    [
      Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 2 ** 31 })),
      Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }))
    ],
    ([attempt, id]) => {
      const delay = defaultDelayMillis(id, attempt)
      assert.isTrue(Number.isFinite(delay) && delay >= 1000 && delay <= defaultCapMillis, `${id}, ${attempt}: ${delay}`)
      assert.isTrue(isUsable(delay))
      assert.strictEqual(defaultDelayMillis(id, attempt), delay)
    }
  )

  it("is attempt^4 and 1 to 30 seconds, up to half an hour", () => {
    for (let attempt = 1; attempt <= 10; attempt++) {
      const seen = new Set(Array.from({ length: 500 }, (_, id) => defaultDelayMillis(id + 1, attempt)))
      for (const delay of seen) {
        assert.isAtLeast(delay, Math.min((attempt ** 4 + 1) * 1000, defaultCapMillis))
        assert.isAtMost(delay, Math.min((attempt ** 4 + 30) * 1000, defaultCapMillis))
      }
      // Neighbours do not come back together, until the cap brings them together.
      if (attempt <= 6) assert.strictEqual(seen.size, 30)
    }
    assert.strictEqual(defaultDelayMillis(1, 7), defaultCapMillis)
    assert.strictEqual(defaultDelayMillis(1, 2 ** 31), defaultCapMillis)
  })
})

describe("a schedule as backoff", () => {
  it.effect("is replayed up to the attempt", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* delays(Schedule.exponential("1 second"), 5), [1000, 2000, 4000, 8000, 16_000])
      assert.deepStrictEqual(yield* delays(Schedule.fibonacci("1 second"), 6), [1000, 1000, 2000, 3000, 5000, 8000])
      assert.deepStrictEqual(yield* delays(Schedule.spaced("3 seconds"), 3), [3000, 3000, 3000])
      assert.deepStrictEqual(yield* delays(Schedule.fixed("10 seconds"), 3), [10_000, 10_000, 10_000])
      assert.deepStrictEqual(
        yield* delays(Schedule.min([Schedule.exponential("1 second"), Schedule.spaced("3 seconds")]), 4),
        [1000, 2000, 3000, 3000]
      )
    })
  )

  it.effect("ends where the schedule ends, and stays ended", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* delays(Schedule.recurs(2), 4), [0, 0, undefined, undefined])
      assert.deepStrictEqual(yield* delays(Schedule.upTo(Schedule.spaced("1 second"), { times: 2 }), 4), [
        1000,
        1000,
        undefined,
        undefined
      ])
      assert.deepStrictEqual(yield* delays(Schedule.duration("5 seconds"), 3), [5000, undefined, undefined])
      const timed = yield* delays(Schedule.upTo(Schedule.spaced("1 minute"), { duration: "3 minutes" }), 8)
      assert.deepStrictEqual(timed.slice(0, 3), [60_000, 60_000, 60_000])
      assert.isUndefined(timed[7])
    })
  )

  it.effect("sees the error of the attempt", () =>
    Effect.gen(function* () {
      const hurt = Schedule.while(Schedule.spaced("1 second"), ({ input }) => input === "passing")
      const at = (error: string) => fromSchedule(hurt, { id: 1, attempt: 2, error, now })
      assert.strictEqual(yield* at("passing"), 1000)
      assert.isUndefined(yield* at("fatal"))
    })
  )

  it.effect("reads the calendar at the real instant, on every attempt", () =>
    Effect.gen(function* () {
      const nightly = Schedule.cron("0 3 * * *", "UTC")
      const wait = Cron.next(Cron.parseUnsafe("0 3 * * *", "UTC"), new Date(now)).getTime() - now
      assert.deepStrictEqual(yield* delays(nightly, 4), [wait, wait, wait, wait])
    })
  )

  it.effect("is the same for a job on every node and after every restart, and differs between jobs", () =>
    Effect.gen(function* () {
      const schedule = Schedule.jittered(Schedule.exponential("1 second"))
      const first = yield* delays(schedule, 6)
      assert.deepStrictEqual(yield* delays(schedule, 6, { now: now + 12_345_678 }), first)
      assert.notDeepEqual(yield* delays(schedule, 6, { id: 8 }), first)
      first.forEach((delay, i) => {
        assert.isAtLeast(delay!, 0.8 * 1000 * 2 ** i)
        assert.isAtMost(delay!, 1.2 * 1000 * 2 ** i)
      })
    })
  )

  it.effect("leaves unusable waits to be refused, also after one of them", () =>
    Effect.gen(function* () {
      const constant = (delay: number) =>
        Schedule.modifyDelay(Schedule.forever, () => Effect.succeed(Duration.millis(delay)))
      for (const delay of [-1, Infinity, 1e308, maxDelayMillis + 1]) {
        for (const wait of yield* delays(constant(delay), 3)) assert.isFalse(isUsable(wait!), `${delay}: ${wait}`)
      }
      // A Duration of NaN is zero, by Effect's own rule; after a wait it is taken for what it is.
      assert.deepStrictEqual(yield* delays(constant(Number.NaN), 2), [0, 0])
      assert.deepStrictEqual(yield* delays(Schedule.exponential("1 second", Number.NaN), 3), [1000, NaN, NaN])
      assert.isFalse(isUsable(Number.NaN))
      assert.isTrue(isUsable(0) && isUsable(maxDelayMillis))
    })
  )

  it.effect("fails as the schedule fails", () =>
    Effect.gen(function* () {
      const throwing = Schedule.modifyDelay(Schedule.forever, () => {
        throw new Error("no schedule")
      })
      assert.isTrue(Exit.hasDies(yield* Effect.exit(delays(throwing, 1))))
      assert.isTrue(Exit.hasFails(yield* Effect.exit(delays(Schedule.cron("61 * * * *", "UTC"), 1))))
    })
  )
})
