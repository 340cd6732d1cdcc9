import { assert, describe, it } from "@effect/vitest"
import { vanguard, waitMillis } from "../../src/internal/herd.ts"

/** How long each of so many nodes waits, as a line has them. */
const line = (nodes: number) => Array.from({ length: nodes }, (_, i) => waitMillis(nodes, i / nodes))

describe("what many nodes hear at once", () => {
  it("is acted on at once by all, where they are few", () => {
    for (let nodes = 0; nodes <= vanguard; nodes++) assert.isTrue(line(nodes).every((wait) => wait === 0))
    assert.strictEqual(waitMillis(vanguard, 0.999), 0)
  })

  it("is acted on at once by some of many, and by the others one after another", () => {
    assert.deepStrictEqual(line(8), [0, 0, 0, 0, 0, 20, 40, 60])
    for (const nodes of [10, 100]) {
      const waits = line(nodes)
      // The one that follows the vanguard begins its wait where theirs ends.
      assert.strictEqual(waits.filter((wait) => wait === 0).length, vanguard + 1)
      assert.deepStrictEqual(
        waits,
        waits.toSorted((a, b) => a - b)
      )
      assert.isBelow(waits.at(-1) ?? 0, 500)
    }
  })

  it("is acted on by no more of ever so many, on average", () => {
    for (const nodes of [5, 50, 500]) {
      const atOnce = Array.from({ length: 10_000 }, (_, i) => waitMillis(nodes, i / 10_000)).filter(
        (wait) => wait === 0
      )
      assert.closeTo((atOnce.length / 10_000) * nodes, vanguard, 0.1)
    }
  })
})
