/** Every option of every part of admission, with every value that cannot be: refused by its name, before anything runs. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Job from "../src/Job.ts"
import * as Limit from "../src/Limit.ts"
import * as Limits from "../src/Limits.ts"
import * as ShigotoConfig from "../src/ShigotoConfig.ts"
import * as Workers from "../src/Workers.ts"
import { onDatabase, startNode } from "./integration/support.ts"

/** What is no count, no share, no duration and no choice, whatever the option. */
const never = [0, -1, Number.NaN, "many", null, {}, []]
const noCount = [...never, 1.5, Infinity, 1e9]
const noShare = [...never, 1.1, Infinity]
const noDuration = [0, -1, Number.NaN, "soon", null, "0 seconds", "-1 second"]
const noFunction = [1, "x", {}, true]
const noChoice = [0, Number.NaN, "magic", null, {}, ""]

const rate = { limit: 10, window: "1 second" }
const shed = { target: "1 second" }
type Table = ReadonlyArray<readonly [field: string, values: ReadonlyArray<unknown>, of: (value: unknown) => object]>

const ofWorkers: Table = [
  [
    "concurrency",
    noCount.filter((value) => typeof value !== "object" || value === null),
    (concurrency) => ({ concurrency })
  ],
  ["retry", [5, "1 second", null, {}, () => 1], (retry) => ({ retry })],
  ["globalConcurrency", noCount, (globalConcurrency) => ({ globalConcurrency })],
  ["rateLimit", [0, "fast", null, true], (rateLimit) => ({ rateLimit })],
  ["rateLimit.limit", noCount, (limit) => ({ rateLimit: { ...rate, limit } })],
  ["rateLimit.window", [...noDuration, "1 year", "1 milli"], (window) => ({ rateLimit: { ...rate, window } })],
  ["rateLimit.algorithm", noChoice, (algorithm) => ({ rateLimit: { ...rate, algorithm } })],
  ["rateLimit.burst", [...noCount, 11], (burst) => ({ rateLimit: { ...rate, algorithm: "token-bucket", burst } })],
  ["rateLimit.burst", [1, 5], (burst) => ({ rateLimit: { ...rate, burst } })],
  ["rateLimit.cost", [0, -1, Number.NaN, "much", null, {}, Infinity, 11], (cost) => ({ rateLimit: { ...rate, cost } })],
  ["rateLimit.cost", [3, 10], (cost) => ({ rateLimit: { ...rate, algorithm: "gcra", burst: 2, cost } })],
  ["rateLimit.perKey", [0, "yes", null, {}], (perKey) => ({ rateLimit: { ...rate, perKey } })],
  ["rateLimit.local", [0, "yes", null, {}], (local) => ({ rateLimit: { ...rate, local } })],
  ["rateLimit.windw", ["1 second"], (windw) => ({ rateLimit: { ...rate, windw } })],
  ["circuitBreaker", [0, "shared", null, true], (circuitBreaker) => ({ circuitBreaker })],
  ["circuitBreaker.state", noChoice, (state) => ({ circuitBreaker: { state } })],
  ["circuitBreaker.failureRate", noShare, (failureRate) => ({ circuitBreaker: { failureRate } })],
  ["circuitBreaker.window", noCount, (window) => ({ circuitBreaker: { window } })],
  ["circuitBreaker.window", [1001], (window) => ({ circuitBreaker: { state: "shared", window } })],
  ["circuitBreaker.openFor", [...noDuration, "100 days"], (openFor) => ({ circuitBreaker: { openFor } })],
  ["circuitBreaker.probes", noCount, (probes) => ({ circuitBreaker: { probes } })],
  ["circuitBreaker.slowerThan", noDuration, (slowerThan) => ({ circuitBreaker: { slowerThan } })],
  ["circuitBreaker.slowRate", noShare, (slowRate) => ({ circuitBreaker: { slowerThan: "1 second", slowRate } })],
  ["circuitBreaker.slowRate", [0.5], (slowRate) => ({ circuitBreaker: { slowRate } })],
  ["circuitBreaker.counts", noFunction, (counts) => ({ circuitBreaker: { counts } })],
  ["circuitBreaker.openfor", ["1 second"], (openfor) => ({ circuitBreaker: { openfor } })],
  ...adaptive("concurrency", (concurrency) => ({ concurrency })),
  ["concurrency.counts", noFunction, (counts) => ({ concurrency: { counts } })],
  ["globalConcurency", [3], (globalConcurency) => ({ globalConcurency })],
  ["retires", [3], (retires) => ({ retires })]
]

function adaptive(field: string, of: (options: object) => object): Table {
  return [
    [`${field}.algorithm`, noChoice, (algorithm) => of({ algorithm })],
    [`${field}.min`, noCount, (min) => of({ min })],
    [`${field}.max`, noCount, (max) => of({ max })],
    [`${field}.max`, [4], (max) => of({ min: 5, max })],
    [`${field}.initial`, noCount, (initial) => of({ initial })],
    [`${field}.initial`, [1, 11], (initial) => of({ min: 2, max: 10, initial })],
    [`${field}.backoff`, [...never, 1, 0.05], (backoff) => of({ backoff })],
    [`${field}.slowerThan`, noDuration, (slowerThan) => of({ slowerThan })],
    [`${field}.slowerThan`, ["1 second"], (slowerThan) => of({ algorithm: "gradient", slowerThan })],
    [`${field}.tolerance`, [...never, 0.5, Infinity], (tolerance) => of({ algorithm: "gradient", tolerance })],
    [`${field}.tolerance`, [2], (tolerance) => of({ tolerance })],
    [`${field}.window`, noCount, (window) => of({ algorithm: "gradient", window })],
    [`${field}.most`, [5], (most) => of({ most })]
  ]
}

const queue = (options: object) => ({ queues: { q: { concurrency: 1, ...options } } })
const ofConfig: Table = [
  ["queues.q", noCount.filter((value) => typeof value !== "object"), (concurrency) => ({ queues: { q: concurrency } })],
  ["queues.q", [0, -1, Number.NaN, "many", 1.5, 1e9], (concurrency) => queue({ concurrency })],
  ...adaptive("queues.q.concurrency", (concurrency) => queue({ concurrency })),
  ["queues.q.concurrency.counts", [() => true], (counts) => queue({ concurrency: { counts } })],
  ["queues.q.fair", [0, "yes", null, {}, { weight: 2 }], (fair) => queue({ fair })],
  ["queues.q.partitionConcurrency", noCount, (partitionConcurrency) => queue({ partitionConcurrency })],
  ["queues.q.rateLimit", [0, "fast", null], (rateLimit) => queue({ rateLimit })],
  ["queues.q.rateLimit.limit", noCount, (limit) => queue({ rateLimit: { ...rate, limit } })],
  ["queues.q.rateLimit.cost", [0, 11, Number.NaN, () => 1], (cost) => queue({ rateLimit: { ...rate, cost } })],
  ["queues.q.weight", [...never, Infinity, 1e-4], (weight) => queue({ weight })],
  ["queues.q.aging", [...noDuration, "40 days"], (aging) => queue({ aging })],
  ["queues.q.aging", ["1 minute"], (aging) => queue({ aging, fair: true })],
  ["queues.q.broadcast", [0, "yes", null], (broadcast) => queue({ broadcast })],
  ["queues.q.broadcast", [true], (broadcast) => queue({ broadcast, fair: true })],
  ["queues.q.broadcast.window", [...noDuration, "8 days"], (window) => queue({ broadcast: { window } })],
  ["shedding", [0, "much", null, true], (shedding) => ({ shedding })],
  ["shedding.maxInFlight", noCount, (maxInFlight) => ({ shedding: { maxInFlight } })],
  ["shedding.target", noDuration, (target) => ({ shedding: { target } })],
  ["shedding.interval", [...noDuration, "1 milli"], (interval) => ({ shedding: { ...shed, interval } })],
  ["shedding.levels", [0, "low", null, {}, []], (levels) => ({ shedding: { ...shed, levels } })],
  [
    "shedding.levels[0].below",
    [Number.NaN, "low", 1.5, 1e9, -1e9],
    (below) => ({
      shedding: { ...shed, levels: [{ below, share: 0.5 }] }
    })
  ],
  ["shedding.levels[0].share", noShare, (share) => ({ shedding: { ...shed, levels: [{ below: 0, share }] } })],
  ["shedding.targets", ["1 second"], (targets) => ({ shedding: { ...shed, targets } })],
  ["queues.q", ["1 second"], (agin) => queue({ agin })],
  ["queues.q.broadcast", ["1 minute"], (windows) => queue({ broadcast: { window: "1 minute", windows } })],
  ["polInterval", ["1 second"], (polInterval) => ({ polInterval })],
  [
    "queues.r.rateLimit",
    [2, 5],
    (limit) => ({
      queues: {
        q: { concurrency: 1, rateLimit: Limit.make("api", { limit: 1, window: "1 second" }) },
        r: { concurrency: 1, rateLimit: Limit.make("api", { limit: limit as number, window: "1 second" }) }
      }
    })
  ],
  ["retention", ["1 day"], (complete) => ({ retention: { complete } })]
]

const ofDefinitions: Table = [
  ["expiresIn", [...noDuration, {}, Infinity], (expiresIn) => ({ expiresIn })],
  ["onExpire", [0, "explode", null, {}], (onExpire) => ({ expiresIn: "1 second", onExpire })],
  ["partitionKey", ["a", 0, null, {}], (partitionKey) => ({ partitionKey })],
  ["maxAttempt", [3], (maxAttempt) => ({ maxAttempt })],
  ["retry", [3], (retry) => ({ retry })]
]

const fieldOf = (error: unknown): unknown =>
  typeof error === "object" && error !== null && "field" in error ? error.field : error

const told = (value: unknown): string =>
  typeof value === "function" ? "a function" : typeof value === "number" ? String(value) : JSON.stringify(value)

const Work = Job.make("work", { error: Schema.String })

describe("an option that cannot be", () => {
  for (const [field, values, of] of ofWorkers) {
    it.effect(`of a worker is refused at start: ${field}, ${values.map(told).join(", ")}`, () =>
      Effect.forEach(values, (value) =>
        Effect.gen(function* () {
          const layer = Effect.suspend(() =>
            Layer.build(Work.toLayer(() => Effect.void, of(value) as never).pipe(Layer.provide(Workers.layer)))
          )
          const exit = yield* Effect.exit(Effect.scoped(layer))
          assert.isTrue(Exit.isFailure(exit), `${told(value)} was taken`)
          const reason = Exit.isFailure(exit) ? exit.cause.reasons[0] : undefined
          assert.strictEqual(reason?._tag === "Die" ? fieldOf(reason.defect) : reason, field, told(value))
        })
      )
    )
  }

  for (const [field, values, of] of ofConfig) {
    it.effect(`of the configuration is refused at start: ${field}, ${values.map(told).join(", ")}`, () =>
      Effect.forEach(values, (value) =>
        Effect.gen(function* () {
          const exit = yield* Effect.exit(ShigotoConfig.make(of(value) as never))
          assert.isTrue(Exit.isFailure(exit), `${told(value)} was taken`)
          const reason = Exit.isFailure(exit) ? exit.cause.reasons[0] : undefined
          assert.strictEqual(reason?._tag === "Fail" ? fieldOf(reason.error) : reason, field, told(value))
        })
      )
    )
  }

  for (const [field, values, of] of ofDefinitions) {
    it(`of a definition is refused where it is made: ${field}, ${values.map(told).join(", ")}`, () => {
      for (const value of values) {
        try {
          Job.make("work", of(value))
        } catch (error) {
          assert.strictEqual(fieldOf(error), field, told(value))
          continue
        }
        assert.fail(`${told(value)} was taken`)
      }
    })
  }

  onDatabase("of a change at run time is refused at the call, and changes nothing", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const node = yield* startNode()
      const api = Limit.make("api", rate as Limit.Options)
      const calls = (value: never) => (service: Limits.Limits["Service"]) =>
        [
          ["amount", service.charge(api, value)],
          ["retryAfter", service.backOff(api, value)],
          ["rateLimit.limit", service.change(api, { limit: value, window: "1 second" })],
          ["rateLimit.window", service.change(api, { limit: 10, window: value })],
          ["rateLimit.burst", service.change(api, { ...rate, algorithm: "gcra", burst: value } as Limits.Rate)],
          ["concurrency", service.changeConcurrency("work", value)]
        ] as const
      const refused = Effect.gen(function* () {
        const service = yield* Limits.Limits
        for (const value of [0, -1, Number.NaN, "many", Infinity]) {
          for (const [field, call] of calls(value as never)(service)) {
            // Units may be given back, and none be charged.
            if (field === "amount" && (value === 0 || value === -1)) continue
            assert.strictEqual(fieldOf(yield* Effect.flip(call)), field, told(value))
          }
        }
      })
      yield* node.run(Effect.orDie(refused))
      assert.deepStrictEqual(yield* sql`SELECT FROM shigoto.limits`, [])
    })
  )

  it("is told with the one that it may have been meant for", () => {
    const refused = (options: object): unknown => {
      try {
        Job.make("work", options)
      } catch (error) {
        return error instanceof Error ? error.message : error
      }
      return undefined
    }
    assert.strictEqual(
      refused({ maxAttempt: 3 }),
      'The definition of "work" cannot be given "maxAttempt": there is no such option; the nearest is maxAttempts.'
    )
    assert.strictEqual(
      refused({ arg: {} }),
      'The definition of "work" cannot be given "arg": there is no such option; the nearest is args.'
    )
    assert.match(String(refused({ color: "red" })), /"color": there is no such option; there are args, success, error/)
    assert.throws(
      () => Limit.make("api", { ...rate, algorythm: "gcra" } as Limit.Options),
      /rateLimit\.algorythm cannot be .*the nearest is algorithm/
    )
  })

  it.effect(
    "is one of two workers that say different things of a rate which they share, whatever a job takes of it",
    () =>
      Effect.gen(function* () {
        const layer = (other: Limit.Limit) =>
          Layer.mergeAll(
            Job.make("one").toLayer(() => Effect.void, { rateLimit: Limit.make("api", rate as Limit.Options) }),
            Job.make("two").toLayer(() => Effect.void, { rateLimit: other })
          ).pipe(Layer.provide(Workers.layer))
        const build = (options: object) =>
          Effect.exit(Effect.scoped(Layer.build(layer(Limit.make("api", { ...rate, ...options } as Limit.Options)))))
        assert.isTrue(Exit.isSuccess(yield* build({ cost: 3 })))
        for (const options of [{ limit: 11 }, { algorithm: "gcra" }, { perKey: true }, { local: true }]) {
          const exit = yield* build(options)
          const reason = Exit.isFailure(exit) ? exit.cause.reasons[0] : undefined
          const error = reason?._tag === "Die" ? reason.defect : undefined
          assert.strictEqual(fieldOf(error), "rateLimit")
          assert.match((error as Error).message, /different things of the rate "api", which they share/)
        }
        const queues = ShigotoConfig.layer({
          queues: { q: { concurrency: 1, rateLimit: Limit.make("api", { limit: 11, window: "1 second" }) } }
        })
        const built = Layer.build(layer(Limit.make("api", rate as Limit.Options)).pipe(Layer.provide(queues)))
        const refused = yield* Effect.exit(Effect.scoped(built))
        assert.match(JSON.stringify(refused), /and \\"queue q\\" say different things/)
      })
  )

  it("of a limit is refused where it is made", () => {
    assert.throws(() => Limit.make(" ", rate as Limit.Options), /rateLimit\.name/)
    assert.throws(() => Limit.make("api", { ...rate, limit: 0 } as Limit.Options), /rateLimit\.limit/)
  })
})
