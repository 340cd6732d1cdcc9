/** Flows and fan-outs on several processes that die: none stuck, none early, none twice. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Cipher from "../../src/Cipher.ts"
import { Flows } from "../../src/Flows.ts"
import * as Flow from "../../src/Flow.ts"
import * as Job from "../../src/Job.ts"
import { eventually } from "../setup/eventually.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"
import { Whole, whole, workers } from "./fixtures/flows.ts"
import { makeDiary, onDatabase, runDown, startNode, startProcess, tally } from "./support.ts"

/** What has no excuse, whoever died: early starts, children twice, jobs twice, counters that are off. */
const offences = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const early = yield* sql`
    WITH first AS (
      SELECT job, min(seq) FILTER (WHERE what = 'start') AS start, min(seq) FILTER (WHERE what = 'end') AS end
      FROM diary
      GROUP BY job
    )
    SELECT d.child_id, d.parent_id
    FROM shigoto.dependencies AS d
    JOIN first AS child ON child.job = d.child_id
    JOIN first AS parent ON parent.job = d.parent_id
    -- A job that has added another has begun before it, but has not gone on.
    WHERE CASE WHEN d.parent_id > d.child_id THEN child.end ELSE child.start END < parent.end`
  const fans = yield* sql`
    SELECT j.id
    FROM shigoto.all_jobs AS j
    JOIN shigoto.dependencies AS d
      ON d.child_id = j.id AND d.parent_id > j.id
    WHERE j.worker = 'fan'
    GROUP BY j.id
    HAVING count(*) <> ${whole.width}::bigint`
  const twice = yield* sql`SELECT id FROM shigoto.all_jobs GROUP BY id HAVING count(*) > 1`
  const counters = yield* sql`
    SELECT b.id
    FROM shigoto.batches AS b
    WHERE b.total <> (SELECT count(*) FROM shigoto.all_jobs AS j WHERE j.batch_id = b.id)
      OR b.completed <> (SELECT count(*) FROM shigoto.all_jobs AS j WHERE j.batch_id = b.id AND j.state = 'completed')`
  return { early, fans, twice, counters }
})
const none = { early: [], fans: [], twice: [], counters: [] }

describe("flows", () => {
  onDatabase("come to their end, each node in its turn and each child once, while processes are killed", () =>
    Effect.gen(function* () {
      yield* makeDiary
      const sql = yield* SqlClient.SqlClient
      const observer = yield* startNode({
        config: { queues: { unused: 1 }, leaseTtl: "1500 millis", leaseBeat: "300 millis" }
      })
      const config = { leaseTtl: "1500 millis", leaseBeat: "300 millis", queues: { default: 20 } } as const
      const begin = startProcess({ config }, "flowWorker.ts")
      const processes = yield* Effect.all([begin, begin, begin], { concurrency: 3 })
      const lines = Effect.map(
        sql<{ readonly count: number }>`SELECT count(*)::integer AS count FROM diary`,
        ([row]) => row?.count ?? 0
      )
      const left = Effect.map(
        sql<{ readonly count: number }>`
            SELECT count(*)::integer AS count FROM shigoto.batches WHERE finished_at IS NULL`,
        ([row]) => row?.count ?? 0
      )
      const flows: Array<Effect.Success<ReturnType<typeof Whole.enqueue>>> = []
      // One dies in the midst of each round.
      for (let round = 0; round < 6; round++) {
        const before = yield* lines
        flows.push(
          ...(yield* Effect.forEach(Array.from({ length: 40 }), () => observer.run(Whole.enqueue({})), {
            concurrency: 8
          }))
        )
        yield* eventually(lines, (now) => now > before + 60)
        processes[round % 3]?.child.kill("SIGKILL")
        processes[round % 3] = yield* begin
      }
      yield* runDown(left)
      assert.deepStrictEqual(yield* offences, none)
      assert.deepStrictEqual(yield* tally, { completed: flows.length * whole.jobs })
      for (const { id } of flows) {
        const { finished, output, total } = yield* observer.run(Whole.status(id))
        assert.deepStrictEqual([finished, total, Option.getOrNull(output)], [true, whole.jobs, whole.result])
      }
    })
  )

  for (const isolation of ["repeatable read", "serializable"] as const) {
    onDatabase(
      `come to their end on two nodes where the database's default is ${isolation}`,
      () =>
        Effect.gen(function* () {
          yield* makeDiary
          const sql = yield* SqlClient.SqlClient
          const client = Layer.succeedContext(yield* Effect.context<SqlClient.SqlClient>())
          const nodes = yield* Effect.all([1, 2].map(() => startNode({ config: { queues: { default: 20 } } })))
          for (const node of nodes) yield* node.add(Layer.provide(workers, client))
          const [node] = nodes as [(typeof nodes)[number]]
          const flows = yield* Effect.forEach(Array.from({ length: 20 }), () => node.run(Whole.enqueue({})), {
            concurrency: 10
          })
          yield* eventually(tally, (counts) => counts.completed === 20 * whole.jobs)
          assert.deepStrictEqual(yield* offences, none)
          assert.isTrue(
            (yield* Effect.forEach(flows, ({ id }) => node.run(Whole.status(id)))).every(({ finished }) => finished)
          )
          assert.strictEqual((yield* sql`SELECT FROM shigoto.dependencies WHERE outcome IS NULL`).length, 0)
        }),
      { isolation }
    )
  }

  onDatabase("are part of the caller's transaction at every isolation level, and vanish with it", () =>
    Effect.gen(function* () {
      yield* makeDiary
      const sql = yield* SqlClient.SqlClient
      const pool = Layer.succeedContext(yield* Effect.context<never>())
      const node = yield* startNode({ client: pool as never, config: { queues: { default: 20 } } })
      const batches = Effect.map(sql`SELECT FROM shigoto.batches`, (rows) => rows.length)
      for (const level of ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]) {
        const within = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
          sql
            .withTransaction(effect)
            .pipe(Effect.provideService(SqlClient.BeginTransaction, `BEGIN ISOLATION LEVEL ${level}`))
        const before = [yield* tally, yield* batches]
        yield* node.run(within(Effect.andThen(Whole.enqueue({}), Effect.fail("no"))).pipe(Effect.flip))
        assert.deepStrictEqual([yield* tally, yield* batches], before, level)
        const made = yield* node.run(within(Effect.all([Whole.enqueue({}), Whole.enqueue({})])))
        assert.strictEqual(made.length, 2)
      }
      yield* node.add(Layer.provide(workers, pool as never))
      yield* eventually(tally, (counts) => counts.completed === 6 * whole.jobs)
      assert.deepStrictEqual(yield* offences, none)
    })
  )

  onDatabase(
    "lose no result where nothing is kept of jobs that have ended, and tell nothing where all is encrypted",
    () =>
      Effect.gen(function* () {
        yield* makeDiary
        const sql = yield* SqlClient.SqlClient
        const database = yield* TestDatabase
        const pool = Layer.succeedContext(yield* Effect.context<SqlClient.SqlClient>())
        const key: Cipher.Key = { id: "one", key: Redacted.make(new Uint8Array(32).fill(1)) }
        const Secret = Job.make("secret", { args: { text: Schema.String }, success: Schema.String })
        const Spy = Flow.make("spy", { input: { text: Schema.String } }, (flow) => {
          const one = flow.node("one", Secret, { args: ({ text }) => ({ text }) })
          return flow.node("two", Secret, { after: { one }, args: ({ text }, { one }) => ({ text: `${text} ${one}` }) })
        })
        const said: Array<string> = []
        const Fanning = Job.make("fanning")
        const spies = Layer.mergeAll(
          Spy.layer,
          Secret.toLayer(({ text }) => Effect.sync(() => (said.push(text), `heard ${text}`))),
          Fanning.toLayer(() =>
            Effect.map(Job.fanOut("secrets", Secret, [{ text: "hush" }]), (heard) => void said.push(...heard))
          )
        )
        const node = yield* startNode({
          client: Layer.mergeAll(database.layerClient({ maxConnections: 12 }), Cipher.layerAesGcm({ keys: [key] })),
          config: { queues: { default: 20 }, retention: { completed: 0, discarded: "1 day", cancelled: 0 } }
        })
        yield* node.add(Layer.provide(workers, pool))
        const flows = yield* node.run(Flows)
        const { id } = yield* node.run(Whole.enqueue({}))
        const status = yield* eventually(flows.status(id), ({ finished }) => finished)
        assert.deepInclude(status, { total: whole.jobs, completed: whole.jobs, nodes: [] })

        const spy = yield* node.run(Spy.enqueue({ text: "hush" }))
        const fanning = yield* node.run(Fanning.enqueue({}))
        yield* node.add(spies)
        yield* eventually(flows.status(spy.id), ({ finished }) => finished)
        yield* eventually(Effect.exit(node.jobs.get(fanning.id)), (exit) => exit._tag === "Failure")
        assert.sameMembers(said, ["hush", "hush heard hush", "hush", "heard hush"])
        const texts = yield* sql<{ readonly text: string }>`
        SELECT b::text AS text FROM shigoto.batches AS b
        UNION ALL
        SELECT d::text FROM shigoto.dependencies AS d`
        assert.isAbove(texts.length, 2)
        assert.notInclude(texts.map(({ text }) => text).join(), "hush")
      })
  )

  onDatabase("take thousands of children in one fan-out, and thousands of parents of one job", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const Leaf = Job.make("leaf", { args: { n: Schema.Int }, success: Schema.Int, queue: "leaves" })
      const Many = Job.make("many", { args: { width: Schema.Int }, success: Schema.Int })
      const Last = Job.make("last", { success: Schema.Int, dependencies: { leaves: [Leaf] } })
      const node = yield* startNode({
        config: { queues: { default: 10, leaves: 500 }, queryTimeout: "20 seconds" },
        workers: Layer.mergeAll(
          Leaf.toLayer(({ n }) => Effect.succeed(n)),
          Last.toLayer((_, { dependencies }) => Effect.succeed(dependencies.leaves.reduce((sum, n) => sum + n, 0))),
          Many.toLayer(({ width }) =>
            Effect.map(
              Job.fanOut(
                "leaves",
                Leaf,
                Array.from({ length: width }, (_, n) => ({ n }))
              ),
              (leaves) => leaves.reduce((sum, n) => sum + n, 0)
            )
          )
        )
      })
      const sums = yield* Effect.all(
        [node.run(Many.execute({ width: 10_000 })), node.run(Many.execute({ width: 3000 }))],
        { concurrency: 2 }
      )
      assert.deepStrictEqual(sums, [49_995_000, 4_498_500])
      const rows = yield* sql<{
        readonly id: bigint
      }>`SELECT id FROM shigoto.all_jobs WHERE worker = 'leaf' ORDER BY id LIMIT 10001`
      const ids = rows.map(({ id }) => Number(id) as never)
      assert.isNumber(yield* node.run(Last.execute({}, { dependsOn: { leaves: ids.slice(0, 10_000) } })))
      const refused = yield* Effect.flip(node.run(Last.enqueue({}, { dependsOn: { leaves: ids } })))
      assert.strictEqual(refused._tag, "InvalidDependencies")
    })
  )

  onDatabase("are cancelled while they run, whatever each node is doing", () =>
    Effect.gen(function* () {
      const Slow = Job.make("slow", { args: { n: Schema.Int }, success: Schema.Int })
      const Line = Flow.make("line", {}, (flow) => {
        const one = flow.node("one", Slow, { args: { n: 0 } })
        const two = flow.node("two", Slow, { after: { one }, args: { n: 60_000 } })
        flow.node("three", Slow, { after: { two }, args: { n: 0 } })
      })
      const node = yield* startNode({ workers: Slow.toLayer(({ n }) => Effect.as(Effect.sleep(n), n)) })
      const flows = yield* node.run(Flows)
      const { id } = yield* node.run(Line.enqueue({}))
      yield* eventually(flows.status(id), ({ counts }) => counts.executing === 1 && counts.completed === 1)
      // The end of the second may take the third along before it is met.
      assert.include([1, 2], yield* flows.cancel(id, "enough"))
      const status = yield* eventually(flows.status(id), ({ finished }) => finished)
      assert.deepStrictEqual(
        status.nodes.map(({ state }) => state),
        ["completed", "cancelled", "cancelled"]
      )
      assert.deepInclude(status, { outcome: "cancelled", cancelled: 2, completed: 1 })
    })
  )
})
