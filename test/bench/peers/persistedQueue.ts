/**
 * Effect's own PersistedQueue on its SQL store.
 *
 * It has no bulk offer: bulk means many offers at once, as many as the pool carries. Takers are fibers, as many as the
 * workload says, at most 100. `pollInterval` is 20 ms in place of a second, since it has no notification between processes.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as PersistedQueue from "effect/persistence/PersistedQueue"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type { Adapter, Target } from "../Adapter.ts"

export default (target: Target): Adapter => {
  const client = PgClient.layer({ url: Redacted.make(target.url), maxConnections: target.connections })
  const runtime = ManagedRuntime.make(
    PersistedQueue.layer.pipe(
      Layer.provide(PersistedQueue.layerStoreSql({ pollInterval: "20 millis" })),
      Layer.provideMerge(client)
    )
  )
  const queue = runtime.runPromise(
    PersistedQueue.make({ name: "bench", schema: Schema.Struct({ i: Schema.Number, t: Schema.Number }) })
  )
  queue.catch(() => undefined)
  let takers: ReadonlyArray<Fiber.Fiber<unknown, unknown>> = []
  return {
    setup: async () => {
      await queue
    },
    enqueueOne: async (payload) => runtime.runPromise((await queue).offer(payload)),
    enqueueMany: async (payloads) => {
      const { offer } = await queue
      await runtime.runPromise(
        Effect.forEach(payloads, (payload) => offer(payload), { concurrency: target.connections * 4, discard: true })
      )
    },
    startWorkers: async (handler, concurrency) => {
      const { take } = await queue
      takers = Array.from({ length: Math.min(concurrency, 100) }, () =>
        runtime.runFork(Effect.forever(take((payload) => Effect.sync(() => handler(payload)))))
      )
    },
    drained: () =>
      runtime.runPromise(
        Effect.gen(function* () {
          const sql = yield* PgClient.PgClient
          const rows = yield* sql`SELECT 1 FROM effect_queue WHERE state IN ('pending', 'processing') LIMIT 1`
          return rows.length === 0
        })
      ),
    stop: async () => {
      await Effect.runPromise(Fiber.interruptAll(takers))
      await runtime.dispose()
    }
  }
}
