/** Inserts jobs that are tied to others, and batches with their members, in one transaction. */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { JobId } from "../../JobRow.ts"
import { type CompositionError, MissingDependencies } from "../../ShigotoError.ts"
import type { Aftermath, BatchId, NewJob } from "../newJob.ts"
import { create, type Deltas, deltaOf, type NewBatch, tally } from "./batch.ts"
import { merge, release } from "./conclude.ts"
import type { Db } from "./db.ts"
import { insertEdges, lockParents, type Standings } from "./depend.ts"
import { type Inserted, insert } from "./enqueue.ts"
import { autonomous } from "./statement.ts"

/** What an insert of tied jobs did. */
export interface Composed {
  readonly rows: ReadonlyArray<Inserted>
  readonly batch: BatchId | undefined
  readonly aftermath: Aftermath
}

/**
 * Inserts the jobs with their edges and their places in batches, all or nothing, in the order given; those of a new
 * batch become its members.
 *
 * The jobs that they wait for are locked first. A job that has nothing left to wait for is resolved at once by the
 * rules by which an end resolves it.
 */
export const compose = (
  db: Db,
  given: ReadonlyArray<NewJob>,
  batch?: NewBatch
): Effect.Effect<Composed, CompositionError | SqlError> =>
  autonomous(
    db.sql,
    Effect.gen(function* () {
      const standings = yield* parentsOf(db, given)
      const created = batch === undefined ? undefined : yield* create(db, batch)
      const jobs = created === undefined ? given : given.map((job) => ({ ...job, batch: created }))
      const deltas: Deltas = new Map()
      for (const job of jobs) if (job.batch !== undefined) deltaOf(deltas, job.batch).joining++
      if (batch?.parent !== undefined) deltaOf(deltas, batch.parent).joining++
      if (created !== undefined) deltaOf(deltas, created)
      const rows = yield* insertAll(db, jobs)
      const edges = jobs.flatMap((job, position) =>
        (job.dependsOn ?? []).map(({ parent, ...edge }) => ({
          ...edge,
          child: idAt(rows, position),
          parent: "id" in parent ? parent.id : idAt(rows, parent.position),
          outcome: "id" in parent ? standings.get(parent.id) : undefined
        }))
      )
      for (let i = 0; i < edges.length; i += chunkSize) yield* insertEdges(db, edges.slice(i, i + chunkSize))
      const decided = new Set(edges.flatMap((edge) => (edge.outcome === undefined ? [] : [edge.child])))
      // The counters change last: whoever adds to a batch holds its row for no longer than it must.
      const ends: Deltas = new Map()
      const seal = new Set(created !== undefined && batch?.sealed === true ? [created] : [])
      const tallied = yield* tally(db, deltas, seal)
      const aftermath = merge(
        { freed: [], cancelled: [], ...tallied },
        yield* release(db, [...decided].toSorted((a, b) => a - b), ends)
      )
      return { rows: rows.map(asResolved(aftermath)), batch: created, aftermath }
    })
  )

/** Closes a batch: once its members have ended it is finished. */
export const seal = (db: Db, id: BatchId): Effect.Effect<Aftermath, CompositionError | SqlError> =>
  autonomous(
    db.sql,
    Effect.map(
      Effect.suspend(() => {
        const deltas: Deltas = new Map()
        deltaOf(deltas, id)
        return tally(db, deltas, new Set([id]))
      }),
      (tallied): Aftermath => ({ freed: [], cancelled: [], ...tallied })
    )
  )

/** The most rows that one insert statement carries. */
export const chunkSize = 5000

// internal

const parentsOf = Effect.fnUntraced(function* (
  db: Db,
  jobs: ReadonlyArray<NewJob>
): Effect.fn.Return<Standings, MissingDependencies | SqlError> {
  const wanted = new Set<JobId>()
  for (const job of jobs) {
    for (const { parent } of job.dependsOn ?? []) if ("id" in parent) wanted.add(parent.id)
  }
  if (wanted.size === 0) return new Map()
  const standings = yield* lockParents(
    db,
    [...wanted].toSorted((a, b) => a - b)
  )
  const missing = [...wanted].filter((id) => !standings.has(id))
  return missing.length === 0
    ? standings
    : yield* new MissingDependencies({
        ids: missing.slice(0, 100),
        message: `There are no jobs ${missing.slice(0, 10).join(", ")}${missing.length > 10 ? " and more" : ""} to wait for.`
      })
})

const insertAll = Effect.fnUntraced(function* (db: Db, jobs: ReadonlyArray<NewJob>) {
  const awaited = new Set<number>()
  for (const job of jobs) {
    for (const { parent } of job.dependsOn ?? []) if ("position" in parent) awaited.add(parent.position)
  }
  const rows: Array<Inserted> = []
  for (let i = 0; i < jobs.length; i += chunkSize) {
    const inChunk = new Set([...awaited].filter((at) => at >= i && at < i + chunkSize).map((at) => at - i))
    rows.push(...(yield* insert(db, jobs.slice(i, i + chunkSize), inChunk)))
  }
  return rows
})

const idAt = (rows: ReadonlyArray<Inserted>, position: number): JobId => (rows[position] as Inserted).id // one row for each job

const asResolved = (aftermath: Aftermath): ((row: Inserted) => Inserted) => {
  const states = new Map([
    ...aftermath.freed.map((job) => [job.id, job.state] as const),
    ...aftermath.cancelled.map((job) => [job.id, "cancelled"] as const)
  ])
  return (row) => ({ ...row, state: states.get(row.id) ?? row.state })
}
