import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import { failureOf, maxFailureBytes } from "../../src/internal/failure.ts"
import { textProblem } from "../../src/internal/json.ts"

class Boom extends Data.TaggedError("Boom")<{ readonly detail: string }> {}

const attempt = { attempt: 3, at: new Date(0), node: "node \u{1f600}", worker: "w" }
const trap = (): never => {
  throw new Error("trap")
}
const withGetters = (...keys: ReadonlyArray<string>): Error => {
  const error = new Error("plain")
  for (const key of keys) Object.defineProperty(error, key, { get: trap })
  return error
}
const long = (size: number): Error => {
  const error = new Error("long")
  error.stack = `Error: long\n${"    at f (\u{1f600} x.ts:1:1)\n".repeat(size / 24)}`
  return error
}
const chain = (depth: number): Error => {
  let error = new Error("root")
  for (let i = 0; i < depth; i++) error = new Error(`level ${i}`, { cause: error })
  return error
}
const ring = (): Error => {
  const [a, b] = [new Error("a"), new Error("b")]
  a.cause = b
  b.cause = a
  return a
}

/** What a handler may throw or fail with, and what is to be told of it. */
const thrown: ReadonlyArray<readonly [string, unknown, string, RegExp]> = [
  ["undefined", undefined, "undefined", /^undefined$/],
  ["null", null, "null", /^null$/],
  ["a string", "why", "string", /^why$/],
  ["an empty string", "", "string", /^$/],
  ["a number", 42, "number", /^42$/],
  ["a symbol", Symbol("s"), "symbol", /^Symbol\(s\)$/],
  ["a bigint", 1n, "bigint", /^1$/],
  ["a function", trap, "function", /trap/],
  ["an error", new TypeError("why"), "TypeError", /^why$/],
  ["a tagged error", new Boom({ detail: "d" }), "Boom", /./],
  ["a plain object", { _tag: "Plain", code: 7 }, "Plain", /"code":7/],
  ["an object without anything", Object.create(null), "object", /^\{\}$/],
  ["a frozen error", Object.freeze(new Error("frozen")), "Error", /^frozen$/],
  [
    "a proxy that throws on everything",
    new Proxy({}, { get: trap, has: trap, ownKeys: trap, getPrototypeOf: trap }),
    "object",
    /./
  ],
  ["an error whose message throws", withGetters("message"), "Error", /./],
  ["an error whose stack throws", withGetters("stack"), "Error", /^plain$/],
  ["an error whose name throws", withGetters("name"), "object", /^plain$/],
  [
    "an error whose everything throws",
    withGetters("message", "stack", "name", "toString", "toJSON", "cause"),
    "object",
    /./
  ],
  ["an object whose toString throws", { toString: trap, toJSON: trap }, "object", /./],
  ["a cycle", Object.assign({}, { self: thisOfItself() }), "object", /./],
  ["a stack of 5 MB", long(5 * 1024 * 1024), "Error", /^long$/],
  ["a message of 5 MB", new Error("m".repeat(5 * 1024 * 1024)), "Error", /^m+…$/],
  ["a tag of 1 MB", { _tag: "t".repeat(1024 * 1024) }, `${"t".repeat(125)}…`, /./],
  ["a chain of 10,000 causes", chain(10_000), "Error", /^level 9999$/],
  ["a ring of causes", ring(), "Error", /^a$/],
  ["NUL", new Error("a\u0000b"), "Error", /^a\u2400b$/],
  ["a lone surrogate", new Error("a\ud800"), "Error", /^a\ufffd$/],
  [
    "wide characters at every limit",
    { _tag: "雪".repeat(500), message: "雪".repeat(50_000) },
    "雪".repeat(41),
    /^雪+…$/
  ]
]

function thisOfItself(): object {
  const self: Record<string, unknown> = {}
  self["self"] = self
  return self
}

describe("failureOf", () => {
  for (const [name, value, tag, message] of thrown) {
    it.each([
      ["a failure", Cause.fail(value)],
      ["a defect", Cause.die(value)],
      ["no cause", undefined]
    ] as const)(`records ${name} as %s`, (_, cause) => {
      const failure = failureOf(value, cause, attempt)
      assert.isTrue(failure.tag.startsWith(tag), failure.tag)
      assert.match(failure.message, message)
      assert.strictEqual(failure.attempt, 3)
      assert.strictEqual(failure.at, "1970-01-01T00:00:00.000Z")
      const text = JSON.stringify(failure)
      assert.isAtMost(Buffer.byteLength(text), maxFailureBytes)
      for (const field of Object.values(failure)) assert.isUndefined(textProblem(String(field)))
      assert.deepStrictEqual(JSON.parse(text), failure)
    })
  }

  it("keeps the pretty cause with the stack", () => {
    const failure = failureOf(new Error("why"), Cause.die(new Error("why")), attempt)
    assert.match(failure.cause ?? "", /Error: why\n\s+at /)
  })
})
