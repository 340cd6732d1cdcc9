import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Job from "../src/Job.ts"
import { ShigotoTest } from "../src/testing/index.ts"
import { TestDatabase } from "./setup/TestDatabase.ts"

const Long = Job.make("long", { queue: "long", timeout: "1 hour" })
const Short = Job.make("short", { queue: "short" })

describe("queues with weights", () => {
  it.effect("share the places of a node by them, and leave nothing unused", () => {
    const running = { long: 0, short: 0 }
    /** Minutes of places that each queue has had, while both had work. */
    const used = { long: 0, short: 0 }
    const work = (queue: "long" | "short", minutes: number) => () =>
      Effect.acquireUseRelease(
        Effect.sync(() => {
          running[queue]++
          assert.isAtMost(running.long + running.short, 8)
        }),
        () => Effect.sleep(minutes * 60_000),
        () =>
          Effect.sync(() => {
            running[queue]--
            used[queue] += minutes
          })
      )
    const layer = Layer.mergeAll(Long.toLayer(work("long", 10)), Short.toLayer(work("short", 1))).pipe(
      Layer.provideMerge(
        Layer.unwrap(
          Effect.map(TestDatabase, (database) =>
            ShigotoTest.layer({
              client: database.clientConfig,
              queues: { long: 8, short: { concurrency: 8, weight: 3 } },
              shedding: { maxInFlight: 8 }
            })
          )
        )
      ),
      Layer.provideMerge(TestDatabase.layerDatabase())
    )
    return Effect.gen(function* () {
      yield* Short.enqueueAll(Array.from({ length: 700 }, () => ({})))
      yield* Long.enqueueAll(Array.from({ length: 30 }, () => ({})))
      yield* ShigotoTest.advance("100 minutes")
      const part = used.long / (used.long + used.short)
      assert.isAtLeast(used.long + used.short, 8 * 100 * 0.9)
      assert.approximately(part, 0.25, 0.05)
    }).pipe(Effect.provide(layer))
  })
})
