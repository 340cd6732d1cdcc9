/** Raw SQL that inserts a row for each enqueue and looks for single rows: what a naive queue over the same driver is. */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Redacted from "effect/Redacted"
import type { Adapter, Target } from "../Adapter.ts"
import makeRaw from "./raw.ts"

export default (target: Target): Adapter => {
  const runtime = ManagedRuntime.make(
    PgClient.layer({ url: Redacted.make(target.url), maxConnections: target.connections })
  )
  const raw = makeRaw(target)
  return {
    ...raw,
    enqueueOne: (payload) =>
      runtime.runPromise(
        Effect.flatMap(
          PgClient.PgClient,
          (sql) => sql`INSERT INTO raw_jobs (args) VALUES (${JSON.stringify(payload)}::jsonb) RETURNING id`
        )
      ),
    stop: async () => {
      await raw.stop()
      await runtime.dispose()
    }
  }
}
