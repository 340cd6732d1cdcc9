import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { SchemaVersionMismatch } from "../../src/ShigotoError.ts"
import { tell } from "../../src/cli/internal/exit.ts"
import { readDuration } from "../../src/cli/internal/moment.ts"
import { type Column, layout } from "../../src/cli/internal/screen.ts"
import * as text from "../../src/cli/internal/text.ts"
import * as Duration from "effect/Duration"

const plain = (value: string): string => value

describe("text for a terminal", () => {
  it.effect.prop("holds nothing that a terminal obeys, whatever it is made of", { value: Schema.String }, ({ value }) =>
    Effect.sync(() => {
      for (const shown of [text.line(value), ...text.lines(value), text.json({ [value]: value })]) {
        assert.notMatch(shown, /\p{Cc}|[\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]|\p{Cs}/u)
      }
      // What was escaped as JSON is read as what it was.
      assert.deepStrictEqual(JSON.parse(text.json([value])), [value])
    })
  )

  it("shows what it takes out", () => {
    assert.strictEqual(text.line("a\u001b[31mb\u009bc\u202ed\u0000\ne\tf"), "a\\x1b[31mb\\x9bc\\u202ed\\x00 e f")
    assert.deepStrictEqual(text.lines("a\r\nb\n\u001bc"), ["a", "b", "\\x1bc"])
    assert.strictEqual(text.json("\u009b\u202e\u007f"), `"\\u009b\\u202e\\u007f"`)
    assert.strictEqual(text.line("\ud800x"), "\\ud800x")
    assert.strictEqual(text.line("日本語 👩‍👩‍👧 é"), "日本語 👩‍👩‍👧 é")
  })

  it("cuts between graphemes, to columns and not to characters", () => {
    assert.strictEqual(text.cut("日本語のキュー", 14), "日本語のキュー")
    assert.strictEqual(text.cut("日本語のキュー", 8), "日本語…")
    assert.strictEqual(text.cut("👩‍👩‍👧👩‍👩‍👧", 3), "👩‍👩‍👧…")
    assert.strictEqual(text.cut("ééé", 2), "é…")
    assert.strictEqual(text.cut("abc", 0), "")
    for (let columns = 1; columns < 20; columns++) {
      assert.isAtMost(text.width(text.cut("a日b本c語👩‍👩‍👧é", columns)), columns)
    }
  })

  it("breaks between words where a line is too wide, and colours take no room", () => {
    assert.deepStrictEqual(text.wrap("one two three", 7), ["one two", "three"])
    assert.deepStrictEqual(text.wrap("one two", 7), ["one two"])
    assert.deepStrictEqual(text.wrap("a-word-that-is-wider than", 8), ["a-word-that-is-wider", "than"])
    assert.deepStrictEqual(text.wrap("\u001b[31mone\u001b[0m 日本 x", 8), ["\u001b[31mone\u001b[0m 日本", "x"])
  })

  it("tells durations and numbers", () => {
    const told = [0, 999, 1000, 9999, 10_000, 61_000, 3_600_000, 3_660_000, 86_400_000, 90_000_000].map(text.duration)
    assert.deepStrictEqual(told, ["0ms", "999ms", "1.0s", "9.9s", "10s", "1m1s", "1h", "1h1m", "1d", "1d1h"])
    assert.strictEqual(text.relative(1000, 61_000), "1m ago")
    assert.strictEqual(text.relative(61_000, 1000), "in 1m")
    assert.deepStrictEqual([text.count(999), text.count(1_234_567)], ["999", "1 234 567"])
    assert.deepStrictEqual([text.many(1, "job"), text.many(0, "job")], ["1 job", "0 jobs"])
  })
})

describe("tables", () => {
  const head: ReadonlyArray<Column> = [
    { title: "ID", align: "right" },
    { title: "NAME", shrinkTo: 4 },
    { title: "MORE", optional: 1 },
    { title: "LAST", optional: 2 }
  ]
  const rows = [
    ["1", "日本語のキュー", "more", "last"],
    ["22", "b", "m", "l"]
  ]

  it("are as wide as they must be where there is room", () => {
    assert.deepStrictEqual(layout(head, rows, 80, plain), [
      "ID  NAME            MORE  LAST",
      " 1  日本語のキュー  more  last",
      "22  b               m     l"
    ])
  })

  it("cut what may be cut first, then leave out what is least", () => {
    assert.deepStrictEqual(layout(head, rows, 22, plain), [
      "ID  NAME    MORE  LAST",
      " 1  日本…   more  last",
      "22  b       m     l"
    ])
    assert.deepStrictEqual(layout(head, rows, 15, plain), ["ID  NAME   MORE", " 1  日本…  more", "22  b      m"])
    assert.deepStrictEqual(layout(head, rows, 8, plain), ["ID  NAME", " 1  日…", "22  b"])
  })

  it("never are wider than the terminal", () => {
    for (let columns = 1; columns < 40; columns++) {
      for (const line of layout(head, rows, columns, plain)) assert.isAtMost(text.width(line), columns, line)
    }
  })
})

describe("durations as typed", () => {
  it.effect("are read, or refused by the flag's name", () =>
    Effect.gen(function* () {
      for (const [typed, millis] of [
        ["90s", 90_000],
        ["1h30m", 5_400_000],
        ["14d", 1_209_600_000],
        ["0s", 0],
        ["5 minutes", 300_000]
      ] as const) {
        assert.strictEqual(Duration.toMillis(yield* readDuration("in", typed)), millis, typed)
      }
      for (const typed of ["", "5", "5x", "h", "1h 30m", "-5m", "soon"]) {
        const refused = yield* Effect.flip(readDuration("in", typed))
        assert.include(refused.message, "--in cannot be")
      }
    })
  )
})

describe("failures", () => {
  it("are told in the words of the server, and never as a stack", () => {
    const refused = {
      _tag: "StorageUnavailable",
      message: "list failed: x",
      code: "",
      cause: new Error("connect ECONNREFUSED")
    }
    assert.deepInclude(tell(refused), { code: 1, message: "The database does not answer: connect ECONNREFUSED" })
    const slow = {
      _tag: "StorageUnavailable",
      message: "list failed",
      code: "57014",
      cause: new Error("canceling statement")
    }
    assert.include(tell(slow).message ?? "", "took too long")
    assert.include(tell(slow).hint ?? "", "Narrow the filter")
    const stranger = {
      _tag: "StorageError",
      message: "migrate failed (SQLSTATE 28P01): password authentication failed",
      code: "28P01",
      cause: new Error(`password authentication failed for user "app"`)
    }
    assert.deepInclude(tell(stranger), {
      code: 1,
      message: `The database does not let us in: password authentication failed for user "app"`
    })
    assert.include(tell(stranger).hint ?? "", "Check the user, the password")
    assert.include(tell({ ...stranger, code: "42501" }).hint ?? "", "shigoto migrate grants")
    assert.deepStrictEqual(
      tell(
        new SchemaVersionMismatch({
          found: 0,
          expected: 12,
          message: `The schema "s" has no Shigoto tables. Provide Migrations.layer once.`
        })
      ),
      { code: 4, message: `The schema "s" has no Shigoto tables.`, hint: "Run: shigoto migrate" }
    )
    assert.deepInclude(tell({ _tag: "JobNotFound", message: "There is no job 1." }), {
      code: 3,
      message: "There is no job 1."
    })
    assert.strictEqual(tell({ _tag: "InvalidQueueName", message: "no" }).code, 2)
  })
})
