/** From args and options, by a definition, to a job that can be stored; whatever is wrong with them is a typed refusal. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { Dependencies } from "../Dependency.ts"
import type { UniqueOptions } from "../Unique.ts"
import {
  missingEdges,
  type Options,
  type PartitionKey,
  partitionKeyOf,
  type Refusal,
  type Shape,
  shapeOf,
  strayRefusal,
  textOf,
  withDefaults
} from "./enqueueing.ts"
import type { NewJob } from "./newJob.ts"
import { type Codec, makeUnique } from "./uniqueness.ts"
import { argsProblem, unreadableArgs } from "./worker.ts"

/** What a definition says of its jobs. */
type Defaults = Parameters<typeof withDefaults>[1] & {
  readonly partitionKey?: PartitionKey
  readonly unique?: UniqueOptions | undefined
}

/** What a job is checked against. */
interface Limits {
  readonly encrypts: boolean
  readonly maxArgsBytes: number
}

/** What a call says beside the args. */
type Given = Options & { readonly unique?: UniqueOptions | undefined }

/** Encodes one job. */
type Encode = (input: unknown, index: Index) => Effect.Effect<NewJob, Refusal>

/** Which of several jobs it is, for what is told about it. */
interface Index {
  readonly index?: number
}

/**
 * Makes what checks and encodes the jobs of a definition: of one call, whose options are checked once for all its jobs.
 */
export const makeEncoder = (name: string, args: Schema.Top, needs: Dependencies, defaults: Defaults) => {
  // The services that the codecs need are in the public types, and in the context of the caller.
  type Erased = (input: unknown) => Effect.Effect<unknown, Schema.SchemaError>
  const encodeArgs = Schema.encodeUnknownEffect(Schema.toCodecJson(args)) as Erased // see Erased
  const decodeArgs = Schema.decodeUnknownEffect(Schema.toCodecJson(args)) as Erased // see Erased
  const readsArgs = defaults.partitionKey !== undefined
  const encode = (value: unknown, index: Index) =>
    Effect.mapError(encodeArgs(value), (problem) => argsProblem(name, problem.issue, value, index))
  const read = (input: unknown, index: Index) => {
    // A getter that threw, or a nesting that overflowed the stack.
    const unreadable = (why: unknown) => Effect.fail(unreadableArgs(name, why, index))
    try {
      const made = args.makeEffect(input)
      const sent = isDone(made) ? encodeArgs(made.value) : undefined
      // Most schemas answer at once, which leaves a fiber nothing to step through.
      if (isDone(made) && sent !== undefined && isDone(sent)) {
        return Effect.succeed({ value: made.value, encoded: sent.value })
      }
      const value = Effect.mapError(made, (issue) => argsProblem(name, issue, input, index))
      const both = Effect.flatMap(value, (value) => Effect.map(encode(value, index), (encoded) => ({ value, encoded })))
      return Effect.catchDefect(both, unreadable)
    } catch (why) {
      return unreadable(why)
    }
  }
  const encoderOf = (limits: Limits, given: Given, isWhole: boolean): Encode => {
    const unique = given.unique ?? defaults.unique
    const isStray = strayRefusal(name, given) !== undefined
    const { maxArgsBytes } = limits
    const shape = (partitionKey: string | undefined, index: Index): Result.Result<Shape, Refusal> => {
      const made = shapeOf(name, { ...withDefaults({ ...given, partitionKey }, defaults), needs }, limits, index)
      if (Result.isFailure(made)) return made
      const missing = isWhole ? missingEdges(name, needs, made.success.dependsOn ?? [], index) : undefined
      return missing === undefined ? made : Result.fail(missing)
    }
    let shared: Result.Success<Shape, Refusal> | undefined
    const complete = (value: unknown, encoded: unknown, partitionKey: string | undefined, index: Index) => {
      const made = shared ?? shape(partitionKey, index)
      if (Result.isFailure(made)) return Effect.fail(made.failure)
      if (!readsArgs) shared = made
      const text = textOf(name, encoded, maxArgsBytes, index)
      if (Result.isFailure(text)) return Effect.fail(text.failure)
      const job: NewJob = { ...made.success, args: text.success }
      if (unique === undefined) return Effect.succeed(job)
      const codec: Codec = {
        decode: (from) => Effect.mapError(decodeArgs(from), (problem) => argsProblem(name, problem.issue, from, index)),
        encode: (from) => encode(from, index)
      }
      return Effect.fromResult(makeUnique(job, unique, { value, encoded, codec, maxArgsBytes }, index))
    }
    if (isStray) return (_, index) => Effect.fail(strayRefusal(name, given, index) as Refusal) // as it was above
    return (input, index) =>
      Effect.flatMapEager(read(input, index), ({ encoded, value }) =>
        readsArgs
          ? Effect.flatMapEager(partitionKeyOf(given, defaults.partitionKey, value, index), (partitionKey) =>
              complete(value, encoded, partitionKey, index)
            )
          : complete(value, encoded, given.partitionKey, index)
      )
  }
  let usual: { readonly limits: Limits; readonly encode: Encode } | undefined
  return (
    limits: Limits,
    given: Given | undefined,
    /** Whether all is known that the job waits for, else that is up to what stores it. */
    isWhole = true
  ): Encode => {
    if (given !== undefined || !isWhole) return encoderOf(limits, given ?? {}, isWhole)
    if (usual?.limits !== limits) usual = { limits, encode: encoderOf(limits, {}, true) }
    return usual.encode
  }
}

/** Encodes many jobs in order, up to the first that is refused; in the midst of very many, other fibers get their turn. */
export const encodeAll = Effect.fnUntraced(function* (
  inputs: Iterable<unknown>,
  encode: (input: unknown, index: number) => Effect.Effect<NewJob, Refusal>
) {
  const jobs: Array<NewJob> = []
  for (const input of inputs) {
    const job = encode(input, jobs.length)
    jobs.push(isDone(job) ? job.value : yield* job)
    if (jobs.length % 2048 === 0) yield* Effect.yieldNow
  }
  return jobs
})

// internal

const isDone = <A, E, R>(effect: Effect.Effect<A, E, R>): effect is Exit.Success<A, E> =>
  Exit.isExit(effect) && Exit.isSuccess(effect)
