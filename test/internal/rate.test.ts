import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { type Account, algorithms, freesAt, idleAt, room, type Rule, slack, spend } from "../../src/internal/rate.ts"

/** Each step: time passes, then as many units are asked for. */
const steps = Schema.Array(
  Schema.Struct({
    wait: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 700 })),
    ask: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 12 }))
  })
)

const ruleOf = (algorithm: Rule["algorithm"], limit = 10): Rule => ({
  algorithm,
  limit,
  windowMillis: 1000,
  burst: algorithm === "leaky-bucket" ? 1 : algorithm === "gcra" ? 3 : limit
})

/** Spends what is asked for where there is room for all of it, and returns what was granted when. */
const run = (rule: Rule, asked: ReadonlyArray<{ readonly wait: number; readonly ask: number }>) => {
  let now = 1_000_000
  let account: Account = []
  return asked.map(({ ask, wait }) => {
    now += wait
    const granted = room(rule, account, now) + slack >= ask ? ask : 0
    if (granted > 0) account = spend(rule, account, now, granted)
    return { now, ask, granted }
  })
}

const most = (rule: Rule) =>
  rule.algorithm === "sliding-window"
    ? rule.limit
    : rule.algorithm === "fixed-window"
      ? 2 * rule.limit
      : rule.limit + rule.burst

describe("every algorithm", () => {
  for (const algorithm of algorithms) {
    it.prop(`${algorithm} keeps its promise in each window`, [steps], ([asked]) => {
      const rule = ruleOf(algorithm)
      const granted = run(rule, asked)
      for (const { now: end } of granted) {
        const inWindow = granted.filter(({ now }) => now > end - rule.windowMillis && now <= end)
        const sum = inWindow.reduce((all, one) => all + one.granted, 0)
        assert.isAtMost(sum, most(rule))
      }
    })

    it.prop(`${algorithm} says when there will be room, neither too late nor too soon`, [steps], ([asked]) => {
      const rule = ruleOf(algorithm)
      let now = 1_000_000
      let account: Account = []
      for (const { ask, wait } of asked) {
        now += wait
        const amount = Math.min(ask, rule.burst)
        const at = freesAt(rule, account, now, amount)
        assert.isAtLeast(room(rule, account, at) + slack, amount)
        if (at > now) assert.isBelow(room(rule, account, at - 0.01), amount)
        account = spend(rule, account, now, ask)
        assert.closeTo(room(rule, account, idleAt(rule, account, now)), rule.burst, slack)
      }
    })
  }
})

describe("against reference models", () => {
  it.prop("token-bucket is a bucket that is filled evenly", [steps], ([asked]) => {
    const rule = ruleOf("token-bucket")
    let tokens = rule.burst
    let last = 0
    for (const { ask, granted, now } of run(rule, asked)) {
      tokens = Math.min(rule.burst, tokens + (last === 0 ? 0 : ((now - last) * rule.limit) / rule.windowMillis))
      last = now
      const expected = tokens + slack >= ask ? ask : 0
      assert.strictEqual(granted, expected)
      tokens -= expected
    }
  })

  for (const algorithm of ["gcra", "leaky-bucket"] as const) {
    it.prop(`${algorithm} admits a unit at a time, none before its turn less the burst`, [steps], ([asked]) => {
      const rule = ruleOf(algorithm)
      const emission = rule.windowMillis / rule.limit
      let turn = -Infinity
      for (const { granted, now } of run(
        rule,
        asked.map(({ wait }) => ({ wait, ask: 1 }))
      )) {
        const early = turn - now > (rule.burst - 1) * emission + slack
        assert.strictEqual(granted, early ? 0 : 1)
        if (!early) turn = Math.max(turn, now) + emission
      }
    })
  }

  it.prop("fixed-window counts from border to border", [steps], ([asked]) => {
    const rule = ruleOf("fixed-window")
    const counts = new Map<number, number>()
    for (const { ask, granted, now } of run(rule, asked)) {
      const window = Math.floor(now / rule.windowMillis)
      const spent = counts.get(window) ?? 0
      assert.strictEqual(granted, spent + ask <= rule.limit ? ask : 0)
      counts.set(window, spent + granted)
    }
  })

  it.prop("sliding-window is a log of starts, late by two slots at most", [steps], ([asked]) => {
    const rule = ruleOf("sliding-window")
    const granted = run(rule, asked)
    granted.forEach((step, i) => {
      const spentSince = (from: number) =>
        granted.slice(0, i).reduce((sum, one) => (one.now > from ? sum + one.granted : sum), 0)
      const slot = rule.windowMillis / 64
      if (spentSince(step.now - rule.windowMillis) + step.ask > rule.limit) assert.strictEqual(step.granted, 0)
      if (spentSince(step.now - rule.windowMillis - 2 * slot) + step.ask <= rule.limit)
        assert.strictEqual(step.granted, step.ask)
    })
  })

  it("sliding-window keeps what was spent for its window and one slot more, and less than two, from every instant", () => {
    const rule = ruleOf("sliding-window")
    const slot = rule.windowMillis / 64
    for (let now = 1_000_000; now < 1_000_100; now += 0.5) {
      const frees = freesAt(rule, spend(rule, [], now, rule.limit), now, 1)
      assert.isAtLeast(frees, now + rule.windowMillis + slot)
      assert.isAtMost(frees, now + rule.windowMillis + 2 * slot)
    }
  })

  it.prop("what is taken back was never spent, and no more", [steps], ([asked]) => {
    for (const algorithm of algorithms) {
      const rule = ruleOf(algorithm)
      let account: Account = []
      let now = 1_000_000
      for (const { ask, wait } of asked) {
        now += wait
        account = spend(rule, account, now, ask)
        const before = room(rule, account, now)
        account = spend(rule, account, now, -ask * 2)
        assert.isAtLeast(room(rule, account, now), before)
        assert.isAtMost(room(rule, account, now), rule.burst + slack)
      }
    }
  })
})

describe("the account", () => {
  it("of a sliding window stays small", () => {
    const rule = ruleOf("sliding-window", 1_000_000)
    let account: Account = []
    for (let now = 0; now < 10_000; now++) account = spend(rule, account, now, 1)
    assert.isAtMost(account.length, 67)
  })
})
