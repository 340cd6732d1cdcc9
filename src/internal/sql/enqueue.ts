/** Inserts jobs: one statement for any number of rows. */
import * as Effect from "effect/Effect"
import type { Fragment } from "effect/sql/Statement"
import type { JobId, JobState } from "../../JobRow.ts"
import { type Aftermath, expiresIn, isLinked, link, type NewJob } from "../newJob.ts"
import { array, type Db, oid } from "./db.ts"
import { jobId } from "./row.ts"
import { sealExpiry, sealJobs, sealsRow } from "./seal.ts"
import { nameIn } from "./quote.ts"

/** The most rows that one insert statement carries. */
export const chunkSize = 5000

/** An id, and the key that was won with it, as a job's row carries them. */
export interface Reservation {
  readonly id: JobId
  readonly key?: string | undefined
  readonly states?: number | undefined
}

/** What the database decided about an inserted job. */
export interface Inserted {
  readonly id: JobId
  readonly state: JobState
  readonly runAt: Date
  readonly insertedAt: Date
}

/**
 * Inserts the jobs and returns them in the order given.
 *
 * Ids are drawn in the order of the input, since the rows are sorted before the identity column is evaluated; so
 * sorting by id gives the input's order back.
 */
export const insert = Effect.fnUntraced(function* (
  db: Db,
  given: ReadonlyArray<NewJob>,
  options: {
    readonly reservation?: (position: number) => Reservation | undefined
    /** The positions of those that others will wait for. */
    readonly awaited?: ReadonlySet<number>
    /** What listeners are told as the jobs are committed. */
    readonly payloads?: ReadonlyArray<string>
  } = {}
) {
  const { sql } = db
  if (given.length === 0) return []
  // Told once for all rows, and not reckoned again for each use in each of them.
  const now = sql`(SELECT ${yield* db.now})`
  const { awaited, reservation } = options
  const notifying = notifications(db, options.payloads ?? [])
  // An id that was reserved together with a key; the others draw theirs here.
  const won = reservation === undefined ? undefined : given.map((_, position) => reservation(position))
  // What is encrypted is bound to its row, so that its id has to be known before.
  const reserved = !given.some((job) => sealsRow(db, job)) ? won : yield* drawIds(db, won ?? given.map(() => undefined))
  const jobs = yield* sealJobs(
    db,
    given,
    reserved?.flatMap((one) => (one === undefined ? [] : [one.id]))
  )
  if (!db.inserts && won === undefined && awaited === undefined && !jobs.some(isTied)) {
    return yield* call(db, jobs, reserved, notifying)
  }
  if (reserved === undefined && awaited === undefined && isUniform(jobs))
    return yield* insertUniform(db, jobs, notifying)
  const column = (read: (job: NewJob) => unknown, type: number) => array(jobs.map(read), type)
  const extra =
    reserved === undefined
      ? { names: sql``, target: sql``, values: sql``, arrays: sql`` }
      : {
          names: sql`, reserved_id, unique_key, unique_states`,
          target: sql`id, unique_key, unique_states,`,
          values: sql`coalesce(
        job.reserved_id,
        nextval(${nameIn(db.schema, "jobs_id_seq")}::text::regclass)
      ), decode(job.unique_key, 'hex'), job.unique_states,`,
          arrays: sql`,
      ${array(
        reserved.map((won) => (won === undefined ? null : BigInt(won.id))),
        oid.int8
      )}::bigint[],
      ${array(
        reserved.map((won) => won?.key ?? null),
        oid.text
      )}::text[],
      ${array(
        reserved.map((won) => won?.states ?? null),
        oid.int2
      )}::smallint[]`
        }
  // What ties jobs to others travels only with those that are tied.
  const tied =
    awaited === undefined && !jobs.some(isTied)
      ? { names: sql``, target: sql``, values: sql``, arrays: sql``, state: sql`` }
      : {
          names: sql`, links, batch_id, step`,
          target: sql`, links, batch_id, step`,
          values: sql`, job.links, job.batch_id, job.step`,
          arrays: sql`,
      ${array(
        jobs.map((job, position) => linksOf(job, awaited?.has(position) === true)),
        oid.int2
      )}::smallint[],
      ${column((job) => (job.batch === undefined ? null : BigInt(job.batch)), oid.int8)}::bigint[],
      ${column((job) => job.step ?? null, oid.text)}::text[]`,
          state: sql`WHEN job.links & ${sql.literal(String(link.waits))} <> 0 THEN 'blocked' `
        }
  // Nor does a trace, where no tracer listens.
  const traced = !jobs.some((job) => job.trace !== undefined)
    ? { name: sql``, value: sql``, array: sql`` }
    : {
        name: sql`, trace`,
        value: sql`, job.trace`,
        array: sql`, ${column((job) => job.trace ?? null, oid.text)}::text[]`
      }
  // Nor does a deadline, where there is none.
  const expiring = !jobs.some((job) => job.expires !== undefined)
    ? { names: sql``, target: sql``, values: sql``, arrays: sql`` }
    : {
        names: sql`, start_before, expires_millis, on_expire`,
        target: sql`, start_before, on_expire`,
        values: sql`,
      coalesce(job.start_before, due.at + job.expires_millis * interval '1 millisecond'), job.on_expire::jsonb`,
        arrays: sql`,
      ${column(({ expires }) => (expires !== undefined && "at" in expires ? expires.at : null), oid.timestamptz)}::timestamptz[],
      ${column(({ expires }) => (expires !== undefined && "afterMillis" in expires ? expires.afterMillis : null), oid.float8)}::float8[],
      ${array(yield* Effect.forEach(jobs, (job, i) => sealExpiry(db, job, reserved?.[i]?.id)), oid.text)}::text[]`
      }
  const rows = yield* sql<{
    readonly id: bigint
    readonly state: JobState
    readonly run_at: Date
    readonly inserted_at: Date
  }>`
    INSERT INTO ${db.jobs}
      (${extra.target} state, worker, queue, args, priority, max_attempts, run_at, inserted_at, tags, meta, partition_key,
        scheduled_for${tied.target}${traced.name}${expiring.target})
    ${reserved === undefined ? sql`` : sql`OVERRIDING SYSTEM VALUE`}
    SELECT ${extra.values}
      -- run_at is rounded to a millisecond: against the exact instant, half of all immediate jobs would be scheduled.
      CASE ${tied.state}WHEN due.at > (${now})::timestamptz(3) THEN 'scheduled' ELSE 'available' END,
      job.worker, job.queue, job.args::jsonb, job.priority, job.max_attempts, due.at, ${now},
      CASE WHEN job.tags IS NULL THEN NULL ELSE ARRAY(SELECT jsonb_array_elements_text(job.tags::jsonb)) END,
      job.meta::jsonb, job.partition_key,
      coalesce(job.scheduled_for, CASE WHEN due.at > ${now} THEN due.at END)${tied.values}${traced.value}${expiring.values}
    FROM unnest(
      ${column((job) => job.worker, oid.text)}::text[],
      ${column((job) => job.queue, oid.text)}::text[],
      ${column((job) => job.args, oid.text)}::text[],
      ${column((job) => job.priority, oid.int2)}::smallint[],
      ${column((job) => job.maxAttempts, oid.int2)}::smallint[],
      ${column((job) => ("at" in job.due ? job.due.at : null), oid.timestamptz)}::timestamptz[],
      ${column((job) => ("delayMillis" in job.due ? job.due.delayMillis : null), oid.float8)}::float8[],
      ${column((job) => (job.tags === undefined ? null : JSON.stringify(job.tags)), oid.text)}::text[],
      ${column((job) => job.meta ?? null, oid.text)}::text[],
      ${column((job) => job.partitionKey ?? null, oid.text)}::text[],
      ${column((job) => job.scheduledFor ?? null, oid.timestamptz)}::timestamptz[]${extra.arrays}${tied.arrays}${traced.array}${expiring.arrays}
    ) WITH ORDINALITY AS job
      (worker, queue, args, priority, max_attempts, run_at, delay_millis, tags, meta, partition_key, scheduled_for${extra.names}${tied.names}${traced.name}${expiring.names},
        position)
    CROSS JOIN LATERAL (
      SELECT greatest(
        coalesce(job.run_at, ${now} + job.delay_millis * interval '1 millisecond')::timestamptz(3),
        ${now}
      ) AS at
    ) AS due
    ORDER BY job.position
    RETURNING id, state, run_at, inserted_at${notifying}`
  const inserted = rows
    .map((row): Inserted => ({ id: jobId(row.id), state: row.state, runAt: row.run_at, insertedAt: row.inserted_at }))
    .toSorted((a, b) => a.id - b.id)
  if (reserved === undefined) return inserted
  const byId = new Map(inserted.map((row) => [row.id, row]))
  const taken = new Set(reserved.map((won) => won?.id))
  const drawn = inserted.filter((row) => !taken.has(row.id)).values()
  return reserved.map((won) => (won === undefined ? drawn.next().value : byId.get(won.id)) as Inserted) // one row each
})

/** What those hear of an inserted job who did not insert it themselves. */
export const told = (row: Inserted, job: NewJob): Aftermath["inserted"][number] => ({
  id: row.id,
  worker: job.worker,
  queue: job.queue,
  state: row.state,
  dueMillis: row.runAt.getTime() - row.insertedAt.getTime(),
  expiresMillis: expiresIn(job, row)
})

// internal

/** Whether a job's row says more than what it is to do. */
const isTied = (job: NewJob): boolean => isLinked(job) || job.watched === true || job.step !== undefined

/** Whether jobs differ in nothing but their args, and ask for nothing that few do. */
const isUniform = (jobs: ReadonlyArray<NewJob>): boolean => {
  const first = jobs[0]
  return (
    first !== undefined &&
    "delayMillis" in first.due &&
    jobs.every(
      (job) =>
        job.worker === first.worker &&
        job.queue === first.queue &&
        job.priority === first.priority &&
        job.maxAttempts === first.maxAttempts &&
        "delayMillis" in job.due &&
        "delayMillis" in first.due &&
        job.due.delayMillis === first.due.delayMillis &&
        job.tags === undefined &&
        job.meta === undefined &&
        job.partitionKey === undefined &&
        job.scheduledFor === undefined &&
        job.expires === undefined &&
        job.trace === undefined &&
        !isTied(job)
    )
  )
}

/** Inserts jobs that share everything but their args: what they share travels, and comes back, once. */
const insertUniform = Effect.fnUntraced(function* (db: Db, jobs: ReadonlyArray<NewJob>, notifying: Fragment) {
  const { sql } = db
  const [first] = jobs
  if (first === undefined || !("delayMillis" in first.due)) return []
  const now = yield* db.now
  const [row] = yield* sql<{
    readonly ids: ReadonlyArray<bigint>
    readonly state: JobState
    readonly run_at: Date
    readonly inserted_at: Date
  }>`
    WITH moment AS MATERIALIZED (
      SELECT ${now} AS now,
        greatest((${now} + ${first.due.delayMillis}::float8 * interval '1 millisecond')::timestamptz(3), ${now}) AS due
    ),
    inserted AS (
      INSERT INTO ${db.jobs} (state, worker, queue, args, priority, max_attempts, run_at, inserted_at, scheduled_for)
      SELECT
        CASE WHEN moment.due > moment.now THEN 'scheduled' ELSE 'available' END,
        ${first.worker}::text,
        ${first.queue}::text,
        job.args::jsonb,
        ${first.priority}::smallint,
        ${first.maxAttempts}::smallint,
        moment.due,
        moment.now,
        CASE WHEN moment.due > moment.now THEN moment.due END
      FROM moment
      CROSS JOIN unnest(${array(
        jobs.map((job) => job.args),
        oid.text
      )}::text[]) WITH ORDINALITY AS job (args, position)
      ORDER BY job.position
      RETURNING id
    )
    SELECT
      (SELECT array_agg(id ORDER BY id) FROM inserted) AS ids,
      CASE WHEN due > now THEN 'scheduled' ELSE 'available' END AS state,
      due AS run_at,
      now AS inserted_at${notifying}
    FROM moment`
  if (row === undefined) return []
  return row.ids.map((id): Inserted => ({
    id: jobId(id),
    state: row.state,
    runAt: row.run_at,
    insertedAt: row.inserted_at
  }))
})

/** Inserts jobs through the function for those who may not insert. */
const call = Effect.fnUntraced(function* (
  { schema, sql }: Db,
  jobs: ReadonlyArray<NewJob>,
  reserved: ReadonlyArray<Reservation | undefined> | undefined,
  notifying: Fragment
) {
  const texts = jobs.map((job, position) => {
    const { meta } = job
    const { args, ...rest } = {
      id: reserved?.[position]?.id,
      worker: job.worker,
      queue: job.queue,
      args: job.args,
      priority: job.priority,
      max_attempts: job.maxAttempts,
      run_at: "at" in job.due ? job.due.at : undefined,
      delay_millis: "delayMillis" in job.due ? job.due.delayMillis : undefined,
      tags: job.tags,
      partition_key: job.partitionKey,
      trace: job.trace
    }
    // These are JSON text already.
    const told = [`"args":${args}`, ...(meta === undefined ? [] : [`"meta":${meta}`])]
    return `{${told.join(",")},${JSON.stringify(rest).slice(1)}`
  })
  const rows = yield* sql<{
    readonly id: bigint
    readonly state: JobState
    readonly run_at: Date
    readonly inserted_at: Date
  }>`
    SELECT id, state, run_at, inserted_at${notifying}
    FROM ${sql(`${schema}.enqueue_jobs`)}(${`[${texts.join(",")}]`}::text::jsonb)`
  return rows.map((row): Inserted => ({
    id: jobId(row.id),
    state: row.state,
    runAt: row.run_at,
    insertedAt: row.inserted_at
  }))
})

/** A column more for a statement that inserts jobs, whose reading tells listeners once it commits. */
const notifications = ({ schema, sql }: Db, payloads: ReadonlyArray<string>): Fragment =>
  payloads.length === 0
    ? sql``
    : sql`,
      (
        SELECT count(pg_notify(${schema}::text, payload))
        FROM unnest(${array(payloads, oid.text)}::text[]) AS payload
      ) AS notified`

/** Gives an id to each job that has none yet, in their order. */
const drawIds = Effect.fnUntraced(function* (db: Db, won: ReadonlyArray<Reservation | undefined>) {
  const rows = yield* db.sql<{ readonly id: bigint }>`
    SELECT nextval(${nameIn(db.schema, "jobs_id_seq")}::text::regclass) AS id
    FROM generate_series(1, ${won.filter((one) => one === undefined).length}::integer)`
  const drawn = rows
    .map((row) => jobId(row.id))
    .toSorted((a, b) => a - b)
    .values()
  return won.map((one): Reservation => one ?? { id: drawn.next().value as JobId }) // one for each
})

const linksOf = (job: NewJob, awaited: boolean): number =>
  (awaited ? link.awaited : 0) |
  (job.batch === undefined ? 0 : link.member) |
  (job.dependsOn === undefined || job.dependsOn.length === 0 ? 0 : link.waits) |
  (job.computed === true ? link.computed : 0) |
  (job.watched === true ? link.watched : 0)
