/**
 * Ours, as a user writes it: a definition with a schema, the layer of a worker, `ShigotoLive`.
 *
 * Nothing but public settings, on the built package unless the run says `--sources`: history is kept with the default
 * retention or not at all, and the queue's concurrency is what the workload says; where that is to drain, two claims'
 * worth, so that the jobs of one run while the next is under way. `target.variant` is the same with one feature in use, or with all that can be switched on
 * and is not used. For the curves, jobs spread over several queues, which share the concurrency, or partition keys, and
 * one process may be several nodes, each with connections and a lease of its own.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Library from "../../../src/index.ts"
import type { Batches, Jobs as JobsService, Limit } from "../../../src/index.ts"
import type { Adapter, Payload, Target } from "../Adapter.ts"

// What users run is the built package: without the types that Node would have to strip, it also takes less memory.
const built = process.env["SHIGOTO_BENCH_SOURCES"] === undefined
const { Batch, Cipher, CronJob, Job, Jobs, Migrations, Shigoto, ShigotoConfig, ShigotoLive }: typeof Library =
  await import(new URL(built ? "../../../dist/src/index.js" : "../../../src/index.ts", import.meta.url).href)

const args = { i: Schema.Number, t: Schema.Number }
const BenchJob = Job.make("bench", { args })
const KeyedJob = Job.make("bench", { args, unique: { keys: ["worker", "args.i"] } })
const OtherJob = Job.make("other", { args, queue: "other", partitionKey: ({ i }) => `${i}` })

const cipher = (encryptByDefault: boolean) =>
  Cipher.layerAesGcm({
    keys: [{ id: "bench", key: Redacted.make(Buffer.alloc(32, 7).toString("base64")) }],
    encryptByDefault
  })

/** A rate that is asked at each claim and never reached. */
const unreached: Limit.Options = { limit: 1_000_000, window: "1 second" }

/** A worker, a queue and a schedule with everything that workers, queues and schedules can have; none has anything to do. */
const others = Layer.mergeAll(
  OtherJob.toLayer(() => Effect.void, {
    globalConcurrency: 100,
    rateLimit: { ...unreached, perKey: true },
    circuitBreaker: { state: "shared" },
    captureLogs: true,
    onDiscard: () => Effect.void
  }),
  CronJob.make({ name: "yearly", cron: "0 0 1 1 *", job: OtherJob, args: { i: 0, t: 0 } })
)

const PartitionedJob = (keys: number) => Job.make("bench", { args, partitionKey: ({ i }) => `${i % keys}` })

interface Variant {
  readonly enqueueMany: (payloads: ReadonlyArray<Payload>) => Effect.Effect<unknown, unknown, JobsService | Batches>
  readonly rateLimit: Limit.Options | undefined
  readonly cipher: ReturnType<typeof cipher> | undefined
  readonly fair: boolean
  readonly unused: boolean
}

const plain: Variant = {
  enqueueMany: (payloads) => BenchJob.enqueueAll(payloads),
  rateLimit: undefined,
  cipher: undefined,
  fair: false,
  unused: false
}

const variants: Readonly<Record<string, Variant>> = {
  plain,
  unused: { ...plain, cipher: cipher(false), unused: true },
  unique: { ...plain, enqueueMany: (payloads) => KeyedJob.enqueueAll(payloads) },
  batch: {
    ...plain,
    enqueueMany: (payloads) => Batch.make("bench").enqueue(payloads.map((payload) => BenchJob.prepare(payload)))
  },
  // Half of the jobs wait for one of the other half each.
  dependency: {
    ...plain,
    enqueueMany: Effect.fnUntraced(function* (payloads: ReadonlyArray<Payload>) {
      const half = payloads.length / 2
      const parents = yield* BenchJob.enqueueAll(payloads.slice(0, half))
      yield* BenchJob.enqueueAll(payloads.slice(half), (_, index) => {
        const parent = parents[index]?.id
        return parent === undefined ? {} : { dependsOn: [parent] }
      })
    })
  },
  rate: { ...plain, rateLimit: unreached },
  "rate-by-key": { ...plain, rateLimit: { ...unreached, perKey: true } },
  fair: { ...plain, fair: true },
  encrypted: { ...plain, cipher: cipher(true) }
}

export default (target: Target): Adapter => {
  const { connections, keys, nodes, queues } = target
  const variant = variants[target.variant] ?? plain
  const clientOf = (maxConnections: number) => PgClient.layer({ url: Redacted.make(target.url), maxConnections })
  const client = clientOf(connections)
  const encryption = variant.cipher ?? Layer.empty
  const retention = target.keep ? undefined : { completed: 0, discarded: 0, cancelled: 0 }
  const queueOf = (i: number) => (i % queues === 0 ? "default" : `queue-${i % queues}`)
  const config = (total: number, node = 0) => {
    const slots = total < 500 ? total : 2000
    const concurrency = Math.max(1, Math.floor(slots / queues))
    const queue = variant.fair ? { concurrency, fair: true } : concurrency
    return ShigotoConfig.layer({
      queues: {
        ...Object.fromEntries(Array.from({ length: queues }, (_, i) => [queueOf(i), queue])),
        ...(variant.unused && {
          other: { concurrency: 10, fair: true, partitionConcurrency: 5, rateLimit: unreached }
        })
      },
      ...(variant.unused && { captureLogs: true, shedding: { maxInFlight: 10_000, target: "1 hour" } }),
      retention,
      nodeName: `bench-${process.pid}-${node}`
    })
  }
  const producer = ManagedRuntime.make(
    Shigoto.layerProducer.pipe(Layer.provide(encryption), Layer.provide([config(1), client]))
  )
  const partitioned = PartitionedJob(keys)
  const enqueueMany = (payloads: ReadonlyArray<Payload>) =>
    queues > 1
      ? BenchJob.enqueueAll(payloads, ({ i }) => ({ queue: queueOf(i) }))
      : keys > 1
        ? partitioned.enqueueAll(payloads)
        : variant.enqueueMany(payloads)
  const workers: Array<ManagedRuntime.ManagedRuntime<JobsService, unknown>> = []
  return {
    setup: () =>
      Effect.runPromise(Effect.asVoid(Migrations.run).pipe(Effect.provide(Layer.mergeAll(config(1), client)))),
    enqueueOne: (payload: Payload) => producer.runPromise(BenchJob.enqueue(payload)),
    enqueueMany: (payloads) => producer.runPromise(enqueueMany(payloads)),
    startWorkers: async (handler, concurrency) => {
      const work = BenchJob.toLayer(
        (payload) => Effect.sync(() => handler(payload)),
        variant.rateLimit === undefined ? {} : { rateLimit: variant.rateLimit }
      )
      for (let node = 0; node < nodes; node++) {
        const live = Layer.mergeAll(work, variant.unused ? others : Layer.empty).pipe(
          Layer.provideMerge(ShigotoLive),
          Layer.provide(encryption),
          Layer.provide([config(concurrency, node), nodes === 1 ? client : clientOf(2)])
        )
        const worker = ManagedRuntime.make(live)
        workers.push(worker)
        await worker.runPromise(Effect.void)
      }
    },
    drained: () =>
      producer.runPromise(
        Effect.gen(function* () {
          const jobs = yield* Jobs
          return (yield* jobs.counts).length === 0
        })
      ),
    stop: async () => {
      await Promise.all(workers.map((worker) => worker.dispose()))
      await producer.dispose()
    }
  }
}
