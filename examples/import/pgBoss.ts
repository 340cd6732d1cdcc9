/**
 * Moves the waiting jobs and the schedules of pg-boss (10 to 12) into Shigoto.
 *
 * A page of jobs moves in one transaction, which deletes them there: none is lost, none is in both, and running the
 * import again moves only what has come since. What does not fit its definition is reported and stays. It may run while
 * workers of both are at work: what pg-boss runs at the moment is left to it.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import type { Intake, Left } from "./intake.ts"

/** What was moved, and what is still there. */
export interface Report {
  readonly jobs: number
  readonly schedules: number
  readonly left: ReadonlyArray<Left>
  /** What pg-boss still holds, by its queue and state. */
  readonly remaining: ReadonlyArray<{ readonly name: string; readonly state: string; readonly count: number }>
}

/** Moves what belongs to the given definitions. */
export const importPgBoss = Effect.fn("importPgBoss")(function* <R>(
  intakes: ReadonlyArray<Intake<R>>,
  { schema = "pgboss", pageSize = 500 }: { readonly schema?: string; readonly pageSize?: number } = {}
) {
  const sql = yield* SqlClient.SqlClient
  const job = sql(`${schema}.job`)
  const schedule = sql(`${schema}.schedule`)
  const left: Array<Left> = []
  let jobs = 0
  let schedules = 0

  const page = Effect.fnUntraced(function* (intake: Intake<R>, after: Cursor) {
    const rows = yield* sql<Row>`
      SELECT id::text, created_on::text AS "createdOn", to_jsonb(job) AS job
      FROM ${job} AS job
      WHERE name = ${intake.name}
        AND state IN ('created', 'retry')
        AND (created_on, id) > (${after.createdOn}::timestamptz, ${after.id}::uuid)
      ORDER BY created_on, job.id
      LIMIT ${pageSize}
      FOR UPDATE SKIP LOCKED`
    const inFlow = rows.filter((row) => row.job.blocked === true || row.job.blocking === true)
    left.push(
      ...inFlow.map(({ id }) => ({ id, why: "it is part of a flow: it moves once what it waits for has ended" }))
    )
    const found = yield* intake.take(rows.filter((row) => !inFlow.includes(row)).map(toForeign))
    left.push(...found.left)
    jobs += found.taken.length
    yield* sql`
      DELETE FROM ${job}
      WHERE name = ${intake.name}
        AND id = ANY(string_to_array(${found.taken.join(",")}, ',')::uuid[])`
    return rows.length < pageSize ? undefined : rows.at(-1)
  }, sql.withTransaction)

  const move = Effect.fnUntraced(function* (intake: Intake<R>, row: ScheduleRow) {
    const key = row.key ?? ""
    const id = key === "" ? intake.name : `${intake.name}/${key}`
    const why =
      row.kind === "rrule"
        ? "it is an RRULE, not a cron expression"
        : yield* intake.schedule({
            name: id,
            cron: row.cron,
            timezone: row.timezone ?? undefined,
            args: row.data ?? {},
            options: {
              priority: row.options?.priority,
              maxAttempts: row.options?.retryLimit === undefined ? undefined : row.options.retryLimit + 1
            }
          })
    if (why !== undefined) return left.push({ id, why: `schedule: ${why}` })
    schedules += 1
    return yield* sql`
      DELETE FROM ${schedule} AS schedule
      WHERE name = ${row.name}
        AND coalesce(to_jsonb(schedule) ->> 'key', '') = ${key}`
  }, sql.withTransaction)

  for (const intake of intakes) {
    const rows = yield* sql<{ readonly schedule: ScheduleRow }>`
      SELECT to_jsonb(schedule) AS schedule FROM ${schedule} AS schedule WHERE name = ${intake.name} ORDER BY cron`
    for (const row of rows) yield* move(intake, row.schedule)
    let after: Cursor | undefined = first
    while (after !== undefined) after = yield* page(intake, after)
  }
  const remaining = yield* sql<Report["remaining"][number]>`
    SELECT name, state::text, count(*)::int FROM ${job} GROUP BY name, state ORDER BY name, state`
  return { jobs, schedules, left, remaining } satisfies Report
})

// internal

/** The columns that matter, of all versions. */
interface Row extends Cursor {
  readonly job: {
    readonly name: string
    readonly data: unknown
    readonly priority: number
    readonly retry_limit: number
    readonly retry_count: number
    readonly start_after: string
    readonly started_on: string | null
    readonly singleton_key: string | null
    readonly group_id?: string | null
    readonly blocked?: boolean
    readonly blocking?: boolean
  }
}

interface ScheduleRow {
  readonly name: string
  readonly key?: string
  readonly kind?: string
  readonly cron: string
  readonly timezone: string | null
  readonly data: unknown
  readonly options: { readonly priority?: number; readonly retryLimit?: number } | null
}

/** As text: a Date has no microseconds. */
interface Cursor {
  readonly id: string
  readonly createdOn: string
}

const first: Cursor = { id: "00000000-0000-0000-0000-000000000000", createdOn: "-infinity" }

const toForeign = ({ id, job }: Row) => ({
  id,
  // A job sent without data.
  args: job.data ?? {},
  options: {
    priority: job.priority,
    // The first run is no retry, and counts none.
    maxAttempts: job.retry_limit + 1 - (job.started_on === null ? 0 : job.retry_count + 1),
    runAt: new Date(job.start_after),
    partitionKey: job.group_id ?? undefined,
    meta: { pgBoss: { id, ...(job.singleton_key === null ? {} : { singletonKey: job.singleton_key }) } }
  }
})
