/**
 * The driver: `npm run bench -- [options]`.
 *
 *     --quick               small sizes, one round: to see whether it works, not what it gives
 *     --workload a,b        only these (see workloads.ts)
 *     --peer a,b            only these, and ours (see Adapter.ts)
 *     --rounds n            default 3, with --quick 1
 *     --curve a,b           in place of workloads: how cost grows with one thing (see curves.ts)
 *     --postgres DIR        server programs of DIR, such as /usr/lib/postgresql/15/bin, in place of the embedded ones
 *     --url URL             a server in place of the embedded one; its user must be allowed to create databases
 *     --synchronous-commit off   for servers started here; on is the default and what claims are made for
 *     --output DIR          where results go; test/bench/output, which git ignores, by default
 *     --merge a,b           in place of measuring: one report of the results.json of several runs
 *     --docs NAME           writes docs/performance/NAME.* too
 *     --sources             runs ours from its sources in place of what `npm run bench` has built
 *     --profile             takes a CPU profile of every worker and producer of ours into the output folder
 *
 * Every measurement has a fresh database and fresh processes; systems take turns within a round, so that a noisy
 * minute hits all of them. Figures are medians over the rounds.
 */
import { readFileSync } from "node:fs"
import { resolve } from "node:path"
import { pathToFileURL } from "node:url"
import { parseArgs } from "node:util"
import { type Peer, peers } from "./Adapter.ts"
import * as Curves from "./curves.ts"
import { type Machine, measure, quiet } from "./harness.ts"
import * as Pgbench from "./pgbench.ts"
import { shown } from "./plot.ts"
import { postgres } from "./postgres.ts"
import { redis } from "./redis.ts"
import { type About, machine as describeMachine, read, type Sample, write } from "./report.ts"
import { type Workload, workloads } from "./workloads.ts"

const { values: options } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    workload: { type: "string" },
    peer: { type: "string" },
    rounds: { type: "string" },
    curve: { type: "string" },
    url: { type: "string" },
    postgres: { type: "string" },
    "synchronous-commit": { type: "string", default: "on" },
    output: { type: "string" },
    merge: { type: "string" },
    docs: { type: "string" },
    sources: { type: "boolean", default: false },
    profile: { type: "boolean", default: false }
  }
})

// For the agents: the driver itself always runs from its sources.
if (options.sources) process.env["SHIGOTO_BENCH_SOURCES"] = "1"

const output =
  options.output === undefined
    ? new URL("output/", import.meta.url)
    : pathToFileURL(`${resolve(process.env.INIT_CWD ?? ".", options.output)}/`)
const docs = new URL("../../docs/performance/", import.meta.url)
const folders = [output, ...(options.docs === undefined ? [] : [docs])]

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

const takesPart = (peer: Peer, workload: Workload): boolean =>
  (peer.only === undefined ? workload.ours !== true || peer.name === "shigoto" : peer.only.includes(workload.name)) &&
  !(workload.long === true && peer.slow)

/** Servers and systems of this run, and what the report says of them. */
const prepare = async () => {
  const pg = await postgres({
    url: options.url,
    bin: options.postgres,
    synchronousCommit: options["synchronous-commit"] !== "off"
  })
  const works = options.curve === undefined ? chosen(workloads, options.workload) : []
  const wanted = chosen(peers, options.peer === undefined ? undefined : `shigoto,${options.peer}`).filter((peer) =>
    works.some((workload) => takesPart(peer, workload))
  )
  const store = wanted.some((peer) => peer.store === "redis") ? await redis() : undefined
  const pgbench = wanted.some((peer) => peer.file === undefined) ? Pgbench.find(options.postgres) : undefined
  const isThere = (peer: Peer) =>
    peer.file === undefined ? pgbench !== undefined : peer.store === "postgres" || store !== undefined
  for (const peer of wanted) if (!isThere(peer)) console.error(`${peer.title} is not installed and is left out`)
  const taking = wanted.filter(isThere)
  const versions: Record<string, string> = { Node: process.version, PostgreSQL: pg.version }
  if (store !== undefined) versions.Redis = store.version
  for (const { package: name, title } of taking) if (name !== undefined) versions[title] = versionOf(name)
  if (pgbench !== undefined) versions.pgbench = await Pgbench.versionOf(pgbench)
  for (const [name, version] of Object.entries(versions)) console.log(`${name} ${version}`)
  console.log(JSON.stringify(pg.settings))
  const profiles = options.profile ? new URL("profiles/", output) : undefined
  const machine: Machine = { postgres: pg, redis: store, quick: options.quick, profiles }
  const about: About = {
    started: new Date().toISOString(),
    quick: options.quick,
    machine: describeMachine(),
    versions,
    settings: pg.settings
  }
  const sample = (peer: Peer, workload: Workload) =>
    measure(machine, peer, { name: workload.name, keep: workload.keep, prompt: workload.prompt === true }, (bench) =>
      peer.file === undefined && pgbench !== undefined
        ? Pgbench.measure(pgbench, workload.name, bench)
        : workload.run(bench)
    )
  const stop = async () => {
    await store?.stop()
    await pg.stop()
  }
  return { about, machine, sample, stop, taking, works }
}

const run = async () => {
  const { about, machine, sample, stop, taking, works } = await prepare()
  if (options.curve !== undefined)
    for (const curve of chosen(Curves.curves, options.curve)) await Curves.draw(machine, curve, about, folders)
  else {
    const samples: Array<Sample> = []
    const save = () => write({ about, samples, peers: taking, workloads: works }, options.docs ?? "results", folders)
    const rounds = Number(options.rounds ?? (options.quick ? 1 : 3))
    const turns = Array.from({ length: rounds }, (_, i) =>
      works.flatMap((workload) =>
        taking.filter((peer) => takesPart(peer, workload)).map((peer) => ({ round: i + 1, workload, peer }))
      )
    )
    for (const { peer, round, workload } of turns.flat()) {
      const what = `${round} ${workload.name} ${peer.name}`
      const busy = await quiet()
      try {
        const values = await sample(peer, workload)
        samples.push({ peer: peer.name, workload: workload.name, round, busy, values })
        // A run that is ended early leaves what it has measured.
        save()
        const told = Object.entries(values).map(([metric, value]) => `${metric} ${shown(value)}`)
        console.log(`${what} (busy ${shown(busy)}): ${told.join(", ")}`)
      } catch (error) {
        console.error(`${what} failed:`, error)
      }
    }
    console.log(`\n${save()}`)
  }
  await stop()
}

// Servers and agents are children that end with this process, but not with a signal that ends it.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1))
if (options.merge === undefined) await run()
else console.log(write({ ...read(options.merge.split(",")), peers, workloads }, options.docs ?? "results", folders))
