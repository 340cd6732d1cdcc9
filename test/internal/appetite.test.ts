import { assert, describe, it } from "@effect/vitest"
import { claimSize } from "../../src/internal/appetite.ts"

describe("what a claim asks for", () => {
  it("is what slots allow for, up to a whole claim", () => {
    assert.strictEqual(claimSize(1000, 20, 0), 20)
    assert.strictEqual(claimSize(1000, 5000, 0), 1000)
    assert.isAtMost(claimSize(1000, 0, 0), 0)
    assert.isAtMost(claimSize(1000, -3, 0), 0)
  })

  it("is a whole claim while as many as one brought wait, and nothing while more do", () => {
    assert.strictEqual(claimSize(1000, 1000, 1000), 1000)
    assert.strictEqual(claimSize(1000, 5000, 1000), 1000)
    assert.strictEqual(claimSize(1000, 5000, 1001), 0)
  })

  it("is nothing while more than half of a claim waits where slots are few", () => {
    assert.strictEqual(claimSize(1000, 999, 501), 0)
    assert.strictEqual(claimSize(1000, 999, 500), 999)
  })
})
