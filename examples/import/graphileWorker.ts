/**
 * Moves the waiting jobs of graphile-worker (0.16 to 0.18) into Shigoto.
 *
 * A page of jobs moves in one transaction, which deletes them there: none is lost, none is in both, and running the
 * import again moves only what has come since. What does not fit its definition is reported and stays, as does what is
 * running, what has used up its attempts, and what waits in a named queue that is running a job.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import type { Intake, Left } from "./intake.ts"

/** What was moved, and what is still there. */
export interface Report {
  readonly jobs: number
  readonly left: ReadonlyArray<Left>
  /** What graphile-worker still holds, by its task and state. */
  readonly remaining: ReadonlyArray<{ readonly name: string; readonly state: string; readonly count: number }>
  /** The crontab's identifiers: a crontab lies in a file, and each line of it becomes a `CronJob.make`. */
  readonly crontab: ReadonlyArray<string>
}

/** Moves what belongs to the given definitions. */
export const importGraphileWorker = Effect.fn("importGraphileWorker")(function* <R>(
  intakes: ReadonlyArray<Intake<R>>,
  { schema = "graphile_worker", pageSize = 500 }: { readonly schema?: string; readonly pageSize?: number } = {}
) {
  const sql = yield* SqlClient.SqlClient
  const table = (name: string) => sql(`${schema}._private_${name}`)
  const left: Array<Left> = []
  let jobs = 0

  const page = Effect.fnUntraced(function* (intake: Intake<R>, after: string) {
    const rows = yield* sql<Row>`
      SELECT j.id::text, j.payload, j.priority, j.run_at AS "runAt", j.max_attempts - j.attempts AS "attemptsLeft",
        j.key, q.queue_name AS "queueName", ARRAY(SELECT jsonb_object_keys(j.flags)) AS flags
      FROM ${table("jobs")} AS j
      JOIN ${table("tasks")} AS t ON t.id = j.task_id
      LEFT JOIN ${table("job_queues")} AS q ON q.id = j.job_queue_id
      WHERE t.identifier = ${intake.name}
        AND j.is_available
        AND q.locked_at IS NULL
        AND j.id > ${after}::bigint
      ORDER BY j.id
      LIMIT ${pageSize}
      FOR UPDATE OF j SKIP LOCKED`
    const found = yield* intake.take(rows.map(toForeign))
    left.push(...found.left)
    jobs += found.taken.length
    yield* sql`
      DELETE FROM ${table("jobs")}
      WHERE id = ANY(string_to_array(${found.taken.join(",")}, ',')::bigint[])`
    return rows.length < pageSize ? undefined : rows.at(-1)?.id
  }, sql.withTransaction)

  for (const intake of intakes) {
    let after: string | undefined = "0"
    while (after !== undefined) after = yield* page(intake, after)
  }
  const remaining = yield* sql<Report["remaining"][number]>`
    SELECT t.identifier AS name,
      CASE WHEN j.locked_at IS NOT NULL THEN 'running' WHEN j.is_available THEN 'waiting' ELSE 'failed' END AS state,
      count(*)::int
    FROM ${table("jobs")} AS j
    JOIN ${table("tasks")} AS t ON t.id = j.task_id
    GROUP BY 1, 2
    ORDER BY 1, 2`
  const crontab = yield* sql<{ readonly identifier: string }>`
    SELECT identifier FROM ${table("known_crontabs")} ORDER BY identifier`
  return { jobs, left, remaining, crontab: crontab.map(({ identifier }) => identifier) } satisfies Report
})

// internal

interface Row {
  readonly id: string
  readonly payload: unknown
  readonly priority: number
  readonly runAt: Date
  readonly attemptsLeft: number
  readonly key: string | null
  readonly queueName: string | null
  readonly flags: ReadonlyArray<string>
}

const toForeign = (row: Row) => ({
  id: row.id,
  args: row.payload,
  options: {
    // There the lowest comes first; the lowest of all has no opposite.
    priority: Math.min(-row.priority, 32_767),
    maxAttempts: row.attemptsLeft,
    runAt: row.runAt,
    partitionKey: row.queueName ?? undefined,
    tags: row.flags,
    meta: { graphileWorker: { id: row.id, ...(row.key === null ? {} : { key: row.key }) } }
  }
})
