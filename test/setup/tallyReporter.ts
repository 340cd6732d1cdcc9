import * as Fs from "node:fs"
import type { Reporter, TestModule } from "vitest/node"

/**
 * Appends what a run came to, one JSON line, to the file named by SHIGOTO_TEST_TALLY: `.ci/run` adds the lines of its
 * passes up. What fails outside of a test (a file that does not load, a hook, an unhandled rejection) counts as failed
 * too: a total of "0 failed" is never the closing line of a red run.
 */
export class TallyReporter implements Reporter {
  onTestRunEnd(modules: ReadonlyArray<TestModule>, unhandled: ReadonlyArray<unknown>): void {
    const file = process.env["SHIGOTO_TEST_TALLY"]
    if (file === undefined || file === "") return
    const tally = { passed: 0, failed: unhandled.length, skipped: 0 }
    for (const module of modules) {
      tally.failed += module.errors().length
      for (const suite of module.children.allSuites()) tally.failed += suite.errors().length
      // A test still pending when the run ended never ran: that is a skip that nobody asked for, so it fails the tally.
      for (const test of module.children.allTests()) {
        const { state } = test.result()
        tally[state === "pending" ? "failed" : state]++
      }
    }
    Fs.appendFileSync(file, `${JSON.stringify(tally)}\n`)
  }
}
