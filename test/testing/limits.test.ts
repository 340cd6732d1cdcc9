import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Job from "../../src/Job.ts"
import type * as Limit from "../../src/Limit.ts"
import { ShigotoTest } from "../../src/testing/index.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"

const Call = Job.make("call")

/** Runs ten jobs under a rate in virtual time, and returns when each started, in milliseconds from the start. */
const startsUnder = (rateLimit: Limit.Options) =>
  Effect.gen(function* () {
    const starts: Array<number> = []
    const calls = Call.toLayer(
      () => Effect.map(Clock.currentTimeMillis, (millis) => void starts.push(millis - Date.UTC(2030, 0, 1))),
      { rateLimit }
    )
    const world = calls.pipe(
      Layer.provideMerge(
        Layer.unwrap(Effect.map(TestDatabase, (database) => ShigotoTest.layer({ client: database.clientConfig })))
      ),
      Layer.provideMerge(TestDatabase.layerDatabase())
    )
    yield* Effect.gen(function* () {
      yield* Call.enqueueAll(Array.from({ length: 10 }, () => ({})))
      yield* ShigotoTest.advance("1 hour")
    }).pipe(Effect.provide(world))
    return starts
  })

const seconds = (...at: ReadonlyArray<number>) => at.map((second) => second * 1000)

describe("a rate in virtual time", () => {
  const cases: ReadonlyArray<readonly [Limit.Options, ReadonlyArray<number>]> = [
    [{ limit: 5, window: "64 seconds" }, seconds(0, 0, 0, 0, 0, 66, 66, 66, 66, 66)],
    [{ limit: 5, window: "1 minute", algorithm: "fixed-window" }, seconds(0, 0, 0, 0, 0, 60, 60, 60, 60, 60)],
    [{ limit: 6, window: "1 minute", algorithm: "token-bucket" }, seconds(0, 0, 0, 0, 0, 0, 10, 20, 30, 40)],
    [{ limit: 6, window: "1 minute", algorithm: "gcra", burst: 3 }, seconds(0, 0, 0, 10, 20, 30, 40, 50, 60, 70)],
    [{ limit: 6, window: "1 minute", algorithm: "leaky-bucket" }, seconds(0, 10, 20, 30, 40, 50, 60, 70, 80, 90)],
    [
      { limit: 6, window: "1 minute", cost: 3 },
      seconds(0, 0, 61.875, 61.875, 123.75, 123.75, 185.625, 185.625, 247.5, 247.5)
    ]
  ]
  for (const [options, expected] of cases) {
    it.effect(`starts jobs when ${JSON.stringify(options)} admits them`, () =>
      Effect.map(startsUnder(options), (starts) => assert.deepStrictEqual(starts, expected))
    )
  }
})
