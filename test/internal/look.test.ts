import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import * as TestClock from "effect/testing/TestClock"
import { type Eyes, makeLook } from "../../src/internal/look.ts"
import type { Look as Found } from "../../src/internal/sql/promote.ts"
import { defaults } from "../../src/ShigotoConfig.ts"

const nothing: Found = {
  promoted: 0,
  ready: [],
  nextDueMillis: undefined,
  nextExpiryMillis: undefined,
  deadNodes: false,
  strays: false,
  blocked: false,
  cancels: false,
  discards: false,
  queues: []
}

/** The look of one of so many nodes, the last in each line, that finds this. */
const lookOf = Effect.fnUntraced(function* (listeners: Readonly<Record<string, number>>, found: Partial<Found> = {}) {
  const clock = yield* Clock.Clock
  const eyes = {
    config: defaults,
    store: { promote: () => Effect.succeed({ ...nothing, ...found }) },
    executor: { missesDiscards: () => false, total: () => 0 },
    heartbeat: { current: () => 1, listeners: (queue: string) => listeners[queue] ?? 1 },
    workers: { all: () => [] },
    queues: { names: () => Object.keys(listeners), apply: () => {} },
    notifier: { isListening: () => true },
    broadcast: { round: () => Effect.succeed({ more: false, ready: [] }) },
    now: () => clock.currentTimeMillisUnsafe(),
    follow: Effect.void,
    isBusy: () => false,
    wake: () => {}
  } as unknown as Eyes // all that a look asks for that finds nothing else
  const random = { nextDoubleUnsafe: () => 0.99, nextIntUnsafe: () => 0 }
  const look = makeLook(eyes)
  /** When the next look is due, and what is to happen meanwhile. */
  const nextAfter = (meanwhile: Effect.Effect<void> = Effect.void) =>
    Effect.gen(function* () {
      const before = clock.currentTimeMillisUnsafe()
      const step = yield* Effect.forkChild(look.step, { startImmediately: true })
      yield* meanwhile
      while (step.pollUnsafe() === undefined) yield* TestClock.adjust("1 millis")
      yield* Fiber.join(step)
      return clock.currentTimeMillisUnsafe() - before
    }).pipe(Effect.provideService(Random.Random, random))
  return { look, nextAfter }
})

describe("the look for what is due", () => {
  it.effect("is at the due instant, where few nodes look", () =>
    Effect.gen(function* () {
      const { nextAfter } = yield* lookOf({ crowded: 4 }, { nextDueMillis: 3 })
      assert.strictEqual(yield* nextAfter(), 3)
    })
  )

  it.effect("keeps a distance from the one before, where many nodes look", () =>
    Effect.gen(function* () {
      const soon = yield* lookOf({ crowded: 100 }, { nextDueMillis: 3 })
      assert.strictEqual(yield* soon.nextAfter(), 495)
      const expiring = yield* lookOf({ crowded: 100 }, { nextExpiryMillis: 3 })
      assert.strictEqual(yield* expiring.nextAfter(), 495)
      const later = yield* lookOf({ crowded: 100 }, { nextDueMillis: 700 })
      assert.strictEqual(yield* later.nextAfter(), 700)
    })
  )

  it.effect("is at the due instant, where one of the node's queues is served by few", () =>
    Effect.gen(function* () {
      const { nextAfter } = yield* lookOf({ crowded: 100, rare: 1 }, { nextDueMillis: 3 })
      assert.strictEqual(yield* nextAfter(), 3)
    })
  )

  it.effect("is at the due instant on a node that serves no queue", () =>
    Effect.gen(function* () {
      const { nextAfter } = yield* lookOf({}, { nextDueMillis: 3 })
      assert.strictEqual(yield* nextAfter(), 3)
    })
  )

  it.effect("comes in its turn where others have heard as well, and at once where they have not", () =>
    Effect.gen(function* () {
      const { look, nextAfter } = yield* lookOf({ crowded: 100 })
      assert.strictEqual(yield* nextAfter(look.inTurn(3)), 495)
      assert.strictEqual(yield* nextAfter(Effect.sync(() => look.within(3))), 3)
      assert.strictEqual(yield* nextAfter(look.inTurn(700)), 700)
    })
  )
})
