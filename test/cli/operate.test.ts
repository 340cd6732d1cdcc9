import { assert, expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Batch from "../../src/Batch.ts"
import { CronJobs } from "../../src/CronJobs.ts"
import * as Flow from "../../src/Flow.ts"
import * as Job from "../../src/Job.ts"
import { eventually } from "../setup/eventually.ts"
import { startNode } from "../integration/support.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"
import { canary, shigoto, transcript } from "./support.ts"

const golden = (name: string, text: string) =>
  Effect.promise(() => expect(text).toMatchFileSnapshot(`./golden/${name}.txt`))

const Part = Job.make("part", { args: { ok: Schema.Boolean, apiKey: Schema.String }, queue: "parts", maxAttempts: 1 })

const PartLive = Part.toLayer(({ apiKey, ok }) => (ok ? Effect.void : Effect.die(new Error(`no part for ${apiKey}`))), {
  globalConcurrency: 2,
  rateLimit: { limit: 100, window: "1 hour" }
})

const Stage = Job.make("stage", { args: { ok: Schema.Boolean }, queue: "parts", maxAttempts: 1 })

const StageLive = Stage.toLayer(({ ok }) => (ok ? Effect.void : Effect.die(new Error("the card was declined"))))

const Order = Flow.make("order", { input: {} }, (flow) => {
  const stock = flow.node("stock", Stage, { args: { ok: true } })
  const pay = flow.node("pay", Stage, { after: { stock }, args: { ok: false } })
  flow.node("ship", Stage, { after: { pay }, args: { ok: true } })
})

const Unknown = Job.make("nobody-has-it", { args: { secret: Schema.String }, queue: "parts" })

const json = <A>(args: ReadonlyArray<string>) =>
  Effect.map(shigoto([...args, "--json"]), (ran) => {
    assert.strictEqual(ran.code, 0, `${args.join(" ")}: ${ran.stderr}`)
    assert.notInclude(ran.stdout, canary)
    return JSON.parse(ran.stdout) as A
  })

/** One node that lives through all of the tests, with a batch of which one member failed, and two cron entries. */
const Fleet = Layer.effectDiscard(
  Effect.gen(function* () {
    const node = yield* startNode({
      workers: Layer.merge(PartLive, StageLive),
      config: { queues: { parts: 3 }, nodeName: "web-1", leaseTtl: "1 minute" }
    })
    yield* node.run(
      Effect.gen(function* () {
        const batch = yield* Batch.make("import").enqueue([
          Part.prepare({ ok: true, apiKey: canary }),
          Part.prepare({ ok: false, apiKey: canary })
        ])
        for (const { id } of batch.jobs) yield* eventually(node.jobs.get(id), (job) => job.finishedAt !== undefined)
        const flow = yield* Order.enqueue({})
        for (const id of Object.values(flow.nodes)) {
          yield* eventually(node.jobs.get(id), (job) => job.finishedAt !== undefined)
        }
        const cron = yield* CronJobs
        const args = { ok: true, apiKey: canary }
        yield* cron.upsert({ name: "nightly", cron: "30 3 * * *", timezone: "Europe/Berlin", job: Part, args })
        yield* cron.upsert({ name: "orphan", cron: "@yearly", job: Unknown, args: { secret: canary } })
      })
    )
    // What a node tells of itself comes with the next renewal of its lease.
    yield* eventually(node.jobs.nodes, (nodes) => nodes.some((one) => one.workers.includes("part") && one.listening))
  })
).pipe(Layer.provideMerge(TestDatabase.layer()))

layer(Fleet, { excludeTestServices: true })("on a running fleet", (it) => {
  it.effect("lists failures, cron entries, batches, nodes, workers and limits", () =>
    Effect.gen(function* () {
      const text = yield* transcript([
        "failures",
        "failures list --ndjson",
        "failures --since 1h --json",
        "failures --since 0s",
        "cron list",
        "cron list --ndjson",
        "cron next orphan -n 2",
        "cron next nobody",
        "batches list",
        "batches show 1",
        "batches show 1 --json",
        "flows show 2",
        "flows show 2 --json",
        "nodes",
        "workers",
        "workers --json",
        "limits",
        "limits --ndjson",
        "status"
      ])
      assert.notInclude(text, canary)
      yield* golden("fleet", text)
    })
  )

  it.effect("retries a group of failures, and says so where there is none", () =>
    Effect.gen(function* () {
      const { failures } = yield* json<{
        readonly failures: ReadonlyArray<{ readonly fingerprint: string; readonly worker: string }>
      }>(["failures"])
      const group = failures.find(({ worker }) => worker === "part")?.fingerprint ?? ""
      const dry = yield* json<{ readonly matched: number }>(["failures", "retry", group, "--dry-run"])
      assert.strictEqual(dry.matched, 1)
      assert.strictEqual((yield* shigoto(["failures", "retry", group])).code, 5)
      const done = yield* json<{ readonly changed: number }>(["failures", "retry", group, "--yes"])
      assert.strictEqual(done.changed, 1)
      assert.strictEqual((yield* shigoto(["failures", "retry", "nothing", "--yes"])).code, 3)
    })
  )

  it.effect("pauses, resumes, runs and removes cron entries", () =>
    Effect.gen(function* () {
      const entry = Effect.map(
        json<{ readonly cron: ReadonlyArray<{ readonly name: string; readonly paused: boolean }> }>(["cron", "list"]),
        ({ cron }) => cron.find(({ name }) => name === "nightly")
      )
      yield* json(["cron", "pause", "nightly", "--dry-run"])
      assert.isFalse((yield* entry)?.paused)
      yield* json(["cron", "pause", "nightly"])
      assert.isTrue((yield* entry)?.paused)
      yield* json(["cron", "resume", "nightly"])
      assert.isFalse((yield* entry)?.paused)
      const run = yield* json<{ readonly job: number }>(["cron", "run", "nightly"])
      assert.strictEqual((yield* json<{ readonly worker: string }>(["jobs", "show", String(run.job)])).worker, "part")
      assert.strictEqual((yield* shigoto(["cron", "remove", "nightly"])).code, 5)
      yield* json(["cron", "remove", "nightly", "--yes"])
      assert.isUndefined(yield* entry)
      assert.strictEqual((yield* shigoto(["cron", "pause", "nightly"])).code, 3)
    })
  )

  it.effect("shows the ticks of an entry over a change of the clock", () =>
    Effect.gen(function* () {
      const { ticks } = yield* json<{ readonly ticks: ReadonlyArray<string> }>(["cron", "next", "orphan", "-n", "3"])
      assert.strictEqual(ticks.length, 3)
      for (const tick of ticks) assert.match(tick, /^\d{4}-01-01T00:00:00\.000Z$/)
    })
  )

  it.effect("retries and cancels batches and flows, after a question", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* shigoto(["batches", "retry", "1"])).code, 5)
      assert.strictEqual((yield* json<{ readonly changed: number }>(["batches", "cancel", "1", "--yes"])).changed, 0)
      assert.strictEqual((yield* shigoto(["batches", "show", "99"])).code, 3)
      assert.strictEqual((yield* shigoto(["flows", "retry", "2"])).code, 5)
      const again = yield* shigoto(["flows", "retry", "2", "--yes"])
      assert.deepStrictEqual([again.code, again.stdout], [0, "✓ 1 job retried\n"])
      assert.deepStrictEqual(yield* json(["batches", "list", "--after", "1"]), { batches: [], next: null })
    })
  )
})
