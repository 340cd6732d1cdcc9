import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Schema from "effect/Schema"
import * as Job from "../../src/Job.ts"
import type { JobEvent } from "../../src/JobEvent.ts"
import * as ShigotoConfig from "../../src/ShigotoConfig.ts"
import { eventually } from "../setup/eventually.ts"
import { type Node, onDatabase, reaches, startNode, tally } from "./support.ts"

class Overloaded extends Schema.TaggedError<Overloaded>("Overloaded")("Overloaded", {}) {}

const Call = Job.make("call", { args: { n: Schema.Int }, error: Overloaded, maxAttempts: 1 })

const numbers = (count: number) => Array.from({ length: count }, (_, n) => ({ n }))

const limits = (node: Node): ReadonlyArray<number> =>
  node.events.flatMap((event: JobEvent) => (event._tag === "ConcurrencyAdapted" ? [event.limit] : []))

/** A service that knows how many call at once, and lets them go all together. */
const makeService = () => {
  const service = { running: 0, most: 0, refuses: false, latch: Latch.makeUnsafe(false) }
  const call = Effect.suspend(() => {
    service.most = Math.max(service.most, ++service.running)
    return Effect.andThen(
      service.latch.await,
      Effect.suspend(() => (service.refuses ? new Overloaded() : Effect.void))
    )
  }).pipe(Effect.ensuring(Effect.sync(() => service.running--)))
  return { service, call }
}

describe("a concurrency that finds itself", () => {
  onDatabase("is never exceeded, falls once for what fails together, and rises with successes", () =>
    Effect.gen(function* () {
      const { call, service } = makeService()
      const node = yield* startNode({
        workers: Call.toLayer(() => call, { concurrency: { initial: 10, min: 2, max: 12, backoff: 0.5 } }),
        config: { queues: { default: 50 } }
      })
      const running = (count: number) =>
        eventually(
          Effect.sync(() => service.running),
          (now) => now === count
        )
      yield* node.run(Call.enqueueAll(numbers(10)))
      yield* running(10)
      yield* node.run(Call.enqueueAll(numbers(30)))
      // What more is claimed would be executing by the time that a job put in after it runs elsewhere.
      const held = yield* eventually(tally, (states) => states["available"] === 30)
      assert.deepStrictEqual(held, { executing: 10, available: 30 })
      service.refuses = true
      service.latch.openUnsafe()
      service.latch.closeUnsafe()
      yield* eventually(tally, (states) => states["discarded"] === 10)
      assert.deepStrictEqual(limits(node), [5])
      yield* running(5)
      service.refuses = false
      service.most = 0
      for (let round = 0; round < 3; round++) {
        yield* eventually(
          Effect.sync(() => service.running),
          (now) => now >= 5
        )
        service.latch.openUnsafe()
        service.latch.closeUnsafe()
      }
      service.latch.openUnsafe()
      yield* eventually(tally, (states) => states["completed"] === 30)
      assert.isAbove(limits(node).at(-1) ?? 0, 5)
      const [, ...risen] = limits(node)
      assert.isAtMost(service.most, Math.max(...risen))
      assert.isAtMost(Math.max(...risen), 12)
    })
  )

  onDatabase("holds for a queue and all its workers, in place of its number, and is what the node tells", () =>
    Effect.gen(function* () {
      const { call, service } = makeService()
      const node = yield* startNode({
        workers: Call.toLayer(() => call),
        config: { nodeName: "one", queues: { default: { concurrency: { initial: 4, max: 20, backoff: 0.5 } } } }
      })
      yield* node.run(Call.enqueueAll(numbers(20)))
      const held = yield* eventually(tally, (states) => states["executing"] === 4)
      assert.deepStrictEqual(held, { executing: 4, available: 16 })
      const slots = Effect.map(node.jobs.nodes, (nodes) => nodes[0]?.queues[0]?.concurrency)
      assert.strictEqual(yield* eventually(slots, (count) => count !== undefined), 4)
      service.refuses = true
      service.latch.openUnsafe()
      service.latch.closeUnsafe()
      const after = yield* eventually(tally, (states) => states["discarded"] === 4 && states["executing"] === 2)
      assert.deepStrictEqual(after, { discarded: 4, executing: 2, available: 14 })
      assert.strictEqual(yield* eventually(slots, (count) => count === 2), 2)
      // Operators may ask for less, and not for more.
      yield* node.queues.scale("default", 1)
      service.refuses = false
      service.latch.openUnsafe()
      yield* eventually(tally, (states) => states["completed"] === 16)
      assert.strictEqual(yield* eventually(slots, (count) => count === 1), 1)
    })
  )

  onDatabase("takes no notice of errors that do not count, of signals, and of args that cannot be read", () =>
    Effect.gen(function* () {
      const node = yield* startNode({
        workers: Call.toLayer(
          ({ n }) => (n === 0 ? Effect.fail(new Overloaded()) : n === 1 ? Job.cancel("enough") : Job.discard("never")),
          { concurrency: { initial: 10, counts: (error) => error._tag !== "Overloaded" } }
        )
      })
      const jobs = yield* node.run(Call.enqueueAll([{ n: 0 }, { n: 1 }, { n: 2 }]))
      for (const { id } of jobs) yield* reaches(node, id, "discarded", "cancelled")
      assert.deepStrictEqual(limits(node), [])
    })
  )

  onDatabase("is refused where it cannot be used, with the field's name, before anything runs", () =>
    Effect.gen(function* () {
      const worker = yield* Effect.exit(
        startNode({ workers: Call.toLayer(() => Effect.void, { concurrency: { max: 0 } }) })
      )
      assert.isTrue(Exit.isFailure(worker))
      assert.match(String(Exit.isFailure(worker) ? worker.cause : ""), /concurrency\.max cannot be 0/)
      const refused = [
        { concurrency: { min: Number.NaN } },
        { concurrency: { counts: () => true } as object },
        { concurrency: { algorithm: "gradient", slowerThan: "1 second" } as const }
      ]
      const errors = yield* Effect.forEach(refused, (options) =>
        Effect.flip(ShigotoConfig.make({ queues: { default: options } }))
      )
      assert.deepStrictEqual(
        errors.map((error) => "field" in error && error.field),
        ["min", "counts", "slowerThan"].map((name) => `queues.default.concurrency.${name}`)
      )
    })
  )
})
