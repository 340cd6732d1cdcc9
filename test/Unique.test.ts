import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it, layer } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Job from "../src/Job.ts"
import { Jobs } from "../src/Jobs.ts"
import { JobStore, layer as storeLayer } from "../src/JobStore.ts"
import * as Shigoto from "../src/Shigoto.ts"
import * as ShigotoConfig from "../src/ShigotoConfig.ts"
import { check, keyText, stateBits } from "../src/Unique.ts"
import { eventually } from "./setup/eventually.ts"
import { TestDatabase } from "./setup/TestDatabase.ts"

const rule = (options: Parameters<typeof check>[0]) => Result.getOrThrow(check(options))
const textOf = (keys: ReadonlyArray<string>, args: unknown, worker = "w", queue = "q") =>
  keyText(rule({ keys: keys as never }), { worker, queue, args })

describe("keys", () => {
  it("do not depend on the order of an object's keys, and leave out what is undefined", () => {
    assert.deepStrictEqual(textOf(["args"], { a: 1, b: [2] }), textOf(["args"], { b: [2], a: 1, c: undefined }))
  })
  it("tell apart what differs: type, value, Unicode form, and where one part ends", () => {
    const texts = [
      textOf(["args"], { a: 1 }),
      textOf(["args"], { a: "1" }),
      textOf(["args"], { a: null }),
      textOf(["args"], { a: "\u00e9" }),
      textOf(["args"], { a: "e\u0301" }),
      textOf(["worker", "queue"], {}, "a:b", "c"),
      textOf(["worker", "queue"], {}, "a", "b:c"),
      textOf(["worker"], {}, "a"),
      textOf(["queue"], {}, "w", "a")
    ].map((text) => Result.getOrThrow(text))
    assert.strictEqual(new Set(texts).size, texts.length)
  })
  it("take a path into the args, and name one that is not there", () => {
    assert.deepStrictEqual(
      textOf(["args.to.name"], { to: { name: 1 }, x: 1 }),
      textOf(["args.to.name"], { to: { name: 1 } })
    )
    assert.deepStrictEqual(textOf(["args.to"], {}), Result.fail("args.to"))
    assert.deepStrictEqual(textOf(["args.constructor"], {}), Result.fail("args.constructor"))
  })
  it("have a bit for each state in the order of a job's life", () => {
    assert.strictEqual(stateBits(["scheduled", "available", "cancelled"]), 1 | 4 | 128)
  })
})

describe("options", () => {
  const bad: ReadonlyArray<[string, Parameters<typeof check>[0]]> = [
    ["period", { period: 0 }],
    ["period", { period: -1 }],
    ["period", { period: Number.NaN }],
    ["states", { states: [] }],
    ["states", { states: ["nope" as never] }],
    ["states", { states: ["completed"] }],
    ["keys", { keys: [] }],
    ["keys", { keys: ["args."] }],
    ["keys", { keys: ["nope" as never] }],
    ["replace", { replace: ["nope" as never] }],
    ["replace", { replace: { executing: ["args"] } as never }],
    ["debounce.wait", { debounce: { wait: 0 } }],
    ["debounce.maxWait", { debounce: { wait: "2 seconds", maxWait: "1 second" } }],
    ["debounce", { debounce: { wait: 1 }, replace: ["args"] }]
  ]
  for (const [field, options] of bad) {
    it(`refuse ${JSON.stringify(options)}, naming ${field}`, () => {
      const checked = check(options)
      assert.isTrue(Result.isFailure(checked) && checked.failure.field === field)
    })
  }
  it("are refused as the job is defined", () => {
    assert.throws(() => Job.make("x", { unique: { period: 0 } }), /unique.period/)
  })
})

const Config = ShigotoConfig.layer()
const Producer = Shigoto.layerProducer.pipe(Layer.provideMerge(storeLayer), Layer.provideMerge(Config))
const Mail = Job.make("mail", {
  args: { to: Schema.String, n: Schema.Number },
  unique: { keys: ["worker", "args.to"] }
})

layer(Producer.pipe(Layer.provideMerge(TestDatabase.layer())))("unique jobs", (it) => {
  const rows = (to: string) =>
    Effect.flatMap(
      SqlClient.SqlClient,
      (sql) => sql<{ n: number; state: string; run_at: Date }>`
      SELECT (args ->> 'n')::integer AS n, state, run_at FROM shigoto.all_jobs WHERE args ->> 'to' = ${to} ORDER BY id`
    )
  const claimOne = Effect.gen(function* () {
    const store = yield* JobStore
    const node = yield* store.register({ name: "test", ttlMillis: 60_000 })
    const claimed = yield* store.claim({
      node,
      nodeName: "test",
      queue: "default",
      limit: 100,
      workers: [{ name: "mail", room: 100 }]
    })
    return claimed
  })
  const finish = (id: number, epoch: number, outcome: "Completed" | "Discarded" = "Completed") =>
    Effect.flatMap(JobStore, (store) =>
      store.settle([
        {
          id: id as never,
          epoch,
          outcome:
            outcome === "Completed"
              ? { _tag: "Completed", result: undefined }
              : { _tag: "Discarded", failure: { attempt: 1, at: "", node: "", tag: "x", message: "x" } }
        }
      ])
    )

  it.effect("are inserted once, and the second enqueue gets the first job", () =>
    Effect.gen(function* () {
      const first = yield* Mail.enqueue({ to: "a", n: 1 })
      const second = yield* Mail.enqueue({ to: "a", n: 2 })
      assert.strictEqual(first._tag, "Inserted")
      assert.strictEqual(second._tag, "Existing")
      assert.strictEqual(second.id, first.id)
      assert.deepStrictEqual(
        (yield* rows("a")).map((row) => row.n),
        [1]
      )
    })
  )
  it.effect("of one call count in its order, beside jobs that are not unique", () =>
    Effect.gen(function* () {
      const Plain = Job.make("plain", { args: { to: Schema.String, n: Schema.Number } })
      const results = yield* Mail.enqueueAll([
        { to: "b1", n: 1 },
        { to: "b2", n: 2 },
        { to: "b1", n: 3 }
      ])
      assert.deepStrictEqual(
        results.map((result) => result._tag),
        ["Inserted", "Inserted", "Existing"]
      )
      assert.strictEqual(results[2]?.id, results[0]?.id)
      const mixed = yield* Plain.enqueueAll(
        [
          { to: "b3", n: 1 },
          { to: "b3", n: 2 },
          { to: "b4", n: 3 }
        ],
        (args) => (args.to === "b3" ? {} : { unique: { keys: ["worker", "args"] } })
      )
      assert.deepStrictEqual(
        mixed.map((result) => result.job.args),
        [
          { to: "b3", n: 1 },
          { to: "b3", n: 2 },
          { to: "b4", n: 3 }
        ]
      )
      const got = yield* Effect.forEach(mixed, (result) => Effect.flatMap(Jobs, (jobs) => jobs.get(result.id)))
      assert.deepStrictEqual(
        got.map((job) => job.args),
        mixed.map((result) => result.job.args)
      )
    })
  )
  it.effect("free their key with the transaction that ends them", () =>
    Effect.gen(function* () {
      const first = yield* Mail.enqueue({ to: "c", n: 1 })
      const claimed = (yield* claimOne).find((job) => job.id === first.id)
      assert.strictEqual((yield* Mail.enqueue({ to: "c", n: 2 }))._tag, "Existing")
      yield* finish(first.id, claimed?.epoch ?? 0)
      assert.strictEqual((yield* Mail.enqueue({ to: "c", n: 3 }))._tag, "Inserted")
      const again = yield* Effect.flatMap(Jobs, (jobs) => jobs.retry(first.id))
      assert.strictEqual(again._tag, "UniqueConflict")
    })
  )
  it.effect("take their key again when they are retried, and free it when they are cancelled", () =>
    Effect.gen(function* () {
      const jobs = yield* Jobs
      const first = yield* Mail.enqueue({ to: "d", n: 1 })
      yield* jobs.cancel(first.id)
      assert.strictEqual((yield* jobs.retry(first.id))._tag, "Retried")
      const second = yield* Mail.enqueue({ to: "d", n: 2 })
      assert.deepStrictEqual([second._tag, second.id], ["Existing", first.id])
    })
  )
  it.effect("may hold their key after their end, in the states that are named, for a period", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const unique = { keys: ["args.to"], states: ["available", "executing", "completed"], period: "1 hour" } as const
      const first = yield* Mail.enqueue({ to: "e", n: 1 }, { unique })
      yield* finish(first.id, (yield* claimOne).find((job) => job.id === first.id)?.epoch ?? 0)
      assert.deepStrictEqual((yield* Mail.enqueue({ to: "e", n: 2 }, { unique }))._tag, "Existing")
      yield* sql`UPDATE shigoto.unique_keys SET expires_at = now() - interval '1 second' WHERE job_id = ${first.id}`
      assert.deepStrictEqual((yield* Mail.enqueue({ to: "e", n: 3 }, { unique }))._tag, "Inserted")
      const other = yield* Mail.enqueue({ to: "e2", n: 1 }, { unique })
      yield* finish(other.id, (yield* claimOne).find((job) => job.id === other.id)?.epoch ?? 0, "Discarded")
      assert.deepStrictEqual((yield* Mail.enqueue({ to: "e2", n: 2 }, { unique }))._tag, "Inserted")
    })
  )
  it.effect("that wait take over what is replaced; one that runs reports the conflict", () =>
    Effect.gen(function* () {
      const unique = { keys: ["args.to"], replace: { scheduled: ["args", "priority", "runAt"] } } as const
      const first = yield* Mail.enqueue({ to: "f", n: 1 }, { unique, delay: "1 hour" })
      const second = yield* Mail.enqueue({ to: "f", n: 2 }, { unique, priority: 7 })
      assert.deepStrictEqual(
        [second._tag, second.id, second.job.args, second.job.priority, second.job.state],
        ["Replaced", first.id, { to: "f", n: 2 }, 7, "available"]
      )
      const third = yield* Mail.enqueue({ to: "f", n: 3 }, { unique })
      assert.deepStrictEqual([third._tag, third.job.args], ["Existing", { to: "f", n: 2 }])
      yield* claimOne
      const fourth = yield* Mail.enqueue({ to: "f", n: 4 }, { unique })
      assert.deepStrictEqual([fourth._tag, fourth.id], ["ConflictExecuting", first.id])
    })
  )
  it.effect("that are debounced run once, after a pause, with the last, the first or the merged args", () =>
    Effect.gen(function* () {
      const debounce = (
        args: "replace" | "keep" | ((a: { n: number; to: string }, b: { n: number }) => { to: string; n: number })
      ) =>
        ({
          unique: { keys: ["args.to"], debounce: { wait: "1 hour", maxWait: "90 minutes", args } }
        }) as const
      for (const [to, args, n] of [
        ["g1", "replace", 2],
        ["g2", "keep", 1],
        ["g3", (a: { n: number; to: string }, b: { n: number }) => ({ to: a.to, n: a.n + b.n }), 3]
      ] as const) {
        const first = yield* Mail.enqueue({ to, n: 1 }, debounce(args))
        const second = yield* Mail.enqueue({ to, n: 2 }, debounce(args))
        assert.deepStrictEqual([first._tag, second._tag, second.id], ["Inserted", "Debounced", first.id])
        assert.deepStrictEqual(
          (yield* rows(to)).map((row) => [row.n, row.state]),
          [[n, "scheduled"]]
        )
        assert.isAtLeast(second.job.runAt.epochMilliseconds, first.job.runAt.epochMilliseconds)
      }
      const sql = yield* SqlClient.SqlClient
      yield* sql`UPDATE shigoto.unique_keys SET first_at = first_at - interval '80 minutes'`
      const late = yield* Mail.enqueue({ to: "g1", n: 9 }, debounce("replace"))
      assert.isBelow(late.job.runAt.epochMilliseconds - late.job.insertedAt.epochMilliseconds, 15 * 60_000)
    })
  )
  it.effect("with a leading debounce run at once and swallow the others", () =>
    Effect.gen(function* () {
      const unique = { keys: ["args.to"], debounce: { wait: "1 hour", leading: true } } as const
      const first = yield* Mail.enqueue({ to: "h", n: 1 }, { unique })
      assert.deepStrictEqual([first._tag, first.job.state], ["Inserted", "available"])
      yield* finish(first.id, (yield* claimOne).find((job) => job.id === first.id)?.epoch ?? 0)
      assert.deepStrictEqual((yield* Mail.enqueue({ to: "h", n: 2 }, { unique }))._tag, "Debounced")
    })
  )
  it.effect("refuse a key that the args do not have, and store nothing", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(
        Mail.enqueueAll(
          [
            { to: "i", n: 1 },
            { to: "i", n: 2 }
          ],
          (_, i) => (i === 0 ? {} : { unique: { keys: ["args.n.deep"] } })
        )
      )
      assert.deepStrictEqual([error._tag, "index" in error && error.index], ["InvalidUnique", 1])
      assert.deepStrictEqual(yield* rows("i"), [])
    })
  )
  it.effect("vanish with the transaction that rolls back, and let the next one in", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const inside = yield* Effect.exit(
        sql.withTransaction(Effect.andThen(Mail.enqueue({ to: "j", n: 1 }), Effect.fail("rolled back")))
      )
      assert.isTrue(Exit.isFailure(inside))
      assert.strictEqual((yield* Mail.enqueue({ to: "j", n: 2 }))._tag, "Inserted")
    })
  )
})

layer(TestDatabase.layer({ maxConnections: 4 }), { excludeTestServices: true })(
  "unique jobs of many connections",
  (it) => {
    it.effect(
      "are never two and never none: 5,000 on 100 connections, at every isolation level, half of them rolled back",
      () =>
        Effect.gen(function* () {
          const database = yield* TestDatabase
          const sql = yield* SqlClient.SqlClient
          yield* sql`DELETE FROM shigoto.jobs`
          const levels = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]
          const keys = 200
          const attempts = 25
          const one = Effect.fnUntraced(function* (key: number, attempt: number) {
            const client = yield* SqlClient.SqlClient
            const work = Mail.enqueue({ to: `k${key}`, n: attempt })
            return yield* client
              .withTransaction(attempt % 2 === 0 ? work : Effect.andThen(work, Effect.fail("rolled back" as const)))
              .pipe(
                Effect.provideService(
                  SqlClient.BeginTransaction,
                  `BEGIN ISOLATION LEVEL ${levels[(key + attempt) % levels.length]}`
                ),
                Effect.retry({
                  while: (error) => typeof error === "object" && "code" in error && error.code === "40001"
                }),
                Effect.catchIf(
                  (error) => error === "rolled back",
                  () => Effect.undefined
                )
              )
          })
          const node = Shigoto.layerProducer.pipe(
            Layer.provide(Config),
            Layer.provideMerge(database.layerClient({ maxConnections: 25 }))
          )
          const sides = [0, 1, 2, 3]
          const all = yield* Effect.forEach(
            sides,
            (side) =>
              Effect.forEach(
                // A key's enqueues follow each other closely, on all sides.
                Array.from({ length: keys * attempts }, (_, i) => i).filter((i) => i % sides.length === side),
                (i) => one(Math.floor(i / attempts), i % attempts),
                { concurrency: 25 }
              ).pipe(Effect.provide(Layer.fresh(node))),
            { concurrency: sides.length }
          )
          const results = all.flat()
          assert.strictEqual(results.length, 5000)
          const [count] = yield* sql<{ keys: number; jobs: number; held: number }>`
            SELECT count(DISTINCT args ->> 'to')::integer AS keys, count(*)::integer AS jobs,
              (SELECT count(*) FROM shigoto.unique_keys AS u JOIN shigoto.jobs AS j ON j.id = u.job_id)::integer AS held
            FROM shigoto.jobs`
          assert.deepStrictEqual(count, { keys, jobs: keys, held: keys })
          assert.strictEqual(results.filter((result) => result?._tag === "Inserted").length, keys)
          // Whoever committed and inserted nothing was told of the job that is there.
          const there = new Map(
            (yield* sql<{ id: bigint; to: string }>`SELECT id, args ->> 'to' AS to FROM shigoto.jobs`).map((row) => [
              Number(row.id),
              row.to
            ])
          )
          for (const result of results) {
            if (result !== undefined) assert.deepInclude(result.job.args, { to: there.get(result.id) })
          }
        })
    )
    it.effect(
      "wait for the transaction that holds the key, and come in where it rolls back, at every isolation level",
      () =>
        Effect.gen(function* () {
          const database = yield* TestDatabase
          const holder = yield* database.makeClient()
          const sql = yield* PgClient.PgClient
          const node = Layer.fresh(Shigoto.layerProducer.pipe(Layer.provide(Config)))
          const isWaitedFor = sql<{ n: number }>`
        SELECT count(*)::integer AS n
        FROM pg_stat_activity
        WHERE wait_event_type = 'Lock'
          AND datname = current_database()`
          for (const level of ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]) {
            for (const [ending, end, told] of [
              ["commits", Effect.void, "Existing"],
              ["rolls back", Effect.fail("rolled back"), "Inserted"]
            ] as const) {
              const to = `${level} ${ending}`
              const held = yield* Deferred.make<void>()
              const first = holder
                .withTransaction(
                  Effect.gen(function* () {
                    yield* Mail.enqueue({ to, n: 1 })
                    yield* Deferred.succeed(held, undefined)
                    yield* eventually(isWaitedFor, ([row]) => (row?.n ?? 0) > 0)
                    yield* end
                  })
                )
                .pipe(Effect.ignore, Effect.provide(Layer.provideMerge(node, Layer.succeed(PgClient.PgClient, holder))))
              const second = sql.withTransaction(Mail.enqueue({ to, n: 2 })).pipe(
                // What the database could not put in order with the first is tried again, as applications do.
                Effect.retry({ while: (error) => "code" in error && error.code === "40001" }),
                Effect.provide(node)
              )
              const [, result] = yield* Effect.all([first, Effect.andThen(Deferred.await(held), second)], {
                concurrency: 2
              }).pipe(Effect.provideService(SqlClient.BeginTransaction, `BEGIN ISOLATION LEVEL ${level}`))
              assert.strictEqual(result._tag, told, to)
            }
          }
        })
    )
  }
)
