/** Asking before what cannot be taken back. */
import * as Effect from "effect/Effect"
import { createInterface } from "node:readline"
import { Refused } from "./exit.ts"
import { Screen } from "./screen.ts"
import { line } from "./text.ts"

/**
 * Goes on where the person says yes, or has said so with `--yes`; where nobody can be asked, nothing is done.
 */
export const confirm = Effect.fnUntraced(function* (question: string, yes: boolean) {
  if (yes) return
  const screen = yield* Screen
  if (!screen.isInteractive) {
    return yield* new Refused({
      message: `${question} Nobody can be asked here, so nothing was done.`,
      hint: "Pass --yes to do it, or --dry-run to see what it would be."
    })
  }
  const answer = yield* ask(screen.paint(line(`${question} (y/N) `), "bold"))
  if (!/^y(es)?$/i.test(answer.trim())) return yield* new Refused({ message: "Nothing was done." })
})

/** Asks a question on standard error and reads one line; an end of the input is an empty answer. */
export const ask = (question: string): Effect.Effect<string> =>
  Effect.callback<string>((resume) => {
    const reader = createInterface({ input: process.stdin, output: process.stderr })
    let answered = false
    reader.on("line", (answer) => {
      answered = true
      reader.close()
      resume(Effect.succeed(answer))
    })
    // In raw mode Ctrl-C is a key, and no signal.
    reader.on("SIGINT", () => {
      answered = true
      reader.close()
      // The cursor still stands behind the question.
      process.stderr.write("\n")
      resume(Effect.interrupt)
    })
    reader.on("close", () => {
      if (!answered) resume(Effect.succeed(""))
    })
    reader.setPrompt(question)
    reader.prompt()
    return Effect.sync(() => {
      answered = true
      reader.close()
    })
  })
