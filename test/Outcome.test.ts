import { assert, describe, it } from "@effect/vitest"
import type { AttemptFailure } from "../src/JobRow.ts"
import { decide, type Ending, isTerminal, type Outcome } from "../src/Outcome.ts"

const failure: AttemptFailure = { attempt: 2, at: "2026-01-01T00:00:00.000Z", node: "n", tag: "Boom", message: "boom" }

interface Row {
  readonly when: string
  readonly ending: Ending
  readonly attempt?: number
  readonly cancel?: { readonly reason?: string }
  readonly outcome: Outcome
  readonly terminal: boolean
}

const succeeded: Ending = { _tag: "Succeeded", result: "1" }
const failed: Ending = { _tag: "Failed", failure, delayMillis: 500 }
const ended: Ending = { _tag: "Failed", failure, delayMillis: undefined }
const snoozed: Ending = { _tag: "Snoozed", delayMillis: 9 }
const cancelledBy = (of?: AttemptFailure): Outcome => ({ _tag: "Cancelled", reason: "stop", failure: of })

/** Every line of the table in src/Outcome.ts; attempt 2 of 3 unless said otherwise. */
const rows: ReadonlyArray<Row> = [
  { when: "a success", ending: succeeded, outcome: { _tag: "Completed", result: "1" }, terminal: true },
  {
    when: "a success after a cancel was asked for",
    ending: succeeded,
    cancel: { reason: "stop" },
    outcome: { _tag: "Completed", result: "1" },
    terminal: true
  },
  {
    when: "a success on the last attempt",
    ending: { _tag: "Succeeded", result: undefined },
    attempt: 3,
    outcome: { _tag: "Completed", result: undefined },
    terminal: true
  },
  {
    when: "a failure with attempts left",
    ending: failed,
    outcome: { _tag: "Retryable", failure, delayMillis: 500 },
    terminal: false
  },
  {
    when: "a failure that may be tried again at once",
    ending: { ...failed, delayMillis: 0 },
    outcome: { _tag: "Retryable", failure, delayMillis: 0 },
    terminal: false
  },
  {
    when: "a failure on the last attempt",
    ending: failed,
    attempt: 3,
    outcome: { _tag: "Discarded", failure },
    terminal: true
  },
  {
    when: "a failure beyond the last attempt",
    ending: failed,
    attempt: 4,
    outcome: { _tag: "Discarded", failure },
    terminal: true
  },
  {
    when: "a failure whose schedule has ended",
    ending: ended,
    outcome: { _tag: "Discarded", failure },
    terminal: true
  },
  {
    when: "a failure after a cancel was asked for",
    ending: failed,
    cancel: { reason: "stop" },
    outcome: cancelledBy(failure),
    terminal: true
  },
  {
    when: "a snooze, also on the last attempt",
    ending: snoozed,
    attempt: 3,
    outcome: { _tag: "Snoozed", delayMillis: 9 },
    terminal: false
  },
  {
    when: "a snooze after a cancel was asked for",
    ending: snoozed,
    cancel: { reason: "stop" },
    outcome: cancelledBy(),
    terminal: true
  },
  {
    when: "Job.discard with attempts left",
    ending: { _tag: "DiscardAsked", failure },
    outcome: { _tag: "Discarded", failure },
    terminal: true
  },
  {
    when: "Job.cancel",
    ending: { _tag: "CancelAsked", reason: "mine" },
    cancel: { reason: "stop" },
    outcome: { _tag: "Cancelled", reason: "mine", failure: undefined },
    terminal: true
  },
  {
    when: "an interruption by the node, also on the last attempt",
    ending: { _tag: "Interrupted" },
    attempt: 3,
    outcome: { _tag: "Released" },
    terminal: false
  },
  {
    when: "an interruption after a cancel without a reason",
    ending: { _tag: "Interrupted" },
    cancel: {},
    outcome: { _tag: "Cancelled", reason: undefined, failure: undefined },
    terminal: true
  }
]

describe("Outcome", () => {
  it.each(rows)("decides for $when", ({ attempt = 2, cancel, ending, outcome, terminal }) => {
    const decided = decide(ending, { attempt, maxAttempts: 3, cancel })
    assert.deepStrictEqual(decided, outcome)
    assert.strictEqual(isTerminal(decided), terminal)
  })
})
