/** Ends attempts: many outcomes in one statement, each fenced by its epoch. */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { Fragment } from "effect/sql/Statement"
import type { JobId } from "../../JobRow.ts"
import type { Outcome } from "../../Outcome.ts"
import { type Aftermath, concerned, link, merge, nothing } from "../newJob.ts"
import { appendFailure, archivedColumns, keptStates } from "./archive.ts"
import { batchId, type Deltas, type End } from "./batch.ts"
import { conclude, fork, type Forked } from "./conclude.ts"
import { array, type Db, ids, oid } from "./db.ts"
import { noteDiscards } from "./discard.ts"
import { jobId } from "./row.ts"
import { sealOutcomes } from "./seal.ts"

/** One attempt and what became of it. */
export interface Settlement {
  readonly id: JobId
  readonly epoch: number
  readonly outcome: Outcome
  /** The incarnation that claimed it; where it is not told, nothing can be said of a job without a row. */
  readonly holder?: number | undefined
  /** Whether its worker wants to be told where it is discarded. */
  readonly telling?: boolean | undefined
  /** Whether its claim already said that its end concerns others. */
  readonly linked?: boolean | undefined
  /** Whether its result or failure is encrypted where there is a cipher. Defaults to true. */
  readonly encrypted?: boolean | undefined
}

/**
 * What the database made of a settlement.
 *
 * `Accepted` has the state that the job is in now; `Lost` says that somebody else has taken the job since; `Gone` that
 * there is no such job any more; `Pending` that the row changed underneath in a way that leaves it ours, so the
 * settlement is to be sent again.
 */
export type Verdict =
  | { readonly _tag: "Accepted"; readonly state: string }
  | { readonly _tag: "Lost" }
  | {
      readonly _tag: "Gone"
      /** Whether the lease of its holder is live all the same, so that nobody else can have taken the job. */
      readonly held: boolean
    }
  | { readonly _tag: "Pending" }

/**
 * Settles attempts, and says of each what became of it, in the order given.
 *
 * A row is met only as `executing` under the epoch of its claim, so a settlement that was accepted before, or whose
 * job was taken away, meets none; what those rows are now is read in a second statement. Rows are locked in the order
 * of the scan; two batches never hold the same row, so they cannot deadlock. A batch may hold two outcomes of one job: a
 * late one of a claim that was taken away, and that of the claim after it.
 *
 * Jobs whose end concerns nobody else take that one statement. It leaves alone those that are marked, also by a
 * transaction that it had to wait for; their ends go into a transaction together with what follows from them.
 *
 * A claimed row is an executing one by the constraint jobs_claimed. It is asked for in words that fit no partial index
 * and no statistics: told of a moment when nothing was executing, the planner would read all of jobs_executing for a
 * batch, or take one row for granted and compare each outcome with each job. It is told the number of outcomes by a
 * series beside their arrays, so it hashes them even where statistics of an empty table promise a single row. Like a
 * claim it is not prepared: a plan from when the table was small reads all of it.
 */
export const settle = Effect.fnUntraced(function* (db: Db, given: ReadonlyArray<Settlement>) {
  const settlements = yield* sealOutcomes(db, given)
  const verdicts: Verdicts = new Map()
  const linked = settlements.filter(isLinked)
  const plain = linked.length === 0 ? settlements : settlements.filter((one) => !isLinked(one))
  let marked: ReadonlyArray<Settlement> = []
  if (plain.length > 0) {
    accept(verdicts, plain, yield* db.statement(writePlain(db, plain)))
    if (verdicts.size < plain.length) {
      const missing = plain.filter((settlement) => !verdicts.has(settlement))
      marked = yield* look(db, missing, verdicts)
    }
  }
  const rest = [...linked, ...marked].toSorted((a, b) => a.id - b.id)
  const aftermath = rest.length === 0 ? nothing : yield* settleLinked(db, rest, verdicts)
  return {
    verdicts: settlements.map((settlement): Verdict => verdicts.get(settlement) ?? gone),
    aftermath
  }
})

/**
 * The steps of a settle, from WITH on, and what selects the place from 1 of each that was met, and the state that its job
 * is in now. With `linked` also those whose end concerns others, and what has to be known of their jobs for a transaction
 * in which that follows.
 */
export const settling = (db: Db, settlements: ReadonlyArray<Settlement>, linked: boolean, now: Fragment) => {
  const { sql } = db
  const columns = settlements.map(({ outcome }) => encode(outcome))
  const wanted = ids(settlements.map(({ id }) => id))
  const epochs = array(
    settlements.map(({ epoch }) => epoch),
    oid.int4
  )
  // What nobody says is not sent: shorter arrays are filled up with nulls. That most have completed goes without saying.
  const column = (read: (one: Columns) => unknown, type: number) =>
    array(columns.some((one) => read(one) !== null) ? columns.map(read) : [], type)
  const archived = sql.literal(archivedColumns)
  const kept = keptStates(db)
  const told = settlements.filter(({ outcome, telling }) => telling === true && outcome._tag === "Discarded")
  const goesBack = columns.some((column) => !terminal.has(column.state))
  // Looked at again by the server after a wait for the row: a mark that came meanwhile counts. Asked for an equality,
  // the planner would take one row of them for granted.
  const alone = linked ? sql`` : sql`AND least(j.links & ${sql.literal(String(concerned))}, 1) <> 1`
  // Whose end concerns nobody else is known by its place; its row is asked for where something is made of it.
  const readsRow = kept.length + told.length > 0
  const ofRow = readsRow ? sql`j.*,` : linked ? sql`j.id, j.epoch, j.links, j.batch_id, j.cancel_reason,` : sql``
  const steps = sql`
    WITH outcome AS (
      SELECT id, epoch, coalesce(state, 'completed') AS state, result, failure, delay_millis, refund, reason, position
      FROM ROWS FROM (unnest(
        ${wanted}::bigint[],
        ${epochs}::integer[],
        ${column((one) => (one.state === "completed" ? null : one.state), oid.text)}::text[],
        ${column((one) => one.result, oid.text)}::text[]::jsonb[],
        ${column((one) => one.failure, oid.text)}::text[]::jsonb[],
        ${column((one) => one.delayMillis, oid.float8)}::float8[],
        ${column((one) => one.refund, oid.int2)}::smallint[],
        ${column((one) => one.reason, oid.text)}::text[]::jsonb[]
      ), generate_series(1, ${columns.length}::integer)) AS o
        (id, epoch, state, result, failure, delay_millis, refund, reason, position)
    ),
    gone AS (
      DELETE FROM ${db.jobs} AS j
      USING outcome
      WHERE j.id = ANY(${wanted}::bigint[])
        AND j.id = outcome.id
        AND j.epoch = outcome.epoch
        AND coalesce(j.claimed_by, 0) <> 0
        AND (outcome.state IN ('completed', 'discarded', 'cancelled') OR j.cancel_requested_at IS NOT NULL)
        ${alone}
      RETURNING ${ofRow}
        CASE
          WHEN outcome.state IN ('completed', 'discarded', 'cancelled') THEN outcome.state
          ELSE 'cancelled'
        END AS final,
        ${readsRow || linked ? sql`outcome.result, outcome.failure, outcome.reason,` : sql``}
        outcome.position
    )${
      kept.length === 0
        ? sql``
        : sql`,
    archived AS (
      INSERT INTO ${db.archive} (${archived}, links, epoch, finished_at, state, result, errors, fingerprint, cancel_reason)
      SELECT ${archived}, gone.links, gone.epoch, ${now}, gone.final, gone.result,
        ${appendFailure(db, "gone.errors", "gone.failure")},
        -- A job that has succeeded belongs to no group of failures.
        CASE WHEN gone.final <> 'completed' THEN coalesce(gone.failure ->> 'fingerprint', gone.fingerprint) END,
        coalesce(gone.cancel_reason, gone.reason)
      FROM gone
      WHERE gone.final = ANY(${array(kept, oid.text)}::text[])
    )`
    }${
      told.length === 0
        ? sql``
        : sql`,
    noted AS (${noteDiscards(db, now, "gone.epoch", sql`AND gone.id = ANY(${ids(told.map(({ id }) => id))}::bigint[])`)}
    )`
    }${
      goesBack
        ? sql`,
    back AS (
      UPDATE ${db.jobs} AS j
      SET state = outcome.state,
        run_at = CASE
          WHEN outcome.delay_millis IS NULL THEN j.run_at
          ELSE ${now} + outcome.delay_millis * interval '1 millisecond'
        END,
        attempt = j.attempt - coalesce(outcome.refund, 0),
        snoozes = CASE WHEN outcome.state = 'scheduled' THEN coalesce(j.snoozes, 0) + 1 ELSE j.snoozes END,
        claimed_by = NULL,
        links = CASE WHEN outcome.state = 'blocked' THEN j.links | ${sql.literal(String(link.waits))} ELSE j.links END,
        errors = ${appendFailure(db, "j.errors", "outcome.failure")},
        fingerprint = coalesce(outcome.failure ->> 'fingerprint', j.fingerprint)
      FROM outcome
      WHERE j.id = ANY(${wanted}::bigint[])
        AND j.id = outcome.id
        AND j.epoch = outcome.epoch
        AND coalesce(j.claimed_by, 0) <> 0
        AND outcome.state <> ALL ('{completed,discarded,cancelled}')
        AND num_nulls(j.cancel_requested_at) <> 0
      RETURNING outcome.position, j.state${linked ? sql`, j.id, j.epoch, j.links, j.batch_id` : sql``}
    )`
        : sql``
    }`
  // Why it was cancelled concerns only who waits for it.
  const ended = sql`
    SELECT position, final AS state${linked ? sql`, id, epoch, links, batch_id, coalesce(cancel_reason, reason)::text AS reason` : sql``}
    FROM gone`
  const met = goesBack
    ? sql`${ended}
    UNION ALL
    SELECT position, state${linked ? sql`, id, epoch, links, batch_id, NULL` : sql``}
    FROM back`
    : ended
  return { steps, met }
}

// internal

/** Settles marked jobs, and everything that follows from their ends, in one transaction. */
const settleLinked = Effect.fnUntraced(function* (
  db: Db,
  settlements: ReadonlyArray<Settlement>,
  verdicts: Verdicts
): Effect.fn.Return<Aftermath, SqlError> {
  const { accepted, aftermath } = yield* db.transaction(
    Effect.gen(function* () {
      const accepted = (yield* writeLinked(db, settlements)).map((row) => ({
        position: row.position,
        id: jobId(row.id),
        epoch: row.epoch,
        state: row.state,
        links: row.links,
        batch: row.batch_id === null ? undefined : batchId(row.batch_id),
        reason: row.reason ?? undefined
      }))
      const forks = accepted.flatMap((row): ReadonlyArray<Forked> => {
        const outcome = settlements[row.position - 1]?.outcome
        return row.state === "blocked" && outcome?._tag === "Forked" ? [{ ...row, ...outcome }] : []
      })
      const ended = accepted.flatMap((row) => {
        const outcome = settlements[row.position - 1]?.outcome
        if (outcome === undefined || !isEnd(row.state)) return []
        const result = outcome._tag === "Completed" ? outcome.result : undefined
        const failure =
          "failure" in outcome && outcome.failure !== undefined ? JSON.stringify(outcome.failure) : undefined
        return [{ ...row, state: row.state, result, failure }]
      })
      const deltas: Deltas = new Map()
      const forked = yield* fork(db, forks, deltas)
      const concluded = yield* conclude(db, ended, deltas)
      return { accepted, aftermath: merge(forked, concluded) }
    })
  )
  accept(verdicts, settlements, accepted)
  const missing = settlements.filter((settlement) => !verdicts.has(settlement))
  if (missing.length > 0) yield* look(db, missing, verdicts)
  return aftermath
})

/** What became of each settlement: by itself, since a batch may hold two of one job. */
type Verdicts = Map<Settlement, Verdict>

/** Notes those that met their row. */
const accept = (
  verdicts: Verdicts,
  settlements: ReadonlyArray<Settlement>,
  met: ReadonlyArray<{ readonly position: number; readonly state: string }>
): void => {
  for (const { position, state } of met) {
    const settlement = settlements[position - 1]
    if (settlement !== undefined) verdicts.set(settlement, verdictOf(state))
  }
}

const verdictOf = (state: string): Verdict => (state === "completed" ? completed : { _tag: "Accepted", state })

/** What becomes of most. */
const completed: Verdict = { _tag: "Accepted", state: "completed" }

const isEnd = (state: string): state is End => state === "completed" || state === "discarded" || state === "cancelled"

const isLinked = ({ linked, outcome }: Settlement): boolean => linked === true || outcome._tag === "Forked"

/** Writes outcomes that concern nobody else, and says which met their row: in one row of arrays, which is soon read. */
const writePlain = Effect.fnUntraced(function* (db: Db, settlements: ReadonlyArray<Settlement>) {
  const { met, steps } = settling(db, settlements, false, yield* db.now)
  const [row] = yield* db.sql<{
    readonly done: ReadonlyArray<number> | null
    readonly others: ReadonlyArray<number> | null
    readonly states: ReadonlyArray<string> | null
  }>`${steps}
    SELECT array_agg(position) FILTER (WHERE state = 'completed') AS done,
      array_agg(position) FILTER (WHERE state <> 'completed') AS others,
      array_agg(state) FILTER (WHERE state <> 'completed') AS states
    FROM (${met}) AS met`.unprepared
  return [
    ...(row?.done ?? []).map((position) => ({ position, state: "completed" })),
    ...(row?.others ?? []).map((position, i) => ({ position, state: row?.states?.[i] ?? "" }))
  ]
})

/** The same for those that may concern others, with what has to be known for that. */
const writeLinked = Effect.fnUntraced(function* (db: Db, settlements: ReadonlyArray<Settlement>) {
  const { met, steps } = settling(db, settlements, true, yield* db.now)
  return yield* db.sql<{
    readonly position: number
    readonly id: bigint
    readonly epoch: number
    readonly state: string
    readonly links: number
    readonly batch_id: bigint | null
    readonly reason: string | null
  }>`${steps}${met}`.unprepared
})

/** Notes what the rows are that settlements did not meet, and returns those that are still ours but marked. */
const look = Effect.fnUntraced(function* (db: Db, settlements: ReadonlyArray<Settlement>, verdicts: Verdicts) {
  const wanted = ids(settlements.map((settlement) => settlement.id))
  const rows = yield* db.sql<{
    readonly id: bigint
    readonly state: string
    readonly epoch: number
    readonly links: number
  }>`
    SELECT id, state, epoch, links
    FROM ${db.allJobs}
    WHERE id = ANY(${wanted}::bigint[])`
  const byId = new Map(rows.map((row) => [jobId(row.id), row]))
  const holders = settlements.flatMap(({ holder, id }) => (holder === undefined || byId.has(id) ? [] : [holder]))
  const live = holders.length === 0 ? nobody : yield* liveOf(db, holders)
  const marked: Array<Settlement> = []
  for (const settlement of settlements) {
    const row = byId.get(settlement.id)
    if (row === undefined) verdicts.set(settlement, { _tag: "Gone", held: live.has(settlement.holder) })
    else if (row.epoch !== settlement.epoch) verdicts.set(settlement, { _tag: "Lost" })
    else if (row.state !== "executing") verdicts.set(settlement, verdictOf(row.state))
    else {
      verdicts.set(settlement, { _tag: "Pending" })
      if ((row.links & concerned) !== 0) marked.push(settlement)
    }
  }
  return marked
})

const gone: Verdict = { _tag: "Gone", held: false }

const nobody: ReadonlySet<number | undefined> = new Set()

/**
 * Those of some incarnations whose lease is live. An expired one is never live again, so a job that was found gone
 * before this, of one that is live now, was never taken from it.
 */
const liveOf = Effect.fnUntraced(function* (db: Db, holders: ReadonlyArray<number>) {
  const now = yield* db.now
  const rows = yield* db.sql<{ readonly id: number }>`
    SELECT id
    FROM ${db.nodes}
    WHERE id = ANY(${array([...new Set(holders)], oid.int4)}::integer[])
      AND expires_at > ${now}`
  return new Set<number | undefined>(rows.map(({ id }) => id))
})

const terminal: ReadonlySet<string> = new Set(["completed", "discarded", "cancelled"])

/** What is said of an outcome; null for what is not. */
interface Columns {
  readonly state: string
  readonly result: string | null
  readonly failure: string | null
  readonly delayMillis: number | null
  readonly refund: number | null
  readonly reason: string | null
}

const unsaid = { result: null, failure: null, delayMillis: null, refund: null, reason: null }

const encode = (outcome: Outcome): Columns => {
  switch (outcome._tag) {
    case "Completed":
      return { ...unsaid, state: "completed", result: outcome.result ?? null }
    case "Retryable": {
      const { delayMillis, failure } = outcome
      return { ...unsaid, state: "retryable", failure: JSON.stringify(failure), delayMillis }
    }
    case "Discarded":
      return { ...unsaid, state: "discarded", failure: JSON.stringify(outcome.failure) }
    case "Cancelled":
      return {
        ...unsaid,
        state: "cancelled",
        failure: outcome.failure === undefined ? null : JSON.stringify(outcome.failure),
        reason: outcome.reason ?? null
      }
    case "Snoozed":
      return { ...unsaid, state: "scheduled", delayMillis: outcome.delayMillis, refund: 1 }
    case "Released":
      return { ...unsaid, state: "available", refund: 1 }
    case "Forked":
      return { ...unsaid, state: "blocked", refund: 1 }
  }
}
