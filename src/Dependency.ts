/**
 * What a job reads of the jobs that it waited for: from what its definition declares to typed results.
 *
 * A handler runs only with all that its definition declares, decoded by the schemas of the definitions that returned it;
 * what is missing or does not match is a typed failure of that attempt.
 */
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { AttemptFailure, JobId } from "./JobRow.ts"
import { DependencyError, type ResultDecodeError } from "./ShigotoError.ts"
import type { Dependency, OnFailure } from "./internal/newJob.ts"
import { errorOf, type Readable, successOf } from "./internal/settled.ts"

/**
 * A definition whose results others read.
 *
 * @category models
 */
export type Parent = Readable<Schema.Top, Schema.Top>

/**
 * A definition to read results of, alone or with what happens when its job fails.
 *
 * Under `run` the job runs all the same and sees how the other one ended; else it has the result, or does not run.
 *
 * @category models
 */
export type Declared = Parent | { readonly job: Parent; readonly onFailure?: OnFailure | undefined }

/**
 * What a definition reads, by name: the result of one job, or in brackets those of any number of jobs.
 *
 * @category models
 */
export interface Dependencies {
  readonly [name: string]: Declared | readonly [Declared]
}

/**
 * How a job ended that another one waited for; `Pruned` where nothing of it is kept.
 *
 * @category models
 */
export type DependencyResult<Success, Error> = { readonly id: JobId } & (
  | { readonly _tag: "Completed"; readonly value: Success }
  | {
      readonly _tag: "Discarded"
      /** There where its last attempt failed with an error of its definition's schema. */
      readonly error: Option.Option<Error>
      readonly failure: AttemptFailure | undefined
    }
  | { readonly _tag: "Cancelled"; readonly reason: string | undefined }
  | { readonly _tag: "Pruned" }
)

/**
 * What happens to a job when a declared one fails.
 *
 * @category models
 */
export type PolicyOf<D> = D extends { readonly onFailure: infer Policy extends OnFailure } ? Policy : "cancel"

/**
 * What a handler gets of one declared job.
 *
 * @category models
 */
export type ReadOf<D> =
  JobOf<D> extends Readable<infer Success, infer Error> ? ByPolicy<PolicyOf<D>, Success["Type"], Error["Type"]> : never

/**
 * What is read under a policy: how the job ended under `run`, else its result.
 *
 * @category models
 */
export type ByPolicy<Policy, Success, Error> = Policy extends "run" ? DependencyResult<Success, Error> : Success

/**
 * What a handler gets of all that its definition declares.
 *
 * @category models
 */
export type Results<Needs extends Dependencies> = {
  readonly [Name in keyof Needs]: Needs[Name] extends readonly [infer One]
    ? ReadonlyArray<ReadOf<One>>
    : ReadOf<Needs[Name]>
}

/**
 * The jobs to wait for, by the names that a definition declares.
 *
 * @category models
 */
export type Edges<Needs extends Dependencies> = {
  readonly [Name in keyof Needs]: Needs[Name] extends readonly [infer One]
    ? ReadonlyArray<EdgeTo<PolicyOf<One>>>
    : EdgeTo<PolicyOf<Needs[Name]>>
}

/**
 * What reading them takes.
 *
 * @category models
 */
export type ReadingServices<Needs extends Dependencies> = {
  readonly [Name in keyof Needs]: Needs[Name] extends readonly [infer One] ? ServicesOf<One> : ServicesOf<Needs[Name]>
}[keyof Needs]

/**
 * What is declared under a name, and whether for any number of jobs.
 *
 * @category rules
 */
export const declaration = (needs: Dependencies, name: string) => {
  const one = Object.hasOwn(needs, name) ? needs[name] : undefined
  if (one === undefined) return undefined
  return isMany(one) ? { ...declared(one[0]), many: true } : { ...declared(one), many: false }
}

/**
 * Reads all that a definition declares, before its handler runs.
 *
 * @category running
 */
export const readAll = Effect.fnUntraced(function* (
  worker: string,
  needs: Dependencies,
  dependencies: ReadonlyMap<JobId, Dependency>
): Effect.fn.Return<Readonly<Record<string, unknown>>, DependencyError> {
  const read: Record<string, unknown> = {}
  for (const name of Object.keys(needs)) {
    const found = named(dependencies, name).filter(({ added }) => !added)
    const { job, many, onFailure } = declaration(needs, name) as NonNullable<ReturnType<typeof declaration>> // a key of it
    const each = (one: Dependency) => readOne({ worker, name }, job, onFailure, one)
    if (many) {
      read[name] = yield* Effect.forEach(found, each)
      continue
    }
    const [one] = found
    if (one === undefined) {
      return yield* new DependencyError({
        worker,
        dependency: name,
        reason: "Missing",
        message: `"${worker}" reads the result of "${name}", and this job waited for none: enqueue it with dependsOn: { ${name}: id }.`
      })
    }
    read[name] = yield* each(one)
  }
  return read
})

/**
 * Reads one: its value, or under `run` how it ended.
 *
 * @category running
 */
export const readOne = (
  by: { readonly worker: string; readonly name: string },
  job: Parent,
  onFailure: OnFailure,
  one: Dependency
): Effect.Effect<unknown, DependencyError> => (onFailure === "run" ? resultOf(by, job, one) : valueOf(by, job, one))

/**
 * Those that a job calls by one name, by rising id.
 *
 * @category looking
 */
export const named = (dependencies: ReadonlyMap<JobId, Dependency>, name: string): ReadonlyArray<Dependency> =>
  [...dependencies.values()].filter((one) => one.name === name).toSorted((a, b) => a.id - b.id)

// internal

type JobOf<D> = D extends { readonly job: infer Job } ? Job : D
type EdgeTo<Policy> =
  | JobId
  | {
      readonly id: JobId
      readonly onFailure?: ([Policy] extends ["run"] ? OnFailure : Exclude<OnFailure, "run">) | undefined
    }
type ServicesOf<D> =
  JobOf<D> extends Readable<infer Success, infer Error>
    ? Success["DecodingServices"] | Error["DecodingServices"]
    : never

const declared = (one: Declared): { readonly job: Parent; readonly onFailure: OnFailure } =>
  "job" in one ? { job: one.job, onFailure: one.onFailure ?? "cancel" } : { job: one, onFailure: "cancel" }

const isMany = (one: Declared | readonly [Declared]): one is readonly [Declared] => Array.isArray(one)

const problem = (
  by: { readonly worker: string; readonly name: string },
  id: JobId,
  reason: DependencyError["reason"],
  why: string
): DependencyError =>
  new DependencyError({
    worker: by.worker,
    dependency: by.name,
    id,
    reason,
    message: `"${by.worker}" reads the result of "${by.name}", and job ${id} ${why}.`
  })

const valueOf = (
  by: { readonly worker: string; readonly name: string },
  job: Parent,
  one: Dependency
): Effect.Effect<unknown, DependencyError> =>
  Effect.flatMap(resultOf(by, job, one), (result) => {
    switch (result._tag) {
      case "Completed":
        return Effect.succeed(result.value)
      case "Pruned":
        return Effect.fail(problem(by, one.id, "Pruned", "ended so long ago that its result is no longer kept"))
      case "Discarded":
        return Effect.fail(problem(by, one.id, "Failed", "was discarded"))
      case "Cancelled":
        return Effect.fail(problem(by, one.id, "Failed", "was cancelled"))
    }
  })

const resultOf = (
  by: { readonly worker: string; readonly name: string },
  job: Parent,
  { failure, id, reason, result, state, worker }: Dependency
): Effect.Effect<DependencyResult<unknown, unknown>, DependencyError> => {
  if (worker !== undefined && worker !== job.name) {
    return Effect.fail(problem(by, id, "Mismatch", `is one of "${worker}", not of "${job.name}"`))
  }
  switch (state) {
    case "completed":
      // Nothing is stored for nothing, so of a job without a result nothing can be missing.
      return result === undefined && job.success !== (Schema.Void as Schema.Top) // to compare them
        ? Effect.succeed({ id, _tag: "Pruned" })
        : // The services that the codec needs are in the type of the reader, and in its context.
          (successOf(job, { id, result: result ?? null }) as Effect.Effect<unknown, ResultDecodeError, never>).pipe(
            // needs no services
            Effect.mapError((error) => problem(by, id, "Mismatch", `has another one: ${error.message}`)),
            Effect.map((value) => ({ id, _tag: "Completed", value }))
          )
    case "discarded":
      return Effect.map(errorOf(job, failure) as Effect.Effect<Option.Option<unknown>>, (error) => ({
        // as above
        id,
        _tag: "Discarded",
        error,
        failure
      }))
    case "cancelled":
      return Effect.succeed({ id, _tag: "Cancelled", reason })
    case "pruned":
      return Effect.succeed({ id, _tag: "Pruned" })
  }
}
