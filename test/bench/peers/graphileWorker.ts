/**
 * graphile-worker.
 *
 * As its page on performance recommends for many fast jobs: 24 jobs at once, a local queue of 1,000 (its page says 500,
 * which drained a tenth less here), completions and failures in batches without a delay; without them it drains some five to fifteen times slower. Refetch delay stays off,
 * since it costs latency, and so does `useNodeTime`. It deletes what it has finished; it keeps no history.
 */
import { Logger, makeWorkerUtils, run, type Runner, type WorkerUtils } from "graphile-worker"
import * as pg from "pg"
import type { Adapter, Payload, Target } from "../Adapter.ts"

export default (target: Target): Adapter => {
  const logger = new Logger(() => (level, message) => {
    if (level === "error") console.error(message)
  })
  const pool = new pg.Pool({ connectionString: target.url, max: target.connections })
  pool.on("error", console.error)
  pool.on("connect", (client) => client.on("error", console.error))
  let utils: WorkerUtils | undefined
  let runner: Runner | undefined
  const ready = async () => (utils ??= await makeWorkerUtils({ pgPool: pool, logger }))
  return {
    setup: async () => {
      await (await ready()).migrate()
    },
    enqueueOne: async (payload) => (utils ?? (await ready())).addJob("bench", payload),
    enqueueMany: async (payloads) =>
      (utils ?? (await ready())).addJobs(payloads.map((payload) => ({ identifier: "bench", payload }))),
    startWorkers: async (handler) => {
      runner = await run({
        pgPool: pool,
        noHandleSignals: true,
        taskList: { bench: (payload) => handler(payload as Payload) },
        logger,
        preset: {
          worker: {
            concurrentJobs: 24,
            localQueue: { size: 1000 },
            completeJobBatchDelay: 0,
            failJobBatchDelay: 0
          }
        }
      })
    },
    drained: async () => (await pool.query("SELECT 1 FROM graphile_worker.jobs LIMIT 1")).rows.length === 0,
    stop: async () => {
      await runner?.stop()
      await utils?.release()
      await pool.end()
    }
  }
}
