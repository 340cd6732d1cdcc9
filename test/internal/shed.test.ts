import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { capacityOf, floorOf, neverShed, noteWait, noWaits } from "../../src/internal/shed.ts"
import * as LoadShedding from "../../src/LoadShedding.ts"

const rule = (options: LoadShedding.Options): LoadShedding.Rule =>
  Result.getOrThrow(LoadShedding.check(options, 100_000))

const upTo = (maximum: number, minimum = 0) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))

const levels = [
  { below: -10, share: 0.5 },
  { below: 0, share: 0.8 },
  { below: 10, share: 1 }
]

describe("capacity", () => {
  it.prop(
    "never lets in more than fits, nor a priority beyond its share",
    [upTo(60, 1), Schema.Array(upTo(40))],
    ([most, asked]) => {
      const one = rule({ maxInFlight: most, levels })
      let running = 0
      for (const wanted of asked) {
        const { floor, room } = capacityOf(one, running)
        const started = Math.min(wanted, room)
        running += started
        assert.isAtMost(running, most)
        // Whatever the claim brings, jobs of a level start only within its share.
        for (const { below, share } of levels) {
          if (started > 0 && (floor === undefined || floor < below)) assert.isAtMost(running, Math.ceil(share * most))
        }
        if (room === 0) assert.strictEqual(running, most)
        if (running === most) running = 0
      }
    }
  )

  it("sheds the lowest first", () => {
    const one = rule({ maxInFlight: 10, levels })
    assert.deepStrictEqual(capacityOf(one, 0), { room: 5, floor: undefined })
    assert.deepStrictEqual(capacityOf(one, 5), { room: 3, floor: -10 })
    assert.deepStrictEqual(capacityOf(one, 8), { room: 2, floor: 0 })
    assert.deepStrictEqual(capacityOf(one, 10), { room: 0, floor: 10 })
    assert.deepStrictEqual(capacityOf(rule({ target: 1 }), 1e6), { room: Infinity, floor: undefined })
    assert.strictEqual(neverShed(one), 10)
  })
})

describe("waits", () => {
  const one = rule({ target: 100, interval: 1000, levels })
  const feed = (told: ReadonlyArray<readonly [at: number, wait: number]>) =>
    told.reduce((waits, [at, wait]) => noteWait(one, waits, wait, at), noWaits)

  it("shed nothing before all have been too long for an interval", () => {
    assert.strictEqual(
      feed([
        [0, 100],
        [999, 5000]
      ]).depth,
      0
    )
    assert.strictEqual(
      feed([
        [0, 100],
        [1000, 100]
      ]).depth,
      1
    )
    // A single one that was short shows that nothing stands.
    assert.strictEqual(
      feed([
        [0, 100],
        [999, 99],
        [1000, 500],
        [1999, 500]
      ]).depth,
      0
    )
  })

  it("shed one level after another, sooner each time, and nothing more at the first that is short", () => {
    const first = feed([
      [0, 500],
      [1000, 500]
    ])
    assert.strictEqual(floorOf(one, first, 1000), -10)
    assert.strictEqual(noteWait(one, first, 500, 1700).depth, 1)
    const second = noteWait(one, first, 500, 1708)
    assert.strictEqual(floorOf(one, second, 1708), 0)
    const third = noteWait(one, second, 500, 1708 + 578)
    assert.strictEqual(floorOf(one, third, 2286), 10)
    assert.strictEqual(noteWait(one, third, 500, 9000).depth, 3)
    assert.isUndefined(floorOf(one, noteWait(one, third, 0, 2300), 2300))
  })

  it("that nothing was heard of for ten intervals shed nothing", () => {
    const shed = feed([
      [0, 500],
      [1000, 500]
    ])
    assert.strictEqual(floorOf(one, shed, 11_000), -10)
    assert.isUndefined(floorOf(one, shed, 11_001))
  })

  it.prop(
    "never go deeper than an interval allows, nor shed what is never shed",
    [
      Schema.Array(Schema.Struct({ after: upTo(1500), wait: Schema.Literals([0, 99, 100, 100, 5000, 5000]) })).check(
        Schema.isMinLength(30)
      )
    ],
    ([told]) => {
      let waits = noWaits
      let now = 0
      let shortAt = 0
      for (const { after, wait } of told) {
        now += after
        if (wait < 100) shortAt = now
        waits = noteWait(one, waits, wait, now)
        assert.isAtMost(waits.depth, levels.length)
        if (waits.depth > 0) assert.isAtLeast(now - shortAt, 1000)
        assert.isTrue((floorOf(one, waits, now) ?? -Infinity) <= neverShed(one))
      }
    }
  )
})

describe("load shedding", () => {
  it("has defaults, and refuses what cannot be used, with the field's name", () => {
    assert.deepStrictEqual(rule({ maxInFlight: 5 }), {
      maxInFlight: 5,
      targetMillis: Infinity,
      intervalMillis: Infinity,
      levels: [{ below: 0, share: 0.8 }]
    })
    assert.deepInclude(rule({ target: "1 second" }), { maxInFlight: Infinity, intervalMillis: 10_000 })
    const refused: ReadonlyArray<readonly [string, object]> = [
      ["target", {}],
      ["maxInFlight", { maxInFlight: 0 }],
      ["maxInFlight", { maxInFlight: Number.NaN }],
      ["maxInFlight", { maxInFlight: 100_001 }],
      ["target", { target: 0 }],
      ["target", { target: "soon" }],
      ["interval", { maxInFlight: 1, interval: 5 }],
      ["interval", { target: 10, interval: 9 }],
      ["interval", { target: 10, interval: "soon" }],
      ["levels", { maxInFlight: 1, levels: [] }],
      ["levels", { maxInFlight: 1, levels: 3 }],
      ["levels[0].below", { maxInFlight: 1, levels: [{ below: 0.5, share: 1 }] }],
      [
        "levels[1].below",
        {
          maxInFlight: 1,
          levels: [
            { below: 0, share: 0.1 },
            { below: 0, share: 1 }
          ]
        }
      ],
      ["levels[0].share", { maxInFlight: 1, levels: [{ below: 0, share: 0 }] }],
      [
        "levels[1].share",
        {
          maxInFlight: 1,
          levels: [
            { below: 0, share: 0.9 },
            { below: 1, share: 0.9 }
          ]
        }
      ],
      ["levels[0].share", { maxInFlight: 1, levels: [{ below: 0, share: Number.NaN }] }],
      ["maximum", { maxInFlight: 1, maximum: 4 }]
    ]
    for (const [field, options] of refused) {
      const checked = LoadShedding.check(options, 100_000)
      assert.isTrue(Result.isFailure(checked), `${field} of ${JSON.stringify(options)}`)
      if (Result.isFailure(checked)) assert.strictEqual(checked.failure.field, `shedding.${field}`)
    }
  })
})
