import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Job from "../src/Job.ts"
import * as Limit from "../src/Limit.ts"
import { InvalidConfig } from "../src/ShigotoError.ts"
import * as Workers from "../src/Workers.ts"

const usable: Limit.Options = { limit: 10, window: "1 second" }

describe("Limit.make", () => {
  const refused: ReadonlyArray<readonly [field: string, options: Limit.Options]> = [
    ...[0, -1, 1.5, Number.NaN, Infinity, 1_000_001].map((limit) => ["limit", { ...usable, limit }] as const),
    ...[0, -1, Number.NaN, Infinity, 9].map((window) => ["window", { ...usable, window }] as const),
    ["algorithm", { ...usable, algorithm: "magic" as never }],
    ["burst", { ...usable, burst: 5 }],
    ["burst", { ...usable, algorithm: "leaky-bucket", burst: 5 }],
    ...[0, -1, 11, Number.NaN].map((burst) => ["burst", { ...usable, algorithm: "gcra", burst }] as const),
    ...[0, -1, Number.NaN, Infinity, 11].map((cost) => ["cost", { ...usable, cost }] as const),
    ["cost", { ...usable, algorithm: "token-bucket", burst: 2, cost: 3 }],
    ["perKey", { ...usable, perKey: "yes" as never }]
  ]
  for (const [field, options] of refused) {
    it(`refuses ${field} of ${JSON.stringify(options)}`, () => {
      try {
        Limit.make("api", options)
      } catch (error) {
        assert.instanceOf(error, InvalidConfig)
        return assert.strictEqual(error.field, `rateLimit.${field}`)
      }
      assert.fail("it was taken")
    })
  }

  it("refuses a name that is none", () => {
    assert.throws(() => Limit.make(" ", usable), /rateLimit\.name/)
  })
})

describe("toLayer", () => {
  const Work = Job.make("work")
  for (const options of [
    { globalConcurrency: 0 },
    { globalConcurrency: -1 },
    { globalConcurrency: Number.NaN },
    { rateLimit: { limit: 0, window: "1 second" } }
  ] satisfies ReadonlyArray<Parameters<typeof Work.toLayer>[1]>) {
    it.effect(`refuses ${JSON.stringify(options)} at start`, () =>
      Effect.gen(function* () {
        const exit = yield* Effect.exit(
          Effect.scoped(Layer.build(Work.toLayer(() => Effect.void, options).pipe(Layer.provide(Workers.layer))))
        )
        assert.isTrue(Exit.isFailure(exit))
        assert.match(JSON.stringify(exit), /globalConcurrency|rateLimit\.limit/)
      })
    )
  }
})
