import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import * as CircuitBreaker from "../../src/CircuitBreaker.ts"
import { makeCircuit, type Permit, verdictOf } from "../../src/internal/circuit.ts"

const rule = (options: CircuitBreaker.Options<never> = {}): CircuitBreaker.Rule =>
  Result.getOrThrow(CircuitBreaker.check(options))

const enter = (circuit: ReturnType<typeof makeCircuit>, now = 0): Permit => {
  const permit = circuit.enter(now)
  if (permit === undefined) throw new Error("refused")
  return permit
}

describe("circuit", () => {
  it("has 50 % of 20 calls, 30 s and 3 probes as its defaults", () => {
    assert.deepStrictEqual(rule(), {
      state: "local",
      failureRate: 0.5,
      window: 20,
      openMillis: 30_000,
      probes: 3,
      slowMillis: Infinity,
      slowRate: 0.5
    })
  })

  it("opens at the share of the last calls and not before there are that many", () => {
    const circuit = makeCircuit(rule())
    const run = (verdict: "succeeded" | "failed" | "ignored") => circuit.leave(enter(circuit), verdict, 0)
    for (let i = 0; i < 10; i++) assert.isUndefined(run("succeeded"))
    for (let i = 0; i < 9; i++) assert.isUndefined(run("failed"))
    for (let i = 0; i < 50; i++) assert.isUndefined(run("ignored"))
    assert.strictEqual(circuit.room(), Infinity)
    assert.strictEqual(run("failed"), "opened")
    assert.strictEqual(circuit.room(), 0)
    assert.isUndefined(circuit.enter(0))
  })

  it("forgets calls beyond its window", () => {
    const circuit = makeCircuit(rule({ window: 4 }))
    const told = ["failed", "succeeded", "succeeded", "succeeded", "succeeded", "failed"] as const
    for (const verdict of told) assert.isUndefined(circuit.leave(enter(circuit), verdict, 0))
    assert.strictEqual(circuit.leave(enter(circuit), "failed", 0), "opened")
  })

  it("takes no more probes than its rule says, and closes once so many have succeeded", () => {
    const circuit = makeCircuit(rule({ window: 1 }))
    const early = enter(circuit)
    assert.strictEqual(circuit.leave(enter(circuit), "failed", 0), "opened")
    circuit.probe(circuit.generation())
    assert.strictEqual(circuit.room(), 3)
    const probes = [enter(circuit), enter(circuit), enter(circuit)] as const
    assert.isUndefined(circuit.enter(0))
    // What started before it opened says nothing of now.
    assert.isUndefined(circuit.leave(early, "failed", 0))
    assert.strictEqual(circuit.state(), "half-open")
    assert.isUndefined(circuit.leave(probes[0], "ignored", 0))
    assert.strictEqual(circuit.room(), 1)
    const last = enter(circuit)
    assert.isUndefined(circuit.leave(probes[1], "succeeded", 0))
    assert.strictEqual(circuit.room(), 0)
    assert.isUndefined(circuit.leave(probes[2], "succeeded", 0))
    assert.strictEqual(circuit.leave(last, "succeeded", 0), "closed")
    assert.strictEqual(circuit.room(), Infinity)
  })

  it("opens again at the first probe that fails or is slow", () => {
    const circuit = makeCircuit(rule({ window: 1, slowerThan: "1 second" }))
    assert.strictEqual(circuit.leave(enter(circuit), "failed", 0), "opened")
    circuit.probe(circuit.generation())
    const [one, other] = [enter(circuit), enter(circuit)]
    assert.strictEqual(circuit.leave(one, "failed", 0), "opened")
    assert.isUndefined(circuit.leave(other, "succeeded", 0))
    circuit.probe(circuit.generation())
    assert.strictEqual(circuit.room(), 3)
    assert.strictEqual(circuit.leave(enter(circuit, 5000), "succeeded", 6001), "opened")
  })

  it("is closed by hand, and forgets the time that it was to be open for", () => {
    const circuit = makeCircuit(rule({ window: 1 }))
    assert.isFalse(circuit.close())
    const early = enter(circuit)
    assert.strictEqual(circuit.leave(enter(circuit), "failed", 0), "opened")
    const generation = circuit.generation()
    assert.isTrue(circuit.close())
    assert.strictEqual(circuit.room(), Infinity)
    assert.isUndefined(circuit.leave(early, "failed", 0))
    assert.strictEqual(circuit.leave(enter(circuit), "failed", 0), "opened")
    // Its timer was set by the opening before.
    assert.isFalse(circuit.probe(generation))
    assert.isTrue(circuit.probe(circuit.generation()))
  })

  it("opens at the share of slow calls", () => {
    const circuit = makeCircuit(rule({ window: 2, slowerThan: "1 second", slowRate: 1 }))
    assert.isUndefined(circuit.leave(enter(circuit, 0), "succeeded", 1001))
    assert.isUndefined(circuit.leave(enter(circuit, 0), "succeeded", 1000))
    assert.isUndefined(circuit.leave(enter(circuit, 0), "succeeded", 1001))
    assert.strictEqual(circuit.leave(enter(circuit, 0), "succeeded", 2000), "opened")
  })

  it("counts neither signals nor interruptions", () => {
    assert.strictEqual(verdictOf({ _tag: "Interrupted" }), "ignored")
    assert.strictEqual(verdictOf({ _tag: "Snoozed", delayMillis: 1 }), "ignored")
    assert.strictEqual(verdictOf({ _tag: "CancelAsked", reason: "" }), "ignored")
    assert.strictEqual(verdictOf({ _tag: "Succeeded", result: undefined }), "succeeded")
  })

  it("refuses what cannot be used, with the field's name", () => {
    const refused: ReadonlyArray<readonly [string, object]> = [
      ["failureRate", { failureRate: 0 }],
      ["failureRate", { failureRate: 1.01 }],
      ["failureRate", { failureRate: Number.NaN }],
      ["window", { window: 0 }],
      ["window", { window: 2.5 }],
      ["window", { window: 10_001 }],
      ["openFor", { openFor: 0 }],
      ["openFor", { openFor: -1 }],
      ["openFor", { openFor: "soon" }],
      ["openFor", { openFor: "25 days" }],
      ["probes", { probes: 0 }],
      ["probes", { probes: Number.NaN }],
      ["slowerThan", { slowerThan: 0 }],
      ["slowRate", { slowerThan: "1 second", slowRate: 0 }],
      ["slowRate", { slowRate: 0.5 }],
      ["counts", { counts: true }],
      ["failureRates", { failureRates: 0.5 }]
    ]
    for (const [field, options] of refused) {
      const checked = CircuitBreaker.check(options)
      assert.isTrue(Result.isFailure(checked), field)
      if (Result.isFailure(checked)) assert.strictEqual(checked.failure.field, `circuitBreaker.${field}`)
    }
  })
})
