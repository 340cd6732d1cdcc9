import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as AdaptiveConcurrency from "../../src/AdaptiveConcurrency.ts"
import { adapt, type Adaptive, endOf, type Sample, startOf } from "../../src/internal/adaptive.ts"

const rule = (options: AdaptiveConcurrency.Options<never> = {}): AdaptiveConcurrency.Rule =>
  Result.getOrThrow(AdaptiveConcurrency.check("concurrency", options, 100_000))

const upTo = (maximum: number, minimum = 0) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))

const samples = Schema.Array(
  Schema.Struct({
    wait: upTo(50),
    millis: Schema.Literals([0, 1, 5, 10, 100, 10_000]),
    running: upTo(200, 1),
    end: Schema.Literals(["succeeded", "succeeded", "succeeded", "failed", "timed out", "ignored"])
  })
).check(Schema.isMinLength(50), Schema.isMaxLength(200))

/** Feeds rounds of attempts, as many at once as the limit says, to a service that takes `capacity` at once. */
const simulate = (
  one: AdaptiveConcurrency.Rule,
  capacity: (round: number) => number,
  rounds: number,
  ends: (running: number, capacity: number) => Sample["end"] = () => "succeeded"
): ReadonlyArray<number> => {
  let state = startOf(one)
  let now = 0
  return Array.from({ length: rounds }, (_, round) => {
    const running = Math.floor(state.limit)
    const most = capacity(round)
    const millis = 100 * Math.max(1, running / most)
    const startedAt = now
    now += millis
    for (let i = 0; i < running; i++) {
      state = adapt(one, state, { startedAt, endedAt: now + i * 1e-3, running, end: ends(running, most) })
    }
    return state.limit
  })
}

describe("adaptive concurrency", () => {
  for (const algorithm of ["aimd", "gradient"] as const) {
    const options = { algorithm, min: 3, max: 30, initial: 10 } as const

    it.prop(`${algorithm} stays within its bounds, and moves the way that an end says`, [samples], ([told]) => {
      const one = rule(options)
      let state: Adaptive = startOf(one)
      let now = 0
      for (const { end, millis, running, wait } of told) {
        now += wait + millis
        const next = adapt(one, state, { startedAt: now - millis, endedAt: now, running, end })
        assert.isAtLeast(next.limit, 3)
        assert.isAtMost(next.limit, 30)
        assert.isAtMost(next.limit - state.limit, 1 / state.limit + 1e-9)
        if (end === "ignored") assert.deepStrictEqual(next, state)
        if (end !== "succeeded") assert.isAtMost(next.limit, state.limit)
        if (algorithm === "aimd" && end === "succeeded") assert.isAtLeast(next.limit, state.limit)
        if (running * 2 < Math.floor(state.limit)) assert.isAtMost(next.limit, state.limit)
        assert.isTrue(next.limit > 0 && !Number.isNaN(next.usual) && Number.isFinite(next.total))
        state = next
      }
    })

    it(`${algorithm} falls once for all attempts that were under way`, () => {
      const one = rule({ algorithm, initial: 20 })
      let state = startOf(one)
      for (let i = 0; i < 20; i++) {
        state = adapt(one, state, { startedAt: 0, endedAt: 100 + i, running: 20, end: "timed out" })
      }
      assert.strictEqual(state.limit, 18)
      state = adapt(one, state, { startedAt: 100, endedAt: 200, running: 18, end: "timed out" })
      assert.closeTo(state.limit, 16.2, 1e-9)
    })
  }

  it("aimd finds the capacity of a service that refuses what is too much, and follows it down and up", () => {
    const capacity = (round: number) => (round < 300 ? 40 : round < 500 ? 10 : 40)
    const limits = simulate(rule(), capacity, 900, (running, most) => (running > most ? "failed" : "succeeded"))
    for (const limit of limits.slice(100, 300)) assert.isTrue(limit > 30 && limit < 43, `${limit}`)
    for (const limit of limits.slice(330, 500)) assert.isTrue(limit > 7 && limit < 13, `${limit}`)
    for (const limit of limits.slice(600)) assert.isTrue(limit > 30 && limit < 43, `${limit}`)
  })

  it("aimd keeps attempts from being slow", () => {
    const limits = simulate(rule({ slowerThan: 150 }), () => 20, 300)
    for (const limit of limits.slice(100)) assert.isTrue(limit > 24 && limit < 33, `${limit}`)
  })

  it("gradient stays near the capacity of a service that slows down instead, and follows it down and up", () => {
    const capacity = (round: number) => (round < 1000 ? 40 : round < 2000 ? 10 : 40)
    const limits = simulate(rule({ algorithm: "gradient" }), capacity, 3000)
    for (const limit of limits.slice(100, 1000)) assert.isTrue(limit > 30 && limit < 90, `${limit}`)
    for (const limit of limits.slice(1100, 2000)) assert.isTrue(limit > 8 && limit < 33, `${limit}`)
    for (const limit of limits.slice(2300)) assert.isTrue(limit > 30 && limit < 90, `${limit}`)
  })

  it("gradient does not take attempts that differ for ones that are slow", () => {
    const one = rule({ algorithm: "gradient", initial: 50 })
    let state = startOf(one)
    // A generator of its own, so that the test is the same each time.
    let seed = 42
    const random = () => (seed = (seed * 48_271) % 2_147_483_647) / 2_147_483_647
    let lowest = 50
    for (let i = 0; i < 20_000; i++) {
      const millis = -100 * Math.log(1 - random())
      state = adapt(one, state, { startedAt: i * 1000, endedAt: i * 1000 + millis, running: 100, end: "succeeded" })
      lowest = Math.min(lowest, state.limit)
    }
    assert.isAtLeast(lowest, 40)
    assert.isAtLeast(state.limit, 80)
  })

  it("reads endings: signals and stops teach nothing, timeouts are told apart", () => {
    const failure = { attempt: 1, at: "", node: "", tag: "X", message: "", fingerprint: "" }
    const failed = { _tag: "Failed", failure, delayMillis: 1 } as const
    assert.strictEqual(endOf({ _tag: "Succeeded", result: undefined }), "succeeded")
    assert.strictEqual(endOf({ _tag: "Interrupted" }), "ignored")
    assert.strictEqual(endOf({ _tag: "Snoozed", delayMillis: 1 }), "ignored")
    assert.strictEqual(endOf(failed), "failed")
    assert.strictEqual(endOf({ ...failed, strains: false }), "ignored")
    assert.strictEqual(endOf({ ...failed, failure: { ...failure, tag: "AttemptTimeout" } }), "timed out")
  })

  it("has defaults, and refuses what cannot be used, with the field's name", () => {
    assert.deepInclude(rule(), { algorithm: "aimd", min: 1, max: 100, initial: 20, backoff: 0.9 })
    assert.deepInclude(rule({ max: 5 }), { max: 5, initial: 5 })
    assert.deepInclude(rule({ min: 200 }), { min: 200, max: 200, initial: 200 })
    const refused: ReadonlyArray<readonly [string, object]> = [
      ["algorithm", { algorithm: "vegas" }],
      ["min", { min: 0 }],
      ["min", { min: 1.5 }],
      ["max", { max: Number.NaN }],
      ["max", { min: 5, max: 4 }],
      ["max", { max: 100_001 }],
      ["initial", { initial: 101 }],
      ["initial", { min: 5, initial: 4 }],
      ["backoff", { backoff: 1 }],
      ["backoff", { backoff: 0 }],
      ["backoff", { backoff: Number.NaN }],
      ["slowerThan", { slowerThan: 0 }],
      ["slowerThan", { algorithm: "gradient", slowerThan: 100 }],
      ["tolerance", { algorithm: "gradient", tolerance: 0.9 }],
      ["tolerance", { tolerance: 2 }],
      ["window", { algorithm: "gradient", window: 0 }],
      ["window", { window: 5 }],
      ["counts", { counts: 1 }],
      ["maximum", { maximum: 4 }]
    ]
    for (const [field, options] of refused) {
      const checked = AdaptiveConcurrency.check("concurrency", options, 100_000)
      assert.isTrue(Result.isFailure(checked), `${field} of ${JSON.stringify(options)}`)
      if (Result.isFailure(checked)) assert.strictEqual(checked.failure.field, `concurrency.${field}`)
    }
  })
})
