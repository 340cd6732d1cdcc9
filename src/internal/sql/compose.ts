/** Inserts jobs that are tied to others, and batches with their members, in one transaction. */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { BatchId, JobId } from "../../JobRow.ts"
import { BatchClosed, BatchNotFound, type CompositionError, MissingDependencies } from "../../ShigotoError.ts"
import { type Aftermath, merge, type MergeRefusal, type NewJob, nothing } from "../newJob.ts"
import { batchId, create, type Deltas, deltaOf, type NewBatch, tally } from "./batch.ts"
import { release } from "./conclude.ts"
import type { Db } from "./db.ts"
import { insertEdges, lockParents, type Standings } from "./depend.ts"
import { chunkSize, insert } from "./enqueue.ts"
import { insertUnique, type Stored } from "./unique.ts"

/** What an insert of tied jobs did. */
export interface Composed {
  readonly stored: ReadonlyArray<Stored>
  readonly batch: BatchId | undefined
  readonly aftermath: Aftermath
}

/** An attempt that is running. */
export interface Holder {
  readonly id: JobId
  readonly epoch: number
}

/**
 * Inserts the jobs with their edges and their places in batches, all or nothing, in the order given; those of a new
 * batch become its members.
 *
 * The jobs that they wait for are locked first. A job that has nothing left to wait for is resolved at once by the
 * rules by which an end resolves it. A unique job whose key is taken gets no edges and joins no batch.
 *
 * With `by` they join the batch of a job that is executing, sealed or not: its row is locked, so that the batch cannot
 * finish before they are in.
 */
export const compose = (
  db: Db,
  given: ReadonlyArray<NewJob>,
  batch?: NewBatch,
  by?: Holder
): Effect.Effect<Composed, CompositionError | MergeRefusal | SqlError> =>
  db.transaction(
    Effect.gen(function* () {
      const joined = by === undefined ? undefined : yield* batchOf(db, by)
      const standings = yield* parentsOf(db, given)
      const created = batch === undefined ? undefined : yield* create(db, batch)
      const into = created ?? joined
      const jobs = into === undefined ? given : given.map((job) => ({ ...job, batch: into }))
      const deltas: Deltas = new Map()
      if (batch?.parent !== undefined) deltaOf(deltas, batch.parent).joining++
      if (created !== undefined) deltaOf(deltas, created)
      const stored = yield* insertAll(db, jobs)
      const isNew = (position: number): boolean => stored[position]?._tag === "Inserted"
      for (const [i, job] of jobs.entries()) {
        if (job.batch !== undefined && isNew(i))
          deltaOf(deltas, job.batch)[joined === undefined ? "joining" : "grown"]++
      }
      const edges = jobs.flatMap((job, position) =>
        (isNew(position) ? (job.dependsOn ?? []) : []).map(({ parent, ...edge }) => ({
          ...edge,
          child: idAt(stored, position),
          parent: "id" in parent ? parent.id : idAt(stored, parent.position),
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
        { ...nothing, ...tallied },
        yield* release(
          db,
          [...decided].toSorted((a, b) => a - b),
          ends
        )
      )
      return { stored: stored.map(asResolved(aftermath)), batch: created, aftermath }
    })
  )

/** Closes a batch: once its members have ended it is finished. */
export const seal = (db: Db, id: BatchId): Effect.Effect<Aftermath, CompositionError | SqlError> =>
  db.transaction(
    Effect.map(
      Effect.suspend(() => {
        const deltas: Deltas = new Map()
        deltaOf(deltas, id)
        return tally(db, deltas, new Set([id]))
      }),
      (tallied): Aftermath => ({ ...nothing, ...tallied })
    )
  )

// internal

/** The batch of a running job, whose end now waits for this transaction. */
const batchOf = Effect.fnUntraced(function* (
  db: Db,
  by: Holder
): Effect.fn.Return<BatchId, BatchClosed | BatchNotFound | SqlError> {
  const [row] = yield* db.sql<{ readonly batch_id: bigint | null }>`
    SELECT batch_id
    FROM ${db.jobs}
    WHERE id = ${by.id}::bigint
      AND epoch = ${by.epoch}::integer
      AND state = 'executing'
    FOR SHARE`
  if (row === undefined) {
    return yield* new BatchClosed({
      batch: `of job ${by.id}`,
      message: `Job ${by.id} does not run any more under this attempt, so it adds nothing to its batch.`
    })
  }
  return row.batch_id === null
    ? yield* new BatchNotFound({
        batch: `of job ${by.id}`,
        message: `Job ${by.id} is in no batch or flow that it could add to.`
      })
    : batchId(row.batch_id)
})

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
  const stored: Array<Stored> = []
  for (let i = 0; i < jobs.length; i += chunkSize) {
    const inChunk = new Set([...awaited].filter((at) => at >= i && at < i + chunkSize).map((at) => at - i))
    const chunk = jobs.slice(i, i + chunkSize)
    if (chunk.some((job) => job.unique !== undefined)) {
      stored.push(...(yield* insertUnique(db, chunk, inChunk)))
    } else {
      const rows = yield* insert(db, chunk, { awaited: inChunk })
      stored.push(...rows.map((inserted): Stored => ({ _tag: "Inserted", inserted })))
    }
  }
  return stored
})

const idAt = (stored: ReadonlyArray<Stored>, position: number): JobId => {
  const one = stored[position] as Stored // one for each job
  return one._tag === "Inserted" ? one.inserted.id : one.job.id
}

const asResolved = (aftermath: Aftermath): ((stored: Stored) => Stored) => {
  const states = new Map([
    ...aftermath.freed.map((job) => [job.id, job.state] as const),
    ...aftermath.cancelled.map((job) => [job.id, "cancelled"] as const)
  ])
  return (stored) => {
    if (stored._tag !== "Inserted") return stored
    const state = states.get(stored.inserted.id)
    return state === undefined ? stored : { ...stored, inserted: { ...stored.inserted, state } }
  }
}
