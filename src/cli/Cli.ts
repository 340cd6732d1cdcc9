/**
 * The command line `shigoto`: looks at any Shigoto database and acts on it, without the application's code.
 *
 * Everything goes through the services that the application uses itself, so what is refused there is refused here. What
 * a job carries is redacted unless `--reveal`, and nothing in data can steer the terminal.
 */
import * as Argument from "effect/cli/Argument"
import * as CliOutput from "effect/cli/CliOutput"
import * as Command from "effect/cli/Command"
import { TerminalCapabilities } from "effect/cli/TerminalCapabilities"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as References from "effect/References"
import { existsSync, readFileSync } from "node:fs"
import * as Environment from "./internal/environment.ts"
import { exitCodes, tell } from "./internal/exit.ts"
import * as Load from "./internal/load.ts"
import * as Options from "./internal/options.ts"
import * as Screen from "./internal/screen.ts"
import { batches } from "./BatchesCommand.ts"
import { bench } from "./BenchCommand.ts"
import { config } from "./ConfigCommand.ts"
import { cron } from "./CronCommand.ts"
import { dashboard } from "./DashboardCommand.ts"
import { doctor } from "./DoctorCommand.ts"
import { encryption } from "./EncryptionCommand.ts"
import { enqueue } from "./EnqueueCommand.ts"
import { exportJobs } from "./ExportCommand.ts"
import { failures } from "./FailuresCommand.ts"
import { flows } from "./FlowsCommand.ts"
import { limits, nodes, workers } from "./FleetCommand.ts"
import { init } from "./InitCommand.ts"
import { jobs } from "./JobsCommand.ts"
import { migrate } from "./MigrateCommand.ts"
import { prune } from "./PruneCommand.ts"
import { queues } from "./QueuesCommand.ts"
import { status } from "./StatusCommand.ts"
import { work } from "./WorkCommand.ts"

const completions = Command.make(
  "completions",
  { shell: Argument.Literals("shell", Options.shells).pipe(Argument.withDescription("Which one reads the script")) },
  ({ shell }): Effect.Effect<void> =>
    Effect.sync(() => void process.stdout.write(Options.completionScript(command, shell)))
).pipe(
  Command.withDescription("Print the script by which a shell completes command lines"),
  Command.withExamples([{ command: "source <(shigoto completions bash)", description: "For this session" }])
)

/**
 * The command with all its subcommands.
 *
 * @category commands
 */
export const command = Command.make("shigoto").pipe(
  Command.withDescription("Background jobs in your PostgreSQL: look at them, and act on them."),
  Command.withSubcommands([
    {
      group: "Look",
      commands: [status, doctor, jobs, failures, queues, cron, batches, flows, nodes, workers, limits, exportJobs]
    },
    { group: "Run", commands: [work, enqueue, dashboard] },
    { group: "Set up", commands: [init, migrate, encryption, prune, bench, config, completions] }
  ]),
  Command.provide(() => Screen.layer),
  Command.provide(() => Load.layer),
  Command.withGlobalFlags(Options.all)
)

/**
 * Runs a command line and returns its exit code; what went wrong is said on standard error.
 *
 * @category running
 */
export const run = (args: ReadonlyArray<string>): Effect.Effect<number> =>
  Command.runWith(command, { version })(args).pipe(
    Effect.as<number>(exitCodes.ok),
    Effect.catch((error) => Effect.succeed(fail(tell(error)))),
    Effect.catchCause((cause) =>
      Cause.hasInterruptsOnly(cause)
        ? Effect.failCause(cause)
        : Effect.succeed(
            fail({
              code: exitCodes.failure,
              message: `This is a bug in shigoto: ${Cause.pretty(cause)}`,
              hint: undefined
            })
          )
    ),
    Effect.provide(Layer.mergeAll(Environment.layer, presenter, Options.builtIns, logs))
  )

/**
 * Runs the command line of this process, to its exit code.
 *
 * @category running
 */
export const main = (): void => Environment.runMain(run(process.argv.slice(2)))

// internal

/** From the package's own file, be this one source or compiled; a bundle has neither. */
const version = ((): string => {
  for (const folder of ["../../", "../../../"]) {
    const file = new URL(`${folder}package.json`, import.meta.url)
    if (!existsSync(file)) continue
    const { name, version } = JSON.parse(readFileSync(file, "utf8")) as Readonly<Record<string, unknown>> // JSON of npm's
    if (name === "effect-shigoto") return String(version)
  }
  return "unknown"
})()

/** Logs are talk, and what works is not talked about. */
const logs = Layer.merge(
  Layer.succeed(Logger.LogToStderr, true),
  Layer.succeed(References.MinimumLogLevel, "Warn" as const)
)

/** Help that was asked for is data; what is said about a mistake is not. */
const presenter = CliOutput.layerPresenter({
  present: Effect.fnUntraced(function* (event) {
    const { canColor } = yield* TerminalCapabilities
    const isRoot = event._tag !== "Version" && event.commandPath.length === 1
    const formatter = CliOutput.defaultFormatter({ colors: canColor, globalFlags: isRoot ? "full" : "summary" })
    const write = (stream: NodeJS.WriteStream, text: string) => Effect.sync(() => void stream.write(`${text}\n`))
    switch (event._tag) {
      case "Version":
        return yield* write(process.stdout, event.version)
      case "Help":
        return yield* event.reason === "Requested"
          ? write(process.stdout, formatter.formatHelpDoc(event.helpDoc))
          : write(process.stderr, formatter.formatHelpDoc(event.helpDoc))
      case "InvalidInvocation": {
        const problems = event.errors.flatMap((error) => Screen.talk(`error: ${suggested(error.message)}`))
        return yield* write(process.stderr, [...problems, `See: ${event.commandPath.join(" ")} --help`].join("\n"))
      }
    }
  })
})

/** The question of what was meant in the sentence that it belongs to, as it is asked below it otherwise. */
const suggested = (message: string): string =>
  message.replace(
    /\s*\n\s*Did you mean this\?\s*([\s\S]+)$/,
    (_, words: string) =>
      `. Did you mean ${words
        .trim()
        .split(/\s*\n\s*/)
        .join(" or ")}?`
  )

const fail = ({ code, hint, message }: ReturnType<typeof tell>): number => {
  if (message !== undefined) process.stderr.write(`${Screen.talk(`error: ${message}`).join("\n  ")}\n`)
  if (hint !== undefined) process.stderr.write(`${Screen.talk(hint).join("\n")}\n`)
  return code
}
