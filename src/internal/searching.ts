/** What `Jobs` finds for people: pages, counts and groups of failures, asked for in words that are checked. */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import { check, type Filter } from "../Filter.ts"
import { type AttemptFailure, type JobId, type JobRow, type JobState, states } from "../JobRow.ts"
import type { JobStore } from "../JobStore.ts"
import { InvalidFilter } from "../ShigotoError.ts"
import { shown } from "./names.ts"
import { maxCount } from "./sql/search.ts"

/**
 * Which jobs to list, in which order, and from where on.
 *
 * @category models
 */
export interface ListOptions extends Filter {
  /**
   * In which order: `newest` by falling id; `due` by when they may run, of jobs that have not finished; `finished` by when they ended,
   * latest first. Defaults to `newest`.
   */
  readonly order?: "newest" | "due" | "finished" | undefined
  /** Only jobs after this one: the last of the page before. Defaults to the beginning. */
  readonly after?: Pick<JobRow, "id" | "runAt" | "finishedAt"> | undefined
  /** How many, from 1 to 1,000. Defaults to 100. */
  readonly limit?: number | undefined
  /** Leaves out results, errors and meta, and args of more than 4 KB, which are null then. Defaults to false. */
  readonly brief?: boolean | undefined
}

/**
 * How many jobs match: exactly, or at least so many where counting on would take too long.
 *
 * @category models
 */
export interface JobCount {
  readonly count: number
  readonly isExact: boolean
}

/**
 * How many jobs match in one state; undefined where counting took too long.
 *
 * @category models
 */
export interface StateCount {
  readonly state: JobState
  readonly count: number | undefined
  readonly isExact: boolean
}

/**
 * Jobs that failed in the same way and have not succeeded since.
 *
 * @category models
 */
export interface FailureGroup extends JobCount {
  /** Finds them all: `{ fingerprint }` is a filter. */
  readonly fingerprint: string
  readonly worker: string
  /** The queue of the newest. */
  readonly queue: string
  /** The newest. */
  readonly sample: JobId
  /** Its last failure. */
  readonly failure: AttemptFailure
  /** When one of its hundred oldest jobs failed first, by the clocks of the nodes. */
  readonly firstSeen: DateTime.Utc
  /** When one of its hundred newest jobs failed last. */
  readonly lastSeen: DateTime.Utc
}

/** Builds the verbs. */
export const makeSearch = (store: JobStore["Service"]) => ({
  list: Effect.fn("Jobs.list")(function* (options: ListOptions = {}) {
    const { after, brief = false, limit = 100, order = "newest", ...filter } = options
    const problem = limitProblem(limit) ?? pageProblem(order, after)
    if (problem !== undefined) return yield* problem
    const at = order === "due" ? after?.runAt : after?.finishedAt
    return yield* store.search.list({
      filter: yield* Effect.fromResult(check(filter)),
      order,
      after: after === undefined ? undefined : { id: after.id, at: at && DateTime.toDateUtc(at) },
      limit,
      brief
    })
  }),
  count: Effect.fn("Jobs.count")(function* (filter: Filter = {}) {
    return capped(yield* store.search.count(yield* Effect.fromResult(check(filter))))
  }),
  countStates: Effect.fn("Jobs.countStates")(function* (filter: Filter = {}) {
    const checked = yield* Effect.fromResult(check(filter))
    if (filter.args !== undefined || filter.meta !== undefined) {
      const { isWhole, rows } = yield* store.search.countByState(checked)
      return states.map((state): StateCount => {
        const { count, isExact } = capped(rows.find((row) => row.state === state)?.count ?? 0)
        return { state, count, isExact: isExact && isWhole }
      })
    }
    const asked = filter.state === undefined ? states : [filter.state].flat()
    return yield* Effect.forEach(
      states,
      (state) =>
        asked.includes(state)
          ? store.search.count({ ...checked, anyOf: { ...checked.anyOf, state: [state] } }).pipe(
              Effect.map((count): StateCount => ({ state, ...capped(count) })),
              // One that takes too long hides no other.
              Effect.orElseSucceed((): StateCount => ({ state, count: undefined, isExact: false }))
            )
          : Effect.succeed<StateCount>({ state, count: 0, isExact: true }),
      { concurrency: 4 }
    )
  }),
  failures: Effect.fn("Jobs.failures")(function* ({ limit = 100 }: { readonly limit?: number | undefined } = {}) {
    const problem = limitProblem(limit)
    if (problem !== undefined) return yield* problem
    const groups = yield* store.search.failures(limit)
    return groups.map((group) => ({
      ...group,
      ...capped(group.count),
      firstSeen: DateTime.makeUnsafe(group.firstSeen),
      lastSeen: DateTime.makeUnsafe(group.lastSeen)
    }))
  })
})

// internal

const capped = (count: number): JobCount => ({ count: Math.min(count, maxCount), isExact: count <= maxCount })

/** Why a page cannot have so many, if it cannot. */
export const limitProblem = (limit: number): InvalidFilter | undefined =>
  Number.isInteger(limit) && limit >= 1 && limit <= 1000
    ? undefined
    : unfit("limit", limit, "it is an integer from 1 to 1000")

const pageProblem = (order: unknown, after: ListOptions["after"]): InvalidFilter | undefined => {
  if (order !== "newest" && order !== "due" && order !== "finished") {
    return unfit("order", order, "the orders are newest, due and finished")
  }
  if (after === undefined) return undefined
  if (!Number.isSafeInteger(after.id)) return unfit("after", after.id, "it has no job id")
  const at = order === "due" ? after.runAt : order === "finished" ? after.finishedAt : undefined
  return order === "newest" || DateTime.isDateTime(at)
    ? undefined
    : unfit(
        "after",
        at,
        `the order "${order}" goes on after a job with its ${order === "due" ? "runAt" : "finishedAt"}`
      )
}

const unfit = (field: string, value: unknown, why: string): InvalidFilter =>
  new InvalidFilter({ field, value: shown(value), message: `${field} cannot be ${shown(value)}: ${why}.` })
