/**
 * `shigoto jobs`: find jobs, look at one, run again, cancel, delete.
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { JobId } from "../JobRow.ts"
import { Jobs } from "../Jobs.ts"
import { change } from "./internal/change.ts"
import { cancelVerb, deleteVerb, retryVerb } from "./internal/verbs.ts"
import { connected } from "./internal/connection.ts"
import { jobLines, jobTable } from "./internal/jobView.ts"
import { dryRun, int, yes } from "./internal/options.ts"
import { Screen } from "./internal/screen.ts"
import { tail } from "./TailCommand.ts"
import { filterOf, idArgument, jobsArgument, select } from "./internal/selection.ts"
import * as shapes from "./internal/shapes.ts"
import { line } from "./internal/text.ts"

const list = Command.make(
  "list",
  {
    jobs: jobsArgument,
    limit: int("limit", 1, 999).pipe(
      Flag.withAlias("n"),
      Flag.withDescription("How many jobs at most, up to 999"),
      Flag.withDefault(50)
    ),
    order: Flag.Literals("order", ["newest", "due", "finished"]).pipe(
      Flag.withDescription("By falling id, by when live jobs are due, or by when they ended, latest first"),
      Flag.withDefault("newest")
    ),
    after: Flag.Int("after").pipe(
      Flag.withMetavar("<id>"),
      Flag.withDescription("Go on after this job, the last of the page before"),
      Flag.optional
    ),
    count: Flag.Boolean("count").pipe(Flag.withDescription("Only count, up to 10,000"), Flag.withDefault(false)),
    quiet: Flag.Boolean("quiet").pipe(
      Flag.withAlias("q"),
      Flag.withDescription("Only the ids, one a line"),
      Flag.withDefault(false)
    )
  },
  Effect.fnUntraced(function* ({ after, count, jobs: operands, limit, order, quiet }) {
    const screen = yield* Screen
    const filter = filterOf(yield* select(operands))
    yield* connected(
      Effect.gen(function* () {
        const jobs = yield* Jobs
        if (count) {
          const found = yield* jobs.count(filter)
          return yield* screen.show(found, screen.print(`${found.count}${found.isExact ? "" : "+"}`))
        }
        const last = Option.isSome(after) ? yield* jobs.get(after.value as JobId) : undefined // an id, under its brand
        const page = yield* jobs.list({ ...filter, order, limit: limit + 1, after: last })
        const shown = page.slice(0, limit)
        const next = page.length > limit ? (shown.at(-1)?.id ?? null) : null
        if (quiet && screen.format === "text") return yield* screen.print(...shown.map((job) => String(job.id)))
        yield* screen.showList(
          { name: "jobs", items: shown.map(shapes.jobSummary), more: { next } },
          Effect.gen(function* () {
            if (shown.length === 0) return yield* screen.say("No job matches.")
            yield* jobTable(shown)
            if (next !== null) yield* screen.say(`There are more: --after ${next}`, "dim")
          })
        )
      })
    )
  })
).pipe(
  Command.withDescription("List jobs, with the one filter grammar of the library"),
  Command.withExamples([
    { command: "shigoto jobs list state:discarded finished:<1h", description: "What was given up in the last hour" },
    { command: "shigoto jobs list worker:send-email args.to:ada@example.com", description: "By what is in the args" },
    { command: "shigoto jobs list state:executing --ndjson | jq .id", description: "For scripts" }
  ])
)

const show = Command.make(
  "show",
  { id: idArgument },
  Effect.fnUntraced(function* ({ id }) {
    const screen = yield* Screen
    yield* connected(
      Effect.gen(function* () {
        const jobs = yield* Jobs
        const explanation = yield* jobs.explain(id)
        const { job } = explanation
        const carried = screen.redact(job)
        const now = yield* DateTime.now
        yield* screen.show(
          {
            ...shapes.jobDetail(job, carried),
            explanation: {
              status: explanation.status,
              position: explanation.position ?? null,
              reasons: explanation.reasons,
              message: explanation.message
            }
          },
          screen.print(...jobLines(screen, job, carried, explanation, now.epochMilliseconds))
        )
      })
    )
  })
).pipe(Command.withDescription("Show one job: what it carries, its attempts, and why it is not running"))

const logs = Command.make(
  "logs",
  {
    id: idArgument,
    limit: int("limit", 1, 10_000).pipe(
      Flag.withAlias("n"),
      Flag.withDescription("How many lines at most, up to 10,000"),
      Flag.withDefault(1000)
    )
  },
  Effect.fnUntraced(function* ({ id, limit }) {
    const screen = yield* Screen
    yield* connected(
      Effect.gen(function* () {
        const jobs = yield* Jobs
        const hide = screen.redactText(yield* jobs.get(id))
        const lines = (yield* jobs.logs(id, { limit })).map((one) => shapes.logLine(one, hide(one.message, one.quotes)))
        yield* screen.showList(
          { name: "logs", items: lines },
          lines.length === 0
            ? screen.say("Nothing is kept of what this job logged: its worker needs captureLogs.")
            : screen.print(
                ...lines.map(
                  ({ at, attempt, level, message }) =>
                    `${screen.paint(at ?? "", "dim")} ${attempt} ${screen.paint(level.toUpperCase().padEnd(5), level === "Error" || level === "Fatal" ? "red" : level === "Warn" ? "yellow" : undefined)} ${line(message)}`
                )
              )
        )
      })
    )
  })
).pipe(Command.withDescription("Show what the handlers of a job logged, where that is kept"))

const all = Flag.Boolean("all").pipe(
  Flag.withDescription("Every job that it can be done to; only without a filter"),
  Flag.withDefault(false)
)

const reason = Flag.String("reason").pipe(Flag.withDescription("Kept with the job"), Flag.optional)

const retry = Command.make("retry", { jobs: jobsArgument, all, yes, dryRun }, ({ jobs, ...given }) =>
  Effect.flatMap(select(jobs), (selection) => change(retryVerb, selection, given))
).pipe(
  Command.withDescription("Run jobs again: by id, or all that match; without a state, retryable and discarded ones"),
  Command.withExamples([
    { command: "shigoto jobs retry 12 13", description: "These two" },
    { command: "shigoto jobs retry worker:charge state:discarded", description: "All that match, after a question" }
  ])
)

const cancel = Command.make("cancel", { jobs: jobsArgument, all, reason, yes, dryRun }, ({ jobs, reason, ...given }) =>
  Effect.flatMap(select(jobs), (selection) => change(cancelVerb(Option.getOrUndefined(reason)), selection, given))
).pipe(Command.withDescription("Cancel jobs: by id, or all that match; a running one is interrupted wherever it runs"))

const remove = Command.make("delete", { jobs: jobsArgument, all, yes, dryRun }, ({ jobs, ...given }) =>
  Effect.flatMap(select(jobs), (selection) => change(deleteVerb, selection, given))
).pipe(Command.withDescription("Delete jobs that do not run: by id, or all that match; always asks"))

/**
 * The command.
 *
 * @category commands
 */
export const jobs = Command.make("jobs").pipe(
  Command.withDescription("List, show, follow, retry, cancel and delete jobs"),
  Command.withSubcommands([list, show, logs, tail, retry, cancel, remove])
)
