import { assert, it } from "@effect/vitest"
import { makePiggyback } from "../../src/internal/piggyback.ts"
import type { NewJob } from "../../src/internal/newJob.ts"

const job = (queue: string, due: NewJob["due"] = { delayMillis: 0 }): NewJob => ({
  worker: "note",
  queue,
  args: "null",
  priority: 0,
  maxAttempts: 1,
  due,
  tags: undefined,
  meta: undefined,
  partitionKey: undefined
})

const make = () => {
  const time = { now: 0 }
  return { time, piggyback: makePiggyback("me", () => time.now) }
}

it("carries one payload for each queue of jobs that are due at once, and none beside one that is due later", () => {
  const { piggyback } = make()
  assert.deepStrictEqual(piggyback.payloadsFor([job("a"), job("b"), job("b", { delayMillis: 1 })]), [])
  assert.deepStrictEqual(piggyback.payloadsFor([job("a", { at: new Date(0) })]), [])
  assert.deepStrictEqual(piggyback.payloadsFor([job("a"), job("b"), job("a")]), ["available me a", "available me b"])
})

it("has one statement under way, and pauses four times as long as they usually take", () => {
  const { piggyback, time } = make()
  const carried = (at: number, took: number) => {
    time.now = at
    assert.lengthOf(piggyback.payloadsFor([job("a")]), 1)
    time.now = at + took
    assert.lengthOf(piggyback.payloadsFor([job("a")]), 0)
    piggyback.arrived()
  }
  const pausesUntil = (free: number) => {
    time.now = free - 0.001
    assert.lengthOf(piggyback.payloadsFor([job("a")]), 0)
  }
  carried(0, 2)
  pausesUntil(10)
  // One that the disk held up is no reason to pause for longer than the 20 ms until the next.
  carried(10, 10)
  pausesUntil(20 + 4 * 4)
  carried(36, 2)
  pausesUntil(38 + 4 * 3.5)
  // Where all are that late, the pauses come to four times that.
  let at = 38 + 4 * 3.5
  let usual = 3.5
  for (let i = 0; i < 30; i++) {
    carried(at, 100)
    usual += (100 - usual) / 4
    at += 100 + 4 * usual
    pausesUntil(at)
  }
  assert.closeTo(usual, 100, 0.1)
})
