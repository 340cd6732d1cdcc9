/**
 * Changing jobs: some by their ids, or all that match a filter, with a count, a sample and a question before, and
 * progress while it goes on.
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { Filter } from "../../Filter.ts"
import type { JobId, JobState } from "../../JobRow.ts"
import { type BulkOptions, type BulkProgress, Jobs } from "../../Jobs.ts"
import type { InvalidFilter, JobNotFound, StorageFailure } from "../../ShigotoError.ts"
import { confirm } from "./ask.ts"
import { makeBar } from "./bar.ts"
import { connected } from "./connection.ts"
import { exitCodes, Unwell, UsageError } from "./exit.ts"
import { Screen } from "./screen.ts"
import * as shapes from "./shapes.ts"
import type { Selection } from "./selection.ts"
import { count, many } from "./text.ts"

/** What is done to jobs. */
export interface Verb {
  readonly verb: "retry" | "cancel" | "delete"
  readonly done: string
  readonly doing: string
  /** Which jobs are meant where a filter does not say. */
  readonly states: ReadonlyArray<JobState>
  /** Whether a job that was named by its id is asked about too. */
  readonly asks: boolean
  readonly one: (jobs: Jobs["Service"], id: JobId) => Effect.Effect<Outcome, JobNotFound | StorageFailure>
  readonly many: (
    jobs: Jobs["Service"],
    filter: Filter,
    options: BulkOptions
  ) => Stream.Stream<BulkProgress, InvalidFilter | StorageFailure>
}

/** What became of one job. */
export interface Outcome {
  readonly outcome: string
  /** Why it was not done; undefined where it was. */
  readonly detail: string | undefined
}

/** What the person said beside the jobs. */
export interface Given {
  readonly yes: boolean
  readonly dryRun: boolean
  readonly all: boolean
}

/** Does it. */
export const change = Effect.fnUntraced(function* (verb: Verb, selection: Selection, given: Given) {
  if (selection._tag === "Filter" && Object.keys(selection.filter).length === 0 && !given.all) {
    return yield* new UsageError({
      message: `Which jobs? Name ids, or a filter.`,
      hint: `For every job that can be, pass --all: shigoto jobs ${verb.verb} --all`
    })
  }
  if (selection._tag === "Ids") return yield* connected(changeIds(verb, selection.ids, given))
  return yield* connected(changeBy(verb, selection.filter, given))
})

// internal

const changeIds = Effect.fnUntraced(function* (verb: Verb, ids: ReadonlyArray<JobId>, { dryRun, yes }: Given) {
  const screen = yield* Screen
  const jobs = yield* Jobs
  // All are looked up before any is changed.
  const found = yield* Effect.forEach(ids, (id) => jobs.get(id))
  if (dryRun) {
    return yield* screen.showList(
      { name: "jobs", items: found.map(shapes.jobSummary), more: { dryRun } },
      screen.say(
        `Would ${verb.verb} ${many(ids.length, "job")}: ${found.map((job) => `#${job.id} (${job.worker}, ${job.state})`).join(", ")}`
      )
    )
  }
  if (verb.asks) yield* confirm(`${capital(verb.verb)} ${many(ids.length, "job")} (${sampleOf(ids)})?`, yes)
  const outcomes = yield* Effect.forEach(
    ids,
    (id) =>
      Effect.map(verb.one(jobs, id), ({ detail, outcome }) => ({ id: id as number, outcome, detail: detail ?? null })) // without its brand
  )
  yield* screen.showList(
    { name: "jobs", items: outcomes },
    Effect.forEach(
      outcomes,
      ({ detail, id, outcome }) =>
        screen.print(
          `#${id} ${screen.paint(outcome, detail === null ? "green" : "yellow")}${detail === null ? "" : `: ${detail}`}`
        ),
      { discard: true }
    )
  )
  if (outcomes.some(({ detail }) => detail !== null)) return yield* new Unwell({ code: exitCodes.refused })
})

const changeBy = Effect.fnUntraced(function* (verb: Verb, given: Filter, { dryRun, yes }: Given) {
  const screen = yield* Screen
  const jobs = yield* Jobs
  // In the words of the bulk operation itself, so that what is counted is what will be changed.
  const filter: Filter = { ...given, state: given.state ?? verb.states }
  const { count: total, isExact } = yield* jobs.count(filter)
  const sample = yield* jobs.list({ ...filter, limit: 5 })
  const about = `${isExact ? "" : "More than "}${many(total, "job")} ${total === 1 ? "matches" : "match"}`
  if (dryRun || total === 0) {
    return yield* screen.show(
      { matched: total, isExact, dryRun, sample: sample.map(shapes.jobSummary) },
      screen.say(total === 0 ? "No job matches." : `${about}. Sample: ${describe(sample)}`)
    )
  }
  if (!yes) yield* screen.say(`${about}. Sample: ${describe(sample)}`)
  yield* confirm(`${capital(verb.verb)} ${total === 1 ? "it" : "them"}?`, yes)
  const bar = makeBar(screen, verb.doing, isExact ? total : undefined)
  let progress: BulkProgress = { matched: 0, changed: 0, requested: 0, skipped: 0, failed: 0, problems: [] }
  yield* verb.many(jobs, filter, { all: true }).pipe(
    Stream.runForEach((step) => {
      progress = step
      return bar.draw(step.matched)
    }),
    Effect.ensuring(bar.end),
    Effect.onInterrupt(() =>
      screen.say(`Stopped: ${many(progress.changed, "job")} ${verb.done}, the rest as they were.`)
    )
  )
  yield* screen.show(
    progress,
    Effect.gen(function* () {
      const { changed, failed, problems, requested, skipped } = progress
      yield* screen.print(
        [
          `${screen.paint(failed === 0 ? "✓" : "!", failed === 0 ? "green" : "red")} ${many(changed, "job")} ${verb.done}`,
          ...(requested === 0 ? [] : [`${count(requested)} running asked to stop`]),
          ...(skipped === 0 ? [] : [`${count(skipped)} skipped (moved on, or a unique key is taken)`]),
          ...(failed === 0 ? [] : [`${count(failed)} refused by the database`])
        ].join(" · ")
      )
      for (const { id, message } of problems) yield* screen.say(`#${id}: ${message}`, "red")
    })
  )
  if (progress.failed > 0) return yield* new Unwell({ code: exitCodes.failure })
})

const capital = (word: string): string => `${word.slice(0, 1).toUpperCase()}${word.slice(1)}`

const sampleOf = (ids: ReadonlyArray<JobId>): string =>
  `${ids
    .slice(0, 5)
    .map((id) => `#${id}`)
    .join(", ")}${ids.length > 5 ? ", …" : ""}`

const describe = (
  jobs: ReadonlyArray<{ readonly id: JobId; readonly worker: string; readonly state: string }>
): string => jobs.map((job) => `#${job.id} ${job.worker} (${job.state})`).join(", ")
