/**
 * Cron entries: what ticks when, for every node of a database, with exactly one job for each tick.
 *
 * An entry from code ticks while a node that has it in its code is alive; an entry of the database ticks until it is
 * removed. The database's clock decides what is due. Whoever evaluates an entry holds its row, and writes each tick
 * into a ledger together with its job, so two nodes, or one that comes late, cannot insert a tick twice. A leader
 * keeps the exact time; the others look now and then, so that a dead leader delays a tick and never loses it.
 */
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import { type CronRule, next, parse } from "./internal/cronRule.ts"
import type { Options as EnqueueOptions, Refusal } from "./internal/enqueueing.ts"
import { nameProblem, shown } from "./internal/names.ts"
import { strayOption } from "./internal/options.ts"
import { type CatchUp as StoredCatchUp, type CronColumns, jobOf, type Overlap } from "./internal/sql/cron.ts"
import type { NewJob } from "./internal/newJob.ts"
import type { JobId } from "./JobRow.ts"
import { type EnqueueResult, Jobs } from "./Jobs.ts"
import { JobStore } from "./JobStore.ts"
import { Notifier } from "./Notifier.ts"
import { CronConflict, CronNotFound, InvalidCron, type StorageFailure } from "./ShigotoError.ts"

/**
 * What becomes of the ticks that nobody was there for: none runs, the latest runs, or the last ones of a window do.
 *
 * @category models
 */
export type CatchUp =
  | "skip"
  | "latest"
  | {
      readonly _tag: "all"
      /** At most this many, the latest ones; from 1 to 1,000. */
      readonly max: number
      /** No older than this; at most 7 days. */
      readonly window: Duration.Input
    }

/**
 * A job as an entry needs it; every definition made by `Job.make` is one.
 *
 * @category models
 */
export interface Preparable<Args, R> {
  readonly name: string
  /** Checks and encodes a job without storing it. */
  readonly prepare: (args: Args, options?: EnqueueOptions) => Effect.Effect<NewJob, Refusal, R>
}

/**
 * What an entry says.
 *
 * @category models
 */
export interface CronOptions<Args, R> {
  /** Its name, unique in the database. */
  readonly name: string
  /** Five fields, six with seconds first, or a nickname such as `@daily`. */
  readonly cron: string
  /** An IANA time zone. Defaults to UTC, whatever the process's own zone is. */
  readonly timezone?: string | undefined
  /** What each tick inserts. */
  readonly job: Preparable<Args, R>
  /** With which args; checked as the entry is registered. */
  readonly args: NoInfer<Args>
  /** Which queue its jobs wait in. Defaults to the job's own. */
  readonly queue?: string | undefined
  /** Higher runs first. Defaults to the job's own. */
  readonly priority?: number | undefined
  /** How many attempts of a job may start. Defaults to the job's own. */
  readonly maxAttempts?: number | undefined
  /** Names to find its jobs by. Defaults to the job's own. */
  readonly tags?: ReadonlyArray<string> | undefined
  /** What becomes of the ticks that nobody was there for. Defaults to `latest`. */
  readonly catchUp?: CatchUp | undefined
  /**
   * What a tick does while the job of an earlier one lives: `allow` inserts all the same, `skip` inserts nothing,
   * `queueOne` inserts unless one waits already, `cancelRunning` cancels the earlier ones. Defaults to `allow`.
   */
  readonly overlap?: Overlap | undefined
  /** Each job waits up to this long after its tick, at most a day; the same for all nodes. Defaults to zero. */
  readonly jitter?: Duration.Input | undefined
  /** What a local time does that a change of the clock skips. Defaults to `run` for fixed hours, `skip` otherwise. */
  readonly onGap?: "run" | "skip" | undefined
  /** What a local time does that happens twice. Defaults to `first` for fixed hours, `both` otherwise. */
  readonly onOverlap?: "first" | "both" | undefined
}

/**
 * An entry as stored.
 *
 * @category models
 */
export interface CronEntry {
  readonly name: string
  readonly source: "code" | "database"
  readonly cron: string
  readonly timezone: string
  readonly worker: string
  readonly queue: string
  /** The encoded args. */
  readonly args: unknown
  readonly overlap: Overlap
  readonly paused: boolean
  /** The next tick; undefined while it is paused, and for an expression that never ticks again. */
  readonly nextTick: DateTime.Utc | undefined
  /** Whether a live node has a worker for its job. */
  readonly workerKnown: boolean
  /** Why it cannot tick, if it cannot. */
  readonly problem: string | undefined
}

/**
 * An entry as JSON, as the command line and the dashboard's API tell it: an instant is ISO 8601, what is absent null.
 *
 * @category encoding
 */
export const toJson = (
  entry: CronEntry
): Omit<CronEntry, "nextTick" | "problem"> & { readonly nextTick: string | null; readonly problem: string | null } => ({
  name: entry.name,
  source: entry.source,
  cron: entry.cron,
  timezone: entry.timezone,
  worker: entry.worker,
  queue: entry.queue,
  overlap: entry.overlap,
  paused: entry.paused,
  nextTick: entry.nextTick === undefined ? null : DateTime.formatIso(entry.nextTick),
  workerKnown: entry.workerKnown,
  problem: entry.problem ?? null,
  args: entry.args
})

/**
 * What storing an entry may fail with.
 *
 * @category errors
 */
export type CronError = InvalidCron | CronConflict | Refusal | StorageFailure

/**
 * The entries, and control over them.
 *
 * @category services
 */
export class CronJobs extends Context.Service<
  CronJobs,
  {
    /** Stores an entry of the database, or changes it; a changed expression or zone starts anew, without a past. */
    readonly upsert: <Args, R>(options: CronOptions<Args, R>) => Effect.Effect<void, CronError, R>
    /** Stores an entry from code, which ticks on this node until the scope closes; `CronJob.make` is the door to this. */
    readonly register: <Args, R>(options: CronOptions<Args, R>) => Effect.Effect<void, CronError, R | Scope.Scope>
    /** Removes an entry; its jobs stay. One from code comes back with the next start of a node that has it. */
    readonly remove: (name: string) => Effect.Effect<void, CronNotFound | StorageFailure>
    /** Stops an entry from ticking, also over restarts. */
    readonly pause: (name: string) => Effect.Effect<void, CronNotFound | StorageFailure>
    /** Lets an entry tick again from now on; what it missed while it was paused stays missed. */
    readonly resume: (name: string) => Effect.Effect<void, CronNotFound | StorageFailure>
    /** Inserts a job of an entry now, beside its ticks. */
    readonly runNow: (name: string) => Effect.Effect<JobId, CronNotFound | StorageFailure>
    /** All entries by name. */
    readonly list: Effect.Effect<ReadonlyArray<CronEntry>, StorageFailure>
    /** The next `count` ticks of an entry, at most 1,000. */
    readonly preview: (
      name: string,
      count: number
    ) => Effect.Effect<ReadonlyArray<DateTime.Utc>, CronNotFound | StorageFailure>
    /** The entries that this node has in its code. */
    readonly registered: () => ReadonlyArray<string>
  }
>()("effect-shigoto/CronJobs") {}

/**
 * Provides the entries and their control; what makes them tick is `CronScheduler.layer`.
 *
 * @category layers
 */
export const layer: Layer.Layer<CronJobs, never, Jobs | JobStore | Notifier> = Layer.effect(
  CronJobs,
  Effect.gen(function* () {
    const jobs = yield* Jobs
    const store = yield* JobStore
    const notifier = yield* Notifier
    const registered = new Set<string>()
    const changed = Effect.suspend(() => store.afterCommit(notifier.send({ _tag: "Cron" })))

    const put = Effect.fnUntraced(function* <Args, R>(source: "code" | "database", options: CronOptions<Args, R>) {
      const { catchUp, jitterMillis, rule } = yield* check(options)
      const prepared = yield* options.job.prepare(options.args, {
        queue: options.queue,
        priority: options.priority,
        maxAttempts: options.maxAttempts,
        tags: options.tags
      })
      // Each tick inserts its job.
      const job = { ...prepared, unique: undefined }
      const result = yield* store.cron.upsert({
        name: options.name,
        source,
        expression: rule.expression,
        timezone: rule.timezone,
        onGap: options.onGap,
        onOverlap: options.onOverlap,
        job,
        catchUp,
        overlap: options.overlap ?? "allow",
        jitterMillis,
        nextAfter: (millis) => next(rule, millis)
      })
      if (result._tag === "Conflict") {
        return yield* new CronConflict({
          entry: options.name,
          source: result.source,
          message: `A cron entry "${options.name}" exists already, made by ${result.source === "code" ? "code" : "CronJobs.upsert"}. Give this one another name, or remove that one first.`
        })
      }
    })
    const take = Effect.fnUntraced(function* <Args, R>(options: CronOptions<Args, R>) {
      if (registered.has(options.name)) {
        return yield* new CronConflict({
          entry: options.name,
          source: "code",
          message: `This process has two cron entries "${options.name}" in its code, and one would take the other's place. Give one of them another name.`
        })
      }
      // Before it is stored: of two that are built at once, one must see the other.
      registered.add(options.name)
      yield* Effect.onError(put("code", options), () => Effect.sync(() => registered.delete(options.name)))
    })
    const found = <A>(name: string, result: Effect.Effect<A | undefined, StorageFailure>) =>
      Effect.flatMap(result, (value) =>
        value === undefined || value === false ? Effect.fail(notFound(name)) : Effect.succeed(value)
      )
    return CronJobs.of({
      upsert: Effect.fn("CronJobs.upsert")(function* (options) {
        yield* put("database", options)
        yield* changed
      }),
      register: (options) =>
        Effect.acquireRelease(take(options), () => Effect.sync(() => registered.delete(options.name))).pipe(
          Effect.andThen(changed)
        ),
      remove: (name) => Effect.andThen(found(name, store.cron.remove(name)), changed),
      pause: (name) => Effect.andThen(found(name, store.cron.pause(name, true)), changed),
      resume: (name) => Effect.andThen(found(name, store.cron.pause(name, false)), changed),
      runNow: Effect.fn("CronJobs.runNow")(function* (name) {
        const [row] = yield* store.cron.list(name)
        if (row === undefined) return yield* notFound(name)
        // Only a unique job's args are merged, or read for it, and a tick's job is none; nor does it wait for others or join a batch.
        const [result] = yield* Effect.catchTag(
          jobs.insert([jobOf(row)]),
          ["InvalidArgs", "ArgsTooLarge", "DecryptionError", "MissingDependencies", "BatchClosed", "BatchNotFound"],
          Effect.die
        )
        return (result as EnqueueResult).id // one job, one result
      }),
      list: Effect.map(store.cron.list(), (rows) => rows.map(entryOf)),
      preview: Effect.fn("CronJobs.preview")(function* (name, count) {
        const [row] = yield* store.cron.list(name)
        if (row === undefined) return yield* notFound(name)
        const rule = ruleOf(row)
        const ticks: Array<DateTime.Utc> = []
        let after = row.now.getTime()
        while (Result.isSuccess(rule) && ticks.length < Math.min(count, 1000)) {
          const tick = next(rule.success, after)
          if (tick === undefined) break
          ticks.push(DateTime.makeUnsafe(tick))
          after = tick
        }
        return ticks
      }),
      registered: () => [...registered]
    })
  })
)

/**
 * The rule of a stored entry, or why there is none.
 *
 * @category rules
 */
export const ruleOf = (row: CronColumns): ReturnType<typeof parse> =>
  parse(row.expression, {
    timezone: row.timezone,
    onGap: row.on_gap ?? undefined,
    onOverlap: row.on_overlap ?? undefined
  })

// internal

const notFound = (name: string): CronNotFound =>
  new CronNotFound({ entry: shown(name), message: `There is no cron entry ${shown(name)}.` })

interface Checked {
  readonly rule: CronRule
  readonly catchUp: StoredCatchUp
  readonly jitterMillis: number
}

const optionNames: ReadonlyArray<string> = Object.keys({
  name: true,
  cron: true,
  timezone: true,
  job: true,
  args: true,
  queue: true,
  priority: true,
  maxAttempts: true,
  tags: true,
  catchUp: true,
  overlap: true,
  jitter: true,
  onGap: true,
  onOverlap: true
} satisfies Record<keyof CronOptions<never, never>, true>)

const check = Effect.fnUntraced(function* (
  options: Pick<
    CronOptions<never, never>,
    "name" | "cron" | "timezone" | "onGap" | "onOverlap" | "catchUp" | "overlap" | "jitter"
  >
): Effect.fn.Return<Checked, InvalidCron> {
  const refuse = (field: string, reason: string) =>
    new InvalidCron({
      entry: shown(options.name),
      field,
      reason,
      message: `The cron entry ${shown(options.name)} cannot be used: ${field}: ${reason}.`
    })
  const problem = nameProblem(options.name)
  if (problem !== undefined) return yield* refuse("name", problem)
  const stray = strayOption(options, optionNames)
  if (stray !== undefined) return yield* refuse(stray.name, stray.why)
  const parsed = parse(options.cron, options)
  if (Result.isFailure(parsed)) return yield* refuse(parsed.failure.field, parsed.failure.reason)
  const jitterMillis = millisOf(options.jitter ?? 0)
  if (!(jitterMillis >= 0 && jitterMillis <= 24 * 3_600_000))
    return yield* refuse("jitter", "it is no duration up to a day")
  if (options.overlap !== undefined && !overlaps.includes(options.overlap)) {
    return yield* refuse("overlap", `it is none of ${overlaps.join(", ")}`)
  }
  for (const [field, allowed] of [
    ["onGap", ["run", "skip"]],
    ["onOverlap", ["first", "both"]]
  ] as const) {
    const value = options[field]
    if (value !== undefined && !allowed.some((known) => known === value)) {
      return yield* refuse(field, `it is none of ${allowed.join(", ")}`)
    }
  }
  const catchUp = yield* Effect.mapError(checkCatchUp(options.catchUp ?? "latest"), ([field, why]) =>
    refuse(field, why)
  )
  const rule = parsed.success
  if (next(rule, 0) === undefined) {
    yield* Effect.logWarning(
      `The cron entry "${options.name}" never ticks: there is no such date as ${rule.expression}`
    )
  }
  return { rule, catchUp, jitterMillis }
})

const checkCatchUp = Effect.fnUntraced(function* (
  catchUp: CatchUp
): Effect.fn.Return<StoredCatchUp, readonly [field: string, reason: string]> {
  if (catchUp === "skip" || catchUp === "latest") return { _tag: catchUp }
  if (typeof catchUp !== "object" || catchUp === null || catchUp._tag !== "all") {
    return yield* Effect.fail(["catchUp", "it is none of skip, latest, CronJob.all({ max, window })"] as const)
  }
  const { max } = catchUp
  if (!(Number.isInteger(max) && max >= 1 && max <= 1000)) {
    return yield* Effect.fail(["catchUp.max", "it is no integer from 1 to 1000"] as const)
  }
  const windowMillis = millisOf(catchUp.window)
  if (!(windowMillis > 0 && windowMillis <= 7 * 24 * 3_600_000)) {
    return yield* Effect.fail(["catchUp.window", "it is no duration above zero and up to 7 days"] as const)
  }
  return { _tag: "all", max, windowMillis }
})

const overlaps: ReadonlyArray<Overlap> = ["allow", "skip", "queueOne", "cancelRunning"]

const millisOf = (input: Duration.Input): number =>
  // Duration reads NaN as zero.
  Number.isNaN(input)
    ? Number.NaN
    : Option.match(Duration.fromInput(input), { onNone: () => Number.NaN, onSome: Duration.toMillis })

const entryOf = (row: CronColumns): CronEntry => ({
  name: row.name,
  source: row.source,
  cron: row.expression,
  timezone: row.timezone,
  worker: row.worker,
  queue: row.queue,
  args: row.unreadable ?? JSON.parse(row.args),
  overlap: row.overlap,
  paused: row.paused_at !== null,
  nextTick: row.next_tick === null || row.paused_at !== null ? undefined : DateTime.fromDateUnsafe(row.next_tick),
  workerKnown: row.worker_known,
  problem: row.problem ?? problemOf(row)
})

/** What an evaluation would find; a row written by hand may never be due. */
const problemOf = (row: CronColumns): string | undefined =>
  Result.match(ruleOf(row), { onFailure: ({ field, reason }) => `${field}: ${reason}`, onSuccess: () => undefined })
