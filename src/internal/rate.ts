/**
 * What a rate allows, as arithmetic: a rule, what has been spent, and an instant in; room and a new account out.
 *
 * | algorithm | most in any window | spent is free again |
 * |---|---|---|
 * | sliding-window | limit | a window later, rounded up to a 64th of it |
 * | fixed-window | 2 × limit, across the border of two windows | as the next window begins |
 * | token-bucket, gcra | limit + burst | evenly, one each window / limit |
 * | leaky-bucket | limit + 1 | the same, and nothing ahead of time |
 *
 * The last three are one arithmetic with different bursts: the instant by which everything spent is paid off.
 */

/** How a rate is kept. */
export const algorithms = ["sliding-window", "fixed-window", "token-bucket", "gcra", "leaky-bucket"] as const

/** A rate with nothing left out. */
export interface Rule {
  readonly algorithm: (typeof algorithms)[number]
  /** Units per window. */
  readonly limit: number
  readonly windowMillis: number
  /** The most units at one instant. */
  readonly burst: number
}

/** What has been spent, as instants in milliseconds with amounts; what each means is the algorithm's own. */
export type Account = ReadonlyArray<readonly [at: number, amount: number]>

/** How many units may be spent; below zero after more was charged than there was. */
export const room = (rule: Rule, account: Account, now: number): number => {
  switch (rule.algorithm) {
    case "sliding-window":
    case "fixed-window":
      return rule.limit - total(counted(rule, account, now))
    default:
      return rule.burst - Math.max(0, paidBy(account) - now) / interval(rule)
  }
}

/** Spends units, also more than there is room for; below zero, takes back what was spent last. */
export const spend = (rule: Rule, account: Account, now: number, amount: number): Account => {
  switch (rule.algorithm) {
    case "sliding-window":
    case "fixed-window": {
      const width = rule.algorithm === "fixed-window" ? rule.windowMillis : rule.windowMillis / slots
      const at = (Math.floor(now / width) + 1) * width
      const kept = counted(rule, account, now)
      if (amount < 0) return takeBack(kept, -amount)
      const same = kept.find(([end]) => end === at)?.[1] ?? 0
      return [...kept.filter(([end]) => end !== at), [at, same + amount]]
    }
    default:
      return [[Math.max(paidBy(account), now) + amount * interval(rule), 0]]
  }
}

/** When there will be room for an amount that the rule can grant at all; now where there is. */
export const freesAt = (rule: Rule, account: Account, now: number, amount: number): number => {
  const missing = amount - room(rule, account, now)
  if (missing <= slack) return now
  switch (rule.algorithm) {
    case "sliding-window":
    case "fixed-window": {
      let freed = 0
      for (const [at, spent] of counted(rule, account, now).toSorted(([a], [b]) => a - b)) {
        freed += spent
        if (freed >= missing - slack) return at + lag(rule)
      }
      return now
    }
    default:
      return now + missing * interval(rule)
  }
}

/** From when on an account says no more than an empty one. */
export const idleAt = (rule: Rule, account: Account, now: number): number =>
  Math.ceil(account.reduce((latest, [at]) => Math.max(latest, at + lag(rule)), now))

/** An account under a new rule: what was spent under the old one and still counts is taken as spent now. */
export const convert = (from: Rule, to: Rule, account: Account, now: number): Account => {
  const isLog = (rule: Rule) => rule.algorithm === "sliding-window" || rule.algorithm === "fixed-window"
  if (isLog(from) && from.algorithm === to.algorithm && from.windowMillis === to.windowMillis) return account
  const used = (isLog(from) ? from.limit : from.burst) - room(from, account, now)
  return used <= slack ? [] : spend(to, [], now, used)
}

/** What sums of fractions may be off by. */
export const slack = 1e-6

/** Whether two limits of one name say the same, but for what a job takes. */
export const isSameRate = (a: Shared, b: Shared): boolean =>
  a.perKey === b.perKey &&
  a.local === b.local &&
  a.rule.algorithm === b.rule.algorithm &&
  a.rule.limit === b.rule.limit &&
  a.rule.windowMillis === b.rule.windowMillis &&
  a.rule.burst === b.rule.burst

// internal

interface Shared {
  readonly rule: Rule
  readonly perKey: boolean
  readonly local: boolean
}

/**
 * Into how many slots a sliding window is cut: its account has no more entries than this, whatever the limit. A spent
 * unit counts until its slot and one more have left the window, so attempts that start up to a slot late keep the limit.
 */
const slots = 64

const interval = (rule: Rule): number => rule.windowMillis / rule.limit

const paidBy = (account: Account): number => account[0]?.[0] ?? -Infinity

/** How long after its instant an entry counts; for what is paid off evenly, the instant itself is the end. */
const lag = (rule: Rule): number =>
  rule.algorithm === "sliding-window" ? rule.windowMillis + rule.windowMillis / slots : 0

const counted = (rule: Rule, account: Account, now: number): Account => account.filter(([at]) => at + lag(rule) > now)

const total = (account: Account): number => account.reduce((sum, [, amount]) => sum + amount, 0)

const takeBack = (account: Account, amount: number): Account => {
  let left = amount
  return account
    .toSorted(([a], [b]) => b - a)
    .map(([at, spent]) => {
      const back = Math.min(spent, left)
      left -= back
      return [at, spent - back]
    })
}
