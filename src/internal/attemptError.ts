/** How attempts fail by the library's own judgement. */
import * as Schema from "effect/Schema"
import type { DecryptionError } from "./envelope.ts"

/**
 * The attempt ran longer than the job's `timeout` and was interrupted.
 *
 * @category attempts
 */
export class AttemptTimeout extends Schema.TaggedError<AttemptTimeout>("effect-shigoto/AttemptTimeout")(
  "AttemptTimeout",
  { timeoutMillis: Schema.Finite, message: Schema.String }
) {}

/**
 * The handler died with a defect or was interrupted from inside.
 *
 * @category attempts
 */
export class AttemptDefect extends Schema.TaggedError<AttemptDefect>("effect-shigoto/AttemptDefect")("AttemptDefect", {
  message: Schema.String,
  cause: Schema.Defect()
}) {}

/**
 * The stored args no longer match the job's schema; the handler was not called.
 *
 * @category attempts
 */
export class ArgsDecodeError extends Schema.TaggedError<ArgsDecodeError>("effect-shigoto/ArgsDecodeError")(
  "ArgsDecodeError",
  { worker: Schema.String, message: Schema.String }
) {}

/**
 * The handler's result cannot be stored; the job is discarded, since running it again would repeat its effects.
 *
 * @category attempts
 */
export class ResultEncodeError extends Schema.TaggedError<ResultEncodeError>("effect-shigoto/ResultEncodeError")(
  "ResultEncodeError",
  { worker: Schema.String, message: Schema.String }
) {}

/**
 * A handler asked to snooze for something that is no duration above zero and up to ten years.
 *
 * @category attempts
 */
export class InvalidSnooze extends Schema.TaggedError<InvalidSnooze>("effect-shigoto/InvalidSnooze")("InvalidSnooze", {
  value: Schema.String,
  message: Schema.String
}) {}

/**
 * The args of a flow's node could not be computed from the results that it waited for.
 *
 * @category attempts
 */
export class FlowArgsError extends Schema.TaggedError<FlowArgsError>("effect-shigoto/FlowArgsError")("FlowArgsError", {
  flow: Schema.String,
  step: Schema.String,
  message: Schema.String
}) {}

/**
 * A job that this one waited for gives it no result: it was never named, it failed, its result is no longer kept, or it
 * is another one than the definition says; the handler was not called.
 *
 * @category attempts
 */
export class DependencyError extends Schema.TaggedError<DependencyError>("effect-shigoto/DependencyError")(
  "DependencyError",
  {
    worker: Schema.String,
    /** What the job calls it. */
    dependency: Schema.String,
    /** The job that it waited for. */
    id: Schema.optionalKey(Schema.Int),
    reason: Schema.Literals(["Missing", "Failed", "Pruned", "Mismatch"]),
    message: Schema.String
  }
) {}

/**
 * The children of a fan-out cannot be inserted: args that do not match, too many of them, an option that there is not.
 * Nothing was inserted.
 *
 * @category attempts
 */
export class FanOutError extends Schema.TaggedError<FanOutError>("effect-shigoto/FanOutError")("FanOutError", {
  /** What the handler calls the fan-out. */
  fanOut: Schema.String,
  /** Position of the child that it is about. */
  index: Schema.optionalKey(Schema.Int),
  message: Schema.String
}) {}

/**
 * How an attempt may fail by the library's own judgement, beside the handler's own typed error.
 *
 * @category attempts
 */
export type AttemptError =
  | AttemptTimeout
  | AttemptDefect
  | ArgsDecodeError
  | DecryptionError
  | ResultEncodeError
  | InvalidSnooze
  | FlowArgsError
  | DependencyError
  | FanOutError
