import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import * as Batch from "../src/Batch.ts"
import * as Cipher from "../src/Cipher.ts"
import { CronJobs } from "../src/CronJobs.ts"
import { Encryption, type ReencryptOptions } from "../src/Encryption.ts"
import * as Flow from "../src/Flow.ts"
import * as Job from "../src/Job.ts"
import type { JobId } from "../src/JobRow.ts"
import type { Options } from "../src/ShigotoConfig.ts"
import type { Workers } from "../src/Workers.ts"
import { onDatabase, reaches, startNode } from "./integration/support.ts"
import { eventually } from "./setup/eventually.ts"
import { TestDatabase } from "./setup/TestDatabase.ts"

const key = (id: string, byte: number): Cipher.Key => ({ id, key: Redacted.make(new Uint8Array(32).fill(byte)) })

const one = key("one", 1)
const two = key("two", 2)

const Echo = Job.make("echo", { args: { text: Schema.String }, success: Schema.String, maxAttempts: 1 })
const Last = Job.make("last", { args: { text: Schema.String }, maxAttempts: 1 })

const workers = (seen: Array<string> = []) =>
  Layer.mergeAll(
    Echo.toLayer(
      ({ text }) =>
        Effect.gen(function* () {
          seen.push(text)
          yield* Effect.log(`logged ${text}`)
          return text.startsWith("fail") ? yield* Effect.die(new Error(`no ${text}`)) : `re ${text}`
        }),
      { captureLogs: true }
    ),
    Last.toLayer(({ text }, job) =>
      Effect.sync(() => {
        seen.push([text, ...[...job.dependencies.values()].map((parent) => String(parent.result))].join("+"))
      })
    )
  )

/** Starts a node that encrypts. */
const start = Effect.fnUntraced(function* (
  of: Layer.Layer<never, never, Workers>,
  options: Cipher.Options | undefined,
  config: Options = {}
) {
  const database = yield* TestDatabase
  const client = database.layerClient({ maxConnections: 12 })
  return yield* startNode({
    workers: of,
    config,
    client: options === undefined ? client : Layer.mergeAll(client, Cipher.layerAesGcm(options))
  })
})

const keys = Effect.flatMap(Encryption, (encryption) => encryption.keys)

const reencrypt = (options?: ReencryptOptions) =>
  Effect.flatMap(Encryption, (encryption) => Stream.runLast(encryption.reencrypt(options))).pipe(
    Effect.flatMap(Effect.fromOption),
    Effect.orDie
  )

const Graph = Flow.make("graph", { input: { text: Schema.String } }, (graph) => {
  graph.node("only", Echo, { args: ({ text }) => ({ text }), queue: "nobody" })
})

describe("encryption", () => {
  onDatabase("puts every value of every table under the newest key, so that the old one may go", () =>
    Effect.gen(function* () {
      const before = yield* start(workers(), { keys: [one] }, { retention: { completed: 0 } })
      const parent = yield* before.run(Echo.enqueue({ text: "parent" }))
      const child = yield* before.run(Last.enqueue({ text: "child" }, { dependsOn: [parent.id], queue: "nobody" }))
      yield* before.event("Completed", parent.id)
      yield* before.run(Echo.execute({ text: "awaited" }))
      yield* Effect.exit(before.run(Echo.execute({ text: "fail awaited" })))
      const failed = yield* before.run(Echo.enqueue({ text: "fail" }))
      yield* reaches(before, failed.id, "discarded")
      const waits = yield* before.run(Echo.enqueue({ text: "waits" }, { delay: "1 hour" }))
      const instead = yield* before.run(Last.prepare({ text: "instead" }))
      const expires = yield* before.run(
        Echo.enqueue({ text: "expires" }, { queue: "never", expiresIn: "1 hour", onExpire: instead })
      )
      const batch = yield* before.run(
        Batch.make("batch", { onFinished: Last.prepare({ text: "callback" }) }).enqueue([
          Echo.prepare({ text: "member" }, { delay: "1 hour" })
        ])
      )
      const flow = yield* before.run(Graph.enqueue({ text: "input" }, {}))
      yield* before.run(
        Effect.flatMap(CronJobs, (crons) =>
          crons.upsert({ name: "yearly", cron: "0 0 1 1 *", job: Echo, args: { text: "cron" } })
        )
      )
      yield* before.stop
      const keeps = yield* start(workers(), { keys: [one] })
      const done = yield* keeps.run(Echo.enqueue({ text: "done" }))
      yield* reaches(keeps, done.id, "completed")
      yield* keeps.stop
      const rotated = yield* start(Layer.empty, { keys: [two, one], uniqueKey: one.key })
      // Logs are stored a little after their job: those of a stopped node are all there.
      const [used] = yield* rotated.run(keys)
      assert.strictEqual(used?.keyId, "one")
      assert.sameMembers(Object.keys(used?.tables ?? {}), [
        "batches",
        "cron",
        "dependencies",
        "jobs",
        "jobs_archive",
        "logs",
        "results"
      ])
      const last = yield* rotated.run(reencrypt())
      assert.deepInclude(last, { busy: 0, unreadable: 0, round: 2 })
      const after = yield* rotated.run(keys)
      assert.deepStrictEqual(
        after.map(({ keyId, values }) => [keyId, values]),
        [["two", used?.values]]
      )
      // What there is nothing to do for writes nothing.
      assert.deepInclude(yield* rotated.run(reencrypt()), { changed: 0, round: 1 })
      yield* rotated.stop
      const seen: Array<string> = []
      const dropped = yield* start(workers(seen), { keys: [two], uniqueKey: one.key })
      yield* dropped.add(Graph.layer)
      yield* dropped.queues.add("nobody", { concurrency: 1 })
      yield* reaches(dropped, child.id, "completed")
      yield* reaches(dropped, flow.nodes["only"] as JobId, "completed")
      for (const id of [waits.id, batch.jobs[0]?.id as JobId]) {
        yield* dropped.jobs.retry(id)
        yield* reaches(dropped, id, "completed")
      }
      const ticked = yield* dropped.run(Effect.flatMap(CronJobs, (crons) => crons.runNow("yearly")))
      yield* reaches(dropped, ticked, "completed")
      const sql = yield* SqlClient.SqlClient
      yield* sql`UPDATE shigoto.jobs SET start_before = inserted_at WHERE id = ${expires.id}`
      yield* reaches(dropped, expires.id, "cancelled")
      yield* eventually(
        Effect.sync(() => seen),
        (texts) => texts.includes("instead")
      )
      assert.includeMembers(seen, ["child+re parent", "waits", "member", "cron", "input"])
      assert.include((yield* dropped.jobs.get(failed.id)).errors[0]?.message, "no fail")
      assert.strictEqual((yield* dropped.jobs.get(done.id)).result, "re done")
      const logs = yield* dropped.jobs.logs(done.id)
      assert.deepStrictEqual(
        logs.map(({ message }) => message),
        ["logged done"]
      )
    })
  )

  onDatabase("loses nothing beside a node that works, and goes on where it was stopped", () =>
    Effect.gen(function* () {
      const before = yield* start(Layer.empty, { keys: [one] })
      const texts = Array.from({ length: 500 }, (_, i) => ({ text: `job ${i}` }))
      yield* before.run(Echo.enqueueAll(texts))
      yield* before.stop
      const seen: Array<string> = []
      const rotated = yield* start(Layer.empty, { keys: [two, one] })
      const stopped = yield* rotated.run(
        Effect.flatMap(Encryption, (encryption) => Stream.runHead(Stream.take(encryption.reencrypt(), 1)))
      )
      assert.deepInclude(Effect.runSync(Effect.fromOption(stopped)), { table: "jobs", changed: 200, round: 1 })
      yield* rotated.add(workers(seen))
      const last = yield* rotated.run(reencrypt())
      assert.strictEqual(last.unreadable, 0)
      yield* eventually(rotated.run(Effect.succeed(seen)), (all) => all.length === texts.length)
      assert.sameMembers(
        seen,
        texts.map(({ text }) => text)
      )
      yield* eventually(rotated.jobs.counts, (counts) => counts.length === 0)
      yield* rotated.run(reencrypt())
      assert.deepStrictEqual(
        (yield* rotated.run(keys)).map(({ keyId }) => keyId),
        ["two"]
      )
      yield* rotated.stop
      const dropped = yield* start(Layer.empty, { keys: [two] })
      const rows = yield* dropped.jobs.list({ limit: 500 })
      assert.isTrue(rows.every((row) => row.state === "completed" && typeof row.result === "string"))
    })
  )

  onDatabase("leaves alone what it cannot read, what somebody holds and, unless asked, what is in the clear", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const before = yield* start(Layer.empty, { keys: [one] })
      const enqueued = yield* before.run(Echo.enqueueAll([{ text: "held" }, { text: "flipped" }]))
      const [held = 0, flipped = 0] = enqueued.map(({ id }) => Number(id))
      yield* before.stop
      yield* sql`
        UPDATE shigoto.jobs
        SET args = jsonb_build_object('$enc', overlay(args ->> '$enc' placing
          CASE substr(args ->> '$enc', 40, 1) WHEN 'A' THEN 'B' ELSE 'A' END from 40 for 1))
        WHERE id = ${flipped}::bigint`
      const [row] = yield* sql<{ readonly id: bigint }>`SELECT shigoto.enqueue('echo', '{"text":"clear"}') AS id`
      // What a rescue has written quotes nothing, and is no value that could be encrypted.
      yield* sql`
        UPDATE shigoto.jobs
        SET errors = '[{"attempt": 1, "at": "2026-01-01T00:00:00.000Z", "node": "b", "tag": "LeaseExpired",
          "fingerprint": "f", "message": "The lease of node a (1) expired while it ran this attempt."}]'
        WHERE id = ${held}::bigint`
      const node = yield* start(Layer.empty, { keys: [two, one] })
      const during = yield* sql.withTransaction(
        Effect.andThen(sql`SELECT FROM shigoto.jobs WHERE id = ${held}::bigint FOR UPDATE`, node.run(reencrypt()))
      )
      assert.deepInclude(during, { changed: 0, busy: 1, unreadable: 1, round: 5 })
      assert.include(during.problems[0], `args of ${flipped} cannot be decrypted`)
      assert.deepInclude(yield* node.run(reencrypt()), { changed: 1, busy: 0, unreadable: 1 })
      const used = Effect.map(node.run(keys), (uses) =>
        Object.fromEntries(uses.map(({ keyId, values }) => [keyId ?? "none", values]))
      )
      assert.deepStrictEqual(yield* used, { one: 1, two: 1, none: 1 })
      assert.deepInclude(yield* node.run(reencrypt({ plaintext: true })), { changed: 1, unreadable: 1 })
      assert.deepStrictEqual(yield* used, { one: 1, two: 2 })
      assert.deepStrictEqual((yield* node.jobs.get(Number(row?.id) as JobId)).args, { text: "clear" })
      const plain = yield* start(Layer.empty, undefined)
      assert.deepInclude(
        yield* Effect.flip(plain.run(Effect.flatMap(Encryption, (it) => Stream.runDrain(it.reencrypt())))),
        {
          _tag: "InvalidConfig",
          field: "cipher"
        }
      )
    })
  )
})
