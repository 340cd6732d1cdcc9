/** Puts every invariant to the event log and tells how many rows break it. */
import { Effect } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { claims } from "./invariants/claims.ts"
import { composition } from "./invariants/composition.ts"
import { enqueue } from "./invariants/enqueue.ts"
import type { Invariant } from "./invariants/invariant.ts"
import { lifecycle } from "./invariants/lifecycle.ts"
import { limited } from "./invariants/limits.ts"
import { queues } from "./invariants/queues.ts"
import { rescue } from "./invariants/rescue.ts"
import { resources } from "./invariants/resources.ts"
import { Truth } from "./truth.ts"

export const invariants: ReadonlyArray<Invariant> = [
  ...enqueue,
  ...lifecycle,
  ...claims,
  ...rescue,
  ...queues,
  ...limited,
  ...composition,
  ...resources
].toSorted((a, b) => a.id.localeCompare(b.id, "en", { numeric: true }))

export interface Finding {
  readonly invariant: Invariant
  readonly cases: number
  readonly offenders: ReadonlyArray<unknown>
}

export const check = Effect.gen(function* () {
  const { sql } = yield* Truth
  return yield* Effect.forEach(
    invariants,
    Effect.fnUntraced(function* (invariant) {
      const [counted] = yield* sql.unsafe<{ readonly count: bigint }>(invariant.cases)
      if (counted?.count === undefined) return yield* Effect.die(new Error(`${invariant.id} counts no cases`))
      const offenders = yield* sql.unsafe<{ readonly row: unknown }>(
        `SELECT to_jsonb(o) AS row FROM (${invariant.offenders}) AS o`
      )
      const finding: Finding = {
        invariant,
        cases: Number(counted.count),
        offenders: offenders.map(({ row }) => row)
      }
      return finding
    })
  )
})

/** What happened in numbers: faults by kind, and how often the paths were walked that only faults open. */
export const figures = Effect.gen(function* () {
  const { sql } = yield* Truth
  return yield* sql<{ readonly what: string; readonly count: number }>`
    SELECT * FROM (
      SELECT 1 AS part, 'jobs' AS what, count(*)::integer AS count FROM step WHERE move = 'insert'
      UNION ALL
      SELECT 2, to_state, count(*)::integer FROM step WHERE to_state IN ('completed', 'discarded', 'cancelled')
      GROUP BY to_state
      UNION ALL
      SELECT 3, move, count(*)::integer FROM step
      WHERE move IN ('claim', 'rescue', 'reconcile', 'release', 'snooze', 'fork', 'retry')
      GROUP BY move
      UNION ALL
      SELECT 4, 'stale outcomes refused', count(*)::integer FROM told WHERE tag = 'LeaseLost'
      UNION ALL
      SELECT 4, 'enqueues with no answer', count(*)::integer FROM client AS i
      WHERE i.phase = 'intent' AND i.key IS NOT NULL
        AND NOT EXISTS (SELECT FROM client AS a WHERE a.key = i.key AND a.phase <> 'intent')
      UNION ALL
      SELECT 6, 'reply lost: ' || kind, count(*)::integer FROM fault WHERE phase = 'lost' GROUP BY kind
      UNION ALL
      SELECT 5, 'fault: ' || kind, count(*)::integer FROM fault WHERE phase = 'begin' GROUP BY kind
    ) AS counted
    ORDER BY part, what`
})

/** Writes the event log as one line of JSON for each event, a file for each table. */
export const keep = Effect.fnUntraced(function* (directory: string) {
  const { sql } = yield* Truth
  for (const table of [
    "handler",
    "client",
    "told",
    "fleet",
    "fault",
    "sample",
    "opened",
    "used",
    "pulse",
    "hindered",
    "node",
    "step",
    "final",
    "edge",
    "batch"
  ]) {
    const rows = yield* sql.unsafe<{ readonly line: string }>(`SELECT to_jsonb(t)::text AS line FROM ${table} AS t`)
    Fs.writeFileSync(Path.join(directory, `${table}.ndjson`), rows.map(({ line }) => `${line}\n`).join(""))
  }
})
