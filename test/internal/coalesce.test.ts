import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as TestClock from "effect/testing/TestClock"
import { makeCoalescer } from "../../src/internal/coalesce.ts"

interface Refused {
  readonly code: string
}

const make = (most: number, lanes = 1) =>
  Effect.map(Effect.context<never>(), (context) => {
    const sent: Array<ReadonlyArray<string>> = []
    const gate = Latch.makeUnsafe(true)
    const call = makeCoalescer(context, {
      lanes,
      patience: "20 millis",
      most,
      mostBytes: 10,
      bytes: (item: string) => item.length,
      isolates: (failure: Refused) => failure.code === "bad",
      send: (items) =>
        Effect.suspend(() => {
          sent.push(items)
          const code = items.includes("bad") ? "bad" : items.includes("down") ? "down" : undefined
          return Effect.andThen(
            gate.await,
            code === undefined
              ? Effect.succeed(items.map((item) => item.toUpperCase()))
              : Effect.fail<Refused>({ code })
          )
        })
    })
    const all = (items: ReadonlyArray<string>) =>
      Effect.forEach(
        items,
        (item) => Effect.match(call(item), { onFailure: ({ code }) => code, onSuccess: (a) => a }),
        {
          concurrency: "unbounded"
        }
      )
    return { all, call, gate, sent }
  })

it.effect("sends what comes up at the same moment together, and answers each with its own", () =>
  Effect.gen(function* () {
    const { all, sent } = yield* make(10)
    assert.deepStrictEqual(yield* all(["a", "b", "c"]), ["A", "B", "C"])
    assert.deepStrictEqual(sent, [["a", "b", "c"]])
  })
)

it.effect("splits a batch at its limits of items and of bytes", () =>
  Effect.gen(function* () {
    const { all, sent } = yield* make(2)
    assert.deepStrictEqual(yield* all(["a", "b", "12345678901234", "123456", "12345"]), [
      "A",
      "B",
      "12345678901234",
      "123456",
      "12345"
    ])
    assert.deepStrictEqual(sent, [["a", "b"], ["12345678901234"], ["123456"], ["12345"]])
  })
)

it.effect("sends each alone when one may be at fault, and fails only that one", () =>
  Effect.gen(function* () {
    const { all, sent } = yield* make(10)
    assert.deepStrictEqual(yield* all(["a", "bad", "b"]), ["A", "bad", "B"])
    assert.deepStrictEqual(sent, [["a", "bad", "b"], ["a"], ["bad"], ["b"]])
  })
)

it.effect("fails all when the way there failed", () =>
  Effect.gen(function* () {
    const { all, sent } = yield* make(10)
    assert.deepStrictEqual(yield* all(["a", "down"]), ["down", "down"])
    assert.strictEqual(sent.length, 1)
    assert.deepStrictEqual(yield* all(["b"]), ["B"])
  })
)

it.effect("does not send what an interrupted caller still had waiting", () =>
  Effect.gen(function* () {
    const { call, gate, sent } = yield* make(10)
    gate.closeUnsafe()
    const first = yield* Effect.forkChild(call("a"), { startImmediately: true })
    while (sent.length === 0) yield* Effect.yieldNow
    const second = yield* Effect.forkChild(call("b"), { startImmediately: true })
    const third = yield* Effect.forkChild(call("c"), { startImmediately: true })
    yield* Fiber.interrupt(second)
    gate.openUnsafe()
    assert.strictEqual(yield* Fiber.join(first), "A")
    assert.strictEqual(yield* Fiber.join(third), "C")
    assert.deepStrictEqual(sent, [["a"], ["c"]])
  })
)

it.effect("keeps what comes up together while a batch is under way, and lets a whole batch go beside it", () =>
  Effect.gen(function* () {
    const { call, gate, sent } = yield* make(3, 2)
    const start = (item: string) => Effect.forkChild(call(item), { startImmediately: true })
    gate.closeUnsafe()
    const first = yield* start("a")
    while (sent.length === 0) yield* Effect.yieldNow
    const next = [yield* start("b"), yield* start("c")]
    for (let turn = 0; turn < 10; turn++) yield* Effect.yieldNow
    assert.deepStrictEqual(sent, [["a"]])
    next.push(yield* start("d"))
    while (sent.length === 1) yield* Effect.yieldNow
    assert.deepStrictEqual(sent, [["a"], ["b", "c", "d"]])
    gate.openUnsafe()
    assert.deepStrictEqual(yield* Fiber.joinAll([first, ...next]), ["A", "B", "C", "D"])
  })
)

it.effect("does not let a batch that hangs hold up the others", () =>
  Effect.gen(function* () {
    const { call, gate, sent } = yield* make(3, 2)
    const start = (item: string) => Effect.forkChild(call(item), { startImmediately: true })
    gate.closeUnsafe()
    const hanging = yield* start("a")
    while (sent.length === 0) yield* Effect.yieldNow
    const waiting = yield* start("b")
    yield* TestClock.adjust("19 millis")
    assert.deepStrictEqual(sent, [["a"]])
    yield* TestClock.adjust("1 millis")
    while (sent.length === 1) yield* Effect.yieldNow
    assert.deepStrictEqual(sent, [["a"], ["b"]])
    gate.openUnsafe()
    assert.deepStrictEqual(yield* Fiber.joinAll([hanging, waiting]), ["A", "B"])
  })
)
