/**
 * Brings the library's tables up to date: any number of processes may try at once, one does the work.
 *
 * All pending steps run in one transaction under one lock, so a schema is at one version or the next, never between.
 * Steps only add, so older code keeps working on newer tables: while a deployment rolls, and after one was rolled back. A
 * step that could not keep that says how old code may be, and older code refuses to start.
 */
import { PgClient } from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as core from "../migrations/0001_core.ts"
import * as cron from "../migrations/0002_cron.ts"
import * as unique from "../migrations/0003_unique.ts"
import * as composition from "../migrations/0004_composition.ts"
import * as results from "../migrations/0005_results.ts"
import * as limits from "../migrations/0006_limits.ts"
import * as logs from "../migrations/0007_logs.ts"
import * as cells from "../migrations/0008_cells.ts"
import * as workers from "../migrations/0009_workers.ts"
import * as audit from "../migrations/0010_audit.ts"
import * as broadcast from "../migrations/0011_broadcast.ts"
import * as history from "../migrations/0012_history.ts"
import * as needs from "../migrations/0013_needs.ts"
import * as discards from "../migrations/0014_discards.ts"
import * as retention from "../migrations/0015_retention.ts"
import * as broadcasting from "../migrations/0016_broadcasting.ts"
import * as fillfactor from "../migrations/0017_fillfactor.ts"
import { utf8Length } from "./internal/json.ts"
import { nameProblem, schemaProblem, shown } from "./internal/names.ts"
import * as migrate from "./internal/sql/migrate.ts"
import { creation, grants, type Part, parts } from "./internal/sql/roles.ts"
import { autonomous, classify } from "./internal/sql/statement.ts"
import { ShigotoConfig } from "./ShigotoConfig.ts"
import {
  InvalidConfig,
  InvalidSchemaName,
  SchemaVersionMismatch,
  type StorageFailure,
  UnsupportedServer
} from "./ShigotoError.ts"

/**
 * One step: a number, a name, and the statements that it runs in a schema.
 *
 * @category models
 */
export interface Migration {
  readonly version: number
  readonly name: string
  /** The oldest step whose code works once this one has run. Defaults to none: the step only adds. */
  readonly needs?: number
  /** The SQL in order, one statement each; the schema's name has been checked. */
  readonly statements: (schema: string) => ReadonlyArray<string>
}

/**
 * All steps in order.
 *
 * @category constants
 */
export const migrations: ReadonlyArray<Migration> = [
  { version: 1, name: "core", statements: core.statements },
  { version: 2, name: "cron", statements: cron.statements },
  { version: 3, name: "unique", statements: unique.statements },
  { version: 4, name: "composition", statements: composition.statements },
  { version: 5, name: "results", statements: results.statements },
  { version: 6, name: "limits", statements: limits.statements },
  { version: 7, name: "logs", statements: logs.statements },
  { version: 8, name: "cells", statements: cells.statements },
  { version: 9, name: "workers", statements: workers.statements },
  { version: 10, name: "audit", statements: audit.statements },
  { version: 11, name: "broadcast", statements: broadcast.statements },
  { version: 12, name: "history", statements: history.statements },
  { version: 13, name: "needs", statements: needs.statements },
  { version: 14, name: "discards", statements: discards.statements },
  { version: 15, name: "retention", statements: retention.statements },
  { version: 16, name: "broadcasting", statements: broadcasting.statements },
  { version: 17, name: "fillfactor", statements: fillfactor.statements }
]

/**
 * The version of the schema that this code works with.
 *
 * @category constants
 */
export const latest: number = migrations.length

/**
 * The oldest PostgreSQL that the statements run on.
 *
 * @category constants
 */
export const minServerVersion = 140_000

/**
 * What may go wrong while migrating.
 *
 * @category errors
 */
export type MigrationError = SchemaVersionMismatch | UnsupportedServer | StorageFailure

/**
 * The version found in the database, 0 for none; refuses servers and schemas that this code cannot work with.
 *
 * **Details**
 *
 * A version above {@link latest} is that of newer code, whose tables this code works with.
 *
 * @category migrations
 */
export const installed: Effect.Effect<number, MigrationError, PgClient | ShigotoConfig> = Effect.gen(function* () {
  const { schema } = yield* ShigotoConfig
  const client = (yield* PgClient).withoutTransforms()
  const server = yield* Effect.mapError(migrate.server(client), (error) => classify("migrate", error))
  if (server.version < minServerVersion || !server.isPostgres) {
    return yield* new UnsupportedServer({
      version: server.description,
      message: `Shigoto needs PostgreSQL 14 or newer; this server is ${server.description}.`
    })
  }
  const found = yield* Effect.mapError(migrate.installed(client, schema), (error) => classify("migrate", error))
  yield* refuseTooNew(schema, found)
  return found.version
})

/**
 * Runs the pending steps and returns their versions; none where the schema is up to date, or newer.
 *
 * **Details**
 *
 * Waits for other migrators, and for locks on the tables at most two seconds at a time, so that it never queues in
 * front of an application's statements for long; it tries again for a minute.
 *
 * @category migrations
 */
export const run: Effect.Effect<ReadonlyArray<number>, MigrationError, PgClient | ShigotoConfig> = Effect.gen(
  function* () {
    const { schema } = yield* ShigotoConfig
    const client = (yield* PgClient).withoutTransforms()
    const found = yield* installed
    if (found >= latest) return []
    const attempt = Effect.gen(function* () {
      yield* migrate.lock(client, schema)
      yield* migrate.prepare(client, schema)
      const installed = yield* migrate.version(client, schema)
      yield* refuseTooNew(schema, installed)
      const pending = migrations.filter((migration) => migration.version > installed.version)
      for (const migration of pending) {
        for (const statement of migration.statements(schema)) yield* client.unsafe(statement).unprepared
        yield* migrate.record(client, schema, migration)
      }
      return pending.map((migration) => migration.version)
    })
    return yield* autonomous(client, attempt).pipe(
      Effect.mapError((error) => (error._tag === "SqlError" ? classify("migrate", error) : error)),
      Effect.retry({
        while: (error) => error._tag === "StorageUnavailable",
        schedule: Schedule.spaced("500 millis"),
        times: 30
      })
    )
  }
)

/**
 * Fails unless the server is supported and the schema is at the version of this code, or newer and works with it.
 *
 * @category migrations
 */
export const check: Effect.Effect<void, MigrationError, PgClient | ShigotoConfig> = Effect.gen(function* () {
  const { schema } = yield* ShigotoConfig
  const found = yield* installed
  if (found >= latest) return
  return yield* new SchemaVersionMismatch({
    found,
    expected: latest,
    message:
      found === 0
        ? `The schema "${schema}" has no Shigoto tables. Provide Migrations.layer once, or leave ShigotoConfig.migrate on.`
        : `The schema "${schema}" is at version ${found}, this code needs ${latest}. Run the migrations first.`
  })
})

/**
 * Runs the pending steps as the layer is built.
 *
 * @category layers
 */
export const layer: Layer.Layer<never, MigrationError, PgClient | ShigotoConfig> = Layer.effectDiscard(run)

/**
 * Runs the pending steps, or only checks, as `ShigotoConfig.migrate` says.
 *
 * @category layers
 */
export const layerConfigured: Layer.Layer<never, MigrationError, PgClient | ShigotoConfig> = Layer.effectDiscard(
  Effect.flatMap(ShigotoConfig, (config): typeof check => (config.migrate ? Effect.asVoid(run) : check))
)

/**
 * Makes the tables in a schema of their own as the layer is built, and drops it with all that is in it at the end.
 *
 * **Details**
 *
 * For benchmarks and trials beside real jobs. Refuses every schema whose name does not begin with `shigoto_scratch_`,
 * and one that has tables already: nobody's jobs are ever dropped by it.
 *
 * @category layers
 */
export const layerScratch: Layer.Layer<never, MigrationError | InvalidSchemaName, PgClient | ShigotoConfig> =
  Layer.effectDiscard(
    Effect.gen(function* () {
      const client = (yield* PgClient).withoutTransforms()
      const { schema } = yield* ShigotoConfig
      const problem = !schema.startsWith("shigoto_scratch_")
        ? "it does not begin with shigoto_scratch_"
        : (yield* installed) > 0
          ? "it has tables already"
          : undefined
      if (problem !== undefined) {
        return yield* new InvalidSchemaName({
          value: shown(schema),
          message: `The schema ${shown(schema)} cannot be a scratch schema: ${problem}.`
        })
      }
      yield* Effect.acquireRelease(run, () => Effect.ignore(migrate.drop(client, schema)))
    })
  )

/**
 * The SQL of all steps after `from`, as a script for people who run migrations by hand; throws on an unusable schema.
 *
 * @category migrations
 */
export const print = (schema: string, from: number = 0): string => {
  checkSchema(schema)
  const steps = migrations.filter((migration) => migration.version > from)
  return [
    "BEGIN",
    ...migrate.preparations(schema),
    ...steps.flatMap((step) => [...step.statements(schema), migrate.recordText(schema, step)]),
    "COMMIT;\n"
  ].join(";\n\n")
}

/**
 * Roles of the server by what they do; those that are not there are made, without a login.
 *
 * @category models
 */
export type Roles = { readonly [P in Part]?: string | undefined }

/**
 * The SQL that gives roles of the server no more than their part needs; throws on a name that cannot be.
 *
 * **Details**
 *
 * To be run by whoever owns the tables, and again after each upgrade: what a migration adds is granted to nobody. The
 * `owner` gets the tables, so that its members migrate. A `worker` runs whole nodes and may not change the schema. An
 * `operator` reads and changes jobs, queues and schedules, and runs no node. A `producer` enqueues, from SQL and from
 * `Shigoto.layerProducer`, and reads no job; jobs that are unique, depend on others or join batches take a `worker`. A
 * `viewer` reads everything. All but the owner set `migrate: false`.
 *
 * @category migrations
 */
export const printGrants = (schema: string, roles: Roles): string =>
  access(schema, roles, false)
    .map((statement) => `${statement};\n`)
    .join("")

/**
 * The same with the roles themselves, for those that are not there; takes the right to make roles.
 *
 * @category migrations
 */
export const printRoles = (schema: string, roles: Roles): string =>
  ["BEGIN", ...access(schema, roles, true), "COMMIT;\n"].join(";\n\n")

/**
 * Runs the pending steps, then makes the roles that are missing and gives all of them their rights.
 *
 * @category layers
 */
export const layerRoles = (
  roles: Roles
): Layer.Layer<never, MigrationError | InvalidConfig, PgClient | ShigotoConfig> =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      const { schema } = yield* ShigotoConfig
      const client = (yield* PgClient).withoutTransforms()
      const problem = roleProblem(roles)
      if (problem !== undefined) return yield* problem
      yield* run
      const granting = Effect.gen(function* () {
        yield* migrate.lock(client, schema)
        for (const statement of access(schema, roles, true)) yield* client.unsafe(statement).unprepared
      })
      yield* Effect.mapError(autonomous(client, granting), (error) => classify("migrate", error))
    })
  )

// internal

const access = (schema: string, roles: Roles, creates: boolean): ReadonlyArray<string> => {
  checkSchema(schema)
  const problem = roleProblem(roles)
  if (problem !== undefined) throw problem
  const named = parts.flatMap((part) => {
    const role = roles[part]
    return role === undefined ? [] : [{ part, role }]
  })
  return [
    ...(creates ? [...new Set(named.map(({ role }) => role))].map(creation) : []),
    ...named.flatMap(({ part, role }) => grants(schema, part, role))
  ]
}

const roleProblem = (roles: Roles): InvalidConfig | undefined => {
  for (const [part, role] of Object.entries(roles)) {
    if (role === undefined) continue
    const why = !parts.includes(part as Part) // to ask of any text
      ? `the parts are ${parts.join(", ")}`
      : (nameProblem(role) ?? (utf8Length(role) > 63 ? "it has more than 63 bytes" : undefined))
    if (why === undefined) continue
    const value = shown(role)
    return new InvalidConfig({ field: `roles.${part}`, value, message: `${part} cannot be the role ${value}: ${why}.` })
  }
  return undefined
}

const checkSchema = (schema: string): void => {
  const problem = schemaProblem(schema)
  if (problem === undefined) return
  const value = shown(schema)
  throw new InvalidSchemaName({ value, message: `The schema name ${value} cannot be used: ${problem}.` })
}

const refuseTooNew = (
  schema: string,
  { needs, version }: migrate.Installed
): Effect.Effect<void, SchemaVersionMismatch> =>
  needs <= latest
    ? Effect.void
    : Effect.fail(
        new SchemaVersionMismatch({
          found: version,
          expected: latest,
          message:
            `The schema "${schema}" is at version ${version}, and this code (${latest}) is too old for it: ` +
            `it works with code from version ${needs} on. Deploy the newer effect-shigoto.`
        })
      )
