/** Finds the jobs that a filter means among all that there are. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { type JobRow, type JobState } from "../../JobRow.ts"
import { Jobs } from "../../Jobs.ts"
import { type Candidate, mismatches, type Wanted } from "./matching.ts"

/** All jobs, and those that are meant. */
export interface Search {
  readonly wanted: Wanted
  readonly candidates: ReadonlyArray<Candidate>
  readonly matching: ReadonlyArray<Candidate>
}

/** Reads every job, live or archived, oldest first. */
export const find = Effect.fnUntraced(function* <Args extends Schema.Top>(filter: {
  readonly job?: string | { readonly name: string; readonly args: Args } | undefined
  readonly args?: unknown
  readonly queue?: string | undefined
  readonly tags?: ReadonlyArray<string> | undefined
  readonly state?: JobState | ReadonlyArray<JobState> | undefined
}) {
  const { args, job, queue, state, tags } = filter
  const wanted: Wanted = {
    name: typeof job === "object" ? job.name : job,
    args,
    queue,
    tags: tags ?? [],
    states: state === undefined ? unfinished : typeof state === "string" ? [state] : state
  }
  const decode = typeof job === "object" ? Schema.decodeUnknownEffect(Schema.toCodecJson(job.args)) : undefined
  const candidates = yield* Effect.forEach(
    yield* everything,
    (row): Effect.Effect<Candidate, never, Args["DecodingServices"]> =>
      decode === undefined || row.worker !== wanted.name
        ? Effect.succeed({ row, args: row.args })
        : Effect.match(decode(row.args), {
            onFailure: () => ({ row, args: row.args }),
            onSuccess: (decoded) => ({ row, args: decoded })
          })
  )
  const search: Search = {
    wanted,
    candidates,
    matching: candidates.filter((candidate) => mismatches(wanted, candidate).length === 0)
  }
  return search
})

// internal

const unfinished: ReadonlyArray<JobState> = ["scheduled", "blocked", "available", "executing", "retryable"]

const pageSize = 1000

const everything = Effect.gen(function* () {
  const jobs = yield* Jobs
  const rows: Array<JobRow> = []
  while (true) {
    const page = yield* Effect.orDie(jobs.list({ after: rows.at(-1), limit: pageSize }))
    rows.push(...page)
    if (page.length < pageSize) return rows.toReversed()
  }
})
