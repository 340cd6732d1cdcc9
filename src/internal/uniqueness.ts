/** From what a producer says of uniqueness to what the store needs for it. */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { InvalidArgs } from "../ShigotoError.ts"
import { ArgsTooLarge, InvalidUnique } from "../ShigotoError.ts"
import { check, keyText, type UniqueOptions } from "../Unique.ts"
import { stringify } from "./json.ts"
import { shown } from "./names.ts"
import type { MergeRefusal, NewJob, UniqueRequest } from "./newJob.ts"

/** How args are read and written, for a debounce that merges them. */
export interface Codec {
  readonly decode: (encoded: unknown) => Effect.Effect<unknown, InvalidArgs>
  readonly encode: (value: unknown) => Effect.Effect<unknown, InvalidArgs>
}

/** Makes a prepared job unique; a debounce also decides when it is due. */
export const makeUnique = (
  job: NewJob,
  options: UniqueOptions,
  args: { readonly value: unknown; readonly encoded: unknown; readonly codec: Codec; readonly maxArgsBytes: number },
  index: { readonly index?: number }
): Result.Result<NewJob, InvalidUnique> => {
  const rule = check(options, index)
  if (Result.isFailure(rule)) return Result.fail(rule.failure)
  const { debounce } = rule.success
  const delayed = !("delayMillis" in job.due) || job.due.delayMillis > 0
  if (debounce !== undefined && delayed) {
    return Result.fail(
      new InvalidUnique({
        field: "debounce",
        value: shown(debounce.waitMillis),
        message: "A debounced job's time follows from its enqueues: leave out delay and runAt.",
        ...index
      })
    )
  }
  const text = keyText(rule.success, { worker: job.worker, queue: job.queue, args: args.encoded })
  if (Result.isFailure(text)) {
    return Result.fail(
      new InvalidUnique({
        field: "keys",
        value: shown(text.failure),
        message: `unique.keys names ${shown(text.failure)}, which these args of "${job.worker}" do not have.`,
        ...index
      })
    )
  }
  const unique: UniqueRequest = {
    rule: rule.success,
    text: text.success,
    merge: merge(job, options, args, index)
  }
  return Result.succeed({
    ...job,
    unique,
    due: debounce === undefined || debounce.leading ? job.due : { delayMillis: debounce.waitMillis }
  })
}

// internal

const merge =
  (
    job: NewJob,
    options: UniqueOptions,
    args: { readonly value: unknown; readonly codec: Codec; readonly maxArgsBytes: number },
    index: { readonly index?: number }
  ) =>
  (waiting: unknown): Effect.Effect<string, MergeRefusal> => {
    const combine = options.debounce?.args
    if (typeof combine !== "function") return Effect.succeed(job.args)
    return args.codec.decode(waiting).pipe(
      Effect.map((before) => combine(before, args.value)),
      Effect.flatMap(args.codec.encode),
      Effect.flatMap((encoded) => {
        const text = stringify(encoded, args.maxArgsBytes)
        return Result.isSuccess(text) && text.success._tag === "Text"
          ? Effect.succeed(text.success.text)
          : Effect.fail(
              new ArgsTooLarge({
                worker: job.worker,
                size: Result.isSuccess(text) && text.success._tag === "TooLarge" ? text.success.size : 0,
                limit: args.maxArgsBytes,
                message: `The merged args of "${job.worker}" cannot be stored: ${
                  Result.isFailure(text) ? `${text.failure.reason} at ${text.failure.path}` : "they are too large"
                }.`,
                ...index
              })
            )
      })
    )
  }
