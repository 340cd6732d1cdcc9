/**
 * Ours, as a user writes it: a definition with a schema, the layer of a worker, `ShigotoLive`.
 *
 * Nothing but public settings: the queue's concurrency is what the workload says, history is kept with the default
 * retention or not at all.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { Job, Jobs, Migrations, Shigoto, ShigotoConfig, ShigotoLive } from "../../../src/index.ts"
import type { Adapter, Payload, Target } from "../Adapter.ts"

const BenchJob = Job.make("bench", { args: { i: Schema.Number, t: Schema.Number } })

export default (target: Target): Adapter => {
  const client = PgClient.layer({ url: Redacted.make(target.url), maxConnections: target.connections })
  const retention = target.keep ? undefined : { completed: 0, discarded: 0, cancelled: 0 }
  const config = (concurrency: number) =>
    ShigotoConfig.layer({ queues: { default: concurrency }, retention, nodeName: `bench-${process.pid}` })
  const producer = ManagedRuntime.make(Shigoto.layerProducer.pipe(Layer.provide([config(1), client])))
  let worker: ManagedRuntime.ManagedRuntime<Jobs, unknown> | undefined
  return {
    setup: () =>
      Effect.runPromise(Effect.asVoid(Migrations.run).pipe(Effect.provide(Layer.mergeAll(config(1), client)))),
    enqueueOne: (payload: Payload) => producer.runPromise(BenchJob.enqueue(payload)),
    enqueueMany: (payloads) => producer.runPromise(BenchJob.enqueueAll(payloads)),
    startWorkers: async (handler, concurrency) => {
      const live = BenchJob.toLayer((payload) => Effect.sync(() => handler(payload))).pipe(
        Layer.provideMerge(ShigotoLive),
        Layer.provide([config(concurrency), client])
      )
      worker = ManagedRuntime.make(live)
      await worker.runPromise(Effect.void)
    },
    drained: () =>
      producer.runPromise(
        Effect.gen(function* () {
          const jobs = yield* Jobs
          return (yield* jobs.counts).length === 0
        })
      ),
    stop: async () => {
      await worker?.dispose()
      await producer.dispose()
    }
  }
}
