import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Batch from "../src/Batch.ts"
import * as Cipher from "../src/Cipher.ts"
import { CronJobs } from "../src/CronJobs.ts"
import * as Job from "../src/Job.ts"
import type { JobId } from "../src/JobRow.ts"
import type { Workers } from "../src/Workers.ts"
import { onDatabase, reaches, startNode } from "./integration/support.ts"
import { eventually } from "./setup/eventually.ts"
import { TestDatabase } from "./setup/TestDatabase.ts"

const key = (id: string, byte: number): Cipher.Key => ({ id, key: Redacted.make(new Uint8Array(32).fill(byte)) })

const one = key("one", 1)
const two = key("two", 2)

class Refused extends Schema.TaggedError<Refused>("Refused")("Refused", { why: Schema.String }) {}

const Echo = Job.make("echo", {
  args: { text: Schema.String },
  success: Schema.String,
  error: Refused,
  maxAttempts: 1
})
const Other = Job.make("other", { args: { text: Schema.String }, maxAttempts: 1 })

/** Starts a node that encrypts. */
const start = Effect.fnUntraced(function* (
  workers: Layer.Layer<never, never, Workers>,
  options: Cipher.Options | undefined
) {
  const database = yield* TestDatabase
  const client = database.layerClient({ maxConnections: 12 })
  return yield* startNode({
    workers,
    client: options === undefined ? client : Layer.mergeAll(client, Cipher.layerAesGcm(options))
  })
})

/** The text of every row of every table. */
const dump = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const tables = yield* sql<{ readonly name: string }>`
    SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables WHERE schemaname = 'shigoto'`
  const texts = yield* Effect.forEach(
    tables,
    ({ name }) =>
      sql<{ readonly text: string | null }>`SELECT string_agg(t::text, ' ') AS text FROM ${sql.literal(name)} AS t`
  )
  return texts.map(([row]) => row?.text ?? "").join(" ")
})

const echoes = (seen: Array<string>) =>
  Layer.mergeAll(
    Echo.toLayer(({ text }) =>
      Effect.suspend(() => {
        seen.push(text)
        return text.startsWith("fail") ? Effect.fail(new Refused({ why: `no ${text}` })) : Effect.succeed(`re ${text}`)
      })
    ),
    Other.toLayer(({ text }) => Effect.sync(() => seen.push(text)).pipe(Effect.asVoid))
  )

describe("cipher", () => {
  onDatabase(
    "keeps args, results, errors, keys, callbacks, schedules and what is handed on out of the database and the logs",
    () =>
      Effect.gen(function* () {
        const seen: Array<string> = []
        const logged: Array<string> = []
        const Last = Job.make("last", { args: { text: Schema.String } })
        const logger = Logger.layer([
          Logger.make(({ cause, message }) => logged.push(`${String(message)} ${String(cause)}`))
        ])
        const workers = Layer.mergeAll(
          echoes(seen),
          Last.toLayer(({ text }, job) =>
            Effect.sync(() => seen.push([text, ...[...job.dependencies.values()].map((one) => one.result)].join("+")))
          )
        )
        const node = yield* Effect.provide(start(workers, { keys: [one] }), logger)
        const held = yield* node.run(
          Echo.enqueue({ text: "canary waits" }, { delay: "1 hour", unique: { keys: ["worker", "args.text"] } })
        )
        const again = yield* node.run(
          Echo.enqueue({ text: "canary waits" }, { unique: { keys: ["worker", "args.text"] } })
        )
        assert.deepStrictEqual([again._tag, again.id, again.job.args], ["Existing", held.id, { text: "canary waits" }])
        const [good, bad] = yield* node.run(Echo.enqueueAll([{ text: "canary" }, { text: "fail canary" }]))
        const after = yield* node.run(Last.enqueue({ text: "canary after" }, { dependsOn: [good?.id as JobId] }))
        const batch = yield* node.run(
          Batch.make("canaries", { onFinished: Other.prepare({ text: "canary callback" }) }).enqueue([
            Echo.prepare({ text: "canary member" })
          ])
        )
        const ticked = yield* node.run(
          Effect.gen(function* () {
            const crons = yield* CronJobs
            yield* crons.upsert({ name: "canaries", cron: "0 0 1 1 *", job: Echo, args: { text: "canary cron" } })
            assert.deepStrictEqual((yield* crons.list)[0]?.args, { text: "canary cron" })
            return yield* crons.runNow("canaries")
          })
        )
        assert.strictEqual(yield* node.run(Echo.execute({ text: "canary awaited" })), "re canary awaited")
        const told = yield* Effect.flip(node.run(Echo.execute({ text: "fail canary awaited" })))
        assert.deepStrictEqual(told, new Refused({ why: "no fail canary awaited" }))
        const done = yield* reaches(node, good?.id as JobId, "completed")
        const failed = yield* reaches(node, bad?.id as JobId, "discarded")
        yield* reaches(node, after.id, "completed")
        assert.deepStrictEqual([done.args, done.result], [{ text: "canary" }, "re canary"])
        assert.include(failed.errors[0]?.message, "fail canary")
        assert.strictEqual((yield* reaches(node, ticked, "completed")).result, "re canary cron")
        assert.include(seen, "canary after+re canary")
        yield* eventually(
          Effect.sync(() => seen),
          (all) => all.includes("canary callback")
        )
        assert.strictEqual(batch.jobs.length, 1)
        const text = yield* dump
        assert.include(text, "$enc")
        assert.notInclude(text, "canary")
        assert.notInclude(logged.join(), "canary")
        // Its key is no plain hash: somebody without the cipher arrives at another.
        const plain = yield* start(Layer.empty, undefined)
        const blind = yield* plain.run(
          Echo.enqueue({ text: "canary waits" }, { delay: "1 hour", unique: { keys: ["worker", "args.text"] } })
        )
        assert.strictEqual(blind._tag, "Inserted")
        assert.instanceOf((yield* plain.jobs.get(held.id)).args, Cipher.Encrypted)
        assert.propertyVal((yield* plain.jobs.get(held.id)).args, "keyId", "one")
        assert.strictEqual((yield* plain.jobs.get(failed.id)).errors[0]?.message, "(encrypted)")
      })
  )

  onDatabase(
    "fails what was changed, moved, renamed or left in the clear, runs the rest, and never calls the handler",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const seen: Array<string> = []
        const node = yield* start(echoes(seen), { keys: [two, one] })
        yield* node.queues.pause("default")
        const enqueued = yield* node.run(
          Echo.enqueueAll(["flipped", "moved", "to", "renamed", "untouched"].map((text) => ({ text })))
        )
        const [flipped = 0, moved = 0, to = 0, renamed = 0, untouched = 0] = enqueued.map(({ id }) => Number(id))
        yield* sql`
        UPDATE shigoto.jobs
        SET args = jsonb_build_object('$enc', overlay(args ->> '$enc' placing
          CASE substr(args ->> '$enc', 40, 1) WHEN 'A' THEN 'B' ELSE 'A' END from 40 for 1))
        WHERE id = ${flipped}::bigint`
        yield* sql`UPDATE shigoto.jobs SET args = (SELECT args FROM shigoto.jobs WHERE id = ${moved}::bigint) WHERE id = ${to}::bigint`
        yield* sql`UPDATE shigoto.jobs SET worker = 'other' WHERE id = ${renamed}::bigint`
        const [row] = yield* sql<{ readonly id: bigint }>`
        SELECT shigoto.enqueue('echo', '{"text":"clear"}', max_attempts => 1) AS id`
        const clear = Number(row?.id)
        yield* node.queues.resume("default")
        for (const [id, reason] of [
          [flipped, "cannot be decrypted"],
          [to, "cannot be decrypted"],
          [renamed, "cannot be decrypted"],
          [clear, "not encrypted"]
        ] as const) {
          const job = yield* reaches(node, id as JobId, "discarded")
          assert.deepStrictEqual([job.errors.length, job.errors[0]?.tag], [1, "DecryptionError"])
          assert.include(job.errors[0]?.message, reason)
        }
        yield* reaches(node, untouched as JobId, "completed")
        yield* reaches(node, moved as JobId, "completed")
        assert.sameMembers(seen, ["moved", "untouched"])
      })
  )

  onDatabase("reads old keys by their name after a rotation, and tells of one that was dropped", () =>
    Effect.gen(function* () {
      const seen: Array<string> = []
      const before = yield* start(Layer.empty, { keys: [one] })
      const [first, second] = yield* before.run(
        Effect.forEach(["first", "second"], (text) => Echo.enqueue({ text }, { delay: "1 hour" }))
      )
      const unique = { keys: ["worker"] } as const
      const held = yield* before.run(Other.enqueue({ text: "held" }, { delay: "1 hour", unique }))
      yield* before.stop
      const rotated = yield* start(echoes(seen), { keys: [two, one] })
      assert.strictEqual((yield* rotated.run(Other.enqueue({ text: "again" }, { unique }))).id, held.id)
      yield* rotated.jobs.retry(first?.id as JobId)
      assert.strictEqual((yield* reaches(rotated, first?.id as JobId, "completed")).result, "re first")
      yield* rotated.stop
      const dropped = yield* start(echoes(seen), { keys: [two], uniqueKey: one.key })
      assert.strictEqual((yield* dropped.run(Other.enqueue({ text: "again" }, { unique }))).id, held.id)
      yield* dropped.jobs.retry(second?.id as JobId)
      const job = yield* reaches(dropped, second?.id as JobId, "discarded")
      assert.include(job.errors[0]?.message, "not among the cipher's keys")
      assert.deepStrictEqual(seen, ["first"])
    })
  )

  onDatabase("merges what a debounce gathers, and runs what is in the clear where that was chosen", () =>
    Effect.gen(function* () {
      const seen: Array<string> = []
      const Gather = Job.make("gather", {
        args: { all: Schema.Array(Schema.String) },
        unique: {
          keys: ["worker"],
          debounce: { wait: "1 hour", args: (before, now) => ({ all: [...before.all, ...now.all] }) }
        }
      })
      const workers = Layer.mergeAll(
        echoes(seen),
        Gather.toLayer(({ all }) => Effect.sync(() => seen.push(all.join("+"))).pipe(Effect.asVoid))
      )
      const node = yield* start(workers, { keys: [one], allowPlaintext: true })
      yield* node.run(Gather.enqueue({ all: ["a"] }))
      const merged = yield* node.run(Gather.enqueue({ all: ["b"] }))
      assert.deepStrictEqual([merged._tag, merged.job.args], ["Debounced", { all: ["a", "b"] }])
      yield* node.jobs.retry(merged.id)
      yield* reaches(node, merged.id, "completed")
      const sql = yield* SqlClient.SqlClient
      const [row] = yield* sql<{ readonly id: bigint }>`SELECT shigoto.enqueue('echo', '{"text":"clear"}') AS id`
      yield* reaches(node, Number(row?.id) as JobId, "completed")
      assert.deepStrictEqual(seen, ["a+b", "clear"])
    })
  )

  onDatabase("stores values that look encrypted as what they are, with a cipher and without", () =>
    Effect.gen(function* () {
      const Any = Job.make("any", { args: Schema.Unknown, success: Schema.Unknown })
      const values = [{ $enc: "1.one.AAAA" }, { $enc: [1] }, { $enc: { $enc: "x" } }, { $enc: "x", more: 1 }]
      for (const options of [undefined, { keys: [one] }]) {
        const node = yield* start(
          Any.toLayer((args) => Effect.succeed(args)),
          options
        )
        for (const { id, job } of yield* node.run(Any.enqueueAll(values))) {
          const done = yield* reaches(node, id, "completed")
          assert.deepStrictEqual([done.args, done.result], [job.args, job.args])
        }
        yield* node.stop
      }
    })
  )

  it.effect("refuses keys that it cannot use, without showing them", () =>
    Effect.gen(function* () {
      const refused = (options: Cipher.Options) =>
        Effect.map(Effect.flip(Layer.build(Cipher.layerAesGcm(options))), ({ message }) => message)
      assert.include(yield* refused({ keys: [] }), "at least one")
      assert.include(yield* refused({ keys: [one, one] }), "once")
      assert.include(yield* refused({ keys: [key("a.b", 1)] }), "letters")
      const short = yield* refused({ keys: [{ id: "short", key: Redacted.make(new Uint8Array(16).fill(7)) }] })
      assert.include(short, "keys (short)")
      assert.notInclude(short, "7")
      const text = yield* refused({ keys: [{ id: "text", key: Redacted.make("c2VjcmV0") }] })
      assert.notInclude(text, "c2VjcmV0")
      const base64 = Redacted.make(Buffer.alloc(32, 3).toString("base64"))
      assert.isTrue(
        Exit.isSuccess(yield* Effect.exit(Layer.build(Cipher.layerAesGcm({ keys: [{ id: "ok", key: base64 }] }))))
      )
    }).pipe(Effect.scoped)
  )

  it.effect.prop(
    "reads what it sealed with any ring that has the key, and nothing of it after any flip of a bit",
    {
      text: Schema.String,
      of: Schema.String,
      ring: Schema.Array(Schema.Int).pipe(Schema.check(Schema.isMaxLength(4))),
      at: Schema.Finite
    },
    ({ at, of, ring, text }) =>
      Effect.gen(function* () {
        const others = [...new Set(ring)].map((id) => key(`other${id}`, Math.abs(id) % 250))
        const place = { field: "args", of, worker: "echo" } as const
        const ring1 = others.toSpliced(Math.abs(at) % (others.length + 1), 0, one)
        const cipher = (keys: ReadonlyArray<Cipher.Key>) =>
          Effect.map(Layer.build(Cipher.layerAesGcm({ keys })), Context.get(Cipher.Cipher))
        const plain = JSON.stringify(text)
        const sealed = JSON.parse(yield* (yield* cipher([one, ...others])).seal(plain, place)) as {
          readonly $enc: string
        }
        const envelope = sealed.$enc
        const reader = yield* cipher(ring1)
        assert.strictEqual(yield* reader.open(envelope, place), plain)
        if (others.length > 0) {
          const without = yield* Effect.flip((yield* cipher(others)).open(envelope, place))
          assert.deepInclude(without, { _tag: "DecryptionError", reason: "UnknownKey", keyId: "one" })
        }
        // Every bit of the header and of the Base64, those that say nothing included, then of the bytes below it.
        const bits = Array.from({ length: envelope.length * 8 }, (_, bit) => bit)
        const turned = bits.map((bit) => {
          const i = bit >> 3
          const code = envelope.charCodeAt(i) ^ (1 << (bit & 7))
          return `${envelope.slice(0, i)}${String.fromCharCode(code)}${envelope.slice(i + 1)}`
        })
        const [version = "", id = "", body = ""] = envelope.split(".")
        const bytes = Buffer.from(body, "base64")
        for (let bit = 0; bit < bytes.length * 8; bit++) {
          const changed = Buffer.from(bytes)
          changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7))
          turned.push(`${version}.${id}.${changed.toString("base64")}`)
        }
        turned.push(`${envelope}\n`, `${version}.${id}.`, `${version}.${id}`, "", `${version}.${id}.${body}.`)
        for (let length = 0; length < bytes.length; length++) {
          turned.push(`${version}.${id}.${bytes.subarray(0, length).toString("base64")}`)
        }
        for (const changed of turned) {
          const problem = yield* Effect.flip(reader.open(changed, place))
          assert.strictEqual(problem._tag, "DecryptionError", changed)
        }
        for (const elsewhere of [
          { ...place, of: `${of} ` },
          { ...place, field: "result" },
          { ...place, worker: "other" },
          { ...place, worker: undefined }
        ] as const) {
          assert.strictEqual((yield* Effect.flip(reader.open(envelope, elsewhere))).reason, "Tampered")
        }
      }).pipe(Effect.scoped),
    { arbitrary: { runs: 40 } }
  )
})
