/** One system on a fresh database, in processes of its own: what each measurement starts with and leaves nothing of. */
import { cpus } from "node:os"
import type { Peer, Target } from "./Adapter.ts"
import type { Postgres } from "./postgres.ts"
import { type Process, start } from "./processes.ts"
import type { Redis } from "./redis.ts"

/** What a workload works with. */
export interface Bench {
  readonly peer: Peer
  readonly postgres: Postgres
  readonly redis: Redis | undefined
  readonly quick: boolean
  /** The URL of this measurement's database. */
  readonly url: string
  /** Opens the system in a process of its own; the run ends it. */
  readonly spawn: () => Promise<Process>
  /** The same for a process that runs jobs, which a profile may be taken of. */
  readonly worker: () => Promise<Process>
}

/** What is the same for all measurements of a run. */
export interface Machine {
  readonly postgres: Postgres
  readonly redis: Redis | undefined
  readonly quick: boolean
  /** Where CPU profiles of our processes go; undefined for none. */
  readonly profiles: URL | undefined
}

/** Measures one system once; fails after ten minutes. */
export const measure = async <A>(
  machine: Machine,
  peer: Peer,
  options: Partial<Target> & { readonly name: string },
  run: (bench: Bench) => Promise<A>
): Promise<A> => {
  const { postgres, profiles, quick, redis } = machine
  const { name, ...rest } = options
  const database = `bench_${process.pid}_${peer.name}_${name}`.replaceAll("-", "_").slice(0, 63)
  const url = await postgres.create(database)
  await redis?.flush()
  const target: Target = {
    url,
    redisPort: redis?.port ?? 0,
    keep: false,
    connections: 10,
    prompt: false,
    variant: peer.variant,
    queues: 1,
    keys: 1,
    nodes: 1,
    ...rest
  }
  const processes: Array<Process> = []
  const spawn = (kind: string) => async () => {
    const flags =
      profiles !== undefined && peer.name === "shigoto"
        ? ["--cpu-prof", `--cpu-prof-dir=${new URL(`${name}-${kind}`, profiles).pathname}`]
        : []
    const started = start(flags)
    processes.push(started)
    if (peer.file !== undefined) await started.open(peer.file, target)
    return started
  }
  try {
    if (peer.file !== undefined) {
      const control = await spawn("control")()
      await control.setup()
      // What a system does to itself now and then would be counted as if a worker did it.
      await control.end()
    }
    const deadline = new Promise<never>((_resolve, reject) => {
      setTimeout(() => reject(new Error("not done after ten minutes")), 600_000).unref()
    })
    const bench: Bench = { peer, postgres, redis, quick, url, spawn: spawn("producer"), worker: spawn("worker") }
    return await Promise.race([run(bench), deadline])
  } finally {
    await Promise.all(processes.map((started) => started.end()))
    await postgres.drop(database)
  }
}

/** Waits until others leave the machine alone, two seconds at most, and tells how busy they still keep it, from 0 to 1. */
export const quiet = async (): Promise<number> => {
  for (let tries = 4; ; tries--) {
    const before = worked()
    await new Promise((resolve) => setTimeout(resolve, 500))
    const after = worked()
    const busy = (after.busy - before.busy) / (after.all - before.all)
    if (busy < 0.15 || tries === 0) return busy
  }
}

// internal

const worked = () =>
  cpus().reduce(
    (sum, { times: { idle, irq, nice, sys, user } }) => {
      const busy = sum.busy + user + nice + sys + irq
      return { busy, all: sum.all - sum.busy + busy + idle }
    },
    { busy: 0, all: 0 }
  )
