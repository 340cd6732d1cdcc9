import { assert, describe, it } from "@effect/vitest"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import * as CronJob from "../../src/CronJob.ts"
import { CronJobs } from "../../src/CronJobs.ts"
import * as EmbeddedPostgres from "../../src/embedded/EmbeddedPostgres.ts"
import * as Job from "../../src/Job.ts"
import type { Jobs } from "../../src/Jobs.ts"
import * as ShigotoConfig from "../../src/ShigotoConfig.ts"
import { ShigotoLive } from "../../src/ShigotoLive.ts"
import { eventually } from "../setup/eventually.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"
import type { CronSettings } from "./fixtures/cron.ts"
import { onDatabase, quick } from "./support.ts"

const Tick = Job.make("tick", { args: {} })
const catchUp = CronJob.all({ max: 1000, window: "1 hour" })
const eachSecond = { name: "each second", cron: "* * * * * *", job: Tick, args: {}, catchUp } as const

/** A process with the entries of the fixture; killed with the scope. */
const startProcess = Effect.fnUntraced(function* (settings: CronSettings) {
  const child = yield* Effect.acquireRelease(
    Effect.sync(() =>
      spawn(
        process.execPath,
        [
          "--conditions=source",
          fileURLToPath(new URL("./fixtures/cron.ts", import.meta.url)),
          JSON.stringify(settings)
        ],
        { stdio: ["ignore", "pipe", "ignore"] }
      )
    ),
    (process) => Effect.sync(() => process.kill("SIGKILL"))
  )
  yield* Effect.callback<void>((resume) => {
    child.stdout.on("data", (chunk: Buffer) => {
      if (chunk.includes("ready")) resume(Effect.void)
    })
    child.on("exit", (code) => resume(Effect.die(new Error(`the node ended with ${code} before it was ready`))))
  })
  return child
})

/** A node in this process that stops with `stop`, or with the scope. */
const startNode = Effect.fnUntraced(function* (
  entries: Layer.Layer<never, unknown, CronJobs | Jobs>,
  config: ShigotoConfig.Options = {}
) {
  const database = yield* TestDatabase
  const scope = yield* Scope.fork(yield* Effect.scope)
  const layer = entries.pipe(
    Layer.provideMerge(ShigotoLive),
    Layer.provide(ShigotoConfig.layer({ ...quick, ...config })),
    Layer.provide(database.layerClient({ maxConnections: 6 }))
  )
  const context = yield* Layer.buildWithScope(Layer.fresh(layer), scope)
  const cron = Context.get(context, CronJobs)
  return {
    cron,
    upsert: (options: { readonly name: string }) =>
      Effect.provideContext(cron.upsert({ ...eachSecond, ...options }), context),
    stop: Scope.close(scope, Exit.void)
  }
})

interface Ledger {
  readonly ticks: ReadonlyArray<number>
  /** The longest time from a tick to its row, in seconds. */
  readonly latest: number
}

const ledger = Effect.fnUntraced(function* (name: string) {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql<{ readonly tick: Date; readonly late: number }>`
    SELECT tick, extract(epoch FROM inserted_at - tick)::float8 AS late
    FROM shigoto.cron_ticks
    WHERE name = ${name} AND outcome = 'inserted'
    ORDER BY tick`
  return {
    ticks: rows.map(({ tick }) => tick.getTime() / 1000),
    latest: Math.max(...rows.map(({ late }) => late))
  } satisfies Ledger
})

const ticks = (name: string, count: number) => eventually(ledger(name), (seen) => seen.ticks.length >= count)

/** Each tick of the entry is there, from the first to the last, each with exactly one job. */
const assertExact = Effect.fnUntraced(function* (name: string, seconds: number) {
  const sql = yield* SqlClient.SqlClient
  const { ticks: seen } = yield* ledger(name)
  const [first = 0] = seen
  assert.deepStrictEqual(
    seen,
    seen.map((_, i) => first + i * seconds),
    `${name} has gaps`
  )
  const wrong = yield* sql`
    SELECT t.tick, count(j.id)::integer AS jobs
    FROM shigoto.cron_ticks AS t
    LEFT JOIN shigoto.all_jobs AS j ON j.id = t.job_id AND j.scheduled_for = t.tick
    WHERE t.name = ${name}
    GROUP BY t.tick
    HAVING count(j.id) <> 1`
  assert.deepStrictEqual(wrong, [])
})

/** No job stands for a tick beside those of the ledger. */
const assertNoOthers = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const others = yield* sql`
    SELECT j.id
    FROM shigoto.all_jobs AS j
    WHERE NOT EXISTS (SELECT FROM shigoto.cron_ticks AS t WHERE t.job_id = j.id)`
  assert.deepStrictEqual(others, [])
})

describe("cron on several nodes", () => {
  it.live(
    "inserts exactly one job for each tick: clocks wrong, the leader robbed, one node killed, the server crashed",
    () =>
      Effect.gen(function* () {
        const server = yield* EmbeddedPostgres.make({ durable: true })
        const settings = {
          url: Redacted.value(server.url),
          config: { ...quick, idlePollInterval: "1 second" }
        } as const
        const [killed] = yield* Effect.forEach(
          [-7, 0, 11],
          (minutes) => startProcess({ ...settings, skewMillis: minutes * 60_000 }),
          { concurrency: "unbounded" }
        )
        const client = PgClient.layer({ ...server.clientConfig, maxConnections: 2 })
        yield* Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          yield* ticks("each second", 3)
          // A leader that does nothing, for as long as anybody believes in it.
          yield* sql`UPDATE shigoto.leaders SET node = 1000000, expires_at = expires_at + interval '1 hour'`
          yield* ticks("each second", 6)
          yield* sql`DELETE FROM shigoto.leaders`
          yield* ticks("each second", 8)
          killed?.kill("SIGKILL")
          yield* ticks("each second", 10)
        }).pipe(Effect.provide(client))
        yield* server.restart("immediate")
        yield* Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const { ticks: before } = yield* ledger("each second")
          yield* ticks("each second", before.length + 5)
          yield* ticks("each other", 7)
          yield* assertExact("each second", 1)
          yield* assertExact("each other", 2)
          // By the database's clock, not by one that is seven minutes behind or eleven ahead.
          const [row] = yield* sql<{ readonly off: number }>`
            SELECT max(abs(extract(epoch FROM inserted_at - tick)))::float8 AS off FROM shigoto.cron_ticks`
          assert.isBelow(row?.off ?? 1e9, 60)
          yield* assertNoOthers
        }).pipe(Effect.provide(client))
      }).pipe(Effect.scoped)
  )

  onDatabase("keeps time with a timer, hands over as the leader stops, and leaves no tick out", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      // A node looks by itself every half minute at most, so what is on time was timed.
      const slow = { idlePollInterval: "15 seconds" } as const
      const leader = yield* startNode(CronJob.make(eachSecond), slow)
      yield* ticks("each second", 2)
      const follower = yield* startNode(CronJob.make(eachSecond), slow)
      yield* ticks("each second", 4)
      const [before] = yield* sql<{ readonly node: number }>`
        SELECT node FROM shigoto.leaders WHERE expires_at > now() AND name <> 'cron ' || md5('{}')`
      yield* leader.stop
      yield* ticks("each second", 7)
      const [after] = yield* sql<{ readonly node: number }>`
        SELECT node FROM shigoto.leaders WHERE expires_at > now() AND name <> 'cron ' || md5('{}')`
      assert.notStrictEqual(after?.node, before?.node)
      yield* follower.stop
      yield* assertExact("each second", 1)
      const { latest } = yield* ledger("each second")
      assert.isBelow(latest, 5, "far below the interval of the looks")
    })
  )

  onDatabase("keeps time for entries that the first node does not have in its code", () =>
    Effect.gen(function* () {
      const slow = { idlePollInterval: "15 seconds" } as const
      const first = yield* startNode(CronJob.make({ ...eachSecond, name: "old", cron: "@daily" }), slow)
      yield* first.upsert({ name: "stored" })
      yield* ticks("stored", 1)
      yield* startNode(CronJob.make(eachSecond), slow)
      yield* ticks("each second", 3)
      yield* ticks("stored", 5)
      assert.isBelow((yield* ledger("each second")).latest, 5)
      yield* assertExact("each second", 1)
      yield* assertExact("stored", 1)
    })
  )

  onDatabase("neither waits for an entry whose row is locked nor loses its ticks", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const node = yield* startNode(CronJob.make(eachSecond))
      yield* node.upsert({ name: "held" })
      yield* ticks("held", 1)
      yield* sql.withTransaction(
        Effect.gen(function* () {
          yield* sql`SELECT FROM shigoto.cron WHERE name = 'held' FOR UPDATE`
          const { ticks: before } = yield* ledger("each second")
          yield* ticks("each second", before.length + 3)
        })
      )
      const { ticks: held } = yield* ledger("held")
      yield* ticks("held", held.length + 4)
      yield* assertExact("held", 1)
      yield* assertExact("each second", 1)
    })
  )

  for (const isolation of ["repeatable read", "serializable"] as const) {
    onDatabase(
      `is as exact where transactions default to ${isolation}`,
      () =>
        Effect.gen(function* () {
          const nodes = yield* Effect.all([startNode(CronJob.make(eachSecond)), startNode(CronJob.make(eachSecond))], {
            concurrency: "unbounded"
          })
          // All at once, of the same names: the first inserts, the others find it.
          yield* Effect.forEach(
            Array.from({ length: 20 }, (_, i) => i),
            (i) => nodes[i % 2 === 0 ? 0 : 1].upsert({ name: `stored ${i % 3}` }),
            { concurrency: "unbounded", discard: true }
          )
          yield* ticks("each second", 4)
          for (const i of [0, 1, 2]) {
            yield* ticks(`stored ${i}`, 3)
            yield* assertExact(`stored ${i}`, 1)
          }
          yield* assertExact("each second", 1)
          yield* assertNoOthers
        }),
      { isolation }
    )
  }

  onDatabase("applies what one node is told to all of them", () =>
    Effect.gen(function* () {
      const one = yield* startNode(Layer.empty)
      const other = yield* startNode(Layer.empty)
      yield* one.upsert({ name: "shared" })
      yield* ticks("shared", 2)
      yield* other.cron.pause("shared")
      const { ticks: paused } = yield* ledger("shared")
      const [now = 0] = paused.toReversed()
      yield* one.upsert({ name: "clock" })
      yield* ticks("clock", 3)
      assert.deepStrictEqual((yield* ledger("shared")).ticks, paused)
      yield* one.cron.resume("shared")
      const { ticks: resumed } = yield* ticks("shared", paused.length + 2)
      assert.isAtLeast((resumed[paused.length] ?? 0) - now, 3, "what was missed stays missed")
      yield* other.cron.remove("shared")
      assert.deepStrictEqual(
        (yield* one.cron.list).map(({ name }) => name),
        ["clock"]
      )
    })
  )
})
