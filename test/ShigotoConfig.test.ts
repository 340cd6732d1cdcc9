import { assert, describe, it } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as ShigotoConfig from "../src/ShigotoConfig.ts"

const { make } = ShigotoConfig

/** What may not stand in a field, by the field's name; `as never` since the types forbid half of it already. */
const bad: ReadonlyArray<readonly [string, ReadonlyArray<ShigotoConfig.Options>]> = [
  [
    "queues",
    [{ queues: { "": 1 } }, { queues: { " a": 1 } }, { queues: { "a\nb": 1 } }, { queues: { ["x".repeat(129)]: 1 } }]
  ],
  ["queues", [{ queues: 5 as never }, { queues: ["default"] as never }, { queues: "default=10" as never }]],
  [
    "queues.mail",
    [0, -1, 1.5, Number.NaN, Infinity, 1e9, "10" as never, null as never].map((mail) => ({ queues: { mail } }))
  ],
  ["nodeName", ["", " a", "a\u0000", "x".repeat(129), "\ud800", 5 as never].map((nodeName) => ({ nodeName }))],
  ["migrate", ["yes", 1].map((migrate) => ({ migrate: migrate as never }))],
  ["listen", ["no", 0].map((listen) => ({ listen: listen as never }))],
  ["listenUrl", ["postgres://a:secret@b/c" as never, Redacted.make(5) as never].map((listenUrl) => ({ listenUrl }))],
  ["timeSource", ["server", true].map((timeSource) => ({ timeSource: timeSource as never }))],
  ...(["pollInterval", "idlePollInterval"] as const).map((field) =>
    durations(field, [0, -1, 9, Number.NaN, Infinity, "2 days", "soon" as never, {}])
  ),
  durations("shutdownGrace", [-1, Infinity, "25 hours", "x" as never]),
  durations("interruptGrace", [-1, Infinity, "2 hours"]),
  durations("leaseTtl", [0, -1, 999, Number.NaN, Infinity, "25 hours"]),
  durations("leaseBeat", [0, -1, 49, Infinity, "11 seconds"]),
  ["leaseBeat", [{ leaseTtl: "20 seconds" }, { leaseTtl: "3 seconds", leaseBeat: "1001 millis" }]],
  durations("queryTimeout", [0, -1, 99, Infinity]),
  durations("pruneInterval", [0, -1, 99, Infinity, "25 hours"]),
  ...(["completed", "discarded", "cancelled"] as const)
    .map((state) => ({
      0: `retention.${state}`,
      1: [-1, Infinity, "40000 days" as const, "for ever" as never].map((value) => ({ retention: { [state]: value } }))
    }))
    .map((row) => [row[0], row[1]] as const),
  ...(["maxArgsBytes", "maxResultBytes"] as const).map(
    (field) =>
      [
        field,
        [0, -1, 1.5, Number.NaN, Infinity, 64 * 1024 * 1024 + 1, "1" as never].map((value) => ({ [field]: value }))
      ] as const
  )
]

function durations(field: keyof ShigotoConfig.Options, values: ReadonlyArray<Duration.Input>) {
  return [field, values.map((value): ShigotoConfig.Options => ({ [field]: value }))] as const
}

describe("ShigotoConfig", () => {
  it.effect("has a default for everything", () =>
    Effect.gen(function* () {
      const config = yield* make()
      assert.strictEqual(config.schema, "shigoto")
      assert.deepStrictEqual([...config.queues], [["default", 10]])
      assert.strictEqual(Duration.toMillis(config.leaseTtl), 30_000)
      assert.strictEqual(Duration.toMillis(config.retention.discarded), 90 * 24 * 3_600_000)
      assert.isUndefined(config.listenUrl)
      assert.isUndefined(config.shedding)
      const optional = new Set(["listenUrl", "shedding"])
      for (const [field, value] of Object.entries(config)) if (!optional.has(field)) assert.isDefined(value, field)
    })
  )

  it.effect("says of an option that there is not which one may have been meant, and what it was given", () =>
    Effect.gen(function* () {
      const { message } = yield* Effect.flip(make({ queus: { a: 1 } } as never))
      assert.strictEqual(message, 'queus cannot be {"a":1}: there is no such option; the nearest is queues.')
    })
  )

  it.effect.each(bad)("refuses what %s cannot be, by its name", ([field, options]) =>
    Effect.forEach(
      options,
      Effect.fnUntraced(function* (option) {
        const error = yield* Effect.flip(make(option))
        assert.strictEqual(error._tag, "InvalidConfig")
        if (error._tag !== "InvalidConfig") return
        assert.strictEqual(error.field, field)
        assert.include(error.message, field)
        assert.notInclude(error.message, "secret")
        assert.notInclude(error.message, "undefined")
      }),
      { discard: true }
    )
  )

  it.effect("refuses schema names that cannot be quoted everywhere, or that are PostgreSQL's own", () =>
    Effect.gen(function* () {
      for (const schema of [
        "a.b",
        "$enqueue$",
        "back\\slash",
        "ö".repeat(21),
        "x".repeat(42),
        "x".repeat(64),
        "pg_temp",
        "pg_catalog",
        "information_schema",
        "public",
        "",
        " a",
        "a\n",
        5 as never
      ]) {
        const error = yield* Effect.flip(make({ schema }))
        assert.strictEqual(error._tag, "InvalidSchemaName", schema)
      }
      for (const schema of ["_x", "jobs_2", "x".repeat(41), "Select", "1 jöb", `'"; --`])
        assert.strictEqual((yield* make({ schema })).schema, schema)
    })
  )

  it.effect("takes the edges of every range", () =>
    Effect.gen(function* () {
      const config = yield* make({
        queues: { one: 1, many: ShigotoConfig.maxConcurrency, "__proto__ ü": 2 },
        leaseTtl: "1 second",
        leaseBeat: "333 millis",
        shutdownGrace: 0,
        retention: { completed: 0, discarded: "36525 days" },
        maxArgsBytes: 64 * 1024 * 1024
      })
      assert.deepStrictEqual([...config.queues.values()], [1, 100_000, 2])
      assert.strictEqual(Duration.toMillis(config.retention.completed), 0)
      assert.strictEqual(Duration.toMillis(config.retention.cancelled), 14 * 24 * 3_600_000)
    })
  )
})

describe("ShigotoConfig.layerFromEnv", () => {
  const load = (env: Record<string, string>, options?: ShigotoConfig.Options) =>
    ShigotoConfig.ShigotoConfig.pipe(
      Effect.provide(ShigotoConfig.layerFromEnv(options)),
      Effect.provide(ConfigProvider.layer(ConfigProvider.fromEnv({ env })))
    )

  it.effect("reads every variable, over the given options", () =>
    Effect.gen(function* () {
      const config = yield* load(
        {
          SHIGOTO_SCHEMA: "from_env",
          SHIGOTO_QUEUES: "default=3, mails = 5,__proto__=2",
          SHIGOTO_NODE_NAME: "eu-1",
          SHIGOTO_MIGRATE: "false",
          SHIGOTO_POLL_INTERVAL: "250 millis",
          SHIGOTO_SHUTDOWN_GRACE: "7 seconds",
          SHIGOTO_LISTEN: "no",
          SHIGOTO_LISTEN_URL: "postgres://direct"
        },
        { schema: "given", nodeName: "given", maxArgsBytes: 5 }
      )
      assert.strictEqual(config.schema, "from_env")
      assert.deepStrictEqual(
        [...config.queues],
        [
          ["default", 3],
          ["mails", 5],
          ["__proto__", 2]
        ]
      )
      assert.strictEqual(config.nodeName, "eu-1")
      assert.isFalse(config.migrate)
      assert.isFalse(config.listen)
      assert.strictEqual(Duration.toMillis(config.pollInterval), 250)
      assert.strictEqual(Duration.toMillis(config.shutdownGrace), 7000)
      assert.strictEqual(config.listenUrl && Redacted.value(config.listenUrl), "postgres://direct")
      assert.strictEqual(config.maxArgsBytes, 5)
    })
  )

  it.effect("falls back to the options, then to the defaults, and takes HOSTNAME as the node's name", () =>
    Effect.gen(function* () {
      const config = yield* load({ HOSTNAME: "box" }, { queues: { a: 1 } })
      assert.deepStrictEqual([...config.queues], [["a", 1]])
      assert.strictEqual(config.nodeName, "box")
      assert.strictEqual(config.schema, "shigoto")
      assert.strictEqual((yield* load({})).nodeName, "node")
    })
  )

  it.effect("refuses what it cannot read, with the name of the variable or the field", () =>
    Effect.gen(function* () {
      for (const [name, value] of [
        ["SHIGOTO_QUEUES", "default"],
        ["SHIGOTO_QUEUES", "default=ten"],
        ["SHIGOTO_QUEUES", "default=-1"],
        ["SHIGOTO_QUEUES", "a=1=2"],
        ["SHIGOTO_QUEUES", "a=1,"],
        ["SHIGOTO_QUEUES", "a=1, a=2"],
        ["SHIGOTO_MIGRATE", "perhaps"],
        ["SHIGOTO_POLL_INTERVAL", "soon"]
      ] as const) {
        const error = yield* Effect.flip(load({ [name]: value }))
        assert.include(error.message, name, value)
      }
      const error = yield* Effect.flip(load({ SHIGOTO_QUEUES: "a=0" }))
      assert.include(error.message, "queues.a")
    })
  )
})
