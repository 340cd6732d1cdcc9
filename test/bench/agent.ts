/** One process of one system: does what the driver says over IPC, and tells how many jobs its worker has run. */
import type { Adapter, MakeAdapter, Payload, Target } from "./Adapter.ts"
import { now } from "./clock.ts"

/** What the driver asks of a process. */
export interface Agent {
  open: (file: string, target: Target) => Promise<void>
  setup: () => Promise<void>
  /** Enqueues one by one from `producers` loops at once, for `millis`; returns the jobs and the time they took. */
  singles: (producers: number, millis: number) => Promise<Produced>
  /** Enqueues `total` jobs in chunks from `lanes` loops at once. */
  bulk: (total: number, chunk: number, lanes: number) => Promise<Produced>
  /** Enqueues `perSecond` for `millis`, one by one or in a chunk each 10 ms, without waiting for the one before. */
  paced: (perSecond: number, millis: number, chunks: boolean) => Promise<Produced>
  /** Enqueues in chunks for `millis`, never more than `ahead` jobs ahead of `handled`. */
  ahead: (millis: number, chunk: number, ahead: number) => Promise<Produced>
  handled: (count: number) => Promise<void>
  work: (concurrency: number) => Promise<void>
  /** Waits until the database says that nothing is left; returns the instant. */
  drained: () => Promise<number>
  usage: () => Promise<Usage>
  latencies: () => Promise<ReadonlyArray<number>>
  stop: () => Promise<void>
}

export interface Produced {
  readonly jobs: number
  readonly millis: number
}

export interface Usage {
  /** Resident memory in bytes. */
  readonly memory: number
  /** CPU time since the last question, in milliseconds. */
  readonly cpuMillis: number
}

/** What a worker tells unasked, at most a hundred times a second while it runs jobs. */
export interface Progress {
  readonly handled: number
  /** The instant of the first job's start. */
  readonly first: number
  /** The instant of this report. */
  readonly at: number
  /** Resident memory in bytes. */
  readonly memory: number
}

let adapter: Adapter | undefined
let handled = 0
let first = 0
let told = 0
let elsewhere = 0
let serial = 0
let cpu = process.cpuUsage()
let latencies: Array<number> = []

const system = (): Adapter => {
  if (adapter === undefined) throw new Error("open comes first")
  return adapter
}
const sleep = (millis: number) => new Promise((resolve) => setTimeout(resolve, millis))
const payload = (): Payload => ({ i: serial++, t: now() })
const payloads = (count: number): ReadonlyArray<Payload> => Array.from({ length: count }, payload)
/** From the first job on: the timer would be most of what an idle process does. */
const tell = () =>
  setInterval(() => {
    if (handled === told) return
    told = handled
    if (process.connected)
      process.send?.({ progress: { handled, first, at: now(), memory: process.memoryUsage.rss() } satisfies Progress })
  }, 10).unref()
const timed = async (produce: () => Promise<number>): Promise<Produced> => {
  const start = now()
  const jobs = await produce()
  return { jobs, millis: (now() - start) / 1000 }
}

const agent: Agent = {
  open: async (file, target) => {
    const { default: make } = (await import(`./peers/${file}`)) as { readonly default: MakeAdapter }
    adapter = make(target)
  },
  setup: () => system().setup(),
  singles: (producers, millis) =>
    timed(async () => {
      const { enqueueOne } = system()
      const until = now() + millis * 1000
      let jobs = 0
      const produce = async () => {
        while (now() < until) {
          await enqueueOne(payload())
          jobs++
        }
      }
      await Promise.all(Array.from({ length: producers }, produce))
      return jobs
    }),
  bulk: (total, chunk, lanes) =>
    timed(async () => {
      let left = total
      const produce = async () => {
        while (left > 0) {
          const count = Math.min(chunk, left)
          left -= count
          await system().enqueueMany(payloads(count))
        }
      }
      await Promise.all(Array.from({ length: lanes }, produce))
      return total
    }),
  paced: (perSecond, millis, chunks) =>
    timed(async () => {
      const start = now()
      const pending = new Set<Promise<unknown>>()
      let jobs = 0
      while (now() - start < millis * 1000) {
        const due = Math.floor(((now() - start) / 1e6) * perSecond) - jobs
        if (due > 0) {
          const sent = chunks ? system().enqueueMany(payloads(due)) : system().enqueueOne(payload())
          jobs += chunks ? due : 1
          pending.add(sent)
          void sent.finally(() => pending.delete(sent))
        }
        await sleep(chunks ? 10 : 1)
      }
      await Promise.all(pending)
      return jobs
    }),
  ahead: (millis, chunk, ahead) =>
    timed(async () => {
      const until = now() + millis * 1000
      let jobs = 0
      while (now() < until) {
        if (jobs - elsewhere > ahead) await sleep(1)
        else {
          await system().enqueueMany(payloads(chunk))
          jobs += chunk
        }
      }
      return jobs
    }),
  handled: async (count) => {
    elsewhere = count
  },
  work: async (concurrency) => {
    await system().startWorkers(({ t }) => {
      const at = now()
      if (handled++ === 0) {
        first = at
        tell()
      }
      if (latencies.length < 2_000_000) latencies.push(at - t)
    }, concurrency)
  },
  drained: async () => {
    while (!(await system().drained())) await sleep(2)
    return now()
  },
  usage: async () => {
    const used = process.cpuUsage(cpu)
    cpu = process.cpuUsage()
    return { memory: process.memoryUsage.rss(), cpuMillis: (used.user + used.system) / 1000 }
  },
  latencies: async () => {
    const taken = latencies
    latencies = []
    return taken
  },
  stop: async () => {
    await adapter?.stop()
  }
}

process.on("message", ({ args, id, verb }: { id: number; verb: keyof Agent; args: ReadonlyArray<never> }) => {
  const call = agent[verb] as (...args: ReadonlyArray<never>) => Promise<unknown>
  call(...args).then(
    (value) => process.send?.({ id, value }),
    (error: unknown) =>
      process.send?.({ id, error: error instanceof Error ? (error.stack ?? error.message) : String(error) })
  )
})
// The driver has gone while this process was telling it something.
process.on("error", () => process.exit(1))
process.on("disconnect", () => process.exit(1))
