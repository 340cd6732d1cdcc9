/**
 * BullMQ on Redis.
 *
 * Redis runs without any persistence, BullMQ's fastest ground: a crash of Redis loses all jobs, while every PostgreSQL
 * system here has synced each commit. `removeOnComplete` where no history is kept. Concurrency as its guide suggests
 * for jobs that wait; one Worker in each process.
 */
import { type Job, Queue, Worker } from "bullmq"
import type { Adapter, Payload, Target } from "../Adapter.ts"

export default (target: Target): Adapter => {
  const connection = { host: "127.0.0.1", port: target.redisPort, maxRetriesPerRequest: null }
  const queue = new Queue<Payload>("bench", {
    connection,
    defaultJobOptions: { removeOnComplete: !target.keep, removeOnFail: true }
  })
  let worker: Worker<Payload> | undefined
  return {
    setup: async () => {
      await queue.obliterate({ force: true })
    },
    enqueueOne: (payload) => queue.add("bench", payload),
    enqueueMany: (payloads) => queue.addBulk(payloads.map((data) => ({ name: "bench", data }))),
    startWorkers: async (handler, concurrency) => {
      worker = new Worker<Payload>("bench", async (job: Job<Payload>) => handler(job.data), {
        connection,
        concurrency: Math.min(concurrency, 100)
      })
      await worker.waitUntilReady()
    },
    drained: async () => {
      const counts = await queue.getJobCounts("wait", "active", "delayed", "prioritized")
      return Object.values(counts).every((count) => count === 0)
    },
    stop: async () => {
      await worker?.close(true)
      await queue.close()
    }
  }
}
