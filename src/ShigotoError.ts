/**
 * Every typed error of the library: each says what failed, with which value, and what to do.
 *
 * Bad input is refused by these errors before anything is written; a failure of the database surfaces as
 * {@link StorageUnavailable} (may pass by itself) or {@link StorageError} (will not).
 */
import * as Schema from "effect/Schema"
import type { DecryptionError } from "./internal/envelope.ts"

export * from "./internal/attemptError.ts"
export { DecryptionError } from "./internal/envelope.ts"

const bulkIndex = {
  /** Position of the offending element in a bulk call; absent in single calls. */
  index: Schema.optionalKey(Schema.Int)
}

/**
 * The name given to a job definition breaks the grammar of names.
 *
 * @category errors
 */
export class InvalidWorkerName extends Schema.TaggedError<InvalidWorkerName>("effect-shigoto/InvalidWorkerName")(
  "InvalidWorkerName",
  { value: Schema.String, message: Schema.String }
) {}

/**
 * A queue name breaks the grammar of names.
 *
 * @category errors
 */
export class InvalidQueueName extends Schema.TaggedError<InvalidQueueName>("effect-shigoto/InvalidQueueName")(
  "InvalidQueueName",
  { value: Schema.String, message: Schema.String, ...bulkIndex }
) {}

/**
 * What is said of a job has an option that there is not; `option` names it.
 *
 * @category errors
 */
export class InvalidOption extends Schema.TaggedError<InvalidOption>("effect-shigoto/InvalidOption")("InvalidOption", {
  worker: Schema.String,
  option: Schema.String,
  message: Schema.String,
  ...bulkIndex
}) {}

/**
 * A priority is not an integer within the range of a PostgreSQL smallint.
 *
 * @category errors
 */
export class InvalidPriority extends Schema.TaggedError<InvalidPriority>("effect-shigoto/InvalidPriority")(
  "InvalidPriority",
  { value: Schema.String, min: Schema.Int, max: Schema.Int, message: Schema.String, ...bulkIndex }
) {}

/**
 * The largest number of attempts is not an integer from 1 to 32,767.
 *
 * @category errors
 */
export class InvalidMaxAttempts extends Schema.TaggedError<InvalidMaxAttempts>("effect-shigoto/InvalidMaxAttempts")(
  "InvalidMaxAttempts",
  { value: Schema.String, min: Schema.Int, max: Schema.Int, message: Schema.String, ...bulkIndex }
) {}

/**
 * A `delay` or `runAt` is no instant that PostgreSQL and JavaScript both hold exactly.
 *
 * @category errors
 */
export class InvalidRunAt extends Schema.TaggedError<InvalidRunAt>("effect-shigoto/InvalidRunAt")("InvalidRunAt", {
  value: Schema.String,
  message: Schema.String,
  ...bulkIndex
}) {}

/**
 * An `expiresIn`, `startBefore` or `onExpire` says nothing that a job could be held to.
 *
 * @category errors
 */
export class InvalidDeadline extends Schema.TaggedError<InvalidDeadline>("effect-shigoto/InvalidDeadline")(
  "InvalidDeadline",
  {
    field: Schema.Literals(["expiresIn", "startBefore", "onExpire"]),
    value: Schema.String,
    message: Schema.String,
    ...bulkIndex
  }
) {}

/**
 * A tag list is too long, or one of its tags is empty, too long, or not text.
 *
 * @category errors
 */
export class InvalidTags extends Schema.TaggedError<InvalidTags>("effect-shigoto/InvalidTags")("InvalidTags", {
  value: Schema.String,
  message: Schema.String,
  ...bulkIndex
}) {}

/**
 * The meta value is no JSON object, or is too large.
 *
 * @category errors
 */
export class InvalidMeta extends Schema.TaggedError<InvalidMeta>("effect-shigoto/InvalidMeta")("InvalidMeta", {
  path: Schema.String,
  message: Schema.String,
  ...bulkIndex
}) {}

/**
 * A job cannot be encrypted, or be left in the clear, as its producer says.
 *
 * @category errors
 */
export class InvalidEncrypted extends Schema.TaggedError<InvalidEncrypted>("effect-shigoto/InvalidEncrypted")(
  "InvalidEncrypted",
  { value: Schema.String, message: Schema.String, ...bulkIndex }
) {}

/**
 * A partition key breaks the grammar of names.
 *
 * @category errors
 */
export class InvalidPartitionKey extends Schema.TaggedError<InvalidPartitionKey>("effect-shigoto/InvalidPartitionKey")(
  "InvalidPartitionKey",
  { value: Schema.String, message: Schema.String, ...bulkIndex }
) {}

/**
 * The args do not match the job's schema, or encode to something that is not JSON.
 *
 * **Details**
 *
 * `path` points into the encoded args, such as `$.to[2]`.
 *
 * @category errors
 */
export class InvalidArgs extends Schema.TaggedError<InvalidArgs>("effect-shigoto/InvalidArgs")("InvalidArgs", {
  worker: Schema.String,
  path: Schema.String,
  reason: Schema.String,
  message: Schema.String,
  ...bulkIndex
}) {}

/**
 * The encoded args are larger than `ShigotoConfig.maxArgsBytes`.
 *
 * @category errors
 */
export class ArgsTooLarge extends Schema.TaggedError<ArgsTooLarge>("effect-shigoto/ArgsTooLarge")("ArgsTooLarge", {
  worker: Schema.String,
  size: Schema.Int,
  limit: Schema.Int,
  message: Schema.String,
  ...bulkIndex
}) {}

/**
 * A unique option cannot be used, or a key's path is not in the args; `field` says which.
 *
 * @category errors
 */
export class InvalidUnique extends Schema.TaggedError<InvalidUnique>("effect-shigoto/InvalidUnique")("InvalidUnique", {
  field: Schema.String,
  value: Schema.String,
  message: Schema.String,
  ...bulkIndex
}) {}

/**
 * No job with this id is live or archived.
 *
 * @category errors
 */
export class JobNotFound extends Schema.TaggedError<JobNotFound>("effect-shigoto/JobNotFound")("JobNotFound", {
  id: Schema.String,
  message: Schema.String
}) {}

/**
 * A filter, cursor or page size given to `Jobs` cannot be used.
 *
 * @category errors
 */
export class InvalidFilter extends Schema.TaggedError<InvalidFilter>("effect-shigoto/InvalidFilter")("InvalidFilter", {
  field: Schema.String,
  value: Schema.String,
  message: Schema.String
}) {}

/**
 * The concurrency of a queue or of a worker is not an integer from 1 to 100,000; `field` names which.
 *
 * @category errors
 */
export class InvalidConcurrency extends Schema.TaggedError<InvalidConcurrency>("effect-shigoto/InvalidConcurrency")(
  "InvalidConcurrency",
  {
    field: Schema.Literals(["concurrency", "globalConcurrency"]),
    value: Schema.String,
    min: Schema.Int,
    max: Schema.Int,
    message: Schema.String
  }
) {}

/**
 * A field of the configuration cannot be used; `field` names it.
 *
 * @category errors
 */
export class InvalidConfig extends Schema.TaggedError<InvalidConfig>("effect-shigoto/InvalidConfig")("InvalidConfig", {
  field: Schema.String,
  value: Schema.String,
  message: Schema.String
}) {}

/**
 * The schema name is not usable as the home of the library's tables.
 *
 * @category errors
 */
export class InvalidSchemaName extends Schema.TaggedError<InvalidSchemaName>("effect-shigoto/InvalidSchemaName")(
  "InvalidSchemaName",
  { value: Schema.String, message: Schema.String }
) {}

/**
 * The database holds an older or newer version of the tables than this library works with.
 *
 * @category errors
 */
export class SchemaVersionMismatch extends Schema.TaggedError<SchemaVersionMismatch>(
  "effect-shigoto/SchemaVersionMismatch"
)("SchemaVersionMismatch", { found: Schema.Int, expected: Schema.Int, message: Schema.String }) {}

/**
 * The server is not a PostgreSQL of a supported version.
 *
 * @category errors
 */
export class UnsupportedServer extends Schema.TaggedError<UnsupportedServer>("effect-shigoto/UnsupportedServer")(
  "UnsupportedServer",
  { version: Schema.String, message: Schema.String }
) {}

/**
 * The database cannot serve the operation right now: unreachable, restarting, read-only, out of disk, connections
 * or time.
 *
 * **Details**
 *
 * Nothing of the operation is known to be stored; where the connection broke during a commit it may be. `code` is
 * the SQLSTATE, empty where there was no answer.
 *
 * @category errors
 */
export class StorageUnavailable extends Schema.TaggedError<StorageUnavailable>("effect-shigoto/StorageUnavailable")(
  "StorageUnavailable",
  { operation: Schema.String, code: Schema.String, message: Schema.String, cause: Schema.Defect() }
) {}

/**
 * The database refused the operation, and would refuse it again: missing tables or rights, an aborted transaction.
 *
 * @category errors
 */
export class StorageError extends Schema.TaggedError<StorageError>("effect-shigoto/StorageError")("StorageError", {
  operation: Schema.String,
  code: Schema.String,
  message: Schema.String,
  cause: Schema.Defect()
}) {}

/**
 * What any operation on the store may fail with.
 *
 * @category errors
 */
export type StorageFailure = StorageUnavailable | StorageError

/**
 * A cron entry cannot be used; `field` says which part of it.
 *
 * @category errors
 */
export class InvalidCron extends Schema.TaggedError<InvalidCron>("effect-shigoto/InvalidCron")("InvalidCron", {
  /** Its name. */
  entry: Schema.String,
  field: Schema.String,
  reason: Schema.String,
  message: Schema.String
}) {}

/**
 * A cron entry of this name is owned by code, or by the database, and the other wants to change it.
 *
 * @category errors
 */
export class CronConflict extends Schema.TaggedError<CronConflict>("effect-shigoto/CronConflict")("CronConflict", {
  /** Its name. */
  entry: Schema.String,
  source: Schema.Literals(["code", "database"]),
  message: Schema.String
}) {}

/**
 * There is no cron entry of this name.
 *
 * @category errors
 */
export class CronNotFound extends Schema.TaggedError<CronNotFound>("effect-shigoto/CronNotFound")("CronNotFound", {
  /** Its name. */
  entry: Schema.String,
  message: Schema.String
}) {}

/**
 * Jobs that a new one was to wait for do not exist, in any state, and never did; nothing was stored.
 *
 * @category errors
 */
export class MissingDependencies extends Schema.TaggedError<MissingDependencies>("effect-shigoto/MissingDependencies")(
  "MissingDependencies",
  { ids: Schema.Array(Schema.Int), message: Schema.String }
) {}

/**
 * A list of dependencies cannot be used: no id, an id twice, a policy that there is not, or too many of them.
 *
 * @category errors
 */
export class InvalidDependencies extends Schema.TaggedError<InvalidDependencies>("effect-shigoto/InvalidDependencies")(
  "InvalidDependencies",
  { value: Schema.String, message: Schema.String, ...bulkIndex }
) {}

/**
 * A batch was sealed and takes no more members; nothing was stored.
 *
 * @category errors
 */
export class BatchClosed extends Schema.TaggedError<BatchClosed>("effect-shigoto/BatchClosed")("BatchClosed", {
  batch: Schema.String,
  message: Schema.String
}) {}

/**
 * There is no batch, or flow, with this id.
 *
 * @category errors
 */
export class BatchNotFound extends Schema.TaggedError<BatchNotFound>("effect-shigoto/BatchNotFound")("BatchNotFound", {
  batch: Schema.String,
  message: Schema.String
}) {}

/**
 * A batch or flow cannot be named like this.
 *
 * @category errors
 */
export class InvalidBatch extends Schema.TaggedError<InvalidBatch>("effect-shigoto/InvalidBatch")("InvalidBatch", {
  value: Schema.String,
  message: Schema.String
}) {}

/**
 * A part of a flow cannot be used; thrown as the flow is made.
 *
 * @category errors
 */
export class InvalidFlow extends Schema.TaggedError<InvalidFlow>("effect-shigoto/InvalidFlow")("InvalidFlow", {
  flow: Schema.String,
  value: Schema.String,
  message: Schema.String
}) {}

/**
 * What ties a job to others, and the database did not find.
 *
 * @category errors
 */
export type CompositionError = MissingDependencies | BatchClosed | BatchNotFound

/**
 * What keeps a job from being enqueued.
 *
 * @category errors
 */
export type EnqueueError =
  | InvalidArgs
  | ArgsTooLarge
  | DecryptionError
  | InvalidOption
  | InvalidQueueName
  | InvalidPriority
  | InvalidMaxAttempts
  | InvalidRunAt
  | InvalidDeadline
  | InvalidTags
  | InvalidMeta
  | InvalidPartitionKey
  | InvalidEncrypted
  | InvalidDependencies
  | CompositionError
  | InvalidUnique
  | StorageFailure

/**
 * A job whose result somebody waits for was given up: its attempts are used up, or its handler said so.
 *
 * @category results
 */
export class JobDiscarded extends Schema.TaggedError<JobDiscarded>("effect-shigoto/JobDiscarded")("JobDiscarded", {
  id: Schema.Int,
  worker: Schema.String,
  /** Its last failure. */
  failure: Schema.optionalKey(
    Schema.Struct({
      attempt: Schema.Int,
      node: Schema.String,
      tag: Schema.String,
      message: Schema.String,
      cause: Schema.optionalKey(Schema.String)
    })
  ),
  message: Schema.String
}) {}

/**
 * A job whose result somebody waits for was cancelled.
 *
 * @category results
 */
export class JobCancelled extends Schema.TaggedError<JobCancelled>("effect-shigoto/JobCancelled")("JobCancelled", {
  id: Schema.Int,
  worker: Schema.String,
  reason: Schema.optionalKey(Schema.String),
  message: Schema.String
}) {}

/**
 * A stored result does not match the `success` schema of the definition that reads it.
 *
 * @category results
 */
export class ResultDecodeError extends Schema.TaggedError<ResultDecodeError>("effect-shigoto/ResultDecodeError")(
  "ResultDecodeError",
  { id: Schema.Int, worker: Schema.String, message: Schema.String }
) {}

/**
 * `execute` was called inside of a transaction: nobody sees its job before that commits, so it would wait for ever.
 *
 * @category results
 */
export class AwaitInTransaction extends Schema.TaggedError<AwaitInTransaction>("effect-shigoto/AwaitInTransaction")(
  "AwaitInTransaction",
  { worker: Schema.String, message: Schema.String }
) {}

/**
 * What waiting for a job may end with, beside its own error.
 *
 * @category results
 */
export type AwaitError = JobDiscarded | JobCancelled | JobNotFound | ResultDecodeError | AwaitInTransaction
