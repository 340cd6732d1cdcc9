/**
 * `npm run chaos`: a fleet of real processes on a real PostgreSQL, faults drawn from a seed, and a checker.
 *
 * Exits 0 only if no invariant has an offender. What happened is kept where one has.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, References, Runtime } from "effect"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { isInstalled } from "../setup/pooler.ts"
import { type Options, parse } from "./options.ts"
import { type Result, runSeed } from "./run.ts"

class InvariantsBroken extends Error {
  override readonly [Runtime.errorReported] = false
}

const report = (result: Result): string => {
  const lines = result.findings.map(
    ({ cases, invariant, offenders }) =>
      `  ${invariant.id.padEnd(5)}${String(cases).padStart(8)}${String(offenders.length).padStart(11)}  ${invariant.says}`
  )
  const numbers = result.figures.map(({ count, what }) => `${what} ${count}`).join(", ")
  return `  ${numbers}\n\n       cases  offenders\n${lines.join("\n")}`
}

const one = Effect.fnUntraced(function* (options: Options, seed: number) {
  const directory = Fs.mkdtempSync(Path.join(Os.tmpdir(), `shigoto-chaos-${seed}-`))
  yield* Console.log(
    `\nseed ${seed}: ${options.workers} workers, ${options.jobs === undefined ? `${options.seconds} s` : `${options.jobs} jobs`}, ${options.rate} jobs/s, a fault each ${options.pace} ms`
  )
  const result = yield* Effect.scoped(runSeed(options, seed, directory))
  yield* Console.log(report(result))
  if (!result.broken) {
    Fs.rmSync(directory, { recursive: true, force: true })
    return true
  }
  for (const { invariant, offenders } of result.findings) {
    for (const offender of offenders.slice(0, 3)) {
      yield* Console.log(`  ${invariant.id}: ${JSON.stringify(offender).slice(0, 400)}`)
    }
  }
  yield* Console.log(`  the event log and the processes' output: ${directory}`)
  return false
})

const main = Effect.gen(function* () {
  const given = parse(process.argv.slice(2))
  if (typeof given === "string") return yield* Console.log(given)
  if (given.faults.includes("pooler") && !isInstalled) {
    if (process.env["CI"] !== undefined) return yield* Effect.die(new Error("pgbouncer is not installed"))
    yield* Console.log("PgBouncer is not installed (apt-get install pgbouncer): nobody works through it")
  }
  const options = isInstalled ? given : { ...given, faults: given.faults.filter((kind) => kind !== "pooler") }
  const outcomes = yield* Effect.forEach(options.seeds, (seed) => one(options, seed))
  const failed = outcomes.filter((good) => !good).length
  yield* Console.log(`\nchaos: ${outcomes.length - failed} of ${outcomes.length} seeds without an offender`)
  if (failed > 0) return yield* Effect.fail(new InvariantsBroken("An invariant does not hold"))
})

NodeRuntime.runMain(Effect.provideService(main, References.MinimumLogLevel, "Warn"))
