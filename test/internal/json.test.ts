import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { describe as shown, maxDepth, sanitize, stringify, textProblem, utf8Length } from "../../src/internal/json.ts"

const limit = 1024 * 1024
const nested = (depth: number, of: unknown = 1): unknown => Array.from({ length: depth }).reduce((inner) => [inner], of)
const cycle: Record<string, unknown> = {}
cycle["list"] = [1, cycle]
class Point {
  x = 1
}
class List extends Array {}

/** All texts in a JSON value, keys included. */
const textsOf = (value: unknown): ReadonlyArray<string> =>
  typeof value === "string"
    ? [value]
    : typeof value === "object" && value !== null
      ? Object.entries(value).flatMap(([key, item]) => [key, ...textsOf(item)])
      : []

const refused: ReadonlyArray<readonly [string, unknown, string, RegExp]> = [
  ["undefined", undefined, "$", /undefined/],
  ["NaN", { a: [1, Number.NaN] }, "$.a[1]", /NaN/],
  ["Infinity", { a: Infinity }, "$.a", /Infinity/],
  ["-Infinity", [-Infinity], "$[0]", /-Infinity/],
  ["a bigint", { id: 1n }, "$.id", /bigint/],
  ["a function", { f: () => 1 }, "$.f", /function/],
  ["a symbol", [Symbol("s")], "$[0]", /symbol/],
  ["undefined in an array", [undefined], "$[0]", /undefined/],
  ["a hole", Object.assign([1], { length: 3 }), "$[1]", /hole/],
  ["a Map", { m: new Map() }, "$.m", /Map/],
  ["a Set", { m: new Set() }, "$.m", /Set/],
  ["a Date", { at: new Date(0) }, "$.at", /Date/],
  ["a class instance", { p: new Point() }, "$.p", /Point/],
  ["an array of a class", { l: new List() }, "$.l", /List/],
  ["an array with toJSON", { l: Object.assign([1], { toJSON: () => 2 }) }, "$.l", /toJSON/],
  ["an object with toJSON", { o: { toJSON: () => 2 } }, "$.o", /toJSON/],
  ["a boxed string", { s: Object("x") as unknown }, "$.s", /String/],
  ["a cycle", cycle, "$.list[1]", /cycle/],
  ["NUL in a value", { a: "x\u0000" }, "$.a", /NUL/],
  ["NUL in a key", { "a\u0000": 1 }, "$.a\u2400", /NUL in a key/],
  ["a lone surrogate", ["\ud800"], "$[0]", /unpaired surrogate/],
  ["a lone low surrogate", ["\udc00x"], "$[0]", /unpaired surrogate/],
  ["a lone surrogate in a key", { "\ud800": 1 }, "$.\ufffd", /unpaired surrogate in a key/],
  ["too deep a nesting", nested(maxDepth + 1), `$${"[0]".repeat(maxDepth)}`, /depth/],
  ["a very deep nesting", nested(10_000), `$${"[0]".repeat(maxDepth)}`, /depth/],
  [
    "a getter that throws",
    {
      ok: 1,
      get bad(): never {
        throw new Error("trap")
      }
    },
    "$",
    /threw: trap/
  ],
  [
    "a proxy that throws",
    {
      p: new Proxy(
        {},
        {
          ownKeys: () => {
            throw new Error("trap")
          }
        }
      )
    },
    "$.p",
    /threw: trap/
  ]
]

describe("stringify", () => {
  it.each(refused)("refuses %s and names its path", (_, value, path, reason) => {
    const result = stringify(value, limit)
    if (Result.isSuccess(result)) return assert.fail(JSON.stringify(result.success).slice(0, 200))
    assert.strictEqual(result.failure.path, path)
    assert.match(result.failure.reason, reason)
  })

  it("takes what JSON holds, as it is", () => {
    const value = {
      text: "å\u{1f600}\n",
      list: [1, 2.5, -7, true, false, null, "", [], {}],
      deep: nested(maxDepth - 2),
      "": 0,
      "a b": "\u2028",
      shared: [refused, refused].map(() => 1)
    }
    const result = stringify(value, limit)
    assert.deepStrictEqual(Result.getOrThrow(result), { _tag: "Text", text: JSON.stringify(value) })
  })

  it("lets a value stand twice, which is no cycle", () => {
    const twice = { a: 1 }
    assert.isTrue(Result.isSuccess(stringify([twice, { twice }], limit)))
  })

  it("leaves out properties that are undefined and makes a negative zero a zero, as JSON does", () => {
    assert.deepStrictEqual(Result.getOrThrow(stringify({ a: undefined, b: -0 }, limit)), {
      _tag: "Text",
      text: '{"b":0}'
    })
  })

  it("keeps dangerous keys as own data and Object.prototype as it was", () => {
    const text = '{"__proto__":{"polluted":1},"constructor":2,"toString":3,"hasOwnProperty":4}'
    assert.deepStrictEqual(Result.getOrThrow(stringify(JSON.parse(text), limit)), { _tag: "Text", text })
    assert.isUndefined(({} as { polluted?: number }).polluted)
  })

  it("counts bytes of UTF-8, not units, at the limit", () => {
    const text = "ü".repeat(10)
    assert.deepStrictEqual(Result.getOrThrow(stringify(text, 22)), { _tag: "Text", text: `"${text}"` })
    assert.deepStrictEqual(Result.getOrThrow(stringify(text, 21)), { _tag: "TooLarge", size: 22 })
  })

  it("refuses what is too large before it reads the rest", () => {
    let read = 0
    const item = { text: "x".repeat(1024) }
    const rows = Array.from({ length: 20 * 1024 }, () =>
      Object.defineProperty({ ...item }, "touched", { enumerable: true, get: () => read++ })
    )
    const result = Result.getOrThrow(stringify(rows, limit))
    assert.strictEqual(result._tag, "TooLarge")
    assert.isAtMost(read, 1024)
    // A text that does not fit is not even searched: the NUL at its end is never met.
    assert.strictEqual(Result.getOrThrow(stringify(`${"x".repeat(20 * limit)}\u0000`, limit))._tag, "TooLarge")
  })

  it.prop(
    "takes any JSON value but those that PostgreSQL cannot store",
    [Schema.toCodecJson(Schema.Unknown)],
    ([value]) => {
      const result = stringify(value, limit)
      if (textsOf(value).every((text) => text.isWellFormed() && !text.includes("\u0000"))) {
        assert.deepStrictEqual(Result.getOrThrow(result), { _tag: "Text", text: JSON.stringify(value) })
      } else {
        assert.isTrue(Result.isFailure(result))
      }
    }
  )
})

describe("text", () => {
  it.prop("has the size that Buffer gives", [Schema.String], ([text]) => {
    assert.strictEqual(utf8Length(text.toWellFormed()), Buffer.byteLength(text.toWellFormed()))
  })

  it("is storable once it is sanitised", () => {
    for (const text of ["a\u0000b", "\ud800", "\udc00\ud800", "x".repeat(50), `${"x".repeat(9)}\u{1f600}`]) {
      const clean = sanitize(text, 10)
      assert.isUndefined(textProblem(clean))
      assert.isAtMost(clean.length, 10)
    }
    assert.strictEqual(sanitize("fine", 10), "fine")
    assert.strictEqual(sanitize("a\u0000", 10), "a\u2400")
  })

  it("can be told of any thrown value", () => {
    const hostile = {
      toString(): string {
        throw new Error("no")
      }
    }
    assert.strictEqual(shown(hostile), "(a value that cannot be shown)")
    assert.strictEqual(shown(Object.create(null)), "(a value that cannot be shown)")
    assert.strictEqual(shown(Symbol("s")), "Symbol(s)")
    assert.strictEqual(shown(new Error("why")), "why")
  })
})
