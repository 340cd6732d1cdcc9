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

it("has one statement under way, and pauses four times as long as it took", () => {
  const { piggyback, time } = make()
  assert.lengthOf(piggyback.payloadsFor([job("a")]), 1)
  time.now = 1000
  assert.lengthOf(piggyback.payloadsFor([job("a")]), 0)
  piggyback.arrived()
  time.now = 4999
  assert.lengthOf(piggyback.payloadsFor([job("a")]), 0)
  time.now = 5000
  assert.lengthOf(piggyback.payloadsFor([job("a")]), 1)
  time.now = 5001
  piggyback.arrived()
  time.now = 5005
  assert.lengthOf(piggyback.payloadsFor([job("a")]), 1)
})
