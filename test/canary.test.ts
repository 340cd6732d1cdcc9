import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as SqlClient from "effect/sql/SqlClient"
import * as Tracer from "effect/Tracer"
import { execFile } from "node:child_process"
import { inspect } from "node:util"
import * as Batch from "../src/Batch.ts"
import * as Cipher from "../src/Cipher.ts"
import { CronJobs } from "../src/CronJobs.ts"
import * as Flow from "../src/Flow.ts"
import * as Job from "../src/Job.ts"
import type { JobId } from "../src/JobRow.ts"
import { onDatabase, reaches, startNode } from "./integration/support.ts"
import { fingerprintOf } from "../src/internal/fingerprint.ts"
import { eventually } from "./setup/eventually.ts"
import { TestDatabase } from "./setup/TestDatabase.ts"

class Declined extends Schema.TaggedError<Declined>("Declined")("Declined", { why: Schema.String }) {
  override get message() {
    return `declined: ${this.why}`
  }
}

const secret = { text: Schema.String }
const Work = Job.make("work", {
  args: { how: Schema.String, ...secret },
  success: Schema.Struct({ said: Schema.String }),
  error: Declined,
  maxAttempts: 2
})
/** What an older deployment enqueued under the same name. */
const OldWork = Job.make("work", { args: { how: Schema.Struct(secret) }, maxAttempts: 1 })
const Gather = Job.make("gather", {
  args: { all: Schema.Array(Schema.String) },
  unique: { keys: ["worker"], debounce: { wait: "1 hour", args: (a, b) => ({ all: [...a.all, ...b.all] }) } }
})
const Spread = Job.make("spread", { args: secret, success: Schema.String })
const Heir = Job.make("heir")
const inherited: Array<string | undefined> = []
const Graph = Flow.make("graph", { input: secret }, (graph) => {
  graph.node("only", Work, { args: ({ text }) => ({ how: "succeed", text }) })
})

const workers = Layer.mergeAll(
  Work.toLayer(
    ({ how, text }) =>
      Effect.gen(function* () {
        yield* Effect.log(`logged ${text}`)
        yield* Job.progress(50)
        switch (how) {
          case "fail":
            return yield* new Declined({ why: text })
          case "die":
            return yield* Effect.die(new Error(`broke over ${text}`, { cause: new Error(`inside ${text}`) }))
          case "cancel":
            return yield* Job.cancel(`called off: ${text}`)
          case "wait":
            return yield* Effect.never
          case "discard":
            return yield* Job.discard(`hopeless: ${text}`)
          case "encode":
            return { said: [text] } as never // what no schema allows
          default:
            return { said: text }
        }
      }),
    { captureLogs: true, retry: Schedule.recurs(1) }
  ),
  Gather.toLayer(() => Effect.void),
  Heir.toLayer((_, job) =>
    Effect.sync(() => {
      for (const { reason } of job.dependencies.values()) inherited.push(reason)
    })
  ),
  Spread.toLayer(({ text }) =>
    Effect.map(Job.fanOut("children", Work, [{ how: "succeed", text }]), (all) => all.map(({ said }) => said).join())
  ),
  Graph.layer as never // its args need nothing
)

/** The database as a backup has it; as the text of every row where there is no pg_dump for this server. */
const dump = Effect.gen(function* () {
  const { url } = yield* TestDatabase
  const sql = yield* SqlClient.SqlClient
  const script = yield* Effect.callback<string>((resume) => {
    execFile("pg_dump", [Redacted.value(url)], { maxBuffer: 1 << 28 }, (error, stdout) =>
      resume(Effect.succeed(error === null ? stdout : ""))
    )
  })
  const tables = yield* sql<{ readonly name: string }>`
    SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables WHERE schemaname = 'shigoto'`
  const texts = yield* Effect.forEach(
    tables,
    ({ name }) => sql<{ readonly text: string }>`SELECT t::text AS text FROM ${sql.literal(name)} AS t`
  )
  return [script, ...texts.flat().map(({ text }) => text)].join("\n")
})

/** What an exporter takes of how a span ended: not the value of a success. */
const causeOf = (status: Tracer.SpanStatus): unknown =>
  status._tag === "Ended" && Exit.isFailure(status.exit) ? status.exit.cause : undefined

describe("canaries", () => {
  onDatabase("in everything that a user's data is in are in no row, notification, span or line of the log", () =>
    Effect.gen(function* () {
      const database = yield* TestDatabase
      const heard: Array<string> = []
      const listener = yield* PgClient.PgClient
      const incoming = yield* listener.listen("shigoto")
      yield* Effect.forkScoped(Effect.forever(Effect.map(Queue.take(incoming), ({ payload }) => heard.push(payload))))
      const logged: Array<string> = []
      const logger = Logger.layer([
        Logger.make(({ cause, message }) => logged.push(inspect([message, cause], { depth: 20 })))
      ])
      const spans: Array<Tracer.NativeSpan> = []
      const tracer = Layer.succeed(
        Tracer.Tracer,
        Tracer.make({
          span: (options) => {
            const span = new Tracer.NativeSpan(options)
            spans.push(span)
            return span
          }
        })
      )
      const keys = [{ id: "one", key: Redacted.make(new Uint8Array(32).fill(1)) }]
      const node = yield* Effect.provide(
        startNode({
          workers,
          client: Layer.mergeAll(
            database.layerClient({ maxConnections: 12 }),
            Cipher.layerAesGcm({ keys }),
            logger,
            tracer
          )
        }),
        [logger, tracer]
      )
      const traced = <A, E>(effect: Effect.Effect<A, E>) => Effect.provide(effect, [logger, tracer])
      const ids: Array<readonly [JobId, "completed" | "discarded" | "cancelled"]> = []
      for (const how of ["succeed", "fail", "die", "discard", "encode"]) {
        const { id } = yield* traced(node.run(Work.enqueue({ how, text: `canary ${how}` })))
        ids.push([id, how === "succeed" ? "completed" : "discarded"])
      }
      const old = yield* traced(node.run(OldWork.enqueue({ how: { text: "canary decode" } })))
      ids.push([old.id, "discarded"])
      const last = yield* traced(
        node.run(Work.enqueue({ how: "succeed", text: "canary child" }, { dependsOn: [ids[0]?.[0] as JobId] }))
      )
      ids.push([last.id, "completed"])
      yield* traced(node.run(Gather.enqueue({ all: ["canary gathered"] })))
      yield* traced(node.run(Gather.enqueue({ all: ["canary gathered too"] })))
      assert.strictEqual(yield* traced(node.run(Spread.execute({ text: "canary spread" }))), "canary spread")
      const told = yield* Effect.flip(traced(node.run(Work.execute({ how: "fail", text: "canary awaited" }))))
      assert.include(told.message, "canary awaited")
      yield* traced(node.run(Effect.exit(Work.enqueue({ how: 5 as never, text: "canary refused" }))))
      const batch = Batch.make("batch", { onFinished: Work.prepare({ how: "fail", text: "canary callback" }) })
      yield* traced(node.run(batch.enqueue([Work.prepare({ how: "succeed", text: "canary member" })])))
      const flow = yield* traced(node.run(Graph.enqueue({ text: "canary flow" }, {})))
      ids.push([flow.nodes["only"] as JobId, "completed"])
      const ticked = yield* traced(
        node.run(
          Effect.gen(function* () {
            const crons = yield* CronJobs
            const args = { how: "succeed", text: "canary cron" }
            yield* crons.upsert({ name: "yearly", cron: "0 0 1 1 *", job: Work, args })
            return yield* crons.runNow("yearly")
          })
        )
      )
      ids.push([ticked, "completed"])
      // The reasons of cancels: of a handler, of waiting and of running jobs, one by one, by a filter, and by a batch.
      const cancelled: Array<JobId> = []
      const held = { delay: "1 hour" } as const
      cancelled.push((yield* traced(node.run(Work.enqueue({ how: "cancel", text: "canary own" })))).id)
      const calledOff = yield* traced(node.run(Effect.flip(Work.execute({ how: "cancel", text: "canary told" }))))
      assert.include(calledOff.message, "canary told")
      const waiting = yield* traced(
        node.run(
          Work.enqueueAll(
            [1, 2, 3].map((n) => ({ how: "wait", text: `canary ${n}` })),
            () => held
          )
        )
      )
      const [first, ...others] = waiting.map(({ id }) => id)
      yield* traced(node.jobs.cancel(first as JobId, "canary waited"))
      yield* traced(Stream.runDrain(node.jobs.cancelBy({ id: others }, { reason: "canary many" })))
      const runs = yield* traced(node.run(Work.enqueueAll([1, 2].map(() => ({ how: "wait", text: "canary runs" })))))
      const [asked, matched] = runs.map(({ id }) => id) as [JobId, JobId]
      for (const id of [asked, matched]) yield* reaches(node, id, "executing")
      yield* traced(node.jobs.cancel(asked, "canary asked"))
      yield* traced(Stream.runDrain(node.jobs.cancelBy({ id: matched }, { reason: "canary matched" })))
      cancelled.push(...waiting.map(({ id }) => id), asked, matched)
      for (const id of cancelled) {
        const job = yield* reaches(node, id, "cancelled")
        assert.include(job.cancelReason, "canary")
        ids.push([id, "cancelled"])
      }
      const heir = yield* traced(
        node.run(
          Heir.enqueue(
            {},
            {
              dependsOn: [
                { id: asked, onFailure: "run" },
                { id: matched, onFailure: "run" }
              ]
            }
          )
        )
      )
      yield* reaches(node, heir.id, "completed")
      assert.sameMembers(inherited, ["canary asked", "canary matched"])
      for (const [id, state] of ids) {
        const job = yield* reaches(node, id, state)
        assert.include(inspect([job.args, job.result, job.errors], { depth: 20 }), "canary")
      }
      yield* eventually(
        Effect.sync(() => node.events.filter(({ _tag }) => _tag === "Discarded").length),
        (count) => count >= 7
      )
      const prints = ids.slice(1, 2).map(([id]) => node.jobs.get(id))
      const [print] = (yield* Effect.all(prints)).map(({ errors }) => errors.map(({ fingerprint }) => fingerprint))
      yield* node.stop
      const text = yield* dump
      // Nor can what a failure says be found out by trying: equal ones are equal still.
      const guess = fingerprintOf("work", "Declined", "declined: canary fail")
      assert.notInclude(text, guess)
      assert.match(print?.[0] ?? "", /^[0-9a-f]{14}$/)
      assert.strictEqual(print?.[0], print?.[1])
      assert.include(text, "$enc")
      const own = (line: string): boolean => !/logged canary/.test(line)
      const places = {
        rows: text,
        notifications: heard.join("\n"),
        logs: logged.filter(own).join("\n"),
        spans: spans
          .map(({ attributes, events, links, name, status }) =>
            inspect([name, [...attributes], events, links, causeOf(status)], { depth: 20 })
          )
          .join("\n")
      }
      assert.isAbove(heard.length, 0)
      assert.isTrue(spans.some(({ name }) => name === "process default"))
      assert.isTrue(spans.some(({ name }) => name === "work.execute"))
      assert.isTrue(logged.some((line) => line.includes("logged canary")))
      for (const [place, said] of Object.entries(places)) {
        const at = said.indexOf("canary")
        assert.strictEqual(at < 0 ? "" : said.slice(Math.max(at - 300, 0), at + 100), "", place)
      }
    })
  )
})
