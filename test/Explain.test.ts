import { assert, describe } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as CircuitBreaker from "../src/CircuitBreaker.ts"
import type { Reason } from "../src/Explain.ts"
import * as Job from "../src/Job.ts"
import type { JobId } from "../src/JobRow.ts"
import { Jobs } from "../src/Jobs.ts"
import * as JobStore from "../src/JobStore.ts"
import * as Limit from "../src/Limit.ts"
import * as Shigoto from "../src/Shigoto.ts"
import * as ShigotoConfig from "../src/ShigotoConfig.ts"
import { makeRandom } from "./chaos/random.ts"
import { onDatabase, reaches, startNode } from "./integration/support.ts"
import { eventually } from "./setup/eventually.ts"

const Note = Job.make("note")
const Other = Job.make("other", { queue: "others" })

const producer = Shigoto.layerProducer.pipe(Layer.provide(ShigotoConfig.layer()))

const tags = (reasons: ReadonlyArray<Reason>): ReadonlyArray<string> => reasons.map((reason) => reason._tag)
const explain = (id: JobId) => Effect.flatMap(Jobs, (jobs) => jobs.explain(id))

describe("explain", () => {
  onDatabase("says runnable exactly when a claim would take the job", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const store = yield* JobStore.make.pipe(Effect.provide(ShigotoConfig.layer()))
      const seen = new Set<string>()
      for (let seed = 1; seed <= 40; seed++) {
        const { chance, pick } = makeRandom(seed, "explain")
        yield* sql`TRUNCATE shigoto.jobs, shigoto.nodes, shigoto.queues`
        const names = ["here", "there"]
        const queues = ["default", "mail"]
        const workers = ["note", "other", "third"]
        const some = <A>(items: ReadonlyArray<A>) => items.filter(() => chance(0.6))
        const nodes: Array<{
          id: number
          name: string
          workers: ReadonlyArray<string>
          queues: ReadonlyArray<string>
          broken: ReadonlyArray<string>
          shedBelow: number | undefined
        }> = []
        for (let n = 0; n < 3; n++) {
          const broken = chance(0.3) ? some(workers) : []
          const shedBelow = chance(0.4) ? pick([0, 1, 6]) : undefined
          const node = { name: pick(names), workers: some(workers), queues: some(queues), broken, shedBelow }
          const id = yield* store.register({ name: node.name, ttlMillis: 60_000 })
          yield* store.renew({
            id,
            workers: node.workers,
            queues: node.queues.map((name) => ({ name, concurrency: 5 })),
            limits: [],
            broken: node.broken,
            shedBelow,
            lagMillis: 0,
            listening: false
          })
          if (chance(0.2)) yield* sql`UPDATE shigoto.nodes SET expires_at = now() - interval '1 s' WHERE id = ${id}`
          nodes.push({ id, ...node })
        }
        for (const name of queues) {
          for (const node of ["", ...names]) {
            if (chance(0.7)) continue
            yield* store.changeQueue({
              name,
              node,
              ...(chance(0.5) && { concurrency: 3 }),
              paused: chance(0.4),
              removed: chance(0.3)
            })
          }
        }
        for (let n = 0; n < 12; n++) {
          const state = pick(["available", "available", "available", "scheduled", "retryable", "blocked"])
          yield* sql`
            INSERT INTO shigoto.jobs (state, worker, queue, args, priority, attempt, max_attempts, run_at, inserted_at)
            VALUES (${state}, ${pick(workers)}, ${pick([...queues, "nobody's"])}, '{}', ${pick([0, 0, 5])},
              ${pick([0, 0, 1, 3])}, 3, now() + ${pick([-60, 60])} * interval '1 second', now())`
        }
        const rows = yield* sql<{ readonly id: JobId }>`SELECT id::integer AS id FROM shigoto.jobs ORDER BY id`
        const explained = yield* Effect.forEach(rows, ({ id }) => explain(id))
        const claimed = new Set<JobId>()
        for (const { broken, id, name, queues: served, shedBelow, workers: has } of nodes) {
          for (const queue of served) {
            const taken = yield* store.claim({
              node: id,
              nodeName: name,
              queue,
              limit: 100,
              floor: shedBelow,
              workers: has.filter((one) => !broken.includes(one)).map((one) => ({ name: one, room: Infinity }))
            })
            for (const job of taken) claimed.add(job.id)
          }
        }
        for (const { job, position, reasons, status } of explained) {
          const why = `seed ${seed}, job ${job.id}: ${JSON.stringify(reasons)}`
          assert.strictEqual(status === "runnable", claimed.has(job.id), why)
          assert.strictEqual(position !== undefined, status === "runnable", why)
          const holding = tags(reasons).filter((tag) => tag !== "Ahead" && tag !== "Busy")
          assert.strictEqual(holding.length > 0, status !== "runnable", why)
          for (const tag of tags(reasons)) seen.add(tag)
        }
      }
      for (const tag of [
        "NotDue",
        "DueNow",
        "NoAttemptLeft",
        "NoQueue",
        "NoWorker",
        "Paused",
        "Removed",
        "CircuitOpen",
        "LoadShed",
        "Ahead"
      ]) {
        assert.isTrue(seen.has(tag), `no run of it met ${tag}`)
      }
    }).pipe(Effect.provide(producer))
  )

  onDatabase("names what a job waits for: time, a pause, parents, nodes, slots, its turn", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      const node = yield* startNode({
        workers: Note.toLayer(() => Deferred.await(gate)),
        config: { queues: { default: 1 }, nodeName: "alone" }
      })
      const enqueue = (options?: Parameters<typeof Note.enqueue>[1]) =>
        Effect.map(node.run(Note.enqueue({}, options)), (result) => result.id)
      const why = (id: JobId) => node.jobs.explain(id)
      const running = yield* enqueue()
      yield* reaches(node, running, "executing")
      assert.deepStrictEqual((yield* why(running)).reasons, [
        { _tag: "Running", node: "alone", cancelRequested: false }
      ])
      const later = yield* enqueue({ delay: "1 hour" })
      const notDue = yield* why(later)
      assert.deepStrictEqual([notDue.status, tags(notDue.reasons)], ["waiting", ["NotDue"]])
      const first = yield* enqueue()
      const second = yield* enqueue()
      const busy = yield* eventually(why(second), (found) => tags(found.reasons).includes("Busy"))
      assert.deepStrictEqual([busy.status, busy.position], ["runnable", 2])
      assert.deepStrictEqual(busy.reasons, [
        { _tag: "Busy", executing: 1, slots: 1 },
        { _tag: "Ahead", count: 1, atLeast: false }
      ])
      const child = yield* enqueue({ dependsOn: [first, later] })
      const blocked = yield* why(child)
      assert.deepStrictEqual(blocked.reasons, [
        {
          _tag: "Blocked",
          by: [
            { id: later, name: undefined, child: false, state: "scheduled" },
            { id: first, name: undefined, child: false, state: "available" }
          ],
          total: 2
        }
      ])
      assert.include(blocked.message, `it waits for jobs ${later} (scheduled), ${first} (available)`)
      yield* node.queues.pause("default")
      assert.deepStrictEqual(tags((yield* why(first)).reasons), ["Paused"])
      const elsewhere = (yield* node.run(Other.enqueue({}))).id
      assert.deepStrictEqual(tags((yield* why(elsewhere)).reasons), ["NoQueue", "NoWorker"])
      yield* Deferred.succeed(gate, undefined)
      const done = yield* Effect.andThen(reaches(node, running, "completed"), why(running))
      assert.deepStrictEqual([done.status, done.reasons], ["finished", [{ _tag: "Finished", state: "completed" }]])
      const unknown = yield* Effect.flip(why(999_999 as JobId))
      assert.strictEqual(unknown._tag, "JobNotFound")
    })
  )

  onDatabase("says runnable exactly when limits over all nodes admit the job", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const store = yield* JobStore.make.pipe(Effect.provide(ShigotoConfig.layer()))
      const node = yield* store.register({ name: "here", ttlMillis: 60_000 })
      const seen = new Set<string>()
      for (let seed = 1; seed <= 60; seed++) {
        const { chance, int } = makeRandom(seed, "limits")
        yield* sql`TRUNCATE shigoto.jobs, shigoto.limits, shigoto.cells`
        const rate = chance(0.7)
          ? Limit.make("shared", { limit: int(1, 4), window: "1 hour", algorithm: "fixed-window" })
          : undefined
        const circuit = chance(0.5)
          ? Result.getOrThrow(CircuitBreaker.check({ state: "shared", window: 1, openFor: "1 hour", probes: 2 }))
          : undefined
        const governed = { worker: "note", concurrency: chance(0.7) ? int(1, 3) : undefined, rate, circuit }
        yield* store.renew({
          id: node,
          workers: ["note"],
          queues: [{ name: "default", concurrency: 50 }],
          limits: [governed],
          broken: [],
          lagMillis: 0,
          listening: false
        })
        const running = int(0, 3)
        yield* sql`
          INSERT INTO shigoto.jobs (state, worker, queue, args, claimed_by, run_at, inserted_at)
          SELECT 'executing', 'note', 'default', '{}', ${node}::integer, now(), now()
          FROM generate_series(1, ${running}::integer)`
        if (circuit !== undefined && chance(0.5)) {
          yield* store.circuits.note({ worker: "note", rule: circuit }, { generation: 0, failed: true, slow: false })
          const longAgo = Math.floor(Date.now() - 7_200_000)
          // Half-open, or open still; probes are the running jobs that were claimed since.
          if (chance(0.5)) yield* sql`UPDATE shigoto.cells SET value = value || ${`{"since":${longAgo}}`}::text::jsonb`
          yield* sql`UPDATE shigoto.jobs SET claimed_at = now() + interval '1 minute'`
          if (chance(0.5))
            yield* store.limits.claim(
              { node, nodeName: "here", queue: "nobody's", limit: 1, workers: [{ name: "note", room: 50 }] },
              [governed]
            )
        }
        if (rate !== undefined) yield* store.limits.charge(rate, int(0, 4))
        if (rate !== undefined && chance(0.1)) yield* store.limits.backOff(rate, 60_000)
        const { id } = yield* Note.enqueue({})
        const { position, reasons, status } = yield* explain(id)
        const { jobs } = yield* store.limits.claim(
          { node, nodeName: "here", queue: "default", limit: 50, workers: [{ name: "note", room: 50 }] },
          [governed]
        )
        const why = `seed ${seed}: ${JSON.stringify(reasons)}`
        assert.strictEqual(status === "runnable", jobs.length === 1, why)
        assert.strictEqual(position, jobs.length === 1 ? 1 : undefined, why)
        assert.strictEqual(reasons.length, jobs.length === 1 ? 0 : 1, why)
        for (const reason of reasons) {
          seen.add(reason._tag)
          if (reason._tag === "ConcurrencyLimited") {
            assert.deepStrictEqual([reason.running, reason.limit], [running, governed.concurrency], why)
            assert.isUndefined(reason.freesInMillis, why)
            assert.strictEqual(reason.by.length, running, why)
          }
          if (reason._tag === "RateLimited") assert.isAbove(reason.freesInMillis, 0, why)
        }
      }
      assert.deepStrictEqual([...seen].toSorted(), ["CircuitOpen", "ConcurrencyLimited", "RateLimited"])
    }).pipe(Effect.provide(producer))
  )

  onDatabase("names the limit that a node publishes, and the partition that is full", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      const node = yield* startNode({
        workers: Layer.mergeAll(
          Note.toLayer(() => Deferred.await(gate), { globalConcurrency: 1 }),
          Other.toLayer(() => Deferred.await(gate))
        ),
        config: { queues: { default: 5, others: { concurrency: 5, partitionConcurrency: 1 } } }
      })
      const first = (yield* node.run(Note.enqueue({}))).id
      yield* reaches(node, first, "executing")
      const second = (yield* node.run(Note.enqueue({}))).id
      const limited = yield* eventually(node.jobs.explain(second), (found) => found.status === "waiting")
      const held = { _tag: "ConcurrencyLimited" as const, worker: "note", running: 1, limit: 1, by: [first] }
      assert.deepStrictEqual(limited.reasons, [{ ...held, freesInMillis: undefined }])
      assert.include(limited.message, `limit of "note": 1/1 held by job ${first}.`)
      // Half of its attempts took no more than an hour, and this one began a minute ago.
      const sql = yield* SqlClient.SqlClient
      yield* sql`
        INSERT INTO shigoto.metrics (tier, at, queue, worker, completed, failed, discarded, cancelled, snoozed, run, wait)
        SELECT 'hour', date_trunc('hour', now(), 'UTC'), 'default', 'note', 2, 0, 0, 0, 0,
          ARRAY(SELECT CASE WHEN n = 17 THEN 2 ELSE 0 END FROM generate_series(1, 19) AS n), array_fill(0, ARRAY[19])`
      yield* sql`UPDATE shigoto.jobs SET claimed_at = now() - interval '1 minute' WHERE id = ${first}`
      const soon = (yield* node.jobs.explain(second)).reasons[0]
      const frees = soon?._tag === "ConcurrencyLimited" ? (soon.freesInMillis ?? 0) : 0
      // 1,050,000 milliseconds is the middle of its bucket, from five minutes to thirty.
      assert.isTrue(frees > 0 && frees <= 1_050_000 - 60_000, `${frees}`)
      assert.match((yield* node.jobs.explain(second)).message, /1\/1 held by job \d+, frees in ~\d/)
      const [a, b, c] = yield* node.run(
        Other.enqueueAll([{}, {}, {}], (_, i) => ({ partitionKey: i === 2 ? "globex" : "acme" }))
      )
      yield* reaches(node, a?.id as JobId, "executing") // three were enqueued
      yield* reaches(node, c?.id as JobId, "executing")
      assert.deepStrictEqual((yield* node.jobs.explain(b?.id as JobId)).reasons, [
        { _tag: "PartitionLimited", partitionKey: "acme", running: 1, limit: 1 }
      ])
      yield* Deferred.succeed(gate, undefined)
      for (const id of [second, b?.id as JobId]) yield* reaches(node, id, "completed")
    })
  )

  onDatabase("names the node whose circuit is open, and is runnable again once it lets probes through", () =>
    Effect.gen(function* () {
      const Flaky = Job.make("flaky", { error: Schema.String, maxAttempts: 1 })
      let down = true
      const node = yield* startNode({
        workers: Flaky.toLayer(() => (down ? Effect.fail("down") : Effect.void), {
          circuitBreaker: { window: 2, failureRate: 1, openFor: "3 seconds", probes: 1 }
        }),
        config: { nodeName: "here" }
      })
      yield* node.run(Flaky.enqueueAll([{}, {}]))
      yield* node.event("CircuitOpened")
      down = false
      const { id } = yield* node.run(Flaky.enqueue({}))
      const open = yield* eventually(node.jobs.explain(id), (found) => found.status !== "runnable")
      assert.deepStrictEqual(
        [open.status, open.reasons],
        [
          "waiting",
          [{ _tag: "CircuitOpen", worker: "flaky", nodes: ["here"], shared: false, probesInMillis: undefined }]
        ]
      )
      yield* reaches(node, id, "completed")
    })
  )

  onDatabase("tells of a failed parent that holds, and of a node that went silent", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const parent = (yield* Note.enqueue({})).id
      const child = (yield* Note.enqueue({}, { dependsOn: [{ id: parent, onFailure: "hold" }] })).id
      yield* Effect.flatMap(Jobs, (jobs) => jobs.cancel(parent))
      assert.deepStrictEqual((yield* explain(child)).reasons, [
        { _tag: "Held", by: [{ id: parent, name: undefined, child: false, state: "cancelled" }], total: 1 },
        { _tag: "NoNode" }
      ])
      const lost = (yield* Note.enqueue({})).id
      yield* sql`UPDATE shigoto.jobs SET state = 'executing', claimed_by = 77 WHERE id = ${lost}`
      assert.deepStrictEqual((yield* explain(lost)).reasons, [{ _tag: "NodeLost", node: "number 77" }])
    }).pipe(Effect.provide(producer))
  )
})
