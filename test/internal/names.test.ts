import { assert, describe, it } from "@effect/vitest"
import { maxNameBytes, nameProblem, shown } from "../../src/internal/names.ts"
import { oddNames } from "../setup/oddNames.ts"

const badNames: ReadonlyArray<readonly [unknown, RegExp]> = [
  ["", /empty/],
  ["x".repeat(maxNameBytes + 1), /129 bytes, the limit is 128/],
  ["\u{1f600}".repeat(33), /132 bytes/],
  ["x".repeat(1024), /1024 bytes/],
  ["a\nb", /control character/],
  ["a\tb", /control character/],
  ["a\u0000", /control character/],
  ["a\u0085b", /control character/],
  ["a\u2028b", /control character/],
  [" a", /white space/],
  ["a ", /white space/],
  ["\u3000a", /white space/],
  ["a\ud800", /unpaired surrogate/],
  [undefined, /undefined/],
  [null, /object/],
  [1, /number/],
  [{}, /object/],
  [Symbol("s"), /symbol/]
]

describe("names", () => {
  it.each(oddNames)("may be %j", (name) => assert.isUndefined(nameProblem(name)))
  it.each(badNames)("may not be %j", (name, problem) => assert.match(nameProblem(name) ?? "", problem))

  it("are shown on one line, bounded, whatever they are", () => {
    assert.strictEqual(shown("a\nb"), '"a\\nb"')
    assert.isAtMost(shown("x".repeat(10_000)).length, 80)
    assert.strictEqual(shown(Symbol("s")), "Symbol(s)")
    assert.strictEqual(shown(Object.create(null)), "(a object that cannot be shown)")
  })
})
