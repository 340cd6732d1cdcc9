/**
 * effect-mq on its PostgreSQL store (drizzle over @effect/sql-pg).
 *
 * Tables and indexes are made by drizzle-kit from its factories, as its documentation says. Bulk is `enqueueMany`. A
 * taker claims, runs and acknowledges one job at a time, so there are as many takers as the workload says, at most 50
 * (its default is one): more only queue for the pool. Its wake-ups by NOTIFY do not work here: version 0.7.0 reads the
 * answer of `PgClient.listen` as a stream, which it no longer is in @effect/sql-pg 4, warns of it each second and polls; so
 * `pollInterval` is 20 ms in place of 5 seconds. It keeps finished jobs and a ledger of runs; `keep` would add a prune to
 * each end. Its Redis store is not measured: it imports `effect/unstable/persistence`, which Effect 4.1 no longer has.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import { generateDrizzleJson, generateMigration } from "drizzle-kit/api-postgres"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { Job, Worker } from "effect-mq"
import {
  DrizzleJobStore,
  mqDedupe,
  mqFlowChildren,
  mqFlowOutbox,
  mqJobAttempts,
  mqJobs,
  mqQueueControl,
  mqSchedules
} from "effect-mq/drizzle-postgres"
import type { Adapter, Target } from "../Adapter.ts"

const jobs = mqJobs()
const tables = {
  jobs,
  attempts: mqJobAttempts(jobs),
  schedules: mqSchedules(),
  queues: mqQueueControl(),
  dedupe: mqDedupe(),
  flowChildren: mqFlowChildren(),
  flowOutbox: mqFlowOutbox()
}

const BenchJob = Job.make("bench", { payload: { i: Schema.Number, t: Schema.Number }, queue: "bench" })

export default (target: Target): Adapter => {
  const client = PgClient.layer({ url: Redacted.make(target.url), maxConnections: target.connections })
  const store = DrizzleJobStore.layer(tables).pipe(Layer.provideMerge(client))
  const sql = ManagedRuntime.make(client)
  const producer = ManagedRuntime.make(store)
  let worker: ManagedRuntime.ManagedRuntime<never, unknown> | undefined
  return {
    setup: async () => {
      const statements = await generateMigration(await generateDrizzleJson({}), await generateDrizzleJson(tables))
      for (const statement of statements)
        await sql.runPromise(Effect.flatMap(PgClient.PgClient, (sql) => sql.unsafe(statement)))
    },
    enqueueOne: (payload) => producer.runPromise(BenchJob.enqueue(payload)),
    enqueueMany: (payloads) => producer.runPromise(BenchJob.enqueueMany(payloads)),
    startWorkers: async (handler, concurrency) => {
      const live = BenchJob.toLayer((payload) => Effect.sync(() => handler(payload)), {
        concurrency: Math.min(concurrency, 50)
      }).pipe(Layer.provide(Worker.layer({ pollInterval: "20 millis" })), Layer.provide(store))
      worker = ManagedRuntime.make(live)
      await worker.runPromise(Effect.void)
    },
    drained: () =>
      sql.runPromise(
        Effect.gen(function* () {
          const sql = yield* PgClient.PgClient
          const rows = yield* sql`
            SELECT 1 FROM effect_mq_jobs WHERE state IN ('waiting', 'delayed', 'active') LIMIT 1`
          return rows.length === 0
        })
      ),
    stop: async () => {
      await worker?.dispose()
      await producer.dispose()
      await sql.dispose()
    }
  }
}
