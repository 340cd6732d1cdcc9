/** One attempt without a database: the producer's checks, the stored text, the worker, the stored result. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Formatter from "effect/Formatter"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { Attempt } from "../../CurrentJob.ts"
import { declaration, type Parent } from "../../Dependency.ts"
import type { Dependencies, DependencyResult, EnqueueOptions, Job } from "../../Job.ts"
import type { AttemptFailure, JobId } from "../../JobRow.ts"
import { Jobs } from "../../Jobs.ts"
import { defaults, ShigotoConfig } from "../../ShigotoConfig.ts"
import { AttemptDefect, AttemptTimeout, InvalidSnooze } from "../../ShigotoError.ts"
import { Snooze } from "../../Signal.ts"
import { type Worker, Workers } from "../../Workers.ts"

/** What may be said of the attempt, beside what may be said of a job. */
export interface PerformOptions extends Omit<EnqueueOptions, "dependsOn" | "batch"> {
  /** Which attempt it is. Defaults to 1. */
  readonly attempt?: number | undefined
  /** The failures of earlier attempts. Defaults to none. */
  readonly errors?: ReadonlyArray<AttemptFailure> | undefined
  /** How often the job has snoozed. Defaults to 0. */
  readonly snoozes?: number | undefined
  /** The job's id. Defaults to 1. */
  readonly id?: number | undefined
  /**
   * What the children of its fan-outs have returned, by the names of the fan-outs: the attempt is then one that goes on
   * after them. Defaults to none: the attempt ends with its first fan-out, a `Fork`.
   */
  readonly fannedOut?: Readonly<Record<string, Children>> | undefined
}

/** Children that have succeeded. */
export interface Children {
  readonly job: Parent
  readonly results: ReadonlyArray<unknown>
}

/** Runs the attempt; fails with whatever its handler or the library's judgement of it says. */
export const perform = Effect.fnUntraced(function* (
  job: Job<string, Schema.Top, Schema.Top, Schema.Top, Dependencies>,
  args: unknown,
  options: PerformOptions & { readonly dependencies?: Readonly<Record<string, unknown>> }
) {
  const workers = yield* Workers
  const worker = workers.get(job.name)
  if (worker === undefined) {
    return yield* Effect.die(
      new Error(
        `There is no worker for the job "${job.name}": provide its layer over ShigotoTest.layerPerform or ShigotoTest.layer.`
      )
    )
  }
  const {
    attempt: number = 1,
    dependencies: needed = {},
    errors = [],
    fannedOut = {},
    id = 1,
    snoozes = 0,
    ...enqueued
  } = options
  const parents = yield* storeResults(job.dependencies, needed)
  const stored = yield* store(job, args, enqueued, parents)
  const children = yield* Effect.forEach(Object.entries(fannedOut), ([name, group], i) =>
    storeChildren(name, group, 2_000_000 + i * 10_000)
  )
  const dependencies = [...parents, ...children.flat()]
  const now = DateTime.makeUnsafe(yield* Clock.currentTimeMillis)
  const startedAt = now.epochMilliseconds
  const { expires } = stored
  const startBefore =
    expires === undefined
      ? undefined
      : DateTime.makeUnsafe("at" in expires ? expires.at.getTime() : startedAt + expires.afterMillis)
  const left = Math.min(worker.timeoutMillis, (startBefore?.epochMilliseconds ?? Infinity) - startedAt)
  const attempt: Attempt = {
    id: id as JobId, // an id, under its brand
    worker: job.name,
    queue: stored.queue,
    attempt: number,
    maxAttempts: stored.maxAttempts,
    priority: stored.priority,
    epoch: 1,
    errors: errors,
    meta: stored.meta === undefined ? {} : (JSON.parse(stored.meta) as Attempt["meta"]), // as it was stored
    tags: stored.tags ?? [],
    partitionKey: stored.partitionKey,
    snoozes: snoozes,
    scheduledFor: now,
    insertedAt: now,
    startBefore,
    trace: stored.trace,
    batch: stored.batch,
    encrypted: stored.encrypted ?? false,
    dependencies: new Map(dependencies.map((one) => [one.id, one]))
  }
  const reporting = {
    ...attempt,
    progress: () => Effect.void,
    remaining: Effect.map(Clock.currentTimeMillis, (millis) =>
      Duration.millis(Math.max(left - (millis - startedAt), 0))
    )
  }
  const context = worker.inside(yield* Effect.context<never>(), reporting)
  const fiber = yield* Effect.forkChild(Effect.provideContext(worker.run(JSON.parse(stored.args), reporting), context))
  const isLate = yield* Effect.raceFirst(
    Effect.as(Fiber.await(fiber), false),
    Effect.as(Effect.sleep(worker.timeoutMillis), true)
  )
  if (isLate) yield* Fiber.interrupt(fiber)
  const exit = yield* Fiber.await(fiber)
  // As on a node: a success that comes in spite of the interruption counts.
  if (isLate && Exit.isFailure(exit)) return yield* timedOut(worker)
  if (Exit.isFailure(exit)) return yield* failure(worker, attempt, exit)
  return exit.value === undefined
    ? undefined
    : yield* Effect.orDie(Schema.decodeUnknownEffect(Schema.toCodecJson(job.success))(JSON.parse(exit.value)))
})

// internal

/** What an enqueue would have stored: the real one, before a database that is not there. */
const store = Effect.fnUntraced(function* (
  job: Job<string, Schema.Top, Schema.Top, Schema.Top, Dependencies>,
  args: unknown,
  options: PerformOptions,
  dependencies: ReadonlyArray<Stored>
) {
  const config = Option.getOrElse(yield* Effect.serviceOption(ShigotoConfig), () => defaults)
  type NewJobs = Parameters<Jobs["Service"]["insert"]>[0]
  let stored: NewJobs = []
  const recorder: Pick<Jobs["Service"], "insert" | "encrypts" | "maxArgsBytes"> = {
    encrypts: true,
    maxArgsBytes: config.maxArgsBytes,
    insert: (jobs) =>
      Effect.sync(() => {
        stored = jobs
        return []
      })
  }
  // An enqueue asks for no more of the service than this.
  const dependsOn: Record<string, Array<JobId>> = {}
  for (const { id, name = "" } of dependencies) (dependsOn[name] ??= []).push(id)
  const given = { ...options, dependsOn: dependsOn as never } // one id is a list of one
  yield* Effect.provideService(job.enqueue(args as never, given), Jobs, recorder as Jobs["Service"]) // typed by the job
  return stored[0] as NewJobs[number] // one enqueue, one job
})

type Stored = Attempt["dependencies"] extends ReadonlyMap<JobId, infer One> ? One : never

/** Results as the database would hold them, from what the handler is to get. */
const storeResults = Effect.fnUntraced(function* (needs: Dependencies, given: Readonly<Record<string, unknown>>) {
  const stored: Array<Stored> = []
  for (const [name, results] of Object.entries(given)) {
    const need = declaration(needs, name)
    if (need === undefined) continue
    for (const result of need.many ? (results as ReadonlyArray<unknown>) : [results]) {
      // an array where many are needed
      const id = (1_000_000 + stored.length) as JobId // an id, under its brand
      const base = {
        id,
        name,
        added: false,
        worker: need.job.name,
        result: undefined,
        failure: undefined,
        reason: undefined
      }
      // Under `run` it is how the job ended, else what it returned; the types say so.
      const ended = (need.onFailure === "run" ? result : { _tag: "Completed", value: result }) as DependencyResult<
        // typed by the need
        unknown,
        unknown
      >
      switch (ended._tag) {
        case "Completed":
          stored.push({ ...base, state: "completed", result: yield* encodedAs(need.job, ended.value) })
          break
        case "Discarded":
          stored.push({ ...base, state: "discarded", failure: yield* failureWith(need.job.error, ended) })
          break
        case "Cancelled":
          stored.push({ ...base, state: "cancelled", reason: ended.reason })
          break
        case "Pruned":
          stored.push({ ...base, state: "pruned" })
          break
      }
    }
  }
  return stored
})

const storeChildren = (name: string, { job, results }: Children, firstId: number) =>
  Effect.forEach(results, (value, i) =>
    Effect.map(encodedAs(job, value), (result): Stored => ({
      id: (firstId + i) as JobId, // an id, under its brand
      name,
      added: true,
      worker: job.name,
      state: "completed",
      result,
      failure: undefined,
      reason: undefined
    }))
  )

const encodedAs = (job: Parent, value: unknown) =>
  job.success === (Schema.Void as Schema.Top) // to compare them
    ? Effect.succeed(null)
    : Effect.orDie(Schema.encodeUnknownEffect(Schema.toCodecJson(job.success))(value))

const failureWith = (
  error: Schema.Top,
  ended: Extract<DependencyResult<unknown, unknown>, { readonly _tag: "Discarded" }>
): Effect.Effect<AttemptFailure | undefined, never, unknown> =>
  Option.isNone(ended.error)
    ? Effect.succeed(ended.failure)
    : Effect.map(Effect.orDie(Schema.encodeUnknownEffect(Schema.toCodecJson(error))(ended.error.value)), (encoded) => ({
        ...(ended.failure ?? { attempt: 1, at: "1970-01-01T00:00:00.000Z", node: "test", tag: "", message: "" }),
        error: encoded
      }))

const timedOut = (worker: Worker): AttemptTimeout =>
  new AttemptTimeout({
    timeoutMillis: worker.timeoutMillis,
    message: `The attempt took longer than ${worker.timeoutMillis} ms.`
  })

/** The typed error where there is one, else what the library makes of the cause. */
const failure = Effect.fnUntraced(function* (
  worker: Worker,
  attempt: Attempt,
  exit: Exit.Failure<string | undefined, unknown>
) {
  const error = Cause.findErrorOption(exit.cause)
  const snooze = Option.filter(error, (value) => value instanceof Snooze)
  if (Option.isSome(error) && Option.isNone(snooze)) return yield* Effect.fail(error.value)
  const ending = yield* worker.ending(exit, attempt, undefined, "test")
  const message = "failure" in ending ? ending.failure.message : ""
  if (Option.isNone(snooze)) return yield* new AttemptDefect({ message, cause: Cause.squash(exit.cause) })
  return yield* ending._tag === "Snoozed"
    ? snooze.value
    : new InvalidSnooze({ value: Formatter.format(snooze.value.duration), message })
})
