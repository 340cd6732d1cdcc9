import { assert, describe } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Job from "../../src/Job.ts"
import * as JobStore from "../../src/JobStore.ts"
import * as ShigotoConfig from "../../src/ShigotoConfig.ts"
import { eventually } from "../setup/eventually.ts"
import { makeProxy } from "../setup/proxy.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"
import { clientOf, onDatabase, reaches, startNode, tally } from "./support.ts"

const Note = Job.make("note", { args: { n: Schema.Number } })
const Other = Job.make("other", { args: { n: Schema.Number } })

/** By which no claim is long, however busy the machine is. */
const sluggish: Clock.Clock = (() => {
  const clock = Clock.Clock.defaultValue()
  return Object.assign(Object.create(clock) as Clock.Clock /* its heir */, {
    monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe() / 1000n
  })
})()

/** The store alone, with a lease, for claims without anybody who runs them. */
const bareStore = Effect.gen(function* () {
  const store = yield* JobStore.make.pipe(Effect.provide(ShigotoConfig.layer()))
  const node = yield* store.register({ name: "bare", ttlMillis: 60_000 })
  return { store, node }
})

describe("claim", () => {
  onDatabase("takes jobs by priority, then time, then id", () =>
    Effect.gen(function* () {
      const order: Array<number> = []
      const node = yield* startNode({ config: { queues: { default: 1 } } })
      const later = new Date(Date.now() - 1000)
      const sooner = new Date(Date.now() - 60_000)
      yield* node.run(Note.enqueueAll([{ n: 3 }, { n: 4 }]))
      yield* node.run(Note.enqueue({ n: 1 }, { priority: 32_767 }))
      yield* node.run(Note.enqueue({ n: 2 }, { priority: 1, runAt: later }))
      yield* node.run(Note.enqueue({ n: 6 }, { priority: -32_768, runAt: sooner }))
      yield* node.run(Note.enqueue({ n: 5 }))
      // The producer cannot write a time in the past: run_at is at least the time of the insert.
      const sql = yield* SqlClient.SqlClient
      yield* sql`UPDATE shigoto.jobs SET run_at = run_at - interval '1 hour' WHERE args ->> 'n' = '5'`
      yield* node.add(Note.toLayer(({ n }) => Effect.sync(() => order.push(n)).pipe(Effect.asVoid)))
      yield* eventually(tally, (counts) => counts.completed === 6)
      assert.deepStrictEqual(order, [1, 2, 5, 3, 4, 6])
    })
  )

  onDatabase("brings several jobs in one statement, in order, up to the limit", () =>
    Effect.gen(function* () {
      const producer = yield* startNode()
      yield* producer.run(Note.enqueueAll(Array.from({ length: 30 }, (_, n) => ({ n }))))
      const { store, node } = yield* bareStore
      const claim = (limit: number, room = Infinity) =>
        store.claim({ node, nodeName: "bare", queue: "default", limit, workers: [{ name: "note", room }] })
      const first = yield* claim(20)
      assert.strictEqual(first.length, 20)
      assert.deepStrictEqual(
        first.map((job) => job.args),
        Array.from({ length: 20 }, (_, n) => ({ n }))
      )
      assert.isTrue(first.every((job) => job.attempt === 1 && job.epoch === 1))
      assert.strictEqual((yield* claim(20, 3)).length, 3)
      assert.strictEqual((yield* claim(20)).length, 7)
      assert.strictEqual((yield* claim(20)).length, 0)
    })
  )

  onDatabase("needs a live lease, a running queue, a registered name", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const producer = yield* startNode()
      yield* producer.run(Note.enqueue({ n: 1 }))
      const { store, node } = yield* bareStore
      const claim = (names: ReadonlyArray<string>, nodeName = "bare", lease = node) =>
        Effect.map(
          store.claim({
            node: lease,
            nodeName,
            queue: "default",
            limit: 10,
            workers: names.map((name) => ({ name, room: 10 }))
          }),
          (jobs) => jobs.length
        )
      assert.strictEqual(yield* claim(["other", "constructor"]), 0)

      yield* producer.queues.pause("default")
      assert.strictEqual(yield* claim(["note"]), 0)
      yield* producer.queues.resume("default")
      yield* producer.queues.pause("default", { node: "bare" })
      assert.strictEqual(yield* claim(["note"]), 0)
      yield* producer.queues.resume("default", { node: "bare" })
      yield* producer.queues.pause("default", { node: "somebody" })

      yield* Effect.forkChild(producer.queues.remove("default"))
      yield* eventually(sql`SELECT FROM shigoto.queues WHERE removed_at IS NOT NULL`, (rows) => rows.length === 1)
      assert.strictEqual(yield* claim(["note"]), 0)
      yield* producer.queues.add("default", { concurrency: 1 })

      yield* sql`UPDATE shigoto.nodes SET expires_at = statement_timestamp() WHERE id = ${node}`
      assert.strictEqual(yield* claim(["note"]), 0)
      const { node: next } = yield* bareStore
      assert.strictEqual(yield* claim(["note"], "bare", next), 1)
    })
  )

  onDatabase("of a queue that is claimed from all the time a look tells only what has just become available", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { node, store } = yield* bareStore
      const ready = (isBusy: boolean) =>
        Effect.map(
          store.promote({ id: node, queues: [{ name: "default", isBusy }], workers: [] }),
          (found) => found.ready
        )
      const insert = (state: string) => sql`
        INSERT INTO shigoto.jobs (state, worker, queue, args, run_at, inserted_at)
        VALUES (${state}, 'note', 'default', '{}', now() - interval '1 second', now())`
      assert.deepStrictEqual(yield* ready(false), [])
      yield* insert("available")
      assert.deepStrictEqual(yield* ready(false), ["default"])
      assert.deepStrictEqual(yield* ready(true), [])
      yield* insert("scheduled")
      assert.deepStrictEqual(yield* ready(true), ["default"])
    })
  )

  onDatabase(
    "a queue whose slots are all taken and whose claims came back full is not looked for until one is free",
    () =>
      Effect.gen(function* () {
        const { url } = yield* TestDatabase
        // An array of one boolean, as the driver binds it.
        const bound = (isBusy: boolean) =>
          Buffer.from(`0000000100000000000000100000000100000001000000010${isBusy ? 1 : 0}`, "hex")
        const looks: Array<boolean> = []
        const proxy = yield* makeProxy(Redacted.value(url), (chunk) => {
          if (chunk.includes("WITH due AS MATERIALIZED")) looks.push(chunk.includes(bound(true)))
          return chunk
        })
        const mayEnd = yield* Deferred.make<void>()
        const node = yield* startNode({
          workers: Note.toLayer(() => Deferred.await(mayEnd)),
          config: { queues: { default: 10 }, pollInterval: "50 millis", idlePollInterval: "50 millis", listen: false },
          client: clientOf(proxy.url)
        })
        yield* node.run(Note.enqueueAll(Array.from({ length: 30 }, (_, n) => ({ n }))))
        const seen = Effect.sync(() => looks.at(-1))
        yield* eventually(seen, (isBusy) => isBusy === true)
        yield* Deferred.succeed(mayEnd, undefined)
        yield* eventually(tally, (counts) => counts.completed === 30)
        yield* eventually(seen, (isBusy) => isBusy === false)
      })
  )

  onDatabase("outcomes that the database is slow to take hold back all queues, and none once they are stored", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      let ran = 0
      // No look wakes a queue that nobody tells of its slots.
      const node = yield* startNode({
        workers: Note.toLayer(() => Effect.sync(() => void ran++)),
        config: { queues: { many: 5000, few: 1 }, pollInterval: "1 hour", idlePollInterval: "1 hour", listen: false }
      })
      const isLocked = yield* Deferred.make<void>()
      const mayStore = yield* Deferred.make<void>()
      const lock = yield* Effect.forkChild(
        sql.withTransaction(
          Effect.gen(function* () {
            yield* sql`LOCK TABLE shigoto.jobs_archive IN SHARE MODE`
            yield* Deferred.succeed(isLocked, undefined)
            yield* Deferred.await(mayStore)
          })
        )
      )
      yield* Deferred.await(isLocked)
      const many = Array.from({ length: 3000 }, (_, n) => ({ n }))
      yield* node.run(Note.enqueueAll(many, { queue: "many" }))
      yield* eventually(
        Effect.sync(() => ran),
        (count) => count === 3000
      )
      const { id } = yield* node.run(Note.enqueue({ n: 0 }, { queue: "few" }))
      // Turns enough for its claim, if there were one.
      yield* Effect.repeat(node.jobs.counts, { times: 20 })
      assert.strictEqual((yield* node.jobs.get(id)).state, "available")
      yield* Deferred.succeed(mayStore, undefined)
      yield* Fiber.join(lock)
      yield* reaches(node, id, "completed")
      yield* eventually(tally, (counts) => counts.completed === 3001)
    })
  )

  onDatabase("is prepared where few jobs wait, and planned each time in a backlog", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      // Whoever sends its text has it planned; a prepared statement is sent by name.
      let planned = 0
      const proxy = yield* makeProxy(Redacted.value(url), (chunk) => {
        if (chunk.includes("chosen AS MATERIALIZED")) planned++
        return chunk
      })
      const node = yield* startNode({
        workers: Note.toLayer(() => Effect.void),
        config: { queues: { default: 10 }, listen: false },
        client: clientOf(proxy.url, { prepare: true, maxConnections: 1 })
      }).pipe(Effect.provideService(Clock.Clock, sluggish))
      const one = Effect.gen(function* () {
        const { id } = yield* node.run(Note.enqueue({ n: 0 }))
        yield* node.event("Completed", id)
      })
      yield* Effect.repeat(one, { times: 4 })
      planned = 0
      yield* Effect.repeat(one, { times: 9 })
      assert.strictEqual(planned, 0)
      yield* node.run(Note.enqueueAll(Array.from({ length: 500 }, (_, n) => ({ n }))))
      yield* eventually(tally, (counts) => counts.completed === 515)
      assert.isAbove(planned, 10)
      // The end of the backlog is the first of few again.
      yield* one
      planned = 0
      yield* one
      assert.strictEqual(planned, 0)
    })
  )

  onDatabase("never gives a job to two of twelve racing connections", () =>
    Effect.gen(function* () {
      const producer = yield* startNode()
      yield* producer.run(Note.enqueueAll(Array.from({ length: 2000 }, (_, n) => ({ n }))))
      const { store, node } = yield* bareStore
      const taken: Array<number> = []
      const racer = (limit: number) =>
        Effect.gen(function* () {
          while (true) {
            const jobs = yield* store.claim({
              node,
              nodeName: "bare",
              queue: "default",
              limit,
              workers: [{ name: "note", room: limit % 2 === 0 ? limit : 3 }]
            })
            if (jobs.length > limit) return yield* Effect.die(new Error(`asked for ${limit}, got ${jobs.length}`))
            taken.push(...jobs.map((job) => job.id))
            if (jobs.length === 0) return
          }
        })
      yield* Effect.forEach(
        Array.from({ length: 12 }, (_, i) => i + 3),
        racer,
        { concurrency: "unbounded" }
      )
      assert.strictEqual(taken.length, 2000)
      assert.strictEqual(new Set(taken).size, 2000)
    })
  )

  onDatabase("never runs more than the queue and the worker allow, and each job once, on three nodes", () =>
    Effect.gen(function* () {
      const ran = new Map<number, number>()
      const peaks: Array<{ queue: number; worker: number }> = []
      const start = () => {
        const now = { queue: 0, worker: 0 }
        const peak = { queue: 0, worker: 0 }
        peaks.push(peak)
        const handler = (capped: boolean) => (args: { readonly n: number }) =>
          Effect.acquireUseRelease(
            Effect.sync(() => {
              ran.set(args.n, (ran.get(args.n) ?? 0) + 1)
              now.queue++
              if (capped) now.worker++
              peak.queue = Math.max(peak.queue, now.queue)
              peak.worker = Math.max(peak.worker, now.worker)
            }),
            () => Effect.sleep(args.n % 5),
            () =>
              Effect.sync(() => {
                now.queue--
                if (capped) now.worker--
              })
          )
        return startNode({
          workers: Layer.mergeAll(Note.toLayer(handler(true), { concurrency: 2 }), Other.toLayer(handler(false))),
          config: { queues: { default: 7 } }
        })
      }
      const node = yield* start()
      yield* start()
      yield* start()
      yield* node.run(Note.enqueueAll(Array.from({ length: 300 }, (_, n) => ({ n }))))
      yield* node.run(Other.enqueueAll(Array.from({ length: 300 }, (_, n) => ({ n: n + 300 }))))
      yield* eventually(tally, (counts) => counts.completed === 600)
      assert.strictEqual(ran.size, 600)
      assert.isTrue([...ran.values()].every((times) => times === 1))
      for (const peak of peaks) {
        assert.isAtMost(peak.queue, 7)
        assert.isAtMost(peak.worker, 2)
      }
      assert.isTrue(peaks.some((peak) => peak.queue > 2))
    })
  )

  onDatabase("leaves jobs alone whose worker it lacks, and takes them as soon as one registers", () =>
    Effect.gen(function* () {
      // No poll and no notification can help within the test: only the registration can.
      const node = yield* startNode({
        workers: Other.toLayer(() => Effect.void),
        config: { pollInterval: "1 hour", idlePollInterval: "1 hour", listen: false }
      })
      const { id } = yield* node.run(Note.enqueue({ n: 1 }))
      const other = yield* node.run(Other.enqueue({ n: 2 }))
      yield* node.event("Completed", other.id)
      const waiting = yield* node.jobs.get(id)
      assert.strictEqual(waiting.state, "available")
      assert.strictEqual(waiting.epoch, 0)
      const done = yield* Deferred.make<void>()
      yield* node.add(Note.toLayer(() => Effect.asVoid(Deferred.succeed(done, undefined))))
      yield* Deferred.await(done)
      yield* reaches(node, id, "completed")
    })
  )
})
