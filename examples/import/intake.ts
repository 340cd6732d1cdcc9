/**
 * Takes jobs of another system into a definition: what both import scripts share.
 *
 * The caller holds the rows locked in a transaction, passes what they say, and deletes those that were taken in the same
 * transaction. So a job is in one system or in the other, at every moment, and an import that runs again finds nothing
 * twice.
 */
import { Effect, Result, Schema } from "effect"
import { CronJobs, type Job, type ShigotoError } from "effect-shigoto"

/** A job of the other system, in the terms of this one. */
export interface Foreign {
  readonly id: string
  readonly args: unknown
  readonly options: Job.EnqueueOptions
}

/** A schedule of the other system. */
export interface ForeignSchedule {
  readonly name: string
  readonly cron: string
  readonly timezone: string | undefined
  readonly args: unknown
  readonly options: Pick<Job.EnqueueOptions, "priority" | "maxAttempts">
}

/** What stays where it is, and why. */
export interface Left {
  readonly id: string
  readonly why: string
}

/** What became of some jobs. */
export interface Taken {
  readonly taken: ReadonlyArray<string>
  readonly left: ReadonlyArray<Left>
}

/** Where the jobs of one foreign name go; `into` makes it. */
export interface Intake<R> {
  /** What the other system calls them. */
  readonly name: string
  readonly take: (jobs: ReadonlyArray<Foreign>) => Effect.Effect<Taken, ShigotoError.StorageFailure, R>
  /** Stores a schedule; says why where it cannot. */
  readonly schedule: (schedule: ForeignSchedule) => Effect.Effect<string | undefined, ShigotoError.StorageFailure, R>
}

/**
 * The jobs that the other system calls `name` become jobs of `definition`.
 *
 * `args` makes this definition's args of what is stored there, where the two differ.
 */
export const into = <
  const Name extends string,
  Args extends Schema.Top,
  Success extends Schema.Top,
  E extends Schema.Top
>(
  name: string,
  definition: Job.Job<Name, Args, Success, E>,
  args: (stored: unknown) => unknown = (stored) => stored
) => {
  type Input = Args["~type.make.in"]
  // What a schema decodes to, its constructor takes too.
  const decode = (stored: unknown) =>
    Schema.decodeUnknownEffect(Schema.toCodecJson(definition.args))(args(stored)) as Effect.Effect<
      Input,
      Schema.SchemaError,
      Args["DecodingServices"]
    >
  // An import never changes a job that is there already: of a unique definition it keeps the key and no more.
  const { unique } = definition.options
  const kept = unique === undefined ? {} : { unique: { keys: unique.keys, states: unique.states } }

  const take = Effect.fnUntraced(function* (jobs: ReadonlyArray<Foreign>) {
    const left: Array<Left> = []
    const fitting: Array<Foreign & { readonly input: Input }> = []
    for (const job of jobs) {
      const input = yield* Effect.result(decode(job.args))
      if (Result.isSuccess(input)) fitting.push({ ...job, input: input.success })
      else left.push({ id: job.id, why: input.failure.message })
    }
    while (fitting.length > 0) {
      const results = yield* Effect.result(
        definition.enqueueAll(
          fitting.map(({ input }) => input),
          (_, index) => ({ ...fitting[index]?.options, ...kept }) as Job.EnqueueOptions<Args["Encoded"], Args["Type"]>
        )
      )
      if (Result.isSuccess(results)) {
        const taken: Array<string> = []
        for (const [i, { _tag, id }] of results.success.entries()) {
          const job = fitting[i] as Foreign // as many results as jobs
          if (_tag === "Inserted") taken.push(job.id)
          else left.push({ id: job.id, why: `job ${id} holds its unique key` })
        }
        return { taken, left }
      }
      // Nothing was written: each job is checked before the first is stored. The others are tried without the one at fault.
      const error = results.failure
      const index = "index" in error ? error.index : undefined
      if (error._tag === "StorageError" || error._tag === "StorageUnavailable") return yield* error
      const [refused] = fitting.splice(index ?? 0, 1)
      left.push({ id: (refused as Foreign).id, why: error.message })
    }
    return { taken: [], left }
  })

  const schedule = Effect.fnUntraced(function* ({ args: stored, options, ...entry }: ForeignSchedule) {
    const cron = yield* CronJobs
    const upsert = Effect.flatMap(decode(stored), (input) =>
      cron.upsert({ ...entry, ...options, job: definition, args: input })
    )
    const stopped = yield* Effect.result(upsert)
    if (Result.isSuccess(stopped)) return undefined
    const error = stopped.failure
    if (error._tag === "StorageError" || error._tag === "StorageUnavailable") return yield* error
    return error.message
  })

  return { name, take, schedule }
}
