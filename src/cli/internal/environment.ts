/**
 * What `effect/cli` asks of a platform, on Node's own modules, and how the process begins and ends.
 *
 * No package beside the peers of the library is needed to run the command line.
 */
import * as Context from "effect/Context"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Path from "effect/Path"
import * as ChildProcessSpawner from "effect/process/ChildProcessSpawner"
import { makeRunMain } from "effect/Runtime"
import * as Sink from "effect/Sink"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import * as Terminal from "effect/Terminal"
import { exitCodes } from "./exit.ts"

/** What `effect/cli` asks for: commands read files and the keyboard by themselves, and start no processes. */
export const layer = Layer.mergeAll(
  FileSystem.layerNoop({}),
  Path.layer,
  Layer.succeed(
    Stdio.Stdio,
    Stdio.make({
      args: Effect.sync(() => process.argv.slice(2)),
      stdinIsTerminal: Effect.sync(() => process.stdin.isTTY),
      stdoutIsTerminal: Effect.sync(() => process.stdout.isTTY),
      stderrIsTerminal: Effect.sync(() => process.stderr.isTTY),
      stdout: () => Sink.drain,
      stderr: () => Sink.drain,
      stdin: Stream.empty
    })
  ),
  Layer.succeed(
    Terminal.Terminal,
    Terminal.make({
      columns: Effect.sync(() => process.stdout.columns),
      rows: Effect.sync(() => process.stdout.rows),
      size: Effect.die("nothing here follows the size"),
      readInput: Effect.die("nothing here reads keys"),
      readLine: Effect.die("nothing here reads lines"),
      display: (text) => Effect.sync(() => void process.stdout.write(text))
    })
  ),
  Layer.succeed(
    ChildProcessSpawner.ChildProcessSpawner,
    ChildProcessSpawner.make(() => Effect.die("nothing here starts processes"))
  )
)

/** Whether a signal is how a command is meant to end, as it may say itself. */
export const Ending = Context.Reference<{ bySignal: boolean }>("effect-shigoto/cli/Ending", {
  defaultValue: () => ({ bySignal: false })
})

/**
 * Runs the program as this process, to its exit code.
 *
 * The first SIGINT or SIGTERM interrupts, so that transactions and leases end by the book; a second ends at once, but
 * not one within a second: npm passes on what the terminal has sent already. A reader that goes away, as `head` does,
 * has what it wanted: the program ends quietly.
 */
export const runMain = (program: Effect.Effect<number>): void => {
  const ending = { bySignal: false }
  runFiber(ending)(Effect.provideService(program, Ending, ending))
}

// internal

const runFiber = (ending: { readonly bySignal: boolean }) =>
  makeRunMain(({ fiber }) => {
    let gone = false
    let signalled = Infinity
    let code: number = exitCodes.interrupted
    const onSignal = (signal: NodeJS.Signals) => {
      const now = performance.now()
      if (now - signalled > 1000) process.exit(exitCodes.interrupted)
      signalled = Math.min(signalled, now)
      if (signal === "SIGTERM") code = exitCodes.terminated
      fiber.interruptUnsafe(fiber.id)
    }
    const onError = (error: NodeJS.ErrnoException) => {
      if (error.code !== "EPIPE" || gone) return
      gone = true
      fiber.interruptUnsafe(fiber.id)
    }
    process.on("SIGINT", onSignal)
    process.on("SIGTERM", onSignal)
    process.stdout.on("error", onError)
    process.stderr.on("error", onError)
    fiber.addObserver((exit: Exit.Exit<unknown, unknown>) => {
      const ended = Exit.isSuccess(exit)
        ? Number(exit.value)
        : gone
          ? exitCodes.ok
          : Cause.hasInterruptsOnly(exit.cause)
            ? ending.bySignal
              ? exitCodes.ok
              : code
            : exitCodes.failure
      // What was written last may still be on its way to a pipe.
      if (gone) process.exit(ended)
      process.stdout.write("", () => process.stderr.write("", () => process.exit(ended)))
    })
  })
