import { assert, describe, it } from "@effect/vitest"
import type { QueueColumns } from "../src/internal/sql/promote.ts"
import { effective } from "../src/Queues.ts"

const wish = (node: string, of: Partial<QueueColumns>): QueueColumns => ({
  name: "a",
  node,
  concurrency: null,
  paused: false,
  removed: false,
  ...of
})

const rows: ReadonlyArray<
  readonly [string, ReadonlyArray<QueueColumns>, { concurrency: number; paused: boolean } | undefined]
> = [
  ["nothing is asked", [], { concurrency: 10, paused: false }],
  ["all are scaled", [wish("", { concurrency: 3 })], { concurrency: 3, paused: false }],
  ["this node is scaled", [wish("me", { concurrency: 4 })], { concurrency: 4, paused: false }],
  [
    "both are scaled, in either order",
    [wish("me", { concurrency: 4 }), wish("", { concurrency: 3 })],
    { concurrency: 4, paused: false }
  ],
  ["another node is asked", [wish("other", { concurrency: 4, paused: true })], { concurrency: 10, paused: false }],
  ["all are paused", [wish("", { paused: true })], { concurrency: 10, paused: true }],
  ["this node is paused", [wish("me", { paused: true })], { concurrency: 10, paused: true }],
  [
    "all are paused and this node is not",
    [wish("", { paused: true }), wish("me", { paused: false })],
    { concurrency: 10, paused: true }
  ],
  ["it is removed everywhere", [wish("", { removed: true })], undefined],
  ["it is removed here", [wish("me", { removed: true })], undefined],
  [
    "it is removed here and scaled everywhere",
    [wish("", { concurrency: 3 }), wish("me", { removed: true })],
    undefined
  ],
  [
    "it is removed everywhere and added here",
    [wish("", { removed: true }), wish("me", { concurrency: 2 })],
    { concurrency: 2, paused: false }
  ],
  [
    "it is removed everywhere and only paused here",
    [wish("", { removed: true }), wish("me", { paused: true })],
    undefined
  ]
]

describe("Queues.effective", () => {
  it.each(rows)("joins configuration and wishes when %s", (_, wishes, expected) => {
    const state = effective(new Map([["a", 10]]), wishes, "me").get("a")
    assert.deepStrictEqual(state, expected === undefined ? undefined : { name: "a", ...expected })
  })

  it("runs a queue that nobody configured once a concurrency is asked for, and not for a pause alone", () => {
    const configured = new Map([["default", 10]])
    assert.deepStrictEqual([...effective(configured, [wish("", { concurrency: 2 })], "me").keys()], ["default", "a"])
    assert.deepStrictEqual([...effective(configured, [wish("", { paused: true })], "me").keys()], ["default"])
  })
})
