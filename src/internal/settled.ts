/** From how a job ended, as stored, to what its definition says that it is. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { AttemptFailure, JobId, JobState } from "../JobRow.ts"
import type { JobStore } from "../JobStore.ts"
import { JobCancelled, JobDiscarded, JobNotFound, ResultDecodeError, type StorageFailure } from "../ShigotoError.ts"
import { Encrypted } from "./envelope.ts"
import { sanitize } from "./json.ts"
import type { Settled } from "./sql/result.ts"

/** The part of a definition that reads its results. */
export interface Readable<Success extends Schema.Top, Error extends Schema.Top> {
  readonly name: string
  readonly success: Success
  readonly error: Error
  readonly options?: { readonly encrypted?: boolean | undefined }
}

/** The decoded result. */
export const successOf = <Success extends Schema.Top>(
  { name, options, success }: Pick<Readable<Success, Schema.Top>, "name" | "success" | "options">,
  { clear, id, result }: Pick<Settled, "id" | "result" | "clear">
): Effect.Effect<Success["Type"], ResultDecodeError, Success["DecodingServices"]> =>
  // Nothing is stored for nothing.
  (success as Schema.Top) === Schema.Void // to compare them
    ? Effect.undefined
    : Effect.mapError(
        (clear !== undefined && (options?.encrypted ?? clear.byDefault)
          ? Effect.fail(clear.problem)
          : result instanceof Encrypted
            ? Effect.fail(result.problem)
            : Schema.decodeUnknownEffect(Schema.toCodecJson(success))(result)) as Decoded<Success>, // see Decoded
        (error) =>
          new ResultDecodeError({
            id,
            worker: name,
            message: `The stored result of job ${id} does not match the success schema of "${name}": ${sanitize(error.message, 2000)}`
          })
      )

/** The decoded error of a failed attempt; none where it failed by anything else. */
export const errorOf = <Error extends Schema.Top>(
  { error }: { readonly error: Error },
  failure: AttemptFailure | undefined
): Effect.Effect<Option.Option<Error["Type"]>, never, Error["DecodingServices"]> =>
  failure === undefined || failure.error === undefined
    ? Effect.succeedNone
    : Effect.option(Schema.decodeUnknownEffect(Schema.toCodecJson(error))(failure.error))

/** Ends as the job ended. */
export const conclusionOf = <Success extends Schema.Top, Error extends Schema.Top>(
  definition: Readable<Success, Error>,
  settled: Settled
): Effect.Effect<
  Success["Type"],
  Error["Type"] | JobDiscarded | JobCancelled | JobNotFound | ResultDecodeError,
  Success["DecodingServices"] | Error["DecodingServices"]
> => {
  const { failure, id, reason, state } = settled
  switch (state) {
    case "completed":
      return successOf(definition, settled)
    case "discarded":
      return Effect.flatMap(errorOf(definition, failure), (error) =>
        Effect.fail(Option.isSome(error) ? error.value : discarded(definition.name, id, failure))
      )
    case "cancelled":
      return Effect.fail(
        new JobCancelled({
          id,
          worker: definition.name,
          message: `Job ${id} of "${definition.name}" was cancelled${reason === undefined ? "." : `: ${reason}`}`,
          ...(reason === undefined ? {} : { reason })
        })
      )
    case "gone":
      return Effect.fail(gone(id))
  }
}

/**
 * How a job stands; `error` is there where its last attempt failed with an error of its definition's schema.
 *
 * @category models
 */
export type JobResult<Success, Error> =
  | { readonly _tag: "Pending"; readonly state: JobState }
  | { readonly _tag: "Completed"; readonly value: Success }
  | {
      readonly _tag: "Discarded"
      readonly error: Option.Option<Error>
      readonly failure: AttemptFailure | undefined
    }
  | { readonly _tag: "Cancelled"; readonly reason: string | undefined }

/** Reads how a job stands. */
export const standingOf = Effect.fnUntraced(function* <Success extends Schema.Top, Error extends Schema.Top>(
  store: JobStore["Service"],
  definition: Readable<Success, Error>,
  id: JobId
): Effect.fn.Return<
  JobResult<Success["Type"], Error["Type"]>,
  JobNotFound | ResultDecodeError | StorageFailure,
  Success["DecodingServices"] | Error["DecodingServices"]
> {
  let settled = yield* store.results.find(id)
  while (settled === undefined) {
    const row = yield* store.get(id)
    if (row !== undefined && row.finishedAt === undefined) return { _tag: "Pending", state: row.state }
    // It has ended between the two looks.
    settled = yield* store.results.find(id)
  }
  const { failure, reason } = settled
  switch (settled.state) {
    case "completed":
      return { _tag: "Completed", value: yield* successOf(definition, settled) }
    case "discarded":
      return { _tag: "Discarded", error: yield* errorOf(definition, failure), failure }
    case "cancelled":
      return { _tag: "Cancelled", reason }
    case "gone":
      return yield* gone(id)
  }
})

// internal

/** The services that a codec needs are in the public types, and in the context of the caller. */
type Decoded<S extends Schema.Top> = Effect.Effect<S["Type"], Schema.SchemaError, S["DecodingServices"]>

const discarded = (worker: string, id: JobId, failure: AttemptFailure | undefined): JobDiscarded =>
  failure === undefined
    ? new JobDiscarded({ id, worker, message: `Job ${id} of "${worker}" was discarded.` })
    : new JobDiscarded({
        id,
        worker,
        failure: {
          attempt: failure.attempt,
          node: failure.node,
          tag: failure.tag,
          message: failure.message,
          ...(failure.cause === undefined ? {} : { cause: failure.cause })
        },
        message: `Job ${id} of "${worker}" was discarded: ${failure.tag}: ${failure.message}`
      })

/** Tells that nothing is left of a job. */
const gone = (id: JobId): JobNotFound =>
  new JobNotFound({ id: String(id), message: `Nothing is left of job ${id}: it was deleted or pruned, or never was.` })
