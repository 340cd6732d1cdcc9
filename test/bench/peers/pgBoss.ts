/**
 * pg-boss.
 *
 * Jobs in batches of 1,000 for one handler call, its fastest way (a batch of one asks for each job); `burstWhenBatchFull`
 * so that a backlog is drained without pauses between full batches, as its page on polling says. Where jobs have to start
 * at once its queue notifies and its workers listen, the only way below the shortest poll of 500 ms; elsewhere they do
 * not, since a notification halves its rate of single enqueues. Supervision keeps its defaults, cron is off. Finished jobs
 * stay in its table, as it always keeps them for a while.
 */
import { PgBoss } from "pg-boss"
import * as pg from "pg"
import type { Adapter, Payload, Target } from "../Adapter.ts"

const queue = "bench"
const batchSize = 1000

export default (target: Target): Adapter => {
  const boss = new PgBoss({
    connectionString: target.url,
    max: target.connections,
    useListenNotify: target.prompt,
    schedule: false
  })
  boss.on("error", (error: unknown) => console.error(error))
  const pool = new pg.Pool({ connectionString: target.url, max: 1 })
  pool.on("error", console.error)
  let started: Promise<unknown> | undefined
  const start = () => (started ??= boss.start())
  return {
    setup: async () => {
      await start()
      await boss.createQueue(queue, { notify: target.prompt })
    },
    enqueueOne: async (payload) => {
      await start()
      return boss.send(queue, payload)
    },
    enqueueMany: async (payloads) => {
      await start()
      return boss.insert(
        queue,
        payloads.map((data) => ({ data }))
      )
    },
    startWorkers: async (handler) => {
      await start()
      await boss.work<Payload>(
        queue,
        { batchSize, pollingIntervalSeconds: 0.5, notifyPollingIntervalSeconds: 0.5, burstWhenBatchFull: true },
        async (jobs) => {
          for (const job of jobs) handler(job.data)
        }
      )
    },
    drained: async () =>
      (await pool.query(`SELECT 1 FROM pgboss.job WHERE name = '${queue}' AND state < 'completed' LIMIT 1`)).rows
        .length === 0,
    stop: async () => {
      await pool.end()
      await boss.stop({ graceful: false })
    }
  }
}
