/**
 * Claims, settles and looks for due jobs are planned for the table as it is: a plan kept from when it was small reads
 * all of a backlog for each batch, until the server's next look at its statistics.
 */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Job from "../src/Job.ts"
import * as JobStore from "../src/JobStore.ts"
import * as ShigotoConfig from "../src/ShigotoConfig.ts"
import { layerProducer } from "./setup/producer.ts"

const Mail = Job.make("mail", { args: { to: Schema.Number } })

const backlog = 20_000

/** Claims ten jobs for the node, completes them, and looks for more. */
const work = Effect.fnUntraced(function* (store: JobStore.JobStore["Service"], node: number) {
  const claimed = yield* store.claim({
    node,
    nodeName: "one",
    queue: "default",
    limit: 10,
    workers: [{ name: "mail", room: 10 }]
  })
  yield* store.settle(
    claimed.map(({ epoch, id }) => ({ id, epoch, outcome: { _tag: "Completed", result: undefined } }))
  )
  yield* store.promote({ id: node, queues: [{ name: "default", isBusy: false }], workers: ["work"] })
  return claimed.length
})

/** How many rows of jobs have been read by scans of the whole table so far; PostgreSQL 14 cannot be made to say. */
const scanned = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const [tells] = yield* sql`SELECT FROM pg_proc WHERE proname = 'pg_stat_force_next_flush'`
  if (tells === undefined) return undefined
  yield* sql.unsafe("SELECT pg_stat_force_next_flush()").unprepared
  const [row] = yield* sql<{ readonly read: number }>`
    SELECT seq_tup_read::integer AS read
    FROM pg_stat_user_tables
    WHERE schemaname = 'shigoto'
      AND relname = 'jobs'`
  return row?.read ?? 0
})

// One connection, so that what it has prepared for the small table is what the backlog would meet.
layer(layerProducer({}, { maxConnections: 1 }), { excludeTestServices: true })("the plans of a backlog", (it) => {
  it.effect("are not those of the small table before it", ({ skip }) =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const store = yield* JobStore.make.pipe(Effect.provide(ShigotoConfig.layer()))
      const [node] = yield* sql<{ readonly id: number }>`
        INSERT INTO shigoto.nodes (name, started_at, beat_at, expires_at, ttl_millis)
        VALUES ('one', now(), now(), now() + interval '1 hour', 3600000)
        RETURNING id`
      const id = node?.id ?? 0
      yield* sql.unsafe("VACUUM ANALYZE shigoto.jobs").unprepared
      for (let round = 0; round < 8; round++) {
        yield* Mail.enqueue({ to: round })
        assert.strictEqual(yield* work(store, id), 1)
      }
      yield* Mail.enqueueAll(Array.from({ length: backlog }, (_, to) => ({ to })))
      const before = yield* scanned
      if (before === undefined) return skip("the server does not tell its statistics when asked")
      for (let round = 0; round < 5; round++) assert.strictEqual(yield* work(store, id), 10)
      // A scan for each of them would be fifteen.
      assert.isBelow(((yield* scanned) ?? Infinity) - before, 2 * backlog)
    })
  )
})

layer(layerProducer({}, { maxConnections: 1 }), { excludeTestServices: true })("a claim", (it) => {
  it.effect("writes the new version of a row beside the old one", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const store = yield* JobStore.make.pipe(Effect.provide(ShigotoConfig.layer()))
      const [node] = yield* sql<{ readonly id: number }>`
        INSERT INTO shigoto.nodes (name, started_at, beat_at, expires_at, ttl_millis)
        VALUES ('one', now(), now(), now() + interval '1 hour', 3600000)
        RETURNING id`
      yield* Mail.enqueueAll(Array.from({ length: 1000 }, (_, to) => ({ to })))
      const pages = Effect.map(
        sql<{ readonly page: string }>`
          SELECT (ctid::text::point)[0]::text AS page
          FROM shigoto.jobs
          ORDER BY id`,
        (rows) => rows.map(({ page }) => page)
      )
      const before = yield* pages
      const request = { nodeName: "one", queue: "default", limit: 1000, workers: [{ name: "mail", room: 1000 }] }
      assert.strictEqual((yield* store.claim({ ...request, node: node?.id ?? 0 })).length, 1000)
      const after = yield* pages
      const moved = after.filter((page, i) => page !== before[i]).length
      assert.isBelow(moved, 200)
    })
  )
})
