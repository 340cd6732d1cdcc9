/** How jobs look to people. */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import type { Explanation } from "../../Explain.ts"
import type { JobRow, JobState } from "../../JobRow.ts"
import type { Carried } from "../../Redaction.ts"
import { type Paint, Screen } from "./screen.ts"
import { instant } from "./shapes.ts"
import { json, line, lines, many, relative } from "./text.ts"

/** The colour of a state. */
export const colorOf = (state: JobState): Paint | undefined => colors[state]

/** Writes jobs as a table: moments relative in a terminal, exact in a pipe. */
export const jobTable = Effect.fnUntraced(function* (jobs: ReadonlyArray<JobRow>) {
  const screen = yield* Screen
  const now = (yield* DateTime.now).epochMilliseconds
  const moment = (at: DateTime.Utc | undefined): string =>
    at === undefined ? "–" : screen.isTerminal ? relative(at.epochMilliseconds, now) : DateTime.formatIso(at)
  yield* screen.table(
    [
      { title: "ID", align: "right" },
      { title: "STATE" },
      { title: "WORKER", shrinkTo: 10 },
      { title: "QUEUE", shrinkTo: 8, optional: 2 },
      { title: "ATTEMPT", align: "right" },
      { title: "PRIORITY", align: "right", optional: 5 },
      { title: "DUE", align: "right", optional: 3 },
      { title: "INSERTED", align: "right", optional: 4 },
      { title: "FINISHED", align: "right", optional: 1 },
      { title: "TAGS", shrinkTo: 6, optional: 6 }
    ],
    jobs.map((job) => [
      String(job.id),
      [job.state, colorOf(job.state)],
      job.worker,
      job.queue,
      `${job.attempt}/${job.maxAttempts}`,
      String(job.priority),
      moment(job.runAt),
      moment(job.insertedAt),
      moment(job.finishedAt),
      job.tags.join(",")
    ])
  )
})

/** One job in full. */
export const jobLines = (
  screen: Screen["Service"],
  job: JobRow,
  carried: Carried,
  explanation: Explanation,
  now: number
): ReadonlyArray<string> => {
  const { paint } = screen
  const field = (name: string, text: string | undefined): ReadonlyArray<string> =>
    text === undefined ? [] : [`${paint(name.padEnd(12), "dim")}${line(text)}`]
  const moment = (name: string, at: DateTime.Utc | undefined): ReadonlyArray<string> =>
    at === undefined ? [] : field(name, `${instant(at)}  ${relative(at.epochMilliseconds, now)}`)
  const block = (name: string, value: unknown): ReadonlyArray<string> =>
    value === undefined
      ? []
      : [
          paint(name, "dim"),
          ...json(value, 2)
            .split("\n")
            .map((one) => `  ${one}`)
        ]
  return [
    `${paint(`#${job.id}`, "bold")} ${line(job.worker)} ${paint(job.state, colorOf(job.state))}`,
    ...field("why", explanation.message),
    ...field("queue", job.queue),
    ...field("priority", String(job.priority)),
    ...field(
      "attempt",
      `${job.attempt} of ${job.maxAttempts}${job.snoozes === 0 ? "" : `, ${many(job.snoozes, "snooze")}`}`
    ),
    ...field("progress", job.progress === undefined ? undefined : `${job.progress} %`),
    ...field("tags", job.tags.length === 0 ? undefined : job.tags.join(", ")),
    ...field("partition", job.partitionKey),
    ...field(
      "batch",
      job.batch === undefined ? undefined : `${job.batch}${job.step === undefined ? "" : ` (${job.step})`}`
    ),
    ...field("trace", job.trace),
    ...moment("inserted", job.insertedAt),
    ...moment("due", job.runAt),
    ...moment("start before", job.startBefore),
    ...moment("claimed", job.claimedAt),
    ...moment("finished", job.finishedAt),
    ...moment("to cancel", job.cancelRequestedAt),
    ...field("reason", carried.cancelReason),
    ...block("args", carried.args ?? null),
    ...(Object.keys(carried.meta).length === 0 ? [] : block("meta", carried.meta)),
    ...block("result", carried.result),
    ...carried.errors.flatMap((error) => [
      paint(`attempt ${error.attempt} failed at ${line(error.at)} on ${line(error.node)}`, "red"),
      ...lines(`${error.tag}: ${error.message}`).map((one) => `  ${one}`),
      ...(error.cause === undefined ? [] : lines(error.cause).map((one) => paint(`    ${one}`, "dim")))
    ])
  ]
}

// internal

const colors: Readonly<Record<JobState, Paint | undefined>> = {
  scheduled: "dim",
  blocked: "dim",
  available: "cyan",
  executing: "blue",
  retryable: "yellow",
  completed: "green",
  discarded: "red",
  cancelled: "dim"
}
