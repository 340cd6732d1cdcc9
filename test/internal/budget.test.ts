import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { type Candidate, makeBooks, makeBudget, type Stored } from "../../src/internal/budget.ts"
import { type Account, algorithms, convert, room, type Rule, slack, spend } from "../../src/internal/rate.ts"
import * as Limit from "../../src/Limit.ts"

const now = 1_000_000

/** Candidates of two workers and three partition keys, in the order of a queue. */
const candidates = Schema.Array(
  Schema.Struct({
    worker: Schema.Literals(["big", "small"]),
    key: Schema.Literals(["", "a", "b"]),
    cost: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 30 })))
  })
)
const small = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 12 }))
const rooms = Schema.Struct({ big: small, small })

const rates = {
  big: Limit.make("keyed", { limit: 10, window: "1 second", algorithm: "token-bucket", perKey: true, cost: 2 }),
  small: Limit.make("keyed", { limit: 10, window: "1 second", algorithm: "token-bucket", perKey: true }),
  queue: Limit.make("queue", { limit: 15, window: "1 second", algorithm: "token-bucket" })
}
const sharesOf = (worker: string) => [
  { row: "rate:keyed", limit: worker === "big" ? rates.big : rates.small },
  { row: "rate:queue", limit: rates.queue }
]

/** The same said plainly: jobs in order, buckets that only get emptier, and one that was too empty stays shut. */
const model = (
  waiting: ReadonlyArray<Candidate<number>>,
  room: Readonly<Record<string, number>>,
  spentOfA: number
): ReadonlyArray<number> => {
  const left: Record<string, number> = { "": 10, a: 10 - spentOfA, b: 10, queue: 15 }
  const shut = new Set<string>()
  const places = { ...room }
  return waiting.flatMap(({ cost, id, key, worker }) => {
    if ((places[worker] ?? 0) === 0 || shut.has(key) || shut.has("queue")) return []
    const own = Math.min(cost ?? (worker === "big" ? 2 : 1), 10)
    if ((left[key] ?? 0) < own) {
      shut.add(key)
      return []
    }
    if ((left["queue"] ?? 0) < 1) {
      shut.add("queue")
      return []
    }
    places[worker] = (places[worker] ?? 0) - 1
    left[key] = (left[key] ?? 0) - own
    left["queue"] = (left["queue"] ?? 0) - 1
    return [id]
  })
}

describe("a budget", () => {
  it.prop("chooses what the plain model does, and books what it chose", [candidates, rooms, small], (input) => {
    const [given, room, spent] = input
    const spentOfA = Math.min(spent, 10)
    const none = { heldUntil: undefined, rule: undefined, places: undefined }
    const stored: Stored = { ...none, spent: spend(rates.big.rule, [], now, spentOfA) }
    const books = makeBooks(new Map([["rate:keyed", new Map([["a", stored]])]]), now)
    const budget = makeBudget(books, new Map(Object.entries(room)), sharesOf)
    const waiting = given.map(({ cost, key, worker }, id) => ({ id, worker, key, cost }))
    const chosen = budget.choose(waiting)
    assert.deepStrictEqual(
      chosen.map(({ id }) => id),
      model(waiting, room, spentOfA)
    )
    const booked = budget.spent().reduce((sum, { amount, share }) => sum + (share.row === "rate:queue" ? amount : 0), 0)
    assert.strictEqual(booked, chosen.length)
    // What it would ask for next has something left in all that it takes from.
    for (const worker of ["big", "small"]) {
      for (const key of ["", "a", "b"]) {
        const isAsked =
          budget.workers().some(({ name }) => name === worker) &&
          !budget.except().some((one) => one.worker === worker && one.key === key)
        const probe = budget.choose([{ id: -1, worker, key, cost: undefined }])
        assert.strictEqual(probe.length, isAsked ? 1 : 0)
      }
    }
  })

  it("takes no more for a job than can ever be there", () => {
    const limit = Limit.make("api", { limit: 10, window: "1 second", cost: () => 1000 })
    const budget = makeBudget(makeBooks(new Map(), now), new Map([["work", 5]]), () => [{ row: "rate:api", limit }])
    const waiting = [1, 2].map((id) => ({ id, worker: "work", key: "", cost: 1000 }))
    assert.deepStrictEqual(
      budget.choose(waiting).map(({ id }) => id),
      [1]
    )
  })
})

describe("an account that was written in the future", () => {
  it("goes back with the clock, under each algorithm", () => {
    const hour = 3_600_000
    for (const algorithm of algorithms) {
      const limit = Limit.make("api", { limit: 10, window: "1 minute", algorithm })
      const share = { row: "rate:api", limit }
      const books = (writtenAt: number, at: number) => {
        const spent = spend(limit.rule, [], writtenAt, 1)
        const stored = { spent, heldUntil: writtenAt + 5000, rule: undefined, places: undefined, writtenAt }
        return makeBooks(new Map([[share.row, new Map([["", stored]])]]), at)
      }
      const kept = books(now, now)
      const wasSetBack = books(now + hour, now)
      assert.closeTo(wasSetBack.room(share, ""), kept.room(share, ""), 1e-6, algorithm)
      assert.isBelow(wasSetBack.room(share, ""), limit.rule.burst)
      assert.strictEqual(wasSetBack.heldUntil(share, ""), now + 5000)
      assert.isAtMost(wasSetBack.freesAt(share, "", 1), now + 2 * 60_000)
      // One that was written in the past is as it is.
      assert.strictEqual(books(now - hour, now).room(share, ""), limit.rule.burst)
    }
  })
})

describe("an account whose rule changes", () => {
  const amounts = Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 5 })))
  const algorithm = Schema.Literals(algorithms)
  it.prop("keeps what was spent and still counts", [algorithm, algorithm, amounts], ([before, after, spent]) => {
    const ruleOf = (of: Rule["algorithm"], windowMillis: number): Rule => ({
      algorithm: of,
      limit: 100,
      windowMillis,
      burst: of === "leaky-bucket" ? 1 : 100
    })
    const from = ruleOf(before, 1000)
    const full = (rule: Rule) => room(rule, [], now)
    const account = spent.reduce((sum: Account, amount) => spend(from, sum, now, amount), [])
    for (const to of [ruleOf(after, 1000), ruleOf(after, 5000)]) {
      const kept = convert(from, to, account, now)
      assert.closeTo(full(to) - room(to, kept, now), full(from) - room(from, account, now), slack)
    }
  })
})
