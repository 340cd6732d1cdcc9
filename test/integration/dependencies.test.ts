/** Jobs that wait for jobs: on one connection and on many, in every order of two transactions that meet. */
import type * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import { CurrentJob } from "../../src/CurrentJob.ts"
import * as Job from "../../src/Job.ts"
import type { JobId } from "../../src/JobRow.ts"
import * as JobStore from "../../src/JobStore.ts"
import * as ShigotoConfig from "../../src/ShigotoConfig.ts"
import { eventually } from "../setup/eventually.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"
import * as Fixture from "./fixtures/dependencies.ts"
import { diary, makeDiary, onDatabase, reaches, startNode, startProcess, tally } from "./support.ts"

const Step = Job.make("step", { args: { n: Schema.Number }, success: Schema.Number, maxAttempts: 1 })

const seen: Array<number> = []

/** A negative number fails, as long as it is not forgiven. */
const forgiven = new Set<number>()

const StepLive = Step.toLayer(({ n }) =>
  Effect.suspend(() => {
    seen.push(n)
    return n < 0 && !forgiven.has(n) ? Job.discard("negative") : Effect.succeed(n * 10)
  })
)

/** Parents that end when told, without a node: by the store, as a settle does. */
const bareStore = Effect.gen(function* () {
  const store = yield* JobStore.make.pipe(Effect.provide(ShigotoConfig.layer()))
  const node = yield* store.register({ name: "bare", ttlMillis: 600_000 })
  const claim = (limit: number) =>
    store.claim({ node, nodeName: "bare", queue: "default", limit, workers: [{ name: "step", room: Infinity }] })
  const complete = (jobs: ReadonlyArray<{ readonly id: JobId; readonly epoch: number }>) =>
    store.settle(jobs.map(({ epoch, id }) => ({ id, epoch, outcome: { _tag: "Completed", result: "1" } })))
  return { store, node, claim, complete }
})

/** The sweep would make good within seconds what an end has missed, and hide it. */
const sweepless: ShigotoConfig.Options = { leaseTtl: "1 hour", leaseBeat: "1 minute" }

describe("dependencies", () => {
  onDatabase("runs a job after all that it waits for, and gives it their results", () =>
    Effect.gen(function* () {
      const results: Array<unknown> = []
      const node = yield* startNode()
      const a = yield* node.run(Step.enqueue({ n: 1 }))
      const b = yield* node.run(Step.enqueue({ n: 2 }, { dependsOn: [a.id] }))
      const c = yield* node.run(Step.enqueue({ n: 3 }, { dependsOn: [a.id] }))
      const d = yield* node.run(Step.enqueue({ n: 4 }, { dependsOn: [a.id, b.id, c.id] }))
      assert.deepStrictEqual(
        [a, b, c, d].map(({ job }) => job.state),
        ["available", "blocked", "blocked", "blocked"]
      )
      const order: Array<number> = []
      yield* node.add(
        Step.toLayer(({ n }) =>
          Effect.map(CurrentJob, ({ dependencies }) => {
            order.push(n)
            results.push([...dependencies.values()].map(({ result, state }) => [state, result]))
            return n * 10
          })
        )
      )
      yield* reaches(node, d.id, "completed")
      assert.strictEqual(order[0], 1)
      assert.strictEqual(order[3], 4)
      assert.deepStrictEqual(results[3], [
        ["completed", 10],
        ["completed", 20],
        ["completed", 30]
      ])
      yield* node.event("Unblocked", d.id)
      const sql = yield* SqlClient.SqlClient
      assert.strictEqual((yield* sql`SELECT FROM shigoto.dependencies WHERE outcome IS NULL`).length, 0)
    })
  )

  onDatabase("cancels, runs or holds a job whose parent failed, down the whole chain", () =>
    Effect.gen(function* () {
      const node = yield* startNode()
      const parent = yield* node.run(Step.enqueue({ n: -1 }))
      const child = (n: number, id: JobId, onFailure?: "cancel" | "run" | "hold") =>
        node.run(Step.enqueue({ n }, { dependsOn: [onFailure === undefined ? id : { id, onFailure }] }))
      const cancelled = yield* child(1, parent.id)
      const grandchild = yield* child(2, cancelled.id)
      const tolerant = yield* child(3, cancelled.id, "run")
      const runs = yield* child(4, parent.id, "run")
      const held = yield* child(5, parent.id, "hold")
      const afterHeld = yield* child(6, held.id)
      yield* node.add(StepLive)
      yield* reaches(node, tolerant.id, "completed")
      yield* reaches(node, runs.id, "completed")
      const [one, two] = [yield* node.jobs.get(cancelled.id), yield* node.jobs.get(grandchild.id)]
      assert.strictEqual(one.state, "cancelled")
      assert.strictEqual(one.cancelReason, `It waited for job ${parent.id}, which was discarded.`)
      assert.strictEqual(two.cancelReason, `It waited for job ${cancelled.id}, which was cancelled.`)
      assert.strictEqual((yield* node.jobs.get(held.id)).state, "blocked")
      yield* node.event("Cancelled", grandchild.id)

      // Retrying the parent lets what was cancelled wait for it again, and the held one go on.
      forgiven.add(-1)
      assert.strictEqual((yield* node.jobs.retry(parent.id))._tag, "Retried")
      for (const { id } of [cancelled, grandchild, held, afterHeld]) yield* reaches(node, id, "completed")
      forgiven.delete(-1)
    })
  )

  onDatabase("releases a held job, and runs a cancelled one, on an operator's word", () =>
    Effect.gen(function* () {
      const node = yield* startNode({ workers: StepLive })
      const parent = yield* node.run(Step.enqueue({ n: -2 }))
      const held = yield* node.run(Step.enqueue({ n: 1 }, { dependsOn: [{ id: parent.id, onFailure: "hold" }] }))
      const lost = yield* node.run(Step.enqueue({ n: 2 }, { dependsOn: [parent.id] }))
      yield* reaches(node, lost.id, "cancelled")
      assert.deepStrictEqual(yield* node.jobs.retry(held.id), { _tag: "Retried" })
      assert.deepStrictEqual(yield* node.jobs.retry(lost.id), { _tag: "Retried" })
      yield* reaches(node, held.id, "completed")
      yield* reaches(node, lost.id, "completed")

      // A blocked job that waits for one that lives is not set free.
      const slow = yield* node.run(Step.enqueue({ n: 3 }, { delay: "1 hour" }))
      const waiting = yield* node.run(Step.enqueue({ n: 4 }, { dependsOn: [slow.id] }))
      assert.deepStrictEqual(yield* node.jobs.retry(waiting.id), { _tag: "Unchanged", state: "blocked" })
      // Neither is one that was cancelled while it waited.
      yield* node.jobs.cancel(waiting.id)
      yield* node.jobs.retry(waiting.id)
      assert.strictEqual((yield* node.jobs.get(waiting.id)).state, "blocked")
      yield* node.jobs.cancel(slow.id)
      yield* reaches(node, waiting.id, "cancelled")
    })
  )

  onDatabase("has a defined answer for parents that ended, were pruned, or never were", () =>
    Effect.gen(function* () {
      const node = yield* startNode({
        workers: StepLive,
        config: { retention: { completed: "14 days", discarded: "14 days", cancelled: 0 } }
      })
      const done = yield* node.run(Step.enqueue({ n: 1 }))
      const failed = yield* node.run(Step.enqueue({ n: -3 }))
      const gone = yield* node.run(Step.enqueue({ n: 2 }, { delay: "1 hour" }))
      yield* node.jobs.cancel(gone.id)
      yield* reaches(node, done.id, "completed")
      yield* reaches(node, failed.id, "discarded")
      const child = (id: JobId, onFailure: "cancel" | "run" | "hold") =>
        Effect.map(node.run(Step.enqueue({ n: 5 }, { dependsOn: [{ id, onFailure }] })), ({ job }) => job.state)
      assert.strictEqual(yield* child(done.id, "cancel"), "available")
      assert.strictEqual(yield* child(failed.id, "cancel"), "cancelled")
      assert.strictEqual(yield* child(failed.id, "run"), "available")
      assert.strictEqual(yield* child(failed.id, "hold"), "blocked")
      assert.strictEqual(yield* child(gone.id, "cancel"), "available")

      const unknown = yield* Effect.flip(
        node.run(Step.enqueueAll([{ n: 1 }, { n: 2 }], (_, i) => ({ dependsOn: [done.id, (900 + i) as JobId] })))
      )
      assert.strictEqual(unknown._tag, "MissingDependencies")
      assert.deepStrictEqual("ids" in unknown ? unknown.ids : [], [900, 901])
      for (const dependsOn of [
        [done.id, done.id],
        [0 as JobId],
        [1.5 as JobId],
        [{ id: done.id, onFailure: "x" as never }]
      ]) {
        const refused = yield* Effect.flip(node.run(Step.enqueue({ n: 1 }, { dependsOn })))
        assert.strictEqual(refused._tag, "InvalidDependencies")
      }
      // Nothing was stored by what was refused; of what was cancelled nothing is kept.
      assert.deepStrictEqual(
        yield* eventually(tally, (counts) => (counts.available ?? 0) + (counts.executing ?? 0) === 0),
        { blocked: 1, completed: 4, discarded: 1 }
      )
    })
  )

  onDatabase("is part of the caller's transaction, at every isolation level", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const pool = Layer.succeedContext(yield* Effect.context<PgClient.PgClient | SqlClient.SqlClient>())
      const node = yield* startNode({ client: pool })
      const parent = yield* node.run(Step.enqueue({ n: 1 }))
      const child = yield* node.run(
        Effect.flip(
          sql.withTransaction(
            Effect.flatMap(Step.enqueue({ n: 2 }, { dependsOn: [parent.id] }), ({ id }) => Effect.fail({ id }))
          )
        )
      )
      const found = yield* sql`SELECT FROM shigoto.dependencies`
      assert.strictEqual(found.length, 0)
      assert.isTrue(Exit.isFailure(yield* Effect.exit(node.jobs.get("id" in child ? child.id : parent.id))))
      for (const level of ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]) {
        const made = yield* node.run(
          sql
            .withTransaction(
              Effect.flatMap(Step.enqueue({ n: 3 }), ({ id }) => Step.enqueue({ n: 4 }, { dependsOn: [id] }))
            )
            .pipe(Effect.provideService(SqlClient.BeginTransaction, `BEGIN ISOLATION LEVEL ${level}`))
        )
        assert.strictEqual(made.job.state, "blocked")
      }
      yield* node.add(StepLive)
      yield* eventually(tally, (counts) => counts.completed === 7)
    })
  )

  for (const first of ["the child's insert", "the parent's end"] as const) {
    onDatabase(`waits for ${first} where the two meet`, () =>
      Effect.gen(function* () {
        const database = yield* TestDatabase
        const sql = yield* SqlClient.SqlClient
        const producer = yield* startNode({ config: sweepless })
        const { id } = yield* producer.run(Step.enqueue({ n: 1 }))
        const { claim, complete } = yield* bareStore
        const claimed = yield* claim(1)
        const insert = producer.run(Step.enqueue({ n: 2 }, { dependsOn: [id] }))
        const blocked = sql`SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`
        // Whichever comes first stops in its last statement, holding its locks, until the other waits for them.
        const other = yield* database.makeClient({ maxConnections: 1 })
        yield* sql`CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS $$
          BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END $$`
        yield* first === "the child's insert"
          ? sql`CREATE TRIGGER pause AFTER INSERT ON shigoto.dependencies FOR EACH STATEMENT EXECUTE FUNCTION pause()`
          : sql`CREATE TRIGGER pause AFTER INSERT ON shigoto.jobs_archive FOR EACH STATEMENT EXECUTE FUNCTION pause()`
        const [one, two] = first === "the child's insert" ? [insert, complete(claimed)] : [complete(claimed), insert]
        yield* other.withTransaction(
          Effect.gen(function* () {
            yield* other`SELECT pg_advisory_xact_lock(7)`
            yield* Effect.forkChild(one, { startImmediately: true })
            yield* eventually(blocked, (rows) => rows.length === 1)
            yield* Effect.forkChild(two, { startImmediately: true })
            yield* eventually(blocked, (rows) => rows.length === 2)
          })
        )
        yield* eventually(tally, (counts) => counts.completed === 1 && counts.available === 1)
      })
    )
  }

  onDatabase("leaves none of 2,000 children stuck or early that are inserted while their parents finish", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const producer = yield* startNode({ config: sweepless })
      const parents = yield* producer.run(Step.enqueueAll(Array.from({ length: 1000 }, (_, n) => ({ n }))))
      const { claim, complete } = yield* bareStore
      let left = 3000
      const ender = Effect.gen(function* () {
        while (left > 0) {
          const jobs = yield* claim(5)
          left -= jobs.length
          for (const job of jobs) {
            const early = job.dependencies.some(({ state }) => state !== "completed")
            if (early) return yield* Effect.die(new Error(`job ${job.id} is early`))
          }
          yield* complete(jobs)
        }
      })
      const inserter = (k: number) =>
        Effect.forEach(
          Array.from({ length: 250 }, (_, i) => i),
          (i) => {
            const a = parents[(i * 4 + k) % 1000]?.id as JobId
            const b = parents[(i * 7 + k * 31) % 1000]?.id as JobId
            return producer.run(Step.enqueue({ n: 1 }, { dependsOn: a === b ? [a] : [a, b] }))
          },
          { discard: true }
        )
      yield* Effect.all([ender, ender, ender, ...Array.from({ length: 8 }, (_, k) => inserter(k))], {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(yield* tally, { completed: 3000 })
      assert.strictEqual(
        (yield* sql`SELECT FROM shigoto.dependencies WHERE outcome IS DISTINCT FROM 'completed'`).length,
        0
      )
    })
  )

  onDatabase(
    "leaves none of 2,000 children stuck, early or run twice while their parents finish in processes, one of which dies",
    () =>
      Effect.gen(function* () {
        yield* makeDiary
        const sql = yield* SqlClient.SqlClient
        const config = { leaseTtl: "2 seconds", leaseBeat: "300 millis", queues: { default: 10 } } as const
        const producer = yield* startNode({ config: { ...config, queues: { unused: 1 } } })
        const begin = startProcess({ config }, "batchWorker.ts")
        const processes = yield* Effect.all([begin, begin, begin], { concurrency: 3 })
        const newest: Array<JobId> = []
        const parentsOf = new Map<number, ReadonlyArray<JobId>>()
        const insert = (k: number) =>
          Effect.gen(function* () {
            const parent = yield* producer.run(Fixture.Step.enqueue({ n: 0 }))
            newest[k] = parent.id
            for (const other of [(k + 1) % 8, (k + 3) % 8]) {
              const dependsOn = [parent.id, newest[other] ?? parent.id].filter((id, i, all) => all.indexOf(id) === i)
              const child = yield* producer.run(Fixture.Step.enqueue({ n: 1 }, { dependsOn }))
              parentsOf.set(child.id, dependsOn)
            }
          })
        const insertAll = Effect.all(
          Array.from({ length: 8 }, (_, k) => Effect.repeat(insert(k), { times: 124 })),
          { concurrency: "unbounded" }
        )
        const killed = Effect.gen(function* () {
          const written = Effect.map(diary, (lines) => lines.length)
          for (let seen = 0; seen < 1000;) seen = yield* eventually(written, (now) => now > seen)
          processes[0].child.kill("SIGKILL")
        })
        yield* Effect.all([insertAll, killed], { concurrency: 2 })
        const left = Effect.map(sql`SELECT FROM shigoto.jobs`, (rows) => rows.length)
        for (let open = yield* left; open > 0;) open = yield* eventually(left, (now) => now < open)
        assert.deepStrictEqual(yield* tally, { completed: 3000 })

        const lines = yield* diary
        const firstEnd = new Map<number, number>()
        const starts = new Map<number, Array<(typeof lines)[number] & { readonly at: number }>>()
        for (const [at, line] of lines.entries()) {
          if (line.what === "start") starts.set(line.job, [...(starts.get(line.job) ?? []), { ...line, at }])
          else if (!firstEnd.has(line.job)) firstEnd.set(line.job, at)
        }
        const early = [...parentsOf].filter(([child, parents]) =>
          parents.some((parent) => (firstEnd.get(parent) ?? Infinity) > (starts.get(child)?.[0]?.at ?? -1))
        )
        // Only what ran in the process that died may run again.
        const double = [...starts.values()].filter((runs) =>
          runs.slice(0, -1).some(({ pid }) => pid !== processes[0].pid)
        )
        assert.deepStrictEqual({ early, double }, { early: [], double: [] })
        assert.strictEqual(parentsOf.size, 2000)
      })
  )

  onDatabase("follows a chain of cancelled jobs further than one transaction goes, by the sweep", () =>
    Effect.gen(function* () {
      const node = yield* startNode({ config: { leaseTtl: "1 second", leaseBeat: "200 millis" } })
      const first = yield* node.run(Step.enqueue({ n: 1 }, { delay: "1 hour" }))
      let last = first.id
      for (let i = 0; i < 520; i++) last = (yield* node.run(Step.enqueue({ n: 2 }, { dependsOn: [last] }))).id
      yield* node.jobs.cancel(first.id)
      yield* eventually(tally, (counts) => counts.cancelled === 521)
    })
  )
})
