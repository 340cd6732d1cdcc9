import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Job from "../../src/Job.ts"
import * as Layer from "effect/Layer"
import * as ShigotoConfig from "../../src/ShigotoConfig.ts"
import { eventually } from "../setup/eventually.ts"
import { onDatabase, startNode, tally } from "./support.ts"

const Call = Job.make("call", { args: { n: Schema.Int } })
const Busy = Job.make("busy", { args: { n: Schema.Int }, queue: "busy" })

const numbers = (count: number) => Array.from({ length: count }, (_, n) => ({ n }))

/** No job lost an attempt or its place by waiting. */
const unharmed = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  return yield* sql`SELECT FROM shigoto.all_jobs WHERE attempt <> 1 OR state <> 'completed' OR errors IS NOT NULL`
})

describe("load shedding", () => {
  onDatabase("keeps the attempts of a node, over all its queues, to its cap, and low priorities to their share", () =>
    Effect.gen(function* () {
      const latch = Latch.makeUnsafe(false)
      const now = { all: 0, low: 0, mostOfAll: 0, mostOfLow: 0 }
      const node = yield* startNode({
        workers: Call.toLayer((_, { priority }) =>
          Effect.suspend(() => {
            now.mostOfAll = Math.max(now.mostOfAll, ++now.all)
            if (priority < 0) now.mostOfLow = Math.max(now.mostOfLow, ++now.low)
            return latch.await
          }).pipe(
            Effect.ensuring(
              Effect.sync(() => {
                now.all--
                if (priority < 0) now.low--
              })
            )
          )
        ),
        config: {
          queues: { default: 30, other: 30 },
          shedding: { maxInFlight: 10, levels: [{ below: 0, share: 0.6 }] }
        }
      })
      yield* node.run(Call.enqueueAll(numbers(40), { priority: -1 }))
      yield* node.run(Call.enqueueAll(numbers(40), { priority: -1, queue: "other" }))
      const low = yield* eventually(tally, (states) => states["executing"] === 6)
      assert.deepStrictEqual(low, { executing: 6, available: 74 })
      yield* node.run(Call.enqueueAll(numbers(20)))
      yield* node.run(Call.enqueueAll(numbers(20), { queue: "other" }))
      const full = yield* eventually(tally, (states) => states["executing"] === 10)
      assert.deepStrictEqual(full, { executing: 10, available: 110 })
      yield* node.event("BulkheadFull")
      const shed = yield* node.event("LoadShed")
      assert.deepStrictEqual(shed, { _tag: "LoadShed", below: 0, by: "attempts" })
      latch.openUnsafe()
      yield* eventually(tally, (states) => states["completed"] === 120)
      assert.deepStrictEqual([now.mostOfAll, now.mostOfLow], [10, 6])
      assert.deepStrictEqual(yield* unharmed, [])
    })
  )

  onDatabase("shares a full node among its queues, whichever filled it first", () =>
    Effect.gen(function* () {
      const running = new Map<string, Array<Latch.Latch>>()
      const node = yield* startNode({
        workers: Call.toLayer((_, { queue }) =>
          Effect.suspend(() => {
            const latch = Latch.makeUnsafe(false)
            running.set(queue, [...(running.get(queue) ?? []), latch])
            return latch.await
          })
        ),
        config: { queues: { first: 50, second: 50, third: 50 }, shedding: { maxInFlight: 6 } }
      })
      const end = (queue: string) =>
        Effect.sync(() => {
          const [latch, ...others] = running.get(queue) ?? []
          running.set(queue, others)
          latch?.openUnsafe()
        })
      const now = Effect.sync(() => ["first", "second", "third"].map((queue) => (running.get(queue) ?? []).length))
      yield* node.run(Call.enqueueAll(numbers(50), { queue: "first" }))
      yield* eventually(now, ([first]) => first === 6)
      yield* node.run(Call.enqueueAll(numbers(50), { queue: "second" }))
      yield* node.run(Call.enqueueAll(numbers(50), { queue: "third" }))
      for (let i = 0; i < 4; i++) {
        const before = (yield* now).reduce((sum, count) => sum + count, 0)
        yield* end("first")
        yield* eventually(now, (counts) => counts.reduce((sum, count) => sum + count, 0) === before)
      }
      assert.deepStrictEqual(yield* now, [2, 2, 2])
      // Queues that find nothing let it be: they do not ask in turns for ever.
      assert.isBelow(node.events.filter(({ _tag }) => _tag === "QueuePolled").length, 100)
      for (const queue of ["first", "second", "third"]) {
        yield* Effect.forEach(running.get(queue) ?? [], (latch) => Effect.sync(() => latch.openUnsafe()))
      }
      yield* node.queues.pause("first")
      yield* node.queues.pause("second")
      yield* node.queues.pause("third")
    })
  )

  onDatabase("holds back low priorities while others wait too long, says so, and lets them go after", () =>
    Effect.gen(function* () {
      const started: Array<string> = []
      const gates = { overload: true }
      const node = yield* startNode({
        workers: Layer.mergeAll(
          Call.toLayer(({ n }) => Effect.sync(() => started.push(`call ${n}`))),
          // Slower than its jobs come in.
          Busy.toLayer(() => Effect.suspend(() => (gates.overload ? Effect.sleep("20 millis") : Effect.void)))
        ),
        config: {
          nodeName: "one",
          queues: { default: 10, busy: 1 },
          shedding: { target: "50 millis", interval: "200 millis" }
        }
      })
      yield* node.run(Busy.enqueueAll(numbers(1000)))
      const shed = yield* node.event("LoadShed")
      assert.deepStrictEqual(shed, { _tag: "LoadShed", below: 0, by: "waits", queue: "busy" })
      const low = yield* node.run(Call.enqueue({ n: 1 }, { priority: -1 }))
      const high = yield* node.run(Call.enqueue({ n: 2 }))
      yield* eventually(node.jobs.get(high.id), (job) => job.state === "completed")
      const told = yield* eventually(node.jobs.explain(low.id), ({ reasons }) =>
        reasons.some(({ _tag }) => _tag === "LoadShed")
      )
      assert.strictEqual(
        told.message,
        `Job ${low.id} is waiting: one starts no job of a priority below 0, since others wait too long.`
      )
      assert.deepStrictEqual(started, ["call 2"])
      gates.overload = false
      yield* node.event("LoadRestored")
      yield* eventually(node.jobs.get(low.id), (job) => job.state === "completed")
      yield* eventually(tally, (states) => states["completed"] === 1002)
      assert.deepStrictEqual(yield* unharmed, [])
    })
  )

  onDatabase("is refused where it cannot be used, with the field's name", () =>
    Effect.gen(function* () {
      const refused = [{ maxInFlight: 0 }, { target: -1 }, { maxInFlight: 5, levels: [] }, {}]
      const errors = yield* Effect.forEach(refused, (shedding) => Effect.flip(ShigotoConfig.make({ shedding })))
      assert.deepStrictEqual(
        errors.map((error) => "field" in error && error.field),
        ["maxInFlight", "target", "levels", "target"].map((name) => `shedding.${name}`)
      )
    })
  )
})
