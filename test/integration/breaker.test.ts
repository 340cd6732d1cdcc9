import { assert, describe } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Job from "../../src/Job.ts"
import { eventually } from "../setup/eventually.ts"
import { onDatabase, reaches, startNode, tally } from "./support.ts"

class Down extends Schema.TaggedError<Down>("Down")("Down", {}) {}
class Wrong extends Schema.TaggedError<Wrong>("Wrong")("Wrong", {}) {}

const Call = Job.make("call", { args: { n: Schema.Int }, error: Schema.Union([Down, Wrong]), maxAttempts: 1 })

const numbers = (count: number) => Array.from({ length: count }, (_, n) => ({ n }))

describe("circuit breaker", () => {
  onDatabase("goes from closed to open to half-open to closed on each node, and costs waiting jobs no attempt", () =>
    Effect.gen(function* () {
      let down = true
      const starts = { a: 0, b: 0 }
      const gate = yield* Deferred.make<void>()
      const worker = (node: "a" | "b") =>
        Call.toLayer(
          () =>
            Effect.suspend(() => {
              starts[node]++
              return down ? Effect.fail(new Down()) : Deferred.await(gate)
            }),
          { concurrency: 1, circuitBreaker: { window: 4, openFor: "3 seconds", probes: 2 } }
        )
      const a = yield* startNode({ workers: worker("a"), config: { nodeName: "a" } })
      const b = yield* startNode({ workers: worker("b"), config: { nodeName: "b" } })
      yield* a.run(Call.enqueueAll(numbers(60)))
      yield* Effect.all([a.event("CircuitOpened"), b.event("CircuitOpened")])
      down = false
      // Four failures each opened the two circuits; nothing else has started since.
      assert.deepStrictEqual(starts, { a: 4, b: 4 })
      const failed = yield* eventually(tally, (states) => states["discarded"] === 8)
      assert.deepStrictEqual(failed, { discarded: 8, available: 52 })
      yield* Effect.all([a.event("CircuitHalfOpened"), b.event("CircuitHalfOpened")])
      yield* Deferred.succeed(gate, undefined)
      yield* Effect.all([a.event("CircuitClosed"), b.event("CircuitClosed")])
      const ended = yield* eventually(tally, (states) => states["completed"] === 52)
      assert.deepStrictEqual(ended, { discarded: 8, completed: 52 })
      assert.strictEqual(starts.a + starts.b, 60)
    })
  )

  onDatabase("lets as many probes through as it says, over all queues, and gives back what was claimed too late", () =>
    Effect.gen(function* () {
      let down = true
      let running = 0
      const gate = yield* Deferred.make<void>()
      const node = yield* startNode({
        workers: Call.toLayer(
          () =>
            Effect.suspend(() => {
              running++
              return down ? Effect.fail(new Down()) : Deferred.await(gate)
            }),
          { circuitBreaker: { window: 1, openFor: "1 second", probes: 2 } }
        ),
        config: { queues: { default: 50, other: 50 } }
      })
      const first = yield* node.run(Call.enqueueAll(numbers(1)))
      const opened = yield* node.event("CircuitOpened")
      assert.deepStrictEqual(opened, { _tag: "CircuitOpened", worker: "call", openMillis: 1000 })
      down = false
      running = 0
      assert.strictEqual(first.length, 1)
      yield* node.run(Call.enqueueAll(numbers(30)))
      yield* node.run(Call.enqueueAll(numbers(30), { queue: "other" }))
      yield* node.event("CircuitHalfOpened")
      yield* eventually(
        Effect.sync(() => running),
        (count) => count === 2
      )
      const held = yield* eventually(tally, (states) => states["executing"] === 2)
      assert.deepStrictEqual(held, { discarded: 1, executing: 2, available: 58 })
      assert.strictEqual(running, 2)
      yield* Deferred.succeed(gate, undefined)
      const ended = yield* eventually(tally, (states) => states["completed"] === 60)
      assert.deepStrictEqual(ended, { discarded: 1, completed: 60 })
      assert.strictEqual(running, 60)
    })
  )

  onDatabase("counts only what the predicate says, and all where the predicate throws", () =>
    Effect.gen(function* () {
      let fatal = false
      const node = yield* startNode({
        workers: Call.toLayer(({ n }) => Effect.fail(n === 0 ? new Wrong() : new Down()), {
          circuitBreaker: {
            window: 2,
            openFor: "1 hour",
            counts: (error) => {
              if (fatal) throw new Error("unable")
              return error._tag !== "Wrong"
            }
          }
        })
      })
      const all = yield* node.run(Call.enqueueAll(Array.from({ length: 10 }, () => ({ n: 0 }))))
      for (const { id } of all) yield* reaches(node, id, "discarded")
      assert.isFalse(node.events.some(({ _tag }) => _tag === "CircuitOpened"))
      fatal = true
      const more = yield* node.run(Call.enqueueAll(numbers(2)))
      yield* node.event("CircuitOpened")
      for (const { id } of more) {
        const job = yield* reaches(node, id, "discarded")
        assert.notStrictEqual(job.errors[0]?.message, "unable")
      }
    })
  )
})
