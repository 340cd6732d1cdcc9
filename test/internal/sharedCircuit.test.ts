import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as CircuitBreaker from "../../src/CircuitBreaker.ts"
import { makeCircuit, type Permit } from "../../src/internal/circuit.ts"
import { asOf, noteCall, roomOf, unknownCircuit } from "../../src/internal/sharedCircuit.ts"

const rule = (options: CircuitBreaker.Options<never> = {}): CircuitBreaker.Rule =>
  Result.getOrThrow(CircuitBreaker.check({ state: "shared", ...options }))

const options = Schema.Struct({
  window: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 6 })),
  probes: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 4 })),
  failureRate: Schema.Literals([0.1, 0.5, 1]),
  slowRate: Schema.Literals([0.3, 1])
})

const steps = Schema.Array(
  Schema.Struct({
    does: Schema.Literals(["start", "start", "end", "end", "wait"]),
    which: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 20 })),
    failed: Schema.Boolean,
    slow: Schema.Boolean,
    ignored: Schema.Boolean
  })
).check(Schema.isMinLength(60), Schema.isMaxLength(100))

describe("shared circuit", () => {
  it.prop(
    "does what a circuit of one node does, whatever happens in whichever order",
    [options, steps],
    ([given, told]) => {
      const one = rule({ ...given, openFor: 1000, slowerThan: 100 })
      const local = makeCircuit(one)
      let shared = unknownCircuit
      let now = 1
      const running: Array<{ readonly permit: Permit; readonly generation: number }> = []
      const probes = () => running.filter(({ generation }) => generation === shared.generation).length
      for (const { does, failed, ignored, slow, which } of told) {
        now += 1
        if (does === "wait") {
          now += 1000
          shared = asOf(one, shared, now)
          local.probe(local.generation())
        } else if (does === "start") {
          const room = roomOf(one, shared, probes())
          const permit = local.enter(now)
          assert.strictEqual(permit !== undefined, room > 0)
          if (permit !== undefined) running.push({ permit, generation: shared.generation })
        } else {
          const [ended] = running.splice(which % Math.max(running.length, 1), 1)
          if (ended === undefined) continue
          const { generation, permit } = ended
          const before = shared.phase
          const verdict = ignored ? "ignored" : failed ? "failed" : "succeeded"
          const change = local.leave({ ...permit, enteredAt: now - (slow ? 101 : 100) }, verdict, now)
          if (!ignored) shared = noteCall(one, shared, { generation, failed, slow }, now)
          assert.strictEqual(
            change,
            shared.phase === before ? undefined : shared.phase === "open" ? "opened" : "closed"
          )
        }
        assert.strictEqual(local.state(), shared.phase)
        assert.strictEqual(local.room(), roomOf(one, shared, probes()))
      }
    }
  )

  it("never takes up a generation again, also where it was forgotten in between", () => {
    const one = rule({ window: 1 })
    const failed = { generation: 0, failed: true, slow: false }
    const opened = noteCall(one, unknownCircuit, failed, 1_000_000)
    const forgotten = noteCall(one, unknownCircuit, failed, 9_000_000)
    assert.strictEqual(opened.phase, "open")
    assert.isAbove(forgotten.generation, opened.generation)
    assert.isAbove(noteCall(one, unknownCircuit, failed, 0).generation, 0)
  })

  it("looks back on fewer calls than a circuit of one node, and on no other kind of state", () => {
    const refused: ReadonlyArray<readonly [string, object]> = [
      ["window", { state: "shared", window: 1001 }],
      ["state", { state: "everywhere" }]
    ]
    for (const [field, options] of refused) {
      const checked = CircuitBreaker.check(options)
      assert.isTrue(Result.isFailure(checked), field)
      if (Result.isFailure(checked)) assert.strictEqual(checked.failure.field, `circuitBreaker.${field}`)
    }
  })

  it("takes probes at once where it opened in the future: the server's clock was set back", () => {
    const one = rule({ window: 1, openFor: "1 minute", probes: 2 })
    const opened = noteCall(one, unknownCircuit, { generation: 0, failed: true, slow: false }, 3_600_000)
    assert.strictEqual(opened.phase, "open")
    assert.strictEqual(asOf(one, opened, 3_600_000).phase, "open")
    const back = asOf(one, opened, 1000)
    assert.strictEqual(back.phase, "half-open")
    assert.isAbove(back.generation, opened.generation)
    assert.strictEqual(roomOf(one, back, 0), 2)
  })
})
