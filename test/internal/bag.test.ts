import { assert, describe, it } from "@effect/vitest"
import { makeBag, nowhere } from "../../src/internal/bag.ts"

const member = (name: string) => ({ name, at: nowhere, elsewhere: nowhere })
const names = (members: ReadonlyArray<{ readonly name: string }>) => members.map(({ name }) => name).toSorted()

describe("bag", () => {
  it("holds what was added until it is deleted, wherever that is", () => {
    const bag = makeBag<"at", ReturnType<typeof member>>("at")
    const [a, b, c] = [member("a"), member("b"), member("c")]
    for (const each of [a, b, c]) bag.add(each)
    assert.deepStrictEqual(names(bag.all()), ["a", "b", "c"])
    bag.delete(a)
    assert.deepStrictEqual(names(bag.all()), ["b", "c"])
    assert.deepStrictEqual([bag.has(a), bag.has(b), bag.size()], [false, true, 2])
    bag.delete(c)
    bag.delete(b)
    assert.deepStrictEqual(bag.all(), [])
    bag.add(a)
    assert.deepStrictEqual(names(bag.all()), ["a"])
  })

  it("holds a member once, and lets go of one that it does not hold", () => {
    const bag = makeBag<"at", ReturnType<typeof member>>("at")
    const [a, b] = [member("a"), member("b")]
    bag.add(a)
    bag.add(a)
    bag.delete(b)
    assert.strictEqual(bag.size(), 1)
    bag.delete(a)
    bag.delete(a)
    assert.strictEqual(bag.size(), 0)
  })

  it("keeps the places of two bags apart, and a list of members from what comes after it", () => {
    const one = makeBag<"at", ReturnType<typeof member>>("at")
    const two = makeBag<"elsewhere", ReturnType<typeof member>>("elsewhere")
    const [a, b] = [member("a"), member("b")]
    one.add(a)
    two.add(b)
    two.add(a)
    const before = two.all()
    two.delete(a)
    assert.deepStrictEqual([one.has(a), two.has(a), two.has(b)], [true, false, true])
    assert.deepStrictEqual(names(before), ["a", "b"])
  })
})
