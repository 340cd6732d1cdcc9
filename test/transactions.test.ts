import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it, layer } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as EffectQueue from "effect/Queue"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import { makeTransaction } from "../src/internal/sql/transaction.ts"
import * as Job from "../src/Job.ts"
import type { JobEvent } from "../src/JobEvent.ts"
import { Jobs } from "../src/Jobs.ts"
import * as Shigoto from "../src/Shigoto.ts"
import * as ShigotoConfig from "../src/ShigotoConfig.ts"
import { ShigotoLive } from "../src/ShigotoLive.ts"
import { eventually } from "./setup/eventually.ts"
import { jobCount, layerProducer } from "./setup/producer.ts"
import { TestDatabase } from "./setup/TestDatabase.ts"

const Order = Job.make("order", { args: { n: Schema.Int } })

class Abort extends Error {
  readonly _tag = "Abort"
}

/** The events of this process and the notifications of the database, as they come. */
const listen = Effect.gen(function* () {
  const jobs = yield* Jobs
  const database = yield* TestDatabase
  const events: Array<JobEvent> = []
  yield* jobs.events.pipe(
    Stream.runForEach((event) => Effect.sync(() => events.push(event))),
    Effect.forkScoped({ startImmediately: true })
  )
  const client = yield* database.makeClient()
  const notifications = yield* client.listen("shigoto")
  return { events, notification: Effect.map(EffectQueue.take(notifications), ({ payload }) => payload) }
})

/** What another session sees. */
const elsewhere = Effect.gen(function* () {
  return yield* Effect.provide(jobCount, (yield* TestDatabase).layerClient())
})

for (const level of ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]) {
  layer(layerProducer(), { excludeTestServices: true })(`an enqueue in a transaction at ${level}`, (it) => {
    const within = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
      Effect.flatMap(SqlClient.SqlClient, (sql) =>
        sql
          .withTransaction(effect)
          .pipe(Effect.provideService(SqlClient.BeginTransaction, `BEGIN ISOLATION LEVEL ${level}`))
      )

    it.effect("is seen when it commits, and told of only then", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const jobs = yield* Jobs
        const { events, notification } = yield* listen
        const id = yield* within(
          Effect.gen(function* () {
            const [row] = yield* sql<{
              readonly level: string
            }>`SELECT current_setting('transaction_isolation') AS level`
            assert.strictEqual(row?.level, level.toLowerCase())
            const result = yield* Order.enqueue({ n: 1 }, { queue: "told" })
            // The caller sees its own job; nobody else does, and nobody has been told.
            assert.strictEqual((yield* jobs.get(result.id)).state, "available")
            assert.strictEqual(yield* elsewhere, 0)
            assert.deepStrictEqual(events, [])
            return result.id
          })
        )
        assert.strictEqual(yield* elsewhere, 1)
        assert.match(yield* notification, /^available \S+ told$/)
        yield* eventually(
          Effect.sync(() => events.length),
          (count) => count === 1
        )
        assert.deepInclude(events[0], { _tag: "Inserted", id })
      })
    )

    it.effect("vanishes when it rolls back, without a word", () =>
      Effect.gen(function* () {
        const before = yield* jobCount
        const { events, notification } = yield* listen
        yield* Effect.flip(
          within(
            Effect.gen(function* () {
              yield* Order.enqueue({ n: 2 }, { queue: "lost" })
              yield* Order.enqueueAll([{ n: 3 }, { n: 4 }], { queue: "lost" })
              return yield* Effect.fail(new Abort())
            })
          )
        )
        assert.strictEqual(yield* jobCount, before)
        // What is told next is the first that is told at all.
        const { id } = yield* Order.enqueue({ n: 5 }, { queue: "next" })
        assert.match(yield* notification, /^available \S+ next$/)
        yield* eventually(
          Effect.sync(() => events.length),
          (count) => count > 0
        )
        assert.deepStrictEqual(
          events.map((event) => "id" in event && event.id),
          [id]
        )
      })
    )

    it.effect("vanishes with its savepoint alone", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const jobs = yield* Jobs
        const { events } = yield* listen
        const before = yield* jobCount
        const { inner, outer } = yield* within(
          Effect.gen(function* () {
            const outer = yield* Order.enqueue({ n: 6 })
            const lost = yield* Effect.flip(
              sql.withTransaction(Effect.flatMap(Order.enqueue({ n: 7 }), ({ id }) => Effect.fail({ id })))
            )
            const inner = yield* sql.withTransaction(Order.enqueue({ n: 8 }))
            if (!("id" in lost)) return assert.fail("the inner transaction failed by itself")
            assert.strictEqual((yield* Effect.flip(jobs.get(lost.id)))._tag, "JobNotFound")
            return { inner, outer }
          })
        )
        assert.strictEqual(yield* jobCount, before! + 2)
        yield* eventually(
          Effect.sync(() => events.length),
          (count) => count === 2
        )
        assert.deepStrictEqual(
          events.map((event) => "id" in event && event.id),
          [outer.id, inner.id]
        )
      })
    )

    it.effect("fails with a typed error in a transaction that is aborted, and leaves no phantom", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const before = yield* jobCount
        const { events } = yield* listen
        for (const inputs of [[{ n: 9 }], Array.from({ length: 5001 }, (_, n) => ({ n }))]) {
          yield* Effect.flip(
            within(
              Effect.gen(function* () {
                yield* Order.enqueue({ n: 10 })
                yield* Effect.flip(sql`SELECT 1 / 0`)
                const error = yield* Effect.flip(Order.enqueueAll(inputs))
                assert.strictEqual(error._tag, "StorageError")
                assert.strictEqual(error._tag === "StorageError" && error.code, "25P02")
                return yield* error
              })
            )
          )
        }
        assert.strictEqual(yield* jobCount, before)
        yield* Order.enqueue({ n: 11 })
        yield* eventually(
          Effect.sync(() => events.length),
          (count) => count > 0
        )
        assert.strictEqual(events.length, 1)
      })
    )

    it.effect("cancels and retries with the transaction as well", () =>
      Effect.gen(function* () {
        const jobs = yield* Jobs
        const { id } = yield* Order.enqueue({ n: 12 })
        yield* Effect.flip(Effect.andThen(jobs.cancel(id), Effect.fail(new Abort())).pipe(within))
        assert.strictEqual((yield* jobs.get(id)).state, "available")
        yield* within(
          Effect.gen(function* () {
            assert.deepStrictEqual(yield* jobs.cancel(id, "why"), { _tag: "Cancelled" })
            assert.strictEqual((yield* jobs.get(id)).state, "cancelled")
            assert.deepStrictEqual(yield* jobs.retry(id), { _tag: "Retried" })
          })
        )
        const row = yield* jobs.get(id)
        assert.deepStrictEqual([row.state, row.epoch], ["available", 1])
      })
    )
  })
}

describe("Shigoto.layerProducer", () => {
  it.live("has no loops, no listener, no lease and no handlers", () =>
    Effect.gen(function* () {
      const database = yield* TestDatabase
      const config = (nodeName: string) =>
        ShigotoConfig.layer({
          nodeName,
          pollInterval: "10 millis",
          idlePollInterval: "10 millis",
          leaseBeat: "50 millis",
          pruneInterval: "100 millis"
        })
      const producer = Shigoto.layerProducer.pipe(
        Layer.provide(config("producer")),
        Layer.provide(database.layerClient({ applicationName: "producer", maxConnections: 3 }))
      )
      const node = ShigotoLive.pipe(Layer.provide(config("node")), Layer.provide(database.layerClient()))
      const sql = yield* SqlClient.SqlClient
      yield* Effect.gen(function* () {
        const backends = sql<{ readonly pid: number; readonly query: string; readonly at: string }>`
          SELECT pid, query, query_start::text AS at
          FROM pg_stat_activity
          WHERE application_name IN ('producer', 'shigoto-listener/producer')
          ORDER BY pid`
        yield* Order.enqueue({ n: 1 })
        // It is the last thing that it says: the hint to other nodes goes with it.
        const before = yield* eventually(backends, (rows) => rows.some(({ query }) => query.includes("INSERT INTO")))
        assert.isFalse(before.some(({ query }) => query.includes("LISTEN")))
        // As long as a whole node takes to look, beat and prune many times.
        yield* Layer.build(Layer.fresh(node))
        const beats = sql<{ readonly name: string; readonly many: boolean }>`
          SELECT name, beat_at > started_at + interval '300 milliseconds' AS many FROM shigoto.nodes`
        const nodes = yield* eventually(beats, (rows) => rows.some(({ many }) => many))
        assert.deepStrictEqual(nodes, [{ name: "node", many: true }])
        assert.deepStrictEqual(yield* backends, before)
        assert.strictEqual((yield* (yield* Jobs).list())[0]?.state, "available")
      }).pipe(Effect.provide(producer))
    }).pipe(Effect.scoped, Effect.provide(TestDatabase.layer()))
  )

  it.live("joins the transactions of a client that renames columns", () =>
    Effect.gen(function* () {
      const database = yield* TestDatabase
      const camel = (name: string) => name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase())
      const snake = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
      const client = database.layerClient({
        transformResultNames: camel,
        transformQueryNames: snake,
        transformJson: true
      })
      yield* Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const jobs = yield* Jobs
        yield* Effect.flip(sql.withTransaction(Effect.andThen(Order.enqueue({ n: 1 }), Effect.fail(new Abort()))))
        assert.deepStrictEqual(yield* jobs.list(), [])
        const { id } = yield* sql.withTransaction(
          Job.make("snake", { args: { in_snake: Schema.Int, inCamel: Schema.Int } }).enqueue(
            { in_snake: 1, inCamel: 2 },
            { meta: { some_key: 1 } }
          )
        )
        const row = yield* jobs.get(id)
        assert.deepStrictEqual(row.args, { in_snake: 1, inCamel: 2 })
        assert.deepStrictEqual(row.meta, { some_key: 1 })
      }).pipe(Effect.provide(Layer.provideMerge(Layer.provide(Shigoto.layerProducer, ShigotoConfig.layer()), client)))
    }).pipe(Effect.provide(TestDatabase.layer()))
  )
})

layer(layerProducer(), { excludeTestServices: true })("a transaction of the library's own", (it) => {
  it.effect("whose beginning is answered too late is over, and the connection as good as new", () =>
    Effect.gen(function* () {
      const database = yield* TestDatabase
      const sql = yield* database.makeClient({ maxConnections: 1 })
      const transaction = makeTransaction(sql, Duration.millis(100))
      yield* sql`CREATE TABLE seen (n integer)`
      const late = Effect.gen(function* () {
        const begun = yield* Effect.forkChild(transaction(Effect.void))
        // BEGIN is on its way. As the event loop goes on, the wait for it ends before its answer is read.
        while (begun.pollUnsafe() === undefined) {
          yield* Effect.yieldNow
          const blockedUntil = performance.now() + 150
          while (performance.now() < blockedUntil);
        }
        return yield* Fiber.await(begun)
      })
      yield* Effect.repeat(late, { until: Exit.isFailure })
      yield* sql`INSERT INTO seen VALUES (1)`
      const elsewhere = yield* database.makeClient()
      assert.lengthOf(yield* elsewhere`SELECT FROM seen`, 1)
    })
  )
})
