import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Batch from "../src/Batch.ts"
import * as Cipher from "../src/Cipher.ts"
import { CronJobs } from "../src/CronJobs.ts"
import * as Flow from "../src/Flow.ts"
import * as Job from "../src/Job.ts"
import type { Place } from "../src/internal/envelope.ts"
import type { JobId } from "../src/JobRow.ts"
import type { Workers } from "../src/Workers.ts"
import { onDatabase, reaches, startNode, tally } from "./integration/support.ts"
import { eventually } from "./setup/eventually.ts"
import { TestDatabase } from "./setup/TestDatabase.ts"

const keys = [{ id: "one", key: Redacted.make(new Uint8Array(32).fill(1)) }]

const text = { text: Schema.String }
const Usual = Job.make("usual", { args: text, success: Schema.String, maxAttempts: 1 })
const Clear = Job.make("clear", { args: text, success: Schema.String, maxAttempts: 1, encrypted: false })
const Secret = Job.make("secret", { args: text, success: Schema.String, maxAttempts: 1, encrypted: true })
const Spread = Job.make("spread", { maxAttempts: 1 })

const workers = (seen: Array<string>): Layer.Layer<never, never, Workers> => {
  const handler = (args: { readonly text: string }, job: { readonly dependencies: ReadonlyMap<unknown, Parent> }) =>
    Effect.gen(function* () {
      seen.push([args.text, ...[...job.dependencies.values()].map(({ result }) => String(result))].join("+"))
      return args.text.startsWith("fail") ? yield* Effect.die(new Error(`no ${args.text}`)) : `re ${args.text}`
    })
  return Layer.mergeAll(
    Usual.toLayer(handler),
    Clear.toLayer(handler),
    Secret.toLayer(handler),
    Spread.toLayer(() => Effect.asVoid(Job.fanOut("children", Secret, [{ text: "canary child" }])))
  )
}

interface Parent {
  readonly result: unknown
}

const start = Effect.fnUntraced(function* (seen: Array<string>, options: Partial<Cipher.Options> | undefined) {
  const database = yield* TestDatabase
  const client = database.layerClient({ maxConnections: 12 })
  return yield* startNode({
    workers: workers(seen),
    client: options === undefined ? client : Layer.mergeAll(client, Cipher.layerAesGcm({ keys, ...options }))
  })
})

/** What the tables say of a job, and of what is in no job's row. */
const stored = Effect.fnUntraced(function* (id: JobId) {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{ readonly text: string }>`
    SELECT concat(args, result, errors) AS text FROM shigoto.all_jobs WHERE id = ${id}::bigint`
  return row?.text ?? ""
})

const inSql = Effect.fnUntraced(function* (worker: string) {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{ readonly id: bigint }>`
    SELECT shigoto.enqueue(${worker}, '{"text":"from sql"}', max_attempts => 1) AS id`
  return Number(row?.id) as JobId
})

describe("encrypted", () => {
  onDatabase("leaves in the clear what a definition says, and lets one enqueue encrypt but none expose", () =>
    Effect.gen(function* () {
      const seen: Array<string> = []
      const node = yield* start(seen, {})
      const clear = yield* node.run(Clear.enqueue({ text: "clear" }))
      const failed = yield* node.run(Clear.enqueue({ text: "fail clear" }))
      const sealed = yield* node.run(Clear.enqueue({ text: "canary" }, { encrypted: true }))
      const failing = yield* node.run(Clear.enqueue({ text: "fail canary" }, { encrypted: true }))
      const fromSql = yield* inSql("clear")
      assert.strictEqual((yield* reaches(node, clear.id, "completed")).result, "re clear")
      assert.include((yield* reaches(node, failed.id, "discarded")).errors[0]?.message, "no fail clear")
      assert.strictEqual((yield* reaches(node, sealed.id, "completed")).result, "re canary")
      assert.include((yield* reaches(node, failing.id, "discarded")).errors[0]?.message, "no fail canary")
      yield* reaches(node, fromSql, "completed")
      assert.match(yield* stored(clear.id), /"clear".*re clear/s)
      assert.include(yield* stored(failed.id), "no fail clear")
      for (const { id } of [sealed, failing]) {
        assert.include(yield* stored(id), "$enc")
        assert.notInclude(yield* stored(id), "canary")
      }
      // Who waits reads either.
      assert.strictEqual(yield* node.run(Clear.execute({ text: "waited" })), "re waited")
      assert.strictEqual(yield* node.run(Clear.execute({ text: "waited" }, { encrypted: true })), "re waited")
      for (const exposed of [Usual, Secret]) {
        const refused = yield* Effect.flip(node.run(exposed.enqueue({ text: "x" }, { encrypted: false })))
        assert.deepInclude(refused, { _tag: "InvalidEncrypted", value: "false" })
      }
      const forged = yield* reaches(node, yield* inSql("usual"), "discarded")
      assert.strictEqual(forged.errors[0]?.tag, "DecryptionError")
      assert.strictEqual(seen.filter((one) => one === "from sql").length, 1)
    })
  )

  onDatabase("encrypts only what is said where nothing is by default, callbacks, schedules and flows too", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const seen: Array<string> = []
      const node = yield* start(seen, { encryptByDefault: false })
      const usual = yield* node.run(Usual.enqueue({ text: "usual" }))
      const secret = yield* node.run(Secret.enqueue({ text: "canary" }))
      yield* reaches(node, usual.id, "completed")
      assert.strictEqual((yield* reaches(node, secret.id, "completed")).result, "re canary")
      assert.match(yield* stored(usual.id), /"usual".*re usual/s)
      assert.notInclude(yield* stored(secret.id), "canary")
      // One in the clear may read what is encrypted; not the other way round.
      const reader = yield* node.run(Usual.enqueue({ text: "reads" }, { dependsOn: [secret.id] }))
      yield* reaches(node, reader.id, "completed")
      assert.include(seen, "reads+re canary")
      const misled = yield* node.run(Secret.enqueue({ text: "misled" }, { dependsOn: [usual.id] }))
      const refused = yield* reaches(node, misled.id, "discarded")
      assert.include(refused.errors[0]?.message, `result of ${usual.id} are not encrypted`)
      assert.strictEqual((yield* reaches(node, yield* inSql("secret"), "discarded")).errors[0]?.tag, "DecryptionError")
      for (const job of [Usual, Secret]) {
        yield* node.run(
          Batch.make("called", { onFinished: job.prepare({ text: `canary called ${job.name}` }) }).enqueue([
            Usual.prepare({ text: "member" })
          ])
        )
        const ticked = yield* node.run(
          Effect.gen(function* () {
            const crons = yield* CronJobs
            const args = { text: `canary ticked ${job.name}` }
            yield* crons.upsert({ name: job.name, cron: "0 0 1 1 *", job, args })
            return yield* crons.runNow(job.name)
          })
        )
        yield* reaches(node, ticked, "completed")
        yield* eventually(
          Effect.sync(() => seen),
          (all) => all.includes(`canary called ${job.name}`)
        )
        const rows = yield* sql<{ readonly text: string }>`
          SELECT args::text AS text FROM shigoto.cron WHERE name = ${job.name}
          UNION ALL
          SELECT callbacks::text FROM shigoto.batches WHERE callbacks::text LIKE ${`%"${job.name}"%`}
          UNION ALL
          SELECT args::text FROM shigoto.jobs_archive WHERE id = ${ticked}::bigint`
        const isSealed = rows.map((row) => row.text.includes("$enc") && !row.text.includes("canary"))
        assert.deepStrictEqual(isSealed, Array(3).fill(job === Secret))
      }
      const Graph = Flow.make("graph", { input: text }, (graph) => {
        graph.node("secret", Secret, { args: (input) => input })
      })
      yield* node.add(Graph.layer)
      const { nodes } = yield* node.run(Graph.enqueue({ text: "canary flows" }, {}))
      assert.strictEqual((yield* reaches(node, nodes["secret"] as JobId, "completed")).result, "re canary flows")
      assert.notInclude(yield* stored(nodes["secret"] as JobId), "canary")
    })
  )

  onDatabase("neither stores nor runs in the clear what is to be encrypted where there is no cipher", () =>
    Effect.gen(function* () {
      const seen: Array<string> = []
      const node = yield* start(seen, undefined)
      const refused = yield* Effect.flip(node.run(Secret.enqueue({ text: "canary" })))
      assert.strictEqual(refused._tag, "InvalidEncrypted")
      assert.include(refused.message, "there is no cipher")
      const usual = Effect.flip(node.run(Usual.enqueue({ text: "canary" }, { encrypted: true })))
      assert.strictEqual((yield* usual)._tag, "InvalidEncrypted")
      const spread = yield* reaches(node, (yield* node.run(Spread.enqueue({}))).id, "discarded")
      assert.include(spread.errors[0]?.message, "this node has no cipher")
      const forged = yield* reaches(node, yield* inSql("secret"), "discarded")
      assert.include(forged.errors[0]?.message, "not encrypted")
      assert.strictEqual(yield* node.run(Usual.execute({ text: "usual" })), "re usual")
      assert.deepStrictEqual(seen, ["usual"])
      assert.strictEqual((yield* node.jobs.list({ limit: 100 })).length, 3)
    })
  )

  onDatabase("is read once a claim under limits has let go of them: nobody waits there for a cipher", () =>
    Effect.gen(function* () {
      const database = yield* TestDatabase
      const sql = yield* SqlClient.SqlClient
      const found: Array<string> = []
      const look = sql`SELECT FROM shigoto.limits WHERE name = 'worker:secret' FOR UPDATE NOWAIT`.pipe(
        Effect.match({ onFailure: () => "locked", onSuccess: (rows) => (rows.length === 1 ? "free" : "none") }),
        Effect.map((what) => found.push(what))
      )
      const Watched = Layer.effect(
        Cipher.Cipher,
        Effect.map(Cipher.Cipher, (cipher) => ({
          ...cipher,
          open: (text: string, place: Place) => Effect.andThen(look, cipher.open(text, place))
        }))
      ).pipe(Layer.provide(Cipher.layerAesGcm({ keys })))
      const node = yield* startNode({
        workers: Secret.toLayer(({ text }) => Effect.succeed(`re ${text}`), { globalConcurrency: 10 }),
        client: Layer.mergeAll(database.layerClient({ maxConnections: 12 }), Watched)
      })
      yield* node.queues.pause("default")
      const jobs = yield* node.run(Secret.enqueueAll(Array.from({ length: 5 }, (_, n) => ({ text: `${n}` }))))
      yield* node.queues.resume("default")
      yield* eventually(tally, ({ completed }) => completed === jobs.length)
      assert.deepStrictEqual(
        found.slice(0, jobs.length),
        jobs.map(() => "free")
      )
    })
  )
})
