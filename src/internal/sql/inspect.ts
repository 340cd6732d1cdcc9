/** Reads jobs for people. */
import * as Effect from "effect/Effect"
import type { JobId, JobState } from "../../JobRow.ts"
import { array, type Db, ids, oid } from "./db.ts"
import { type JobColumns, jobRow } from "./row.ts"
import { autonomous } from "./statement.ts"

/** Which jobs to read; newest first, those below `before`. */
export interface Page {
  readonly states: ReadonlyArray<JobState>
  readonly queue: string | undefined
  readonly worker: string | undefined
  readonly tag: string | undefined
  readonly before: JobId | undefined
  readonly limit: number
}

/** One job by its id. */
export const get = Effect.fnUntraced(function* (db: Db, id: JobId) {
  const rows = yield* db.sql<JobColumns>`
    SELECT *
    FROM ${db.allJobs}
    WHERE id = ${id}::bigint`
  const row = rows[0]
  return row === undefined ? undefined : jobRow(row)
})

/** A page of jobs by falling id, under a statement timeout of two seconds. */
export const list = Effect.fnUntraced(function* (db: Db, page: Page) {
  const { sql } = db
  const rows = yield* autonomous(
    sql,
    Effect.andThen(
      sql`SELECT set_config('statement_timeout', '2s', true)`,
      sql<JobColumns>`
        SELECT *
        FROM ${db.allJobs}
        WHERE id < ${page.before ?? Number.MAX_SAFE_INTEGER}::bigint
          AND state = ANY(${array(page.states, oid.text)}::text[])
          AND (${page.queue ?? null}::text IS NULL OR queue = ${page.queue ?? null}::text)
          AND (${page.worker ?? null}::text IS NULL OR worker = ${page.worker ?? null}::text)
          AND (${page.tag ?? null}::text IS NULL OR ${page.tag ?? null}::text = ANY(tags))
        ORDER BY id DESC
        LIMIT ${page.limit}::integer`
    )
  )
  return rows.map(jobRow)
})

/** How many live jobs are in each state and queue. */
export const counts = Effect.fnUntraced(function* (db: Db) {
  return yield* db.sql<{ readonly queue: string; readonly state: JobState; readonly count: number }>`
    SELECT queue, state, count(*)::integer AS count
    FROM ${db.jobs}
    GROUP BY queue, state
    ORDER BY queue, state`
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

/** Tells listeners; each payload at most once a statement. */
export const notify = Effect.fnUntraced(function* (db: Db, payloads: ReadonlyArray<string>) {
  yield* db.sql`
    SELECT pg_notify(${db.schema}::text, payload)
    FROM unnest(${array(payloads, oid.text)}::text[]) AS payload`
})
