import { assert, describe } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import { PgClient } from "@effect/sql-pg/PgClient"
import * as Layer from "effect/Layer"
import * as Job from "../../../src/Job.ts"
import { eventually } from "../../setup/eventually.ts"
import { isInstalled, startPooler } from "../../setup/pooler.ts"
import { TestDatabase } from "../../setup/TestDatabase.ts"
import { Work } from "../fixtures/jobs.ts"
import { clientOf, diary, makeDiary, onDatabase, reaches, startNode, startProcess, tally } from "../support.ts"

const Note = Job.make("note", { args: { way: Schema.String }, success: Schema.String })

const startPooled = Effect.fnUntraced(function* (options: Parameters<typeof startNode>[0] = {}) {
  const url = yield* startPooler
  return { url, node: yield* startNode({ ...options, client: clientOf(url, { maxConnections: 20 }) }) }
})

if (!isInstalled && process.env["CI"] === undefined) {
  process.stderr.write("PgBouncer is not installed (apt-get install pgbouncer): its tests are skipped\n")
}

describe.skipIf(!isInstalled && process.env["CI"] === undefined)("through PgBouncer in transaction mode", () => {
  onDatabase("jobs are enqueued, claimed, retried, snoozed and finished; the node polls", () =>
    Effect.gen(function* () {
      const { node } = yield* startPooled({
        workers: Note.toLayer(
          ({ way }, job) =>
            way === "retry" && job.attempt < 3
              ? Effect.die("not yet")
              : way === "snooze" && job.snoozes < 2
                ? Job.snooze("20 millis")
                : Effect.succeed(way),
          { retry: Schedule.spaced("20 millis") }
        )
      })
      yield* node.run(Note.enqueueAll(Array.from({ length: 500 }, (_, i) => ({ way: `${i}` }))))
      const retried = yield* node.run(Note.enqueue({ way: "retry" }))
      const snoozed = yield* node.run(Note.enqueue({ way: "snooze" }))
      yield* Effect.forEach(
        Array.from({ length: 100 }, (_, i) => i),
        (i) => node.run(Note.enqueue({ way: `single ${i}` }, { delay: i })),
        { concurrency: 20, discard: true }
      )
      yield* eventually(tally, (counts) => counts.completed === 602)
      assert.strictEqual((yield* node.jobs.get(retried.id)).attempt, 3)
      assert.strictEqual((yield* node.jobs.get(snoozed.id)).snoozes, 2)
    })
  )

  onDatabase("an enqueue commits or vanishes with the caller's transaction", () =>
    Effect.gen(function* () {
      const url = yield* startPooler
      const context = yield* Layer.build(clientOf(url))
      const client = Layer.succeedContext(context)
      const node = yield* startNode({ client, workers: Note.toLayer(({ way }) => Effect.succeed(way)) })
      const sql = yield* Effect.provideContext(PgClient, context)
      const fails = node.run(Note.enqueue({ way: "lost" })).pipe(Effect.andThen(Effect.fail("rolled back")))
      yield* Effect.exit(sql.withTransaction(fails))
      const { id } = yield* sql.withTransaction(
        Effect.gen(function* () {
          yield* Effect.exit(sql.withTransaction(fails))
          return yield* node.run(Note.enqueue({ way: "kept" }))
        })
      )
      yield* reaches(node, id, "completed")
      assert.deepStrictEqual(yield* tally, { completed: 1 })
    })
  )

  onDatabase("a running job is cancelled, queues change, a direct listenUrl brings notifications back", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const sql = yield* SqlClient.SqlClient
      const started = yield* Deferred.make<void>()
      const { node } = yield* startPooled({
        workers: Note.toLayer(({ way }) =>
          way === "wait" ? Effect.andThen(Deferred.succeed(started, undefined), Effect.never) : Effect.succeed(way)
        ),
        config: { listenUrl: Redacted.make(Redacted.value(url)), pollInterval: "1 hour", idlePollInterval: "1 hour" }
      })
      yield* eventually(
        sql`SELECT FROM pg_stat_activity WHERE application_name LIKE 'shigoto-listener/%' AND datname = current_database()`,
        (rows) => rows.length === 1
      )
      const elsewhere = sql<{ readonly id: bigint }>`SELECT shigoto.enqueue('note', '{"way": "hello"}') AS id`
      yield* eventually(Effect.andThen(elsewhere, tally), (counts) => (counts.completed ?? 0) > 0)
      const { id } = yield* node.run(Note.enqueue({ way: "wait" }))
      yield* Deferred.await(started)
      yield* node.jobs.cancel(id, "enough")
      yield* reaches(node, id, "cancelled")
      yield* node.queues.pause("default")
      yield* eventually(
        Effect.sync(() => node.queues.get("default")),
        (state) => state?.paused === true
      )
    })
  )

  onDatabase("a process drains and gives back at SIGTERM", () =>
    Effect.gen(function* () {
      yield* makeDiary
      const sql = yield* SqlClient.SqlClient
      const { node, url } = yield* startPooled({ config: { queues: { unused: 1 } } })
      const worker = yield* startProcess({
        url,
        prepare: false,
        config: { nodeName: "leaving", shutdownGrace: "500 millis" }
      })
      const { id } = yield* node.run(Work.enqueue({ does: "linger", millis: 600_000 }))
      yield* eventually(diary, (lines) => lines.length === 1)
      worker.child.kill("SIGTERM")
      yield* worker.exit
      const job = yield* node.jobs.get(id)
      assert.strictEqual(job.state, "available")
      assert.strictEqual(job.attempt, 0)
      assert.strictEqual((yield* sql`SELECT FROM shigoto.nodes WHERE name = 'leaving'`).length, 0)
    })
  )
})
