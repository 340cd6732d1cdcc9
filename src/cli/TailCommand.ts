/**
 * `shigoto jobs tail`: what becomes of jobs, as it happens.
 *
 * Jobs that match are looked at again and again, and at once when a notification tells that there is something new. So
 * a job that passes through two states between two looks is seen in the last of them.
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as PubSub from "effect/PubSub"
import type { Filter } from "../Filter.ts"
import type { JobId, JobRow, JobState } from "../JobRow.ts"
import { Jobs } from "../Jobs.ts"
import * as Notifier from "../Notifier.ts"
import * as ShigotoConfig from "../ShigotoConfig.ts"
import { connected } from "./internal/connection.ts"
import { Failed, tell, UsageError } from "./internal/exit.ts"
import { colorOf } from "./internal/jobView.ts"
import { int } from "./internal/options.ts"
import { Screen } from "./internal/screen.ts"
import { filterOf, jobsArgument, select } from "./internal/selection.ts"
import * as shapes from "./internal/shapes.ts"
import { line } from "./internal/text.ts"

/**
 * The command.
 *
 * @category commands
 */
export const tail = Command.make(
  "tail",
  {
    jobs: jobsArgument,
    lines: int("lines", 0, 500).pipe(
      Flag.withAlias("n"),
      Flag.withDescription("How many of the latest changes to begin with, up to 500"),
      Flag.withDefault(10)
    ),
    interval: Flag.Finite("interval").pipe(
      Flag.withMetavar("<seconds>"),
      Flag.withDescription("The longest time between two looks"),
      Flag.filter(
        (seconds) => seconds >= 0.1 && seconds <= 60,
        (seconds) => `${seconds} is not from 0.1 to 60`
      ),
      Flag.withDefault(1)
    )
  },
  Effect.fnUntraced(function* ({ interval, jobs: operands, lines }) {
    const screen = yield* Screen
    const filter = filterOf(yield* select(operands))
    if (screen.format === "json") {
      return yield* new UsageError({ message: "What never ends is no JSON value: use --ndjson." })
    }
    const known = new Map<JobId, string>()
    const show = Effect.fnUntraced(function* (changed: ReadonlyArray<JobRow>) {
      yield* screen.format === "ndjson"
        ? screen.showList({ name: "jobs", items: changed.map(shapes.jobSummary) }, Effect.void)
        : screen.print(
            ...changed.map((job) => {
              const at = DateTime.formatIso(changedAt(job))
              const last = job.errors.at(-1)
              const failed = last !== undefined && (job.state === "retryable" || job.state === "discarded")
              return [
                screen.paint(screen.isTerminal ? at.slice(11, 19) : at, "dim"),
                `#${job.id}`,
                screen.paint(job.state, colorOf(job.state)),
                line(job.worker),
                screen.paint(
                  `${line(job.queue)} ${job.attempt}/${job.maxAttempts}${job.progress === undefined ? "" : ` ${job.progress}%`}`,
                  "dim"
                ),
                ...(failed ? [line(`${last.tag}: ${screen.redact(job).errors.at(-1)?.message ?? ""}`)] : [])
              ].join(" ")
            })
          )
    })
    yield* connected(
      Effect.gen(function* () {
        const jobs = yield* Jobs
        const hints = yield* (yield* Notifier.Notifier).hints
        const look = Effect.gen(function* () {
          const seen = yield* read(jobs, filter, known)
          const changed = seen.filter((job) => known.get(job.id) !== mark(job))
          for (const job of changed) {
            // One that has ended changes no more, unless it is retried: then it comes up among the newest changes.
            known.set(job.id, mark(job))
          }
          if (known.size > 20_000) for (const id of [...known.keys()].slice(0, 10_000)) known.delete(id)
          return changed.toSorted(
            (a, b) => changedAt(a).epochMilliseconds - changedAt(b).epochMilliseconds || a.id - b.id
          )
        })
        const first = yield* look
        yield* show(lines === 0 ? [] : first.slice(-lines))
        let isAway = false
        return yield* Effect.forever(
          Effect.gen(function* () {
            yield* Effect.timeoutOption(PubSub.take(hints), interval * 1000)
            // Hints come in bursts; one look serves them all.
            yield* Effect.sleep("50 millis")
            yield* PubSub.takeUpTo(hints, 1000)
            const changed = yield* Effect.timeoutOrElse(look, {
              duration: "15 seconds",
              orElse: () => Effect.fail(new Failed({ message: "The database does not answer." }))
            })
            if (isAway) yield* screen.say("The database answers again.", "dim")
            isAway = false
            yield* show(changed)
          }).pipe(
            // An outage passes; what became of jobs meanwhile is told after it.
            Effect.catchTag(["StorageUnavailable", "Failed"], (error) => {
              const told = isAway ? Effect.void : screen.say(`${tell(error).message} Looking again …`, "yellow")
              isAway = true
              return Effect.andThen(told, Effect.sleep("1 second"))
            })
          )
        )
      }).pipe(Effect.scoped, Effect.provide(listening))
    )
  })
).pipe(
  Command.withDescription("Follow what becomes of jobs, until Ctrl-C"),
  Command.withExamples([
    { command: "shigoto jobs tail worker:charge", description: "Of one worker" },
    { command: "shigoto jobs tail state:discarded --ndjson", description: "What is given up, for scripts" }
  ])
)

// internal

const listening = Notifier.layer.pipe(
  Layer.provide(
    Layer.effect(
      ShigotoConfig.ShigotoConfig,
      Effect.map(ShigotoConfig.ShigotoConfig, (config) => ({ ...config, listen: true, nodeName: "shigoto-tail" }))
    )
  )
)

/** The most jobs of each kind of one look. */
const most = 500

const live: ReadonlyArray<JobState> = ["scheduled", "blocked", "available", "executing", "retryable"]

/** The newest jobs, those that ended last, and what has become of those that lived at the last look. */
const read = Effect.fnUntraced(function* (jobs: Jobs["Service"], filter: Filter, known: ReadonlyMap<JobId, string>) {
  const alive = [...known].filter(([, mark]) => live.some((state) => mark.startsWith(state))).map(([id]) => id)
  const isOfIds = filter.id !== undefined
  const pages = yield* Effect.all([
    jobs.list({ ...filter, limit: most }),
    ...(isOfIds ? [] : [jobs.list({ ...filter, order: "finished", limit: most })]),
    // Those that begin may be far older than the newest.
    ...(isOfIds || filter.state !== undefined ? [] : [jobs.list({ ...filter, state: "executing", limit: most })]),
    ...(isOfIds || alive.length === 0 ? [] : [jobs.list({ ...filter, id: alive.slice(-most), limit: most })])
  ])
  return [...new Map(pages.flat().map((job) => [job.id, job])).values()]
})

/** What is new where it is another than before. */
const mark = (job: JobRow): string => `${job.state} ${job.epoch} ${job.attempt} ${job.progress ?? ""} ${job.snoozes}`

const changedAt = (job: JobRow): DateTime.Utc =>
  job.finishedAt ??
  (job.state === "executing" ? (job.claimedAt ?? job.insertedAt) : (lastFailure(job) ?? job.insertedAt))

const lastFailure = (job: JobRow): DateTime.Utc | undefined =>
  job.state === "retryable" && job.claimedAt !== undefined ? job.claimedAt : undefined
