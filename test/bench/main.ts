/**
 * The driver: `npm run bench -- [options]`.
 *
 *     --quick               small sizes, one round: to see whether it works, not what it gives
 *     --workload a,b        only these (see workloads.ts)
 *     --peer a,b            only these, and ours (see Adapter.ts)
 *     --rounds n            default 3, with --quick 1
 *     --url URL             a server in place of the embedded PostgreSQL; its user must be allowed to create databases
 *     --synchronous-commit off   for the embedded server; on is the default and what claims are made for
 *     --docs                writes docs/performance/ beside the ignored output folder
 *     --profile             takes a CPU profile of every worker and producer of ours into the output folder
 *
 * Every measurement has a fresh database and fresh processes; systems take turns within a round, so that a noisy
 * minute hits all of them. Figures are medians over the rounds.
 */
import { readFileSync } from "node:fs"
import { parseArgs } from "node:util"
import { type Peer, peers, type Target } from "./Adapter.ts"
import { type Process, start } from "./processes.ts"
import { type Sample, write } from "./report.ts"
import { postgres, redis } from "./servers.ts"
import { type Bench, type Workload, workloads } from "./workloads.ts"

const { values: options } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    workload: { type: "string" },
    peer: { type: "string" },
    rounds: { type: "string" },
    url: { type: "string" },
    "synchronous-commit": { type: "string", default: "on" },
    docs: { type: "boolean", default: false },
    profile: { type: "boolean", default: false }
  }
})

const output = new URL("output/", import.meta.url)

const chosen = <A extends { readonly name: string }>(
  all: ReadonlyArray<A>,
  names: string | undefined
): ReadonlyArray<A> => {
  if (names === undefined) return all
  const wanted = names.split(",")
  const unknown = wanted.find((name) => !all.some((each) => each.name === name))
  if (unknown !== undefined)
    throw new Error(`There is no ${unknown}; there are ${all.map(({ name }) => name).join(", ")}`)
  return all.filter(({ name }) => wanted.includes(name))
}

const versionOf = (name: string): string => {
  for (const folder of ["node_modules/", "../../node_modules/"]) {
    try {
      const file = new URL(`${folder}${name}/package.json`, import.meta.url)
      return (JSON.parse(readFileSync(file, "utf8")) as { readonly version: string }).version
    } catch {
      continue
    }
  }
  return "?"
}

const main = async () => {
  const rounds = Number(options.rounds ?? (options.quick ? 1 : 3))
  const pg = await postgres({ url: options.url, synchronousCommit: options["synchronous-commit"] !== "off" })
  const store = await redis()
  if (store === undefined)
    console.error("redis-server is not installed: BullMQ is left out (apt-get install redis-server)")
  const taking = chosen(peers, options.peer === undefined ? undefined : `shigoto,${options.peer}`).filter(
    (peer) => peer.store === "postgres" || store !== undefined
  )
  const work = chosen(workloads, options.workload)
  const versions = Object.fromEntries([
    ["Node", process.version],
    ["PostgreSQL", pg.version],
    ...(store === undefined ? [] : [["Redis", store.version]]),
    ...taking.map((peer) => [peer.title, peer.package === undefined ? "this tree" : versionOf(peer.package)])
  ]) as Readonly<Record<string, string>>
  for (const [name, version] of Object.entries(versions)) console.log(`${name} ${version}`)
  console.log(
    Object.entries(pg.settings)
      .map(([name, value]) => `${name}=${value}`)
      .join(" ")
  )

  const samples: Array<Sample> = []
  const measure = async (peer: Peer, workload: Workload, round: number) => {
    const name = `bench_${process.pid}_${peer.name}_${workload.name}`.replaceAll("-", "_").slice(0, 63)
    const url = await pg.create(name)
    await store?.flush()
    const target: Target = { url, redisPort: store?.port ?? 0, keep: workload.keep, connections: 10 }
    const processes: Array<Process> = []
    const spawn = (kind: string) => async () => {
      const flags =
        options.profile && peer.name === "shigoto"
          ? ["--cpu-prof", `--cpu-prof-dir=${new URL(`profiles/${workload.name}-${kind}`, output).pathname}`]
          : []
      const started = start(flags)
      processes.push(started)
      await started.open(peer.file, target)
      return started
    }
    try {
      await (await spawn("control")()).setup()
      const bench: Bench = {
        peer,
        postgres: pg,
        redis: store,
        quick: options.quick,
        url,
        spawn: spawn("producer"),
        worker: spawn("worker")
      }
      const deadline = new Promise<never>((_resolve, reject) => {
        setTimeout(() => reject(new Error("not done after ten minutes")), 600_000).unref()
      })
      const values = await Promise.race([workload.run(bench), deadline])
      samples.push({ peer: peer.name, workload: workload.name, round, values })
      console.log(
        `${round} ${workload.name} ${peer.name}: ${Object.entries(values)
          .map(([metric, value]) => `${metric} ${value < 100 ? value.toFixed(2) : Math.round(value)}`)
          .join(", ")}`
      )
    } catch (error) {
      console.error(`${round} ${workload.name} ${peer.name} failed:`, error)
    } finally {
      await Promise.all(processes.map((started) => started.end()))
      await pg.drop(name)
    }
  }
  const started = new Date()
  for (let round = 1; round <= rounds; round++) {
    for (const workload of work) {
      for (const peer of taking) {
        if (peer.only !== undefined && !peer.only.includes(workload.name)) continue
        // Where a system knows only one of the two, that is what it is compared with.
        await measure(peer, workload, round)
      }
    }
  }
  write({
    samples,
    peers: taking,
    workloads: work,
    about: { started, rounds, quick: options.quick, versions, settings: pg.settings },
    folders: [output, ...(options.docs ? [new URL("../../docs/performance/", import.meta.url)] : [])]
  })
  await store?.stop()
  await pg.stop()
}

await main()
