/**
 * What the global set-up tells the workers about the server of this run, and how both connect to it.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"

export interface Run {
  /** Connects to the maintenance database of the server. */
  readonly url: string
  /** Prefix of every database of this run. */
  readonly name: string
  readonly template: string
}

declare module "vitest" {
  export interface ProvidedContext {
    readonly shigotoRun: Run
  }
}

export const urlOf = (run: Run, database: string): string => {
  const url = new URL(run.url)
  url.pathname = `/${database}`
  url.searchParams.delete("dbname")
  return url.toString()
}

/** Database work takes real time, whatever the clock of the test. */
export const live: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R> = Effect.provideService(
  Clock.Clock,
  Clock.Clock.defaultValue()
)

export const layerClient = (
  url: string,
  options: PgClient.PgPoolConfig
): Layer.Layer<PgClient.PgClient | SqlClient.SqlClient, SqlError> =>
  PgClient.layerFrom(live(PgClient.make({ ...options, url: Redacted.make(url) })))
