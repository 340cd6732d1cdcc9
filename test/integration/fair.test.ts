import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Job from "../../src/Job.ts"
import * as JobStore from "../../src/JobStore.ts"
import * as ShigotoConfig from "../../src/ShigotoConfig.ts"
import { eventually } from "../setup/eventually.ts"
import { onDatabase, startNode, tally } from "./support.ts"

const Task = Job.make("task", { args: { tenant: Schema.String }, queue: "tenants" })

const enqueue = Effect.fnUntraced(function* (key: string | null, count: number, worker = "task") {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    SELECT shigoto.enqueue(${worker}, jsonb_build_object('tenant', ${key}::text), queue => 'tenants', partition_key => ${key})
    FROM generate_series(1, ${count}::integer)`
})

/** A store with a lease, and claims from the fair queue that say whose jobs they brought. */
const fairStore = Effect.fnUntraced(function* (options: Partial<ShigotoConfig.QueueOptions> = {}) {
  const config = yield* ShigotoConfig.make({ queues: { tenants: { concurrency: 10, fair: true, ...options } } })
  const store = yield* Effect.provideService(JobStore.make, ShigotoConfig.ShigotoConfig, config)
  const node = yield* store.register({ name: "bare", ttlMillis: 600_000 })
  const claim = Effect.fnUntraced(function* (limit: number, workers = [{ name: "task", room: Infinity }]) {
    const request = { node, nodeName: "bare", queue: "tenants", limit, workers }
    const { jobs } = yield* store.limits.claim(request, [], config.partitions.get("tenants"))
    return jobs
  })
  const keys = (limit: number) => Effect.map(claim(limit), (jobs) => jobs.map((job) => job.partitionKey ?? "none"))
  const settle = (jobs: Effect.Success<ReturnType<typeof claim>>) =>
    store.settle(
      jobs.map(({ epoch, id }) => ({ id, epoch, outcome: { _tag: "Completed" as const, result: undefined } }))
    )
  return { claim, keys, settle, store }
})

describe("a fair queue", () => {
  onDatabase("starts one tenant's job next, however many another has waiting", () =>
    Effect.gen(function* () {
      yield* enqueue("big", 10_000)
      const { keys } = yield* fairStore()
      assert.deepStrictEqual(yield* keys(3), ["big", "big", "big"])
      yield* enqueue("small", 1)
      assert.deepStrictEqual(yield* keys(1), ["small"])
      // One that comes back has saved nothing up.
      yield* keys(100)
      yield* enqueue("small", 50)
      const mixed = yield* keys(10)
      assert.isAtMost(mixed.filter((key) => key === "small").length, 6)
    })
  )

  onDatabase("gives each backlogged partition its part of every window", () =>
    Effect.gen(function* () {
      const tenants = ["a", "b", "c", "d", null]
      for (const [i, tenant] of tenants.entries()) yield* enqueue(tenant, 100 * (i + 1))
      const { claim, settle } = yield* fairStore()
      const starts: Array<string> = []
      for (let round = 0; starts.length < 400; round++) {
        const jobs = yield* claim(1 + (round % 7))
        starts.push(...jobs.map((job) => job.partitionKey ?? "none"))
        if (round % 3 > 0) yield* settle(jobs)
      }
      const window = 10 * tenants.length
      for (let from = 0; from + window <= 400; from++) {
        for (const tenant of tenants) {
          const part = starts.slice(from, from + window).filter((key) => key === (tenant ?? "none")).length
          assert.isAtLeast(part, 8, `${tenant} in the window from ${from}`)
        }
      }
    })
  )

  onDatabase("weighs partitions", () =>
    Effect.gen(function* () {
      yield* enqueue("gold", 200)
      yield* enqueue("iron", 200)
      const { keys } = yield* fairStore({ fair: { weight: (key) => (key === "gold" ? 3 : 1) } })
      const once = yield* keys(100)
      assert.approximately(once.filter((key) => key === "gold").length, 75, 1)
      // One at a time, turns are what the claims before have left.
      const each: Array<string> = []
      for (let i = 0; i < 40; i++) each.push(...(yield* keys(1)))
      assert.approximately(each.filter((key) => key === "gold").length, 30, 1)
    })
  )

  onDatabase("leaves the turn of a partition that this node cannot serve to the others", () =>
    Effect.gen(function* () {
      yield* enqueue("foreign", 50, "unknown")
      yield* enqueue("own", 50)
      const { claim, keys } = yield* fairStore()
      assert.strictEqual((yield* keys(10)).length, 10)
      assert.strictEqual((yield* claim(10, [{ name: "task", room: 3 }])).length, 3)
    })
  )

  onDatabase("keeps each key to its concurrency, by rows, and lets the others pass", () =>
    Effect.gen(function* () {
      yield* enqueue("a", 100)
      yield* enqueue("b", 100)
      yield* enqueue(null, 100)
      const { claim, keys, settle } = yield* fairStore({ partitionConcurrency: (key) => (key === "a" ? 2 : 3) })
      const first = yield* claim(50)
      assert.deepStrictEqual(first.map((job) => job.partitionKey ?? "none").toSorted(), [
        "a",
        "a",
        "b",
        "b",
        "b",
        "none",
        "none",
        "none"
      ])
      assert.deepStrictEqual(yield* keys(50), [])
      yield* settle(first.filter((job) => job.partitionKey === "a").slice(0, 1))
      assert.deepStrictEqual(yield* keys(50), ["a"])
    })
  )

  onDatabase("pauses one key on all nodes, and refuses what could not hold", () =>
    Effect.gen(function* () {
      yield* enqueue("a", 5)
      yield* enqueue("b", 2)
      const { keys } = yield* fairStore()
      const started: Array<string> = []
      const node = yield* startNode({
        config: { queues: { other: 1, tenants: { concurrency: 5, fair: true } } }
      })
      yield* node.queues.pause("tenants", { partitionKey: "a" })
      yield* node.add(Task.toLayer(({ tenant }) => Effect.sync(() => void started.push(tenant))))
      yield* eventually(tally, (counts) => counts.completed === 2)
      assert.deepStrictEqual(started, ["b", "b"])
      assert.deepStrictEqual(yield* keys(10), [])
      yield* node.queues.resume("tenants", { partitionKey: "a" })
      yield* eventually(tally, (counts) => counts.completed === 7)
      const refusal = yield* Effect.flip(node.queues.pause("other", { partitionKey: "a" }))
      assert.match(refusal.message, /"other".*not fair/)
      assert.match((yield* Effect.flip(node.queues.pause("tenants", { partitionKey: "" }))).message, /partitionKey/)
    })
  )

  onDatabase("admits nothing where a rule gives no usable number", () =>
    Effect.gen(function* () {
      yield* enqueue("a", 1)
      const { keys } = yield* fairStore({ partitionConcurrency: () => Number.NaN })
      const exit = yield* Effect.exit(keys(1))
      assert.match(JSON.stringify(exit), /queues\.tenants\.partitionConcurrency cannot be NaN/)
      assert.deepStrictEqual(yield* tally, { available: 1 })
    })
  )

  onDatabase("keeps its places in use over nodes", () =>
    Effect.gen(function* () {
      let running = 0
      let most = 0
      const config = { queues: { tenants: { concurrency: 10, partitionConcurrency: 2 } } }
      const workers = Task.toLayer(() =>
        Effect.acquireUseRelease(
          Effect.sync(() => (most = Math.max(most, ++running))),
          () => Effect.sleep(2),
          () => Effect.sync(() => running--)
        ).pipe(Effect.asVoid)
      )
      const nodes = yield* Effect.forEach([1, 2], () => startNode({ config, workers }))
      yield* enqueue("one", 40)
      yield* eventually(tally, (counts) => counts.completed === 40)
      assert.strictEqual(most, 2)
      yield* Effect.forEach(nodes, (node) => node.stop)
    })
  )

  onDatabase("counts the jobs of a rescued node no longer", () =>
    Effect.gen(function* () {
      const started = yield* Deferred.make<void>()
      yield* enqueue("one", 1)
      const { keys } = yield* fairStore({ partitionConcurrency: 1 })
      assert.deepStrictEqual(yield* keys(1), ["one"])
      const sql = yield* SqlClient.SqlClient
      yield* sql`UPDATE shigoto.nodes SET expires_at = statement_timestamp()`
      yield* startNode({
        config: { queues: { tenants: { concurrency: 1, partitionConcurrency: 1 } } },
        workers: Task.toLayer(() => Effect.asVoid(Deferred.succeed(started, undefined)))
      })
      yield* Deferred.await(started)
    })
  )
})

describe("the options of a queue", () => {
  for (const [field, options] of [
    ["queues.q", { concurrency: 0 }],
    ["queues.q", { concurrency: Number.NaN, fair: true }],
    ["queues.q.fair", { concurrency: 1, fair: "magic" as never }],
    ["queues.q.fair", { concurrency: 1, fair: { weight: 3 } as never }],
    ["queues.q.partitionConcurrency", { concurrency: 1, partitionConcurrency: 0 }],
    ["queues.q.partitionConcurrency", { concurrency: 1, partitionConcurrency: -1 }],
    ["queues.q.partitionConcurrency", { concurrency: 1, partitionConcurrency: "2" as never }]
  ] satisfies ReadonlyArray<readonly [string, ShigotoConfig.QueueOptions]>) {
    it.effect(`are refused: ${JSON.stringify(options)}`, () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(ShigotoConfig.make({ queues: { q: options } }))
        assert.strictEqual("field" in error && error.field, field)
      })
    )
  }
})
