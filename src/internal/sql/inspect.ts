/** Reads jobs for people. */
import * as Effect from "effect/Effect"
import type { JobId } from "../../JobRow.ts"
import { array, type Db, ids, oid } from "./db.ts"
import { type JobColumns, jobRow } from "./row.ts"
import { openRow } from "./seal.ts"

/** One job by its id. */
export const get = Effect.fnUntraced(function* (db: Db, id: JobId) {
  const rows = yield* db.sql<JobColumns>`
    SELECT *
    FROM ${db.allJobs}
    WHERE id = ${id}::bigint`
  const row = rows[0]
  return row === undefined ? undefined : yield* openRow(db, jobRow(row))
})

/** Stores how far attempts have come, where they still hold their jobs. */
export const progress = Effect.fnUntraced(function* (
  db: Db,
  reports: ReadonlyArray<{ readonly id: JobId; readonly epoch: number; readonly percent: number }>
) {
  yield* db.statement(db.sql`
    UPDATE ${db.jobs} AS j
    SET progress = report.percent
    FROM unnest(
      ${ids(reports.map((report) => report.id))}::bigint[],
      ${array(
        reports.map((report) => report.epoch),
        oid.int4
      )}::integer[],
      ${array(
        reports.map((report) => report.percent),
        oid.int2
      )}::smallint[]
    ) AS report (id, epoch, percent)
    WHERE j.id = report.id
      AND j.epoch = report.epoch
      AND j.state = 'executing'`)
})

/**
 * Tells listeners; each payload at most once a statement.
 *
 * A hint may be lost, so its commit does not wait for the disk, where the commits of jobs would wait behind it.
 */
export const notify = Effect.fnUntraced(function* (db: Db, payloads: ReadonlyArray<string>) {
  yield* db.sql`
    SELECT pg_notify(${db.schema}::text, payload)
    FROM set_config('synchronous_commit', 'off', true),
      unnest(${array(payloads, oid.text)}::text[]) AS payload`
})
