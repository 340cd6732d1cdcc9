/**
 * The bad-input matrix of a producer and an operator: each row is refused with a typed error that names the field and
 * the limit, before anything is written.
 */
import { assert, layer } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import { inspect } from "node:util"
import * as Job from "../src/Job.ts"
import type { JobId } from "../src/JobRow.ts"
import { Jobs } from "../src/Jobs.ts"
import { Queues } from "../src/Queues.ts"
import { layerProducer } from "./setup/producer.ts"

const Any = Job.make("any", { args: Schema.Unknown })
const Typed = Job.make("typed", { args: { to: Schema.String, list: Schema.optional(Schema.Array(Schema.Int)) } })
const Loose = Job.make("loose", { args: Schema.Any })

const trap = (): never => {
  throw new Error("trap")
}
const nested = (depth: number): unknown => Array.from({ length: depth }).reduce((inner) => [inner], 1)
const cycle: Record<string, unknown> = {}
cycle["self"] = { again: cycle }
class Point {
  x = 1
}

/** What is refused: the field's tag, where, and why; the error's fields and message together match all patterns. */
type Row = readonly [
  name: string,
  call: Effect.Effect<unknown, { readonly _tag: string; readonly message: string }, Jobs | Queues>,
  tag: string,
  ...patterns: ReadonlyArray<RegExp | string>
]

/** Args that are no JSON, whatever schema lets them through. */
const notJson: ReadonlyArray<readonly [name: string, value: unknown, path: string, reason: RegExp]> = [
  ["NUL in a value", { a: { b: "x\u0000" } }, "$.a.b", /NUL/],
  ["NUL in a key", { "a\u0000b": 1 }, "$.a\u2400b", /NUL in a key/],
  ["an unpaired surrogate", { a: ["\ud800"] }, "$.a[0]", /unpaired surrogate/],
  ["NaN", { a: { b: [1, Number.NaN] } }, "$.a.b[1]", /NaN/],
  ["Infinity", { a: Infinity }, "$.a", /Infinity/],
  ["-Infinity", { a: -Infinity }, "$.a", /-Infinity/],
  ["a bigint", { a: 1n }, "$.a", /bigint/],
  ["a function", { a: trap }, "$.a", /function/],
  ["a symbol", { a: Symbol("s") }, "$.a", /symbol/],
  ["a Map", { a: new Map() }, "$.a", /Map/],
  ["a Set", { a: new Set() }, "$.a", /Set/],
  ["a Date without a schema", { a: new Date(0) }, "$.a", /Date/],
  ["a class instance", { a: new Point() }, "$.a", /Point/],
  ["undefined", undefined, "$", /undefined/],
  ["a sparse array", { a: Object.assign([1], { length: 3 }) }, "$.a[1]", /hole/],
  ["a circle", cycle, "$.self.again", /cycle/],
  ["a nesting of 300", nested(300), "$[0][0]", /depth.*256/],
  ["a toJSON that throws", { a: { toJSON: trap } }, "$.a", /toJSON/],
  ["a proxy that throws", { a: new Proxy({}, { ownKeys: trap }) }, "$", /threw: trap/]
]

const rows: ReadonlyArray<Row> = [
  // args
  ...notJson.flatMap(([name, value, path, reason]): ReadonlyArray<Row> => [
    [`args: ${name}`, Any.enqueue(value), "InvalidArgs", /"any"/, path, reason],
    [`args: ${name} that a schema lets pass`, Loose.enqueue(value), "InvalidArgs", /"loose"/, path, reason]
  ]),
  ["args: a nesting of 10,000", Any.enqueue(nested(10_000)), "InvalidArgs", /depth.*256/],
  [
    "args: a getter that throws",
    Typed.enqueue(Object.defineProperty({ to: "x" }, "to", { get: trap, enumerable: true })),
    "InvalidArgs",
    /threw: trap/
  ],
  ["args: another type", Typed.enqueue({ to: 5 as never }), "InvalidArgs", "$.to", /Expected string/],
  ["args: a missing field", Typed.enqueue({} as never), "InvalidArgs", "$.to"],
  ["args: null", Typed.enqueue(null as never), "InvalidArgs", "$"],
  ["args: an element", Typed.enqueue({ to: "x", list: [1, 2.5] }), "InvalidArgs", "$.list[1]"],
  [
    "args: a Date that is none, with a schema",
    Job.make("dated", { args: { at: Schema.Date } }).enqueue({ at: new Date(Number.NaN) }),
    "InvalidArgs",
    "$.at"
  ],
  ["args: 20 MB", Any.enqueue({ a: "x".repeat(20 * 1024 * 1024) }), "ArgsTooLarge", /1048576/],
  ["args: a byte too many", Any.enqueue("x".repeat(1024 * 1024 - 1)), "ArgsTooLarge", /1048577.*1048576/],
  ["args: wide characters over the limit", Any.enqueue("雪".repeat(400_000)), "ArgsTooLarge", /1200002.*1048576/],
  // options
  ...["", "x".repeat(1024), "a\nb", "a\u0000", " a", "a ", "a\ud800", 7 as never].map((queue): Row => [
    `queue: ${JSON.stringify(queue).slice(0, 12)}`,
    Any.enqueue(1, { queue }),
    "InvalidQueueName",
    /queue/
  ]),
  ...[-32_769, 2 ** 15, 2 ** 31, 1.5, Number.NaN, Infinity, "1" as never].map((priority): Row => [
    `priority: ${priority}`,
    Any.enqueue(1, { priority }),
    "InvalidPriority",
    /-32768/,
    /32767/
  ]),
  ...[0, -1, 1.5, Number.NaN, 2 ** 15, 2 ** 31, "3" as never].map((maxAttempts): Row => [
    `maxAttempts: ${maxAttempts}`,
    Any.enqueue(1, { maxAttempts }),
    "InvalidMaxAttempts",
    /maxAttempts/,
    /1 to 32767/
  ]),
  ...[
    new Date(Number.NaN),
    new Date(8.64e15),
    new Date(-8.64e15),
    new Date("+010000-01-01T00:00:00Z"),
    new Date("-000001-01-01T00:00:00Z"),
    "tomorrow" as never,
    1_700_000_000_000 as never
  ].map((runAt: Date, i): Row => [`runAt: ${i}`, Any.enqueue(1, { runAt }), "InvalidRunAt", /run at/]),
  ...[
    Infinity,
    1e18,
    -1,
    "-5 minutes" as const,
    Number.NaN,
    "soon" as never,
    "1001 weeks".replace("1001", "60000") as never,
    {},
    { hours: undefined },
    { hours: Number.NaN },
    [Number.NaN, 0] as const
  ].map((delay): Row => [
    `delay: ${typeof delay === "object" ? inspect(delay) : delay}`,
    Any.enqueue(1, { delay }),
    "InvalidRunAt",
    /1,000 years/
  ]),
  ["runAt and delay", Any.enqueue(1, { delay: 1, runAt: new Date() }), "InvalidRunAt", /not both/],
  ["tags: 10,000", Any.enqueue(1, { tags: Array.from({ length: 10_000 }, String) }), "InvalidTags", /10000.*100/],
  ["tags: twice the same", Any.enqueue(1, { tags: ["a", "b", "a"] }), "InvalidTags", /"a".*twice/],
  ["tags: empty", Any.enqueue(1, { tags: ["a", ""] }), "InvalidTags", /tag 1.*empty/],
  ["tags: 1 KB", Any.enqueue(1, { tags: ["x".repeat(1024)] }), "InvalidTags", /tag 0.*1024 bytes.*128/],
  ["tags: no text", Any.enqueue(1, { tags: [5 as never] }), "InvalidTags", /tag 0.*number/],
  ["tags: no list", Any.enqueue(1, { tags: "abc" as never }), "InvalidTags", /no array/],
  ["meta: a list", Any.enqueue(1, { meta: [] as never }), "InvalidMeta", /no object/],
  ["meta: a text", Any.enqueue(1, { meta: "x" as never }), "InvalidMeta", /no object/],
  ["meta: 65 KB", Any.enqueue(1, { meta: { a: "x".repeat(65 * 1024) } }), "InvalidMeta", /65536/],
  ["meta: a Date", Any.enqueue(1, { meta: { a: { at: new Date() } } }), "InvalidMeta", "$.a.at", /Date/],
  ["meta: NUL", Any.enqueue(1, { meta: { a: "\u0000" } }), "InvalidMeta", "$.a", /NUL/],
  ["meta: a circle", Any.enqueue(1, { meta: cycle }), "InvalidMeta", /cycle/],
  ["partitionKey: empty", Any.enqueue(1, { partitionKey: "" }), "InvalidPartitionKey", /empty/],
  ["partitionKey: 1 KB", Any.enqueue(1, { partitionKey: "x".repeat(1024) }), "InvalidPartitionKey", /1024 bytes.*128/],
  ["partitionKey: a surrogate", Any.enqueue(1, { partitionKey: "\udc00" }), "InvalidPartitionKey", /surrogate/],
  ["encrypted: a text", Any.enqueue(1, { encrypted: "yes" as never }), "InvalidEncrypted", '"yes"', /true or false/],
  // what there is not: a misspelt option would be left out, and the job run at once, or twice
  ["dely", Any.enqueue(1, { dely: "5 minutes" } as never), "InvalidOption", '"any"', '"dely"', "the nearest is delay"],
  ["colour", Any.enqueue(1, { colour: 1 } as never), "InvalidOption", "there are queue, priority, delay"],
  ["dely of a prepared job", Any.prepare(1, { dely: 1 } as never), "InvalidOption", '"dely"'],
  ["unique.key", Any.enqueue(1, { unique: { key: ["worker"] } as never }), "InvalidUnique", "unique.key", "is keys"],
  [
    "unique.debounce.maxwait",
    Any.enqueue(1, { unique: { debounce: { wait: 1, maxwait: 2 } as never } }),
    "InvalidUnique",
    '"maxwait"',
    "is maxWait"
  ],
  // several at once
  ["bulk: an option that there is not", Any.enqueueAll([1, 2], { tag: ["a"] } as never), "InvalidOption", /"index":0/],
  [
    "bulk: an option of one that there is not",
    Any.enqueueAll([1, 2], (_, i) => (i === 1 ? ({ tag: [] } as never) : {})),
    "InvalidOption",
    /"index":1/
  ],
  ["bulk: one bad element", Any.enqueueAll([1, 2, 3n]), "InvalidArgs", /"index":2/],
  ["bulk: one too large", Any.enqueueAll([1, "x".repeat(2 ** 20)]), "ArgsTooLarge", /"index":1/],
  [
    "bulk: bad options for one",
    Any.enqueueAll([1, 2], (_, i) => ({ queue: i === 1 ? "" : "a" })),
    "InvalidQueueName",
    /"index":1/
  ],
  // operators
  ...[1e15, -1, 0, 2 ** 63, Number.NaN, 1.5, "1 OR 1=1" as never].flatMap((id: number): ReadonlyArray<Row> => [
    [`get ${id}`, Effect.flatMap(Jobs, (jobs) => jobs.get(id as JobId)), "JobNotFound"],
    [`cancel ${id}`, Effect.flatMap(Jobs, (jobs) => jobs.cancel(id as JobId)), "JobNotFound"],
    [`retry ${id}`, Effect.flatMap(Jobs, (jobs) => jobs.retry(id as JobId)), "JobNotFound"]
  ]),
  ...(
    [
      ["limit", { limit: 1e9 }],
      ["limit", { limit: 0 }],
      ["limit", { limit: Number.NaN }],
      ["after", { after: { id: 0.5 as JobId, runAt: DateTime.makeUnsafe(0), finishedAt: undefined } }],
      ["order", { order: "oldest" as never }],
      ["wroker", { wroker: "mail" } as never],
      ["state", { state: ["done" as never] }],
      ["state", { state: [] }],
      ["queue", { queue: "a\u0000" }],
      ["worker", { worker: "" }],
      ["tag", { tag: "x".repeat(500) }],
      ["id", { id: 1.5 as JobId }],
      ["priority", { priority: {} }],
      ["finished", { finished: { to: "soon" as never } }],
      ["args", { args: Number.NaN }],
      ["meta", { meta: [] as never }]
    ] as const
  ).map(([field, options], i): Row => [
    `list ${i} by ${field}`,
    Effect.flatMap(Jobs, (jobs) => jobs.list(options)),
    "InvalidFilter",
    `"field":"${field}"`
  ]),
  ...[0, -1, 1.5, Number.NaN, 1e9, "10" as never].flatMap((concurrency): ReadonlyArray<Row> => [
    [
      `scale to ${concurrency}`,
      Effect.flatMap(Queues, (queues) => queues.scale("default", concurrency)),
      "InvalidConcurrency",
      /1 to 100000/
    ],
    [
      `add with ${concurrency}`,
      Effect.flatMap(Queues, (queues) => queues.add("default", { concurrency })),
      "InvalidConcurrency",
      /1 to 100000/
    ]
  ]),
  ...["", "a\nb", "x".repeat(129)].map((name): Row => [
    `pause ${JSON.stringify(name).slice(0, 8)}`,
    Effect.flatMap(Queues, (queues) => queues.pause(name)),
    "InvalidQueueName"
  ]),
  [
    "pause on a node with a bad name",
    Effect.flatMap(Queues, (queues) => queues.pause("default", { node: "a\u0000" })),
    "InvalidQueueName"
  ]
]

const written = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{ readonly jobs: number; readonly queues: number }>`
    SELECT
      (SELECT count(*)::integer FROM shigoto.all_jobs) AS jobs,
      (SELECT count(*)::integer FROM shigoto.queues) AS queues`
  return row
})

layer(layerProducer(), { excludeTestServices: true })("bad input", (it) => {
  it.effect.each(rows)("is refused: %s", ([, call, tag, ...patterns]) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(call)
      assert.strictEqual(error._tag, tag)
      const told = `${JSON.stringify(error)} ${error.message}`
      for (const pattern of patterns) {
        if (typeof pattern === "string") assert.include(told, pattern)
        else assert.match(told, pattern)
      }
      assert.isAtMost(error.message.length, 1000)
      assert.deepStrictEqual(yield* written, { jobs: 0, queues: 0 })
      assert.deepStrictEqual(Object.keys(Object.prototype), [])
    })
  )

  it.effect("20 MB are refused before they are turned into text", () =>
    Effect.gen(function* () {
      let read = 0
      const list = Array.from({ length: 20 * 1024 }, () =>
        Object.defineProperty({ text: "x".repeat(1024) }, "touched", { enumerable: true, get: () => ++read })
      )
      const { stringify } = JSON
      JSON.stringify = trap
      const error = yield* Effect.flip(Loose.enqueue(list)).pipe(
        Effect.ensuring(
          Effect.sync(() => {
            JSON.stringify = stringify
          })
        )
      )
      assert.strictEqual(error._tag, "ArgsTooLarge")
      assert.isAtMost(read, 1100)
    })
  )
})

layer(layerProducer(), { excludeTestServices: true })("odd input that is legal", (it) => {
  const accepted: ReadonlyArray<readonly [string, unknown]> = [
    ["a nesting of 200", nested(200)],
    [
      "dangerous keys",
      JSON.parse('{"__proto__":{"polluted":1},"constructor":2,"toString":3,"hasOwnProperty":{"a":[4]}}')
    ],
    ["an empty key", { "": { "": 1 } }],
    ["null", null],
    ["false", false],
    ["an empty text", ""],
    ["line separators and quotes", '\u2028\u2029"\\\u0001'],
    ["large and small numbers", [Number.MAX_SAFE_INTEGER, 1e308, 5e-324, -1e-7, 0.1]],
    ["as many bytes as the limit", "x".repeat(1024 * 1024 - 2)]
  ]

  it.effect.each(accepted)("comes back as it went in: %s", ([, value]) =>
    Effect.gen(function* () {
      const jobs = yield* Jobs
      const { id, job } = yield* Any.enqueue(value)
      assert.deepStrictEqual((yield* jobs.get(id)).args, value)
      assert.deepStrictEqual(job.args, value)
      assert.isUndefined(({} as { readonly polluted?: number }).polluted)
    })
  )

  it.effect("pauses what nobody knows, and resumes twice", () =>
    Effect.gen(function* () {
      const queues = yield* Queues
      const sql = yield* SqlClient.SqlClient
      for (const name of ["constructor", "; DROP TABLE shigoto.jobs; --"]) {
        yield* queues.pause(name)
        yield* queues.pause(name)
        const paused = sql<{ readonly paused: boolean }>`
          SELECT paused_at IS NOT NULL AS paused FROM shigoto.queues WHERE name = ${name}`
        assert.deepStrictEqual(yield* paused, [{ paused: true }])
        yield* queues.resume(name)
        yield* queues.resume(name)
        assert.deepStrictEqual(yield* paused, [{ paused: false }])
      }
    })
  )

  it.effect("cancels what is cancelled and retries what waits without a change, and says so", () =>
    Effect.gen(function* () {
      const jobs = yield* Jobs
      const { id } = yield* Any.enqueue(1)
      assert.deepStrictEqual(yield* jobs.retry(id), { _tag: "Unchanged", state: "available" })
      assert.deepStrictEqual(yield* jobs.cancel(id), { _tag: "Cancelled" })
      assert.deepStrictEqual(yield* jobs.cancel(id), { _tag: "Finished", state: "cancelled" })
    })
  )

  it.effect("keeps the reason of a cancel storable", () =>
    Effect.gen(function* () {
      const jobs = yield* Jobs
      const { id } = yield* Any.enqueue(1)
      yield* jobs.cancel(id, `a\u0000\ud800${"x".repeat(5000)}`)
      assert.match((yield* jobs.get(id)).cancelReason ?? "", /^a\u2400\ufffdx{996}…$/)
    })
  )
})
