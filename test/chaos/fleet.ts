/** The processes of a run: each behind a proxy of its own, started again whenever it ends. */
import { Deferred, Effect, FiberSet } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { makeProxy, type Proxy } from "../setup/proxy.ts"
import { makeRandom, type Random } from "./random.ts"
import type { ProcessSettings } from "./settings.ts"
import { Truth } from "./truth.ts"

/** A place in the fleet; one process after the other fills it. */
export interface Member {
  readonly role: "worker" | "producer"
  readonly proxy: Proxy
  /** Whether its process is to live through all of it: a leak shows in one that does. */
  readonly isSpared: boolean
  /** The process that is there now. */
  readonly current: () => Running
  /** Which deploy the next process is of. */
  version: 1 | 2
}

export interface Running {
  readonly name: string
  readonly child: ChildProcess
  readonly ready: Deferred.Deferred<void>
  readonly exited: Deferred.Deferred<void>
}

export interface Fleet {
  readonly workers: ReadonlyArray<Member>
  readonly producers: ReadonlyArray<Member>
  readonly kill: (member: Member) => Effect.Effect<void>
  /** Stops the process of a member for good manners' sake and waits until it has ended. */
  readonly term: (member: Member) => Effect.Effect<void>
  /** From now on nothing that ends is started again. */
  readonly retire: (role: Member["role"]) => Effect.Effect<void>
}

export interface FleetOptions {
  readonly seed: number
  readonly url: string
  /** The same database through a pooler, for the second worker and the second producer. */
  readonly pooledUrl: string | undefined
  readonly truthUrl: string
  readonly directory: string
  readonly workers: number
  readonly producers: number
  /** Jobs a second of all producers together. */
  readonly rate: number
  readonly skew: boolean
  readonly poison: boolean
  /** Rewrites what processes send to the database. */
  readonly rewrite?: ((chunk: Buffer) => Buffer) | undefined
}

export const makeFleet = Effect.fnUntraced(function* (options: FleetOptions) {
  const truth = yield* Truth
  const run = yield* FiberSet.makeRuntime<never>()
  const retired = new Set<Member["role"]>()
  const write = (name: string, event: string, detail: unknown = {}) =>
    truth.write("fleet", { process: name, event, detail: JSON.stringify(detail) })

  const makeMember = Effect.fnUntraced(function* (role: Member["role"], index: number) {
    const url = index === 1 ? (options.pooledUrl ?? options.url) : options.url
    const proxy = yield* makeProxy(url, options.rewrite)
    const random = makeRandom(options.seed, `${role}/${index}`)
    let generation = 0
    let quickDeaths = 0
    let current: Running
    const isSpared = role === "worker" && index > 0 && index === options.workers - 1
    const member: Member = { role, proxy, isSpared, current: () => current, version: index === 0 ? 1 : 2 }
    const start = (): void => {
      const name = `${role}-${index + 1}-${++generation}`
      const child = launch(options, role, {
        name,
        url: proxy.url,
        truthUrl: options.truthUrl,
        seed: options.seed,
        directory: options.directory,
        skew: options.skew ? skew(random) : 0,
        version: member.version,
        rate: options.rate / options.producers,
        poison: options.poison && !isSpared
      })
      const running: Running = {
        name,
        child,
        ready: Deferred.makeUnsafe<void>(),
        exited: Deferred.makeUnsafe<void>()
      }
      current = running
      run(write(name, "spawn", { version: member.version, pid: child.pid }))
      child.stdout?.on("data", (chunk: Buffer) => {
        if (!/^ready$/m.test(chunk.toString("utf8"))) return
        quickDeaths = 0
        run(Effect.andThen(write(name, "ready"), Deferred.succeed(running.ready, undefined)))
      })
      child.once("exit", (code, signal) => {
        quickDeaths++
        run(
          Effect.gen(function* () {
            yield* write(name, "exit", { code, signal })
            yield* Deferred.succeed(running.exited, undefined)
            if (retired.has(role)) return
            // A start-up fails while the database is away; a supervisor waits a little longer each time.
            yield* Effect.sleep(Math.min(100 * 2 ** quickDeaths, 2000))
            if (!retired.has(role)) start()
          })
        )
      })
    }
    start()
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        retired.add(role)
        current.child.kill("SIGKILL")
      })
    )
    return member
  })

  const workers = yield* Effect.forEach(Array.from({ length: options.workers }).keys(), (i) => makeMember("worker", i))
  const producers = yield* Effect.forEach(Array.from({ length: options.producers }).keys(), (i) =>
    makeMember("producer", i)
  )
  const term = Effect.fnUntraced(function* (member: Member) {
    const { child, exited, name } = member.current()
    if (isDead(child)) return
    yield* write(name, "term")
    child.kill("SIGTERM")
    const ended = yield* Effect.timeoutOption(Deferred.await(exited), "20 seconds")
    if (ended._tag === "Some") return
    yield* write(name, "deaf")
    child.kill("SIGKILL")
    yield* Deferred.await(exited)
  })
  const fleet: Fleet = {
    workers,
    producers,
    kill: Effect.fnUntraced(function* (member) {
      const { child, exited, name } = member.current()
      if (isDead(child)) return
      yield* write(name, "kill")
      child.kill("SIGKILL")
      yield* Deferred.await(exited)
    }),
    term,
    retire: (role) =>
      Effect.suspend(() => {
        retired.add(role)
        return Effect.forEach(role === "worker" ? workers : producers, term, {
          concurrency: "unbounded",
          discard: true
        })
      })
  }
  return fleet
})

// internal

const isDead = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null

/** Half of all clocks are right; the others are wrong by up to an hour, in either direction. */
const skew = (random: Random): number => (random.chance(0.5) ? 0 : random.int(-3_600_000, 3_600_000))

const launch = (options: FleetOptions, role: Member["role"], settings: ProcessSettings): ChildProcess => {
  const log = Fs.openSync(Path.join(options.directory, `${settings.name}.log`), "a")
  const child = spawn(
    process.execPath,
    ["--conditions=source", "--expose-gc", fileURLToPath(new URL(`${role}.ts`, import.meta.url))],
    {
      env: {
        ...process.env,
        CHAOS: JSON.stringify(settings),
        HOSTNAME: settings.name,
        // What one process has compiled, the next need not.
        NODE_COMPILE_CACHE: Path.join(options.directory, "compiled")
      },
      // The other end of standard input is the runner: no process outlives it.
      stdio: ["pipe", "pipe", log]
    }
  )
  Fs.closeSync(log)
  child.stdin?.on("error", () => undefined)
  child.stdout?.on("data", (chunk: Buffer) =>
    Fs.appendFileSync(Path.join(options.directory, `${settings.name}.log`), chunk)
  )
  return child
}
