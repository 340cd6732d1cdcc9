import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as CircuitBreaker from "../../src/CircuitBreaker.ts"
import * as Job from "../../src/Job.ts"
import { ShigotoTest } from "../../src/testing/index.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"

class Down extends Schema.TaggedError<Down>("Down")("Down", {}) {}

const Call = Job.make("call", { error: Down, maxAttempts: 1 })

/** When ten jobs start, in seconds, while what they need is down for a minute and a half. */
const startsUnder = (circuitBreaker: CircuitBreaker.Options<Down>) =>
  Effect.gen(function* () {
    const starts: Array<number> = []
    const calls = Call.toLayer(
      Effect.fnUntraced(function* () {
        const second = ((yield* Clock.currentTimeMillis) - Date.UTC(2030, 0, 1)) / 1000
        starts.push(second)
        if (second < 90) return yield* new Down()
      }),
      { circuitBreaker, concurrency: 1 }
    )
    const world = calls.pipe(
      Layer.provideMerge(
        Layer.unwrap(Effect.map(TestDatabase, (database) => ShigotoTest.layer({ client: database.clientConfig })))
      ),
      Layer.provideMerge(TestDatabase.layerDatabase())
    )
    return yield* Effect.gen(function* () {
      yield* Call.enqueueAll(Array.from({ length: 10 }, () => ({})))
      const tally = yield* ShigotoTest.advance("1 hour")
      return { starts, tally }
    }).pipe(Effect.provide(world))
  })

describe("a circuit in virtual time", () => {
  for (const state of ["local", "shared"] as const) {
    it.effect(`opens, probes and closes at the instants that its rule says, where it is ${state}`, () =>
      Effect.gen(function* () {
        const { starts } = yield* startsUnder({ state, window: 2, openFor: "1 minute", probes: 2 })
        assert.deepStrictEqual(starts, [0, 0, 60, ...Array.from({ length: 7 }, () => 120)])
      })
    )
  }
})
