/**
 * The limit that the driver and PostgreSQL set: the least SQL that is still a durable queue, through the same driver.
 *
 * No schema check, no lease, no fence, no retry. Single enqueues are coalesced: what comes up while an INSERT is under
 * way leaves in the next. Two lanes claim in batches of 1,000, as ours does, and delete (or, with history, update) in batches.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as PgTypes from "@effect/sql-pg/PgTypes"
import * as Effect from "effect/Effect"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type { Adapter, Payload, Target } from "../Adapter.ts"

/** Jobs of one claim. */
export const claimBatch = 1000
const lanes = 2

/** The table and its index, also for pgbench. */
export const tables: ReadonlyArray<string> = [
  `CREATE TABLE raw_jobs (
     id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
     run_at timestamptz(3) NOT NULL DEFAULT now(),
     state text NOT NULL DEFAULT 'available',
     args jsonb NOT NULL
   ) WITH (fillfactor = 85)`,
  "CREATE INDEX raw_claim ON raw_jobs (run_at, id) WHERE state = 'available'"
]

interface Row {
  readonly id: bigint
  readonly args: Payload
}

export default (target: Target): Adapter => {
  const runtime = ManagedRuntime.make(
    PgClient.layer({ url: Redacted.make(target.url), maxConnections: target.connections })
  )
  const run = <A, E>(use: (sql: PgClient.PgClient) => Effect.Effect<A, E>) =>
    runtime.runPromise(Effect.flatMap(PgClient.PgClient, use))
  const insert = (payloads: ReadonlyArray<Payload>) => {
    const texts = payloads.map((payload) => JSON.stringify(payload))
    return run(
      (sql) => sql`INSERT INTO raw_jobs (args)
        SELECT job::jsonb FROM unnest(${Result.getOrThrow(PgTypes.array(texts, PgTypes.OID.text))}::text[]) AS job
        RETURNING id`
    )
  }
  const claim = () =>
    run(
      (sql) => sql<Row>`WITH chosen AS MATERIALIZED (
          SELECT id FROM raw_jobs WHERE state = 'available' ORDER BY run_at, id LIMIT ${claimBatch}::integer
          FOR UPDATE SKIP LOCKED
        )
        UPDATE raw_jobs AS j SET state = 'executing' FROM chosen WHERE j.id = chosen.id RETURNING j.id, j.args`
    )
  const settle = (rows: ReadonlyArray<Row>) => {
    const ids = Result.getOrThrow(
      PgTypes.array(
        rows.map((row) => row.id),
        PgTypes.OID.int8
      )
    )
    return run((sql) =>
      target.keep
        ? sql`UPDATE raw_jobs SET state = 'completed' WHERE id = ANY(${ids}::bigint[])`
        : sql`DELETE FROM raw_jobs WHERE id = ANY(${ids}::bigint[])`
    )
  }
  let waiting: Array<{
    readonly payload: Payload
    readonly done: () => void
    readonly failed: (why: unknown) => void
  }> = []
  let sending = false
  const flush = async () => {
    sending = true
    while (waiting.length > 0) {
      const taken = waiting
      waiting = []
      try {
        await insert(taken.map((entry) => entry.payload))
        for (const entry of taken) entry.done()
      } catch (error) {
        for (const entry of taken) entry.failed(error)
      }
    }
    sending = false
  }
  const state = { stopped: false }
  let running: Array<Promise<void>> = []
  const lane = async (handler: (payload: Payload) => void) => {
    while (!state.stopped) {
      const rows = await claim()
      for (const row of rows) handler(row.args)
      if (rows.length > 0) await settle(rows)
      else await new Promise((resolve) => setTimeout(resolve, 2))
    }
  }
  return {
    setup: async () => {
      for (const table of tables) await run((sql) => sql.unsafe(table))
    },
    enqueueOne: (payload) =>
      new Promise<void>((done, failed) => {
        waiting.push({ payload, done, failed })
        if (!sending) void flush()
      }),
    enqueueMany: insert,
    startWorkers: async (handler) => {
      await run((sql) => sql`SELECT 1`)
      running = Array.from({ length: lanes }, () => lane(handler))
    },
    drained: async () => {
      const rows = await run((sql) => sql`SELECT 1 FROM raw_jobs WHERE state <> 'completed' LIMIT 1`)
      return rows.length === 0
    },
    stop: async () => {
      state.stopped = true
      await Promise.all(running)
      await runtime.dispose()
    }
  }
}
