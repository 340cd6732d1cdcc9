import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Job from "../src/Job.ts"
import { Jobs } from "../src/Jobs.ts"
import * as ShigotoConfig from "../src/ShigotoConfig.ts"
import { ShigotoLive } from "../src/ShigotoLive.ts"
import { eventually } from "./setup/eventually.ts"
import { TestDatabase } from "./setup/TestDatabase.ts"

const Work = Job.make("work", { args: { n: Schema.Int }, maxAttempts: 2 })
const Idle = Job.make("idle", { args: { n: Schema.Int } })

for (const isolation of ["repeatable read", "serializable"] as const) {
  const seen = new Map<number, number>()
  const node = () =>
    Work.toLayer(({ n }, job) =>
      Effect.suspend(() => {
        seen.set(n, (seen.get(n) ?? 0) + 1)
        return n % 10 === 0 && job.attempt === 1 ? Effect.die("once") : Effect.void
      })
    ).pipe(
      Layer.provideMerge(ShigotoLive),
      Layer.provide(
        ShigotoConfig.layer({ queues: { default: 20 }, pollInterval: "50 millis", idlePollInterval: "50 millis" })
      )
    )
  const Database = TestDatabase.layer({ isolation, maxConnections: 20 })

  layer(Layer.provideMerge(node(), Database), { excludeTestServices: true })(`a database at ${isolation}`, (it) => {
    it.effect("enqueues, claims, settles, cancels and retries with concurrency", () =>
      Effect.gen(function* () {
        const jobs = yield* Jobs
        const sql = yield* SqlClient.SqlClient
        assert.deepStrictEqual(yield* sql`SHOW default_transaction_isolation`, [
          { default_transaction_isolation: isolation }
        ])
        // A second node claims from the same queue.
        yield* Layer.build(
          Layer.fresh(Layer.provide(node(), (yield* TestDatabase).layerClient({ maxConnections: 10 })))
        )
        const enqueued = yield* Effect.forEach(
          Array.from({ length: 100 }, (_, n) => n),
          (n) => Work.enqueue({ n }),
          { concurrency: 20 }
        )
        const idle = yield* Idle.enqueueAll(Array.from({ length: 40 }, (_, n) => ({ n })))
        const cancelled = yield* Effect.forEach([...idle, ...idle], ({ id }) => jobs.cancel(id), { concurrency: 20 })
        assert.strictEqual(cancelled.filter(({ _tag }) => _tag === "Cancelled").length, 40)
        const retried = yield* Effect.forEach([...idle, ...idle], ({ id }) => jobs.retry(id), { concurrency: 20 })
        assert.strictEqual(retried.filter(({ _tag }) => _tag === "Retried").length, 40)
        const failed = enqueued.filter((_, n) => n % 10 === 0)
        for (const { id } of failed) {
          yield* eventually(jobs.get(id), ({ state }) => state === "retryable")
          assert.deepStrictEqual(yield* jobs.retry(id), { _tag: "Retried" })
        }
        yield* eventually(jobs.list({ state: "completed", limit: 1000 }), (rows) => rows.length === 100)
        assert.deepStrictEqual(
          [...seen].map(([n, times]) => times - (n % 10 === 0 ? 1 : 0)),
          Array.from({ length: 100 }, () => 1)
        )
        assert.strictEqual((yield* jobs.list({ state: "available", worker: "idle" })).length, 40)
      })
    )
  })
}
