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
  prepare,
  type Refusal,
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

/** Which of several jobs it is, for what is told about it. */
interface Index {
  readonly index?: number
}

/** Makes what checks and encodes the jobs of a definition. */
export const makeEncoder = (name: string, args: Schema.Top, needs: Dependencies, defaults: Defaults) => {
  // The services that the codecs need are in the public types, and in the context of the caller.
  type Erased = (input: unknown) => Effect.Effect<unknown, Schema.SchemaError>
  const encodeArgs = Schema.encodeUnknownEffect(Schema.toCodecJson(args)) as Erased
  const decodeArgs = Schema.decodeUnknownEffect(Schema.toCodecJson(args)) as Erased
  // Most schemas answer at once: eagerly, a thousand jobs cost a thousand steps of a fiber, and not ten thousand.
  const read = (input: unknown, codec: Codec, index: Index) => {
    // A getter that threw, or a nesting that overflowed the stack.
    const unreadable = (why: unknown) => Effect.fail(unreadableArgs(name, why, index))
    try {
      const made = Effect.mapErrorEager(args.makeEffect(input), (issue) => argsProblem(name, issue, input, index))
      const both = Effect.flatMapEager(made, (value) =>
        Effect.mapEager(codec.encode(value), (encoded) => ({ value, encoded }))
      )
      return Exit.isExit(both) && Exit.isSuccess(both) ? both : Effect.catchDefect(both, unreadable)
    } catch (why) {
      return unreadable(why)
    }
  }
  return (
    limits: Limits,
    input: unknown,
    given: Options & { readonly unique?: UniqueOptions | undefined },
    index: Index,
    /** Whether all is known that the job waits for, else that is up to what stores it. */
    isWhole = true
  ): Effect.Effect<NewJob, Refusal> => {
    const codec: Codec = {
      decode: (from) => Effect.mapError(decodeArgs(from), (problem) => argsProblem(name, problem.issue, from, index)),
      encode: (from) =>
        Effect.mapErrorEager(encodeArgs(from), (problem) => argsProblem(name, problem.issue, from, index))
    }
    const complete = (value: unknown, encoded: unknown, partitionKey: string | undefined) => {
      const options = { ...withDefaults({ ...given, partitionKey }, defaults), needs }
      const prepared = prepare(name, encoded, options, limits, index)
      if (Result.isFailure(prepared)) return prepared
      const missing = isWhole ? missingEdges(name, needs, prepared.success.dependsOn ?? [], index) : undefined
      if (missing !== undefined) return Result.fail(missing)
      const unique = given.unique ?? defaults.unique
      const { maxArgsBytes } = limits
      return unique === undefined
        ? prepared
        : makeUnique(prepared.success, unique, { value, encoded, codec, maxArgsBytes }, index)
    }
    return Effect.flatMapEager(read(input, codec, index), ({ encoded, value }) =>
      Effect.flatMapEager(partitionKeyOf(given, defaults.partitionKey, value, index), (partitionKey) =>
        Effect.fromResult(complete(value, encoded, partitionKey))
      )
    )
  }
}
