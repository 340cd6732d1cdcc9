import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Job from "../src/Job.ts"
import type { JobId } from "../src/JobRow.ts"
import { Jobs } from "../src/Jobs.ts"
import { Queues } from "../src/Queues.ts"
import * as ShigotoConfig from "../src/ShigotoConfig.ts"
import { ShigotoTest } from "../src/testing/index.ts"
import { TestDatabase } from "./setup/TestDatabase.ts"

const Work = Job.make("work", { args: { name: Schema.String } })
const Other = Job.make("other", { args: { name: Schema.String } })

const makeWorld = (queue: ShigotoConfig.QueueOptions) => {
  const ran: Array<string> = []
  const run = ({ name }: { readonly name: string }) =>
    Effect.andThen(
      Effect.sync(() => void ran.push(name)),
      Effect.sleep("1 minute")
    )
  const layer = Layer.mergeAll(Work.toLayer(run), Other.toLayer(run, { concurrency: 1 })).pipe(
    Layer.provideMerge(
      Layer.unwrap(
        Effect.map(TestDatabase, (database) =>
          ShigotoTest.layer({ client: database.clientConfig, queues: { default: queue } })
        )
      )
    ),
    Layer.provideMerge(TestDatabase.layerDatabase())
  )
  return { ran, layer }
}

/** A stream of jobs of a high priority, one a minute, that keeps the one slot busy. */
const busy = (minutes: number) =>
  Work.enqueueAll(
    Array.from({ length: minutes }, (_, i) => ({ name: `high ${i}` })),
    // One of them always waits.
    (_, i) => ({ priority: 10, delay: `${Math.max(i - 1, 0)} minutes` })
  )

describe("a queue in which waits count as priority", () => {
  it.effect("starts a job of low priority once it has waited for the difference, and not before", () => {
    const { layer, ran } = makeWorld({ concurrency: 1, aging: "2 minutes" })
    return Effect.gen(function* () {
      yield* busy(40)
      yield* Work.enqueue({ name: "low" }, { priority: 0, delay: "30 seconds" })
      yield* ShigotoTest.advance("40 minutes")
      // One is due at 20 minutes, and one at 21; 30 seconds and twice ten minutes lie between.
      assert.deepStrictEqual(ran.slice(20, 24), ["high 20", "high 21", "low", "high 22"])
    }).pipe(Effect.provide(layer))
  })

  it.effect("starves it without", () => {
    const { layer, ran } = makeWorld({ concurrency: 1 })
    return Effect.gen(function* () {
      yield* busy(40)
      yield* Work.enqueue({ name: "low" }, { priority: 0, delay: "30 seconds" })
      yield* ShigotoTest.advance("39 minutes")
      assert.notInclude(ran, "low")
    }).pipe(Effect.provide(layer))
  })

  it.effect("takes any jobs in the order of their aged priorities, as an explanation counts them", () => {
    const { layer, ran } = makeWorld({ concurrency: 3, aging: "90 seconds" })
    return Effect.gen(function* () {
      const jobs = yield* Jobs
      const queues = yield* Queues
      yield* queues.pause("default")
      const plans = Array.from({ length: 60 }, (_, i) => ({
        name: String(i),
        minute: (i * 17) % 41,
        priority: ((i * 7) % 13) - 6
      }))
      const inserted = yield* Work.enqueueAll(
        plans.map(({ name }) => ({ name })),
        (_, i) => ({ delay: `${plans[i]?.minute ?? 0} minutes`, priority: plans[i]?.priority ?? 0 })
      )
      yield* ShigotoTest.advance("1 hour")
      const expected = plans
        .map((plan, i) => ({ ...plan, i, age: plan.minute * 60 - plan.priority * 90 }))
        .toSorted((a, b) => a.age - b.age || a.i - b.i)
      for (const place of [0, 1, 30, 59]) {
        const { position, status } = yield* jobs.explain(inserted[expected[place]?.i ?? 0]?.id as JobId)
        assert.deepStrictEqual([status, position], ["waiting", undefined])
      }
      yield* queues.resume("default")
      const middle = yield* jobs.explain(inserted[expected[30]?.i ?? 0]?.id as JobId)
      assert.deepStrictEqual([middle.status, middle.position], ["runnable", 31])
      yield* ShigotoTest.advance("1 hour")
      // Three start at once, in any order of theirs.
      const groups = (names: ReadonlyArray<string>) =>
        Array.from({ length: 20 }, (_, i) => names.slice(i * 3, i * 3 + 3).toSorted())
      assert.deepStrictEqual(groups(ran), groups(expected.map(({ name }) => name)))
    }).pipe(Effect.provide(layer))
  })

  it.effect("keeps the order where a worker has room for fewer than the queue", () => {
    const { layer, ran } = makeWorld({ concurrency: 5, aging: "1 minute" })
    return Effect.gen(function* () {
      const queues = yield* Queues
      yield* queues.pause("default")
      yield* Other.enqueue({ name: "old" }, { priority: 0 })
      yield* Other.enqueueAll(
        Array.from({ length: 5 }, (_, i) => ({ name: `new ${i}` })),
        { priority: 5, delay: "6 minutes" }
      )
      yield* ShigotoTest.advance("6 minutes")
      yield* queues.resume("default")
      yield* ShigotoTest.drain
      assert.deepStrictEqual(ran, ["old"])
    }).pipe(Effect.provide(layer))
  })
})

describe("the options of a queue", () => {
  it.effect("refuse an aging or a weight that cannot be", () =>
    Effect.gen(function* () {
      const refused: ReadonlyArray<readonly [string, ShigotoConfig.Options]> = [
        ["queues.a.aging", { queues: { a: { concurrency: 1, aging: 0 } } }],
        ["queues.a.aging", { queues: { a: { concurrency: 1, aging: "31 days" } } }],
        ["queues.a.aging", { queues: { a: { concurrency: 1, aging: "soon" as never } } }],
        ["queues.a.aging", { queues: { a: { concurrency: 1, aging: 1000, fair: true } } }],
        ["queues.a.weight", { queues: { a: { concurrency: 1, weight: 0 } }, shedding: { maxInFlight: 1 } }],
        ["queues.a.weight", { queues: { a: { concurrency: 1, weight: -1 } }, shedding: { maxInFlight: 1 } }],
        ["queues.a.weight", { queues: { a: { concurrency: 1, weight: Number.NaN } }, shedding: { maxInFlight: 1 } }],
        ["queues.a.weight", { queues: { a: { concurrency: 1, weight: 2 } } }]
      ]
      for (const [field, options] of refused) {
        const error = yield* Effect.flip(ShigotoConfig.make(options))
        assert.strictEqual(error._tag === "InvalidConfig" ? error.field : error._tag, field)
      }
    })
  )
})
