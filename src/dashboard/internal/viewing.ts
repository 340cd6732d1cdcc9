/**
 * What exists for a viewer: every endpoint asks here before it looks, and passes what it found through here.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Filter from "../../Filter.ts"
import type { JobId, JobRow } from "../../JobRow.ts"
import type { Jobs } from "../../Jobs.ts"
import {
  asksForSecret,
  type Carried,
  everything,
  hidden,
  makeIsSecret,
  makeRedactText,
  makeSecrets,
  redact,
  redactText
} from "../../Redaction.ts"
import { type Access, allows, CurrentAccess, seesQueue } from "../Access.ts"
import { Invalid, NotFound, Unavailable } from "../DashboardApi.ts"
import type { Shared } from "./sampler.ts"

/** What the host decides about secrets. */
export interface Redaction {
  readonly keys: ReadonlyArray<string>
  readonly redact: ((job: JobRow) => Carried) | undefined
}

/** Builds the rules; `options` says what counts as a secret, and so do the schemas that workers tell of. */
export const makeViewing = (
  jobs: Jobs["Service"],
  options: Redaction,
  told: Shared<ReadonlyMap<string, ReadonlyArray<string>>, unknown>
) => {
  const fields = Effect.flatMap(told.seen, ({ exit }) => exit).pipe(looked)
  /** What counts as a secret in jobs of a worker. */
  const secretsOf = (worker: string | undefined) =>
    Effect.map(fields, (found) => makeSecrets(options.keys, found)(worker))
  return {
    /** What anybody may see of what a job carries. */
    carried: (job: JobRow): Effect.Effect<Carried, Unavailable> =>
      Effect.map(secretsOf(job.worker), (isSecret) => redact(options.redact?.(job) ?? job, isSecret)),
    /** Hides a job's secrets in a text about it, such as its logs. */
    textOf: Effect.fnUntraced(function* (job: JobRow) {
      const inText = makeRedactText(job, yield* secretsOf(job.worker))
      if (options.redact === undefined) return inText
      // What the host hides by its own rules may be quoted too.
      const shown = new Set(leaves(options.redact(job)))
      const gone = leaves(job).filter((leaf) => leaf.length >= 4 && !shown.has(leaf))
      const longestFirst = [...new Set(gone)].toSorted((a, b) => b.length - a.length)
      return (text: string, quotes?: unknown) =>
        inText(
          longestFirst.reduce((clean, leaf) => clean.replaceAll(leaf, hidden), text),
          quotes
        )
    }),
    /** Hides what looks like a secret in a text about no job. */
    text: (text: string): string => redactText(text, makeIsSecret(options.keys)),
    /** Args for a worker that belong to no job; where the host has rules of its own, nothing of them. */
    args: (worker: string, args: unknown): Effect.Effect<unknown, Unavailable> =>
      options.redact === undefined
        ? Effect.map(
            secretsOf(worker),
            (isSecret) =>
              redact({ args, result: null, meta: {}, errors: [], cancelReason: undefined }, isSecret).args ?? null
          )
        : Effect.succeed(null),
    /** The filter that a viewer asked for, within what exists for them. */
    filterOf: Effect.fnUntraced(function* (text: string | undefined) {
      const access = yield* CurrentAccess
      const parsed = Filter.parse(text ?? "")
      if (Result.isFailure(parsed)) return yield* new Invalid({ message: parsed.failure.message })
      const filter = parsed.success
      if ((filter.args !== undefined || filter.meta !== undefined) && !allows(access, "args:reveal")) {
        const found = yield* fields
        const workers = filter.worker === undefined ? [...found.keys()] : [filter.worker].flat()
        const isWhole = workers.some((worker) => found.get(worker)?.includes(everything))
        const isGuess = isWhole || asksForSecret([filter.args, filter.meta], yield* secretsOf(undefined))
        if (options.redact !== undefined || isGuess) {
          return yield* new Invalid({ message: "A search for what is hidden needs the permission args:reveal." })
        }
      }
      if (access.queues === undefined) return filter
      const asked = filter.queue === undefined ? undefined : [filter.queue].flat()
      return { ...filter, queue: access.queues.filter((queue) => asked?.includes(queue) ?? true) }
    }),
    /** A job that exists for the viewer. */
    job: Effect.fnUntraced(function* (id: number) {
      const access = yield* CurrentAccess
      const job = yield* Effect.catchTag(jobs.get(id as JobId), "JobNotFound", () => Effect.undefined).pipe(looked) // an id, under its brand
      if (job === undefined || !seesQueue(access, job.queue)) return yield* noJob(id)
      return job
    })
  }
}

/** The rules. */
export type Viewing = ReturnType<typeof makeViewing>

/** Says whether a filter asks for queues of which none exists for the viewer. */
export const isNothing = (filter: Filter.Filter): boolean => Array.isArray(filter.queue) && filter.queue.length === 0

/** Says whether all queues exist for the viewer, and so what spans queues. */
export const seesAll = (access: Access): boolean => access.queues === undefined

/** The database did not answer. */
export const unavailable = new Unavailable({
  message: "The database did not answer in time. Narrow the filter or try again."
})

/** There is no such job for the viewer. */
export const noJob = (id: number): NotFound => new NotFound({ message: `There is no job ${id}.` })

/** Tells what became of a wish. */
export const answer = (outcome: string, detail: string | null = null) => ({ outcome, detail })

/** Takes any failure as a database that did not answer. */
export const looked = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, Unavailable, R> =>
  Effect.mapError(effect, () => unavailable)

/** Tells a filter that makes no sense apart from a database that did not answer. */
export const readable = <A, E extends { readonly _tag: string; readonly message: string }, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, Invalid | Unavailable, R> =>
  Effect.mapError(effect, (error) =>
    error._tag === "InvalidFilter" ? new Invalid({ message: error.message }) : unavailable
  )

/** A moment as the API tells it. */
export const moment = (at: DateTime.Utc | undefined): string | null =>
  at === undefined ? null : DateTime.formatIso(at)

// internal

const leaves = (value: unknown): ReadonlyArray<string> =>
  typeof value === "object" && value !== null
    ? Object.values(value).flatMap(leaves)
    : typeof value === "string" || typeof value === "number"
      ? [String(value)]
      : []
