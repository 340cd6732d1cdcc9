/**
 * Changes many jobs at once: as a stream that does the work and tells how far it has come.
 *
 * Jobs are found by falling id from the highest there is at the start, so each is met once and new ones never are.
 * Nothing is held between two chunks: a stream that ends half way has done half, and may be run again, also by several
 * at once.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import { check, type Checked, type Filter, isEmpty } from "../Filter.ts"
import type { JobId, JobState } from "../JobRow.ts"
import type { JobStore } from "../JobStore.ts"
import type { Notifier } from "../Notifier.ts"
import { InvalidFilter, type StorageFailure } from "../ShigotoError.ts"
import { spread } from "./aftermath.ts"
import type { Events } from "./events.ts"
import { sanitize } from "./json.ts"
import type { Done } from "./sql/bulk.ts"

/**
 * What keeps a bulk operation from being everybody's accident.
 *
 * @category models
 */
export interface BulkOptions {
  /** Whether a filter that asks for nothing, and so means every job, is meant. Defaults to false. */
  readonly all?: boolean | undefined
}

/**
 * How far a bulk operation has come; the last one tells the whole.
 *
 * @category models
 */
export interface BulkProgress {
  /** Jobs that matched as they were looked for. */
  readonly matched: number
  /** Jobs that were cancelled, retried or deleted. */
  readonly changed: number
  /** Running jobs whose holders were asked to cancel them. */
  readonly requested: number
  /** Jobs that had moved on, or whose unique key is taken. */
  readonly skipped: number
  /** Jobs that the database refused to change; the others went on. */
  readonly failed: number
  /** The first twenty of those. */
  readonly problems: ReadonlyArray<{ readonly id: JobId; readonly message: string }>
}

/** The jobs of one transaction. */
const chunkSize = 500

/** Builds the verbs. */
export const makeBulk = (store: JobStore["Service"], notifier: Notifier["Service"], events: Events["Service"]) => {
  const publish = (tag: "Cancelled" | "Retried" | "Deleted", done: Done, reason: string | undefined) =>
    store.afterCommit(
      Effect.gen(function* () {
        const queues = new Set<string>()
        for (const { attempt, id, queue, worker } of done.changed) {
          const ref = { id, worker, queue }
          events.publish(
            tag === "Cancelled" ? { _tag: tag, ...ref, attempt, reason, runMillis: undefined } : { _tag: tag, ...ref }
          )
          if (tag === "Retried") queues.add(queue)
        }
        for (const queue of queues) yield* notifier.send({ _tag: "Available", queue })
        for (const node of new Set(done.asked.map((asked) => asked.node))) {
          yield* notifier.send({ _tag: "Cancel", node })
        }
        yield* spread(events, notifier, done.aftermath)
      })
    )
  const run = (
    verb: Verb,
    filter: Filter,
    options: BulkOptions
  ): Stream.Stream<BulkProgress, InvalidFilter | StorageFailure> =>
    Stream.unwrap(
      Effect.gen(function* () {
        const given = yield* Effect.fromResult(check(filter))
        if (isEmpty(given) && options.all !== true) {
          return yield* new InvalidFilter({
            field: "filter",
            value: "{}",
            message: "An empty filter means every job there is: say which ones, or pass { all: true }."
          })
        }
        const wanted: Checked =
          given.anyOf.state === undefined ? { ...given, anyOf: { ...given.anyOf, state: verb.states } } : given
        /** Does it to one chunk, and to those that it could not do together, one by one. */
        const act = Effect.fnUntraced(function* (before: BulkProgress, ids: ReadonlyArray<JobId>) {
          const progress = { ...before, matched: before.matched + ids.length, problems: [...before.problems] }
          const count = Effect.fnUntraced(function* (done: Done) {
            progress.changed += done.changed.length
            progress.requested += done.asked.length
            yield* publish(verb.tag, done, verb.reason)
          })
          // What the database refuses is told of one job; what may pass by itself ends the stream.
          const together = yield* Effect.catchTag(
            Effect.asSome(verb.chunk(ids, wanted)),
            "StorageError",
            () => Effect.succeedNone
          )
          if (Option.isSome(together)) yield* count(together.value)
          const met = Option.match(together, {
            onNone: () => new Set<JobId>(),
            onSome: (done) => new Set([...done.changed, ...done.asked].map(({ id }) => id))
          })
          const left = ids.filter((id) => !met.has(id))
          const actAlone = Effect.fnUntraced(function* (id: JobId) {
            const alone = yield* verb.one(id, wanted).pipe(
              Effect.map((done) => Result.succeed(done)),
              Effect.catchTag("StorageError", ({ message }) => Effect.succeed(Result.fail(message)))
            )
            if (alone._tag === "Success") {
              yield* count(alone.success)
              if (alone.success.changed.length + alone.success.asked.length === 0) progress.skipped++
            } else {
              progress.failed++
              if (progress.problems.length < 20) progress.problems.push({ id, message: alone.failure })
            }
          })
          const [first, ...others] = left
          if (first !== undefined) yield* actAlone(first)
          if (others.length > 0) {
            // Whoever held the first one held most of them: now that this one is through, few may be left.
            const matching = yield* store.bulk.still({ ids: others, filter: wanted })
            progress.skipped += others.length - matching.size
            for (const id of others) if (matching.has(id)) yield* actAlone(id)
          }
          return progress satisfies BulkProgress
        })
        const step = Effect.fnUntraced(function* (from: State) {
          let { below, found, more } = from
          while (found.length === 0 && more) {
            const looked = yield* store.bulk.find(wanted, below)
            below = looked.below
            found = looked.ids
            more = looked.more
          }
          const progress = found.length === 0 ? from.progress : yield* act(from.progress, found.slice(0, chunkSize))
          const rest = found.slice(chunkSize)
          const next =
            rest.length === 0 && !more
              ? Option.none<State>()
              : Option.some<State>({ below, found: rest, more, progress })
          return [[progress], next] as const
        })
        const below = (yield* store.bulk.top) + 1
        return Stream.paginate<State, BulkProgress, StorageFailure>(
          { below, found: [], more: true, progress: nothingYet },
          step
        )
      })
    )
  return {
    cancelBy: (filter: Filter, options: BulkOptions & { readonly reason?: string | undefined } = {}) => {
      const reason = options.reason === undefined ? undefined : sanitize(options.reason, 1000)
      const chunk: Verb["chunk"] = (ids, wanted) => store.bulk.cancel({ ids, filter: wanted }, reason)
      return run(
        { tag: "Cancelled", states: live, chunk, one: (id, wanted) => chunk([id], wanted), reason },
        filter,
        options
      )
    },
    retryBy: (filter: Filter, options: BulkOptions = {}) =>
      run(
        {
          tag: "Retried",
          states: ["retryable", "discarded"],
          chunk: (ids, wanted) => store.bulk.retryPlain({ ids, filter: wanted }),
          one: store.bulk.retryOne,
          reason: undefined
        },
        filter,
        options
      ),
    deleteBy: (filter: Filter, options: BulkOptions = {}) => {
      const chunk: Verb["chunk"] = (ids, wanted) => store.bulk.remove({ ids, filter: wanted })
      return run(
        { tag: "Deleted", states: idle, chunk, one: (id, wanted) => chunk([id], wanted), reason: undefined },
        filter,
        options
      )
    },
    /** Deletes one job; false where there is none that may be deleted. */
    remove: Effect.fnUntraced(function* (id: JobId) {
      const done = yield* store.bulk.remove({ ids: [id], filter: everything })
      yield* publish("Deleted", done, undefined)
      return done.changed.length > 0
    })
  }
}

// internal

interface Verb {
  readonly tag: "Cancelled" | "Retried" | "Deleted"
  /** Which jobs are meant where the filter does not say. */
  readonly states: ReadonlyArray<JobState>
  readonly chunk: (ids: ReadonlyArray<JobId>, wanted: Checked) => Effect.Effect<Done, StorageFailure>
  readonly one: (id: JobId, wanted: Checked) => Effect.Effect<Done, StorageFailure>
  readonly reason: string | undefined
}

interface State {
  /** Where the next window begins. */
  readonly below: number
  /** What the last window found and nobody has seen to yet. */
  readonly found: ReadonlyArray<JobId>
  readonly more: boolean
  readonly progress: BulkProgress
}

const live: ReadonlyArray<JobState> = ["scheduled", "blocked", "available", "executing", "retryable"]
const idle: ReadonlyArray<JobState> = [
  "scheduled",
  "blocked",
  "available",
  "retryable",
  "completed",
  "discarded",
  "cancelled"
]

const everything: Checked = { anyOf: {}, numbers: {}, times: {}, json: {} }

const nothingYet: BulkProgress = { matched: 0, changed: 0, requested: 0, skipped: 0, failed: 0, problems: [] }
