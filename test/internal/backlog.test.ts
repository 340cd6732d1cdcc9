import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { makeBacklog } from "../../src/internal/backlog.ts"
import type { Claimed } from "../../src/internal/sql/claimed.ts"

/** A backlog that notes what begins. */
const make = Effect.gen(function* () {
  const begun: Array<number> = []
  const moved: Array<string> = []
  const backlog = makeBacklog(
    Effect.runForkWith(yield* Effect.context<never>()),
    ({ id }) => void begun.push(id),
    (queue) => moved.push(queue)
  )
  return { backlog, begun, moved }
})

const jobs = (from: number, count: number, queue = "default"): ReadonlyArray<Claimed> =>
  Array.from({ length: count }, (_, i) => ({ id: from + i, queue, worker: "note" }) as Claimed) // all that it reads

const upTo = (count: number): ReadonlyArray<number> => Array.from({ length: count }, (_, i) => i)

describe("the backlog", () => {
  it.effect("begins a small claim at once", () =>
    Effect.gen(function* () {
      const { backlog, begun, moved } = yield* make
      backlog.add(jobs(0, 250), 1)
      assert.deepStrictEqual(begun, upTo(250))
      assert.strictEqual(backlog.total(), 0)
      assert.deepStrictEqual(moved, [])
    })
  )

  it.effect("gives others a turn while a large claim begins, in order", () =>
    Effect.gen(function* () {
      const { backlog, begun, moved } = yield* make
      backlog.add(jobs(0, 600), 1)
      assert.deepStrictEqual(begun, upTo(250))
      assert.strictEqual(backlog.ofQueue("default"), 350)
      assert.strictEqual(backlog.ofWorker("note"), 350)
      assert.deepStrictEqual(
        backlog.held(1).map(({ id }) => id),
        upTo(600).slice(250)
      )
      assert.deepStrictEqual(backlog.held(2), [])
      // What comes meanwhile stands behind.
      backlog.add(jobs(600, 10, "other"), 2)
      assert.strictEqual(begun.length, 250)
      const turns: Array<number> = []
      while (backlog.total() > 0) {
        yield* Effect.yieldNow
        if (begun.length !== turns.at(-1)) turns.push(begun.length)
      }
      assert.deepStrictEqual(begun, upTo(610))
      assert.isAbove(turns.length, 1)
      assert.isTrue(moved.includes("default") && moved.includes("other"))
      assert.strictEqual(backlog.ofQueue("default") + backlog.ofQueue("other") + backlog.ofWorker("note"), 0)
      // It goes on after it was empty.
      backlog.add(jobs(610, 300), 2)
      while (backlog.total() > 0) yield* Effect.yieldNow
      assert.deepStrictEqual(begun, upTo(910))
    })
  )

  it.effect("begins all at once where it is told to", () =>
    Effect.gen(function* () {
      const { backlog, begun } = yield* make
      backlog.add(jobs(0, 500), 1)
      backlog.flush()
      assert.deepStrictEqual(begun, upTo(500))
      assert.strictEqual(backlog.ofQueue("default"), 0)
    })
  )
})
