import * as Fs from "node:fs"
import type { Reporter, TestModule } from "vitest/node"

/**
 * Appends what a run came to, one JSON line, to the file named by SHIGOTO_TEST_TALLY: `.ci/run` adds the lines of its
 * passes up, and ends with what failed, by name and by the first lines of its message. What fails outside of a test (a
 * file that does not load, a hook, an unhandled rejection) counts as failed too: a total of "0 failed" is never the
 * closing line of a red run.
 */
export class TallyReporter implements Reporter {
  onTestRunEnd(modules: ReadonlyArray<TestModule>, unhandled: ReadonlyArray<unknown>): void {
    const file = process.env["SHIGOTO_TEST_TALLY"]
    if (file === undefined || file === "") return
    const tally = { passed: 0, skipped: 0, failures: unhandled.map((error) => `outside of a test: ${opening(error)}`) }
    const fail = (name: string, errors: ReadonlyArray<unknown>): void => {
      for (const error of errors) tally.failures.push(`${name}: ${opening(error)}`)
    }
    for (const module of modules) {
      const { relativeModuleId } = module
      fail(relativeModuleId, module.errors())
      for (const suite of module.children.allSuites()) fail(`${relativeModuleId} > ${suite.fullName}`, suite.errors())
      for (const test of module.children.allTests()) {
        const { errors, state } = test.result()
        const name = `${relativeModuleId} > ${test.fullName}`
        if (state === "failed") tally.failures.push(`${name}: ${opening(errors[0])}`)
        // It never ran: that is a skip that nobody asked for.
        else if (state === "pending") tally.failures.push(`${name}: still pending when the run ended`)
        else tally[state]++
      }
    }
    Fs.appendFileSync(file, `${JSON.stringify(tally)}\n`)
  }
}

/** The first lines of a failure's message: enough to know it again, short enough for a list. */
const opening = (error: unknown): string =>
  typeof error === "object" && error !== null && "message" in error
    ? String(error.message).split("\n").slice(0, 6).join("\n    ").slice(0, 600)
    : String(error)
