/**
 * Which database, and what a command does with it.
 *
 * The flag comes before `SHIGOTO_DATABASE_URL`, that before `DATABASE_URL`, and that before the `PG*` variables. A
 * password is in none of the messages.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as EnvConfig from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as Cause from "effect/Cause"
import type { Audit } from "../../Audit.ts"
import type { Batches } from "../../Batches.ts"
import type { Cipher } from "../../Cipher.ts"
import type { Encryption } from "../../Encryption.ts"
import type { Flows } from "../../Flows.ts"
import type { CronJobs } from "../../CronJobs.ts"
import type { History } from "../../History.ts"
import { Jobs } from "../../Jobs.ts"
import * as JobStore from "../../JobStore.ts"
import type { Limits } from "../../Limits.ts"
import type { Queues } from "../../Queues.ts"
import * as Shigoto from "../../Shigoto.ts"
import * as ShigotoConfig from "../../ShigotoConfig.ts"
import type { InvalidConfig, InvalidSchemaName } from "../../ShigotoError.ts"
import type { Config } from "../Config.ts"
import { Failed, UsageError } from "./exit.ts"
import { Loaded } from "./load.ts"
import { SchemaName, Url } from "./options.ts"
import { Screen } from "./screen.ts"

/** A database as it was named. */
export interface Target {
  readonly pool: PgClient.PgPoolConfig
  /** For people: without the password. */
  readonly shown: string
  readonly schema: string
  /** Who named it. */
  readonly source: string
}

/** Finds out which database is meant, with what a config module says where nobody else does; undefined for none. */
export const findTarget = Effect.fnUntraced(function* (
  config: Config | undefined
): Effect.fn.Return<Target | undefined, UsageError, TargetFlags> {
  const flag = yield* Url
  const variables = yield* environment
  const named =
    Option.getOrUndefined(yield* SchemaName) ??
    variables.schema ??
    config?.settings?.schema ??
    ShigotoConfig.defaults.schema
  for (const [source, url] of [
    ["--url", Option.getOrUndefined(flag)],
    ["SHIGOTO_DATABASE_URL", variables.own],
    ["DATABASE_URL", variables.usual]
  ] as const) {
    if (url !== undefined) return { ...(yield* fromUrl(url)), schema: named, source }
  }
  const { database, host, password, port, ssl, user } = variables
  if (port !== undefined && !(Number.isInteger(port) && port > 0 && port < 65_536)) {
    return yield* new UsageError({ message: "PGPORT is no port." })
  }
  const anyOfThem = [host, database, user, port].some((one) => one !== undefined)
  if (!anyOfThem) {
    return config?.url === undefined
      ? undefined
      : { ...(yield* fromUrl(Redacted.make(config.url))), schema: named, source: "the config module" }
  }
  return {
    pool: { host: host ?? "localhost", port, username: user, database, password, ssl },
    shown: `${user === undefined ? "" : `${user}@`}${host ?? "localhost"}:${port ?? 5432}/${database ?? user ?? ""}`,
    schema: named,
    source: "the PG* variables"
  }
})

/** The same where there must be one. */
export const targetOf = (config: Config | undefined): Effect.Effect<Target, UsageError, TargetFlags> =>
  Effect.flatMap(findTarget(config), (target) =>
    target === undefined
      ? Effect.fail(
          new UsageError({
            message: "No database is named.",
            hint: "Pass --url postgres://user@host/database, or set SHIGOTO_DATABASE_URL or DATABASE_URL."
          })
        )
      : Effect.succeed(target)
  )

/** The settings that the environment gives a node, over those of a config module. */
export const environmentSettings: Effect.Effect<ShigotoConfig.Options, UsageError> = Effect.mapError(
  ShigotoConfig.optionsFromEnv,
  ({ message }) => new UsageError({ message })
)

/** The services that commands speak to; the schema must be at the version of this code. */
export type Services =
  | Jobs
  | Queues
  | CronJobs
  | Batches
  | Flows
  | Limits
  | Audit
  | Encryption
  | History
  | JobStore.JobStore
  | Base

/** The database and nothing that asks for tables. */
export type Base = PgClient.PgClient | SqlClient | ShigotoConfig.ShigotoConfig

/** What connecting may fail with. */
export type ConnectError = UsageError | SqlError | InvalidConfig | InvalidSchemaName

/** The flags that name a database. */
export type TargetFlags = Effect.Services<typeof Url | typeof SchemaName>

/** Finds out which database is meant. */
export const target = Effect.flatMap(Loaded, ({ named }) => Effect.flatMap(named, targetOf))

/** Runs a command on the database, whatever is in it. */
export const withDatabase = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.provide(
    effect,
    Layer.unwrap(Effect.map(Loaded, ({ named }) => Layer.unwrap(Effect.map(named, (config) => layerBase(config)))))
  )

/** Runs a command on a database that has the tables. */
export const connected = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.flatMap(Loaded, ({ named }) => Effect.flatMap(named, (config) => connectedWith(config, effect)))

/** The same with a config module that was found. */
export const connectedWith = <A, E, R>(config: Config | undefined, effect: Effect.Effect<A, E, R>) =>
  Effect.provide(Effect.andThen(learnSecrets, effect), layerServices(config))

/** The services that commands speak to. */
export const layerServices = (config: Config | undefined) =>
  Layer.merge(Shigoto.layerProducer, JobStore.layer).pipe(
    Layer.provideMerge(layerBase(config)),
    // Taken up by the store where it is there.
    Layer.provide(layerCipher(config))
  )

/** The cipher of a config module, or nothing. */
export const layerCipher = (config: Config | undefined): Layer.Layer<Cipher, Failed> =>
  config?.cipher === undefined
    ? (Layer.empty as Layer.Layer<Cipher>) // the store looks whether there is one
    : Layer.catchCause(config.cipher, (cause) =>
        Layer.effectContext(
          Effect.fail(new Failed({ message: `The cipher of the config module cannot be used: ${Cause.pretty(cause)}` }))
        )
      )

// internal

/** What the schemas of any worker say is secret is hidden in all that is shown. */
const learnSecrets = Effect.gen(function* () {
  const screen = yield* Screen
  screen.hide(yield* (yield* Jobs).secretFields)
})

const layerBase = (config: Config | undefined) =>
  Layer.unwrap(
    Effect.map(targetOf(config), ({ pool, schema }) =>
      Layer.merge(
        // No named statements: the way may lead through a pooler, and nothing here is hot.
        PgClient.layer({ ...pool, prepare: false, maxConnections: 3, applicationName: "shigoto-cli" }),
        ShigotoConfig.layer({ ...config?.settings, schema, migrate: false, queues: {}, metrics: false, listen: false })
      )
    )
  )

const text = (name: string) =>
  EnvConfig.option(EnvConfig.String(name)).pipe(
    Effect.map(Option.filter((value: string) => value !== "")),
    Effect.map(Option.getOrUndefined),
    Effect.orElseSucceed((): string | undefined => undefined)
  )

const environment = Effect.gen(function* () {
  const redacted = (value: string | undefined) => (value === undefined ? undefined : Redacted.make(value))
  const mode = yield* text("PGSSLMODE")
  const port = yield* text("PGPORT")
  return {
    own: redacted(yield* text("SHIGOTO_DATABASE_URL")),
    usual: redacted(yield* text("DATABASE_URL")),
    schema: yield* text("SHIGOTO_SCHEMA"),
    host: yield* text("PGHOST"),
    port: port === undefined ? undefined : Number(port),
    user: yield* text("PGUSER"),
    database: yield* text("PGDATABASE"),
    password: redacted(yield* text("PGPASSWORD")),
    ssl:
      mode === "require"
        ? { rejectUnauthorized: false }
        : mode === "verify-ca" || mode === "verify-full"
          ? true
          : undefined
  }
})

const fromUrl = Effect.fnUntraced(function* (url: Redacted.Redacted<string>) {
  const value = Redacted.value(url)
  if (!URL.canParse(value) || !/^postgres(ql)?:$/.test(new URL(value).protocol)) {
    return yield* new UsageError({
      message: "The database URL cannot be read.",
      hint: "It looks like postgres://user:password@host:5432/database; special characters in a password are %-encoded."
    })
  }
  const { hostname, pathname, port, searchParams, username } = new URL(value)
  const host = searchParams.get("host") ?? hostname
  return {
    pool: { url },
    shown: `${username === "" ? "" : `${decodeURIComponent(username)}@`}${host}${port === "" ? "" : `:${port}`}${decodeURIComponent(pathname)}`
  }
})
