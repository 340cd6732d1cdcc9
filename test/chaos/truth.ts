/**
 * The event log: what really happened, in a database of its own that no fault touches, over a connection that leads
 * past the proxies. Both servers run on one machine, so their clocks agree and `ts` orders the events of both.
 */
import { PgClient } from "@effect/sql-pg"
import { isReadonlyArrayNonEmpty } from "effect/Array"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Reactivity from "effect/reactivity/Reactivity"

const event = "seq bigint GENERATED ALWAYS AS IDENTITY, ts timestamptz NOT NULL DEFAULT clock_timestamp()"

const tables = [
  // Handlers: `start`, `end` with the outcome before it is given to the library, and `told` where a job was given up.
  // Starts have the instant by the machine's clock: the record of one may wait for as long as its process is stopped.
  `CREATE TABLE handler (${event}, process text, kind text, job bigint, epoch integer, attempt integer, worker text,
    key text, args jsonb, outcome text, began timestamptz)`,
  // Producers and operators: `intent` before each call, `ack` or `error` after it. No answer = unknown.
  `CREATE TABLE client (${event}, process text, op text, phase text, key text, job bigint, detail jsonb)`,
  // The library's own events of each node.
  `CREATE TABLE told (${event}, process text, tag text, job bigint, attempt integer)`,
  // The supervisor: spawn, ready, kill, term, exit.
  `CREATE TABLE fleet (${event}, process text, event text, detail jsonb)`,
  // Faults: `begin` and `end`; without a target they strike everybody.
  `CREATE TABLE fault (${event}, id integer, kind text, target text, phase text, detail jsonb)`,
  // What each process said of itself: its heap after a collection of garbage, in bytes, and its sockets, timers and such.
  `CREATE TABLE used (${event}, process text, heap bigint, handles integer)`,
  // When the event loop of each process turned, and that of the runner, through whose proxies all bytes pass.
  "CREATE TABLE pulse (process text, at timestamptz)",
  // What pg_stat_activity and pg_locks said.
  `CREATE TABLE sample (${event}, process text, connections integer, advisory integer)`,
  // Transactions that were no longer young then; those between two statements have an instant since which they are idle.
  `CREATE TABLE opened (seen timestamptz, process text, pid integer, began timestamptz, idle_since timestamptz,
    query text, locks_jobs boolean)`
]

export type Row = Record<string, string | number | boolean | null | undefined>

export type Table = "handler" | "client" | "told" | "fleet" | "fault" | "sample" | "opened" | "used"

export class Truth extends Context.Service<
  Truth,
  {
    readonly sql: PgClient.PgClient
    readonly write: (table: Table, row: Row) => Effect.Effect<void>
    readonly writeAll: (table: Table, rows: ReadonlyArray<Row>) => Effect.Effect<void>
  }
>()("test/chaos/Truth") {}

export const layer = (url: string): Layer.Layer<Truth> =>
  Layer.effect(
    Truth,
    Effect.map(
      Effect.orDie(
        PgClient.make({ url: Redacted.make(url), applicationName: "truth", maxConnections: 3, multiplex: true })
      ).pipe(Effect.provide(Reactivity.layer)),
      (sql) => {
        const writeAll = (table: Table, rows: ReadonlyArray<Row>) =>
          isReadonlyArrayNonEmpty(rows)
            ? Effect.withTracerEnabled(Effect.orDie(sql`INSERT INTO ${sql(table)} ${sql.insert(rows)}`), false).pipe(
                Effect.uninterruptible,
                Effect.asVoid
              )
            : Effect.void
        return Truth.of({ sql, writeAll, write: (table, row) => writeAll(table, [row]) })
      }
    )
  )

export const createTables = Effect.gen(function* () {
  const { sql } = yield* Truth
  yield* Effect.forEach(tables, (table) => sql.unsafe(table), { discard: true })
  yield* sql`CREATE INDEX handler_job ON handler (job, epoch)`
}).pipe(Effect.orDie)
