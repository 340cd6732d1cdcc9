/** What follows from the ends of jobs, in the transaction that ended them. */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { BatchId, JobId } from "../../JobRow.ts"
import { type Aftermath, link, merge, type NewJob, nothing, type OnFailure } from "../newJob.ts"
import { type Deltas, deltaOf, tally } from "./batch.ts"
import { cancelCopies } from "./copies.ts"
import type { Db } from "./db.ts"
import { type EndedJob, findStuck, heal, insertEdges, markEnded, type Resolved, resolve } from "./depend.ts"
import { chunkSize, insert, told } from "./enqueue.ts"
import { keep } from "./result.ts"

/** A job that has ended its attempt to wait for new ones. */
export interface Forked {
  readonly id: JobId
  readonly batch: BatchId | undefined
  readonly name: string
  readonly onFailure: OnFailure
  readonly children: ReadonlyArray<NewJob>
}

/** How far a chain of cancelled jobs is followed in one transaction; a sweep goes on from there. */
const maxWaves = 500

/**
 * Lets go of the jobs that waited for those that ended, and of those that waited for the ones that this cancels, and
 * counts them all in their batches; keeps the results that somebody waits for, and cancels the copies of broadcast jobs
 * that were cancelled. To be called in a statement after the one that took their rows away.
 */
export const conclude = Effect.fnUntraced(function* (
  db: Db,
  ended: ReadonlyArray<EndedJob>,
  deltas: Deltas = new Map()
): Effect.fn.Return<Aftermath, SqlError> {
  const freed: Array<Aftermath["freed"][number]> = []
  const cancelled: Array<Aftermath["cancelled"][number]> = []
  const watched: Array<JobId> = []
  let wave = ended
  for (let waves = 0; wave.length > 0; waves++) {
    for (const { batch, state } of wave) if (batch !== undefined) deltaOf(deltas, batch)[state]++
    const seen = wave.filter((job) => (job.links & link.watched) !== 0)
    if (seen.length > 0) yield* keep(db, seen)
    for (const job of seen) watched.push(job.id)
    const next: Array<EndedJob> = []
    const copied = wave.filter((job) => job.state === "cancelled" && (job.links & link.copied) !== 0)
    for (const copy of copied.length === 0 ? [] : yield* cancelCopies(db, copied)) {
      cancelled.push(copy)
      next.push({ ...copy, state: "cancelled", reason: JSON.stringify(copy.reason) })
    }
    const awaited = wave.filter((job) => (job.links & link.awaited) !== 0)
    if (waves === maxWaves) break
    const children = awaited.length === 0 ? [] : yield* markEnded(db, awaited)
    for (const job of children.length === 0 ? [] : yield* resolve(db, children)) {
      if (job._tag === "Freed") freed.push(job)
      else {
        cancelled.push(job)
        next.push(cancelledOf(job))
      }
    }
    wave = next
  }
  // Nothing joins here that a batch could refuse.
  const tallied = yield* Effect.catchTags(tally(db, deltas), { BatchClosed: Effect.die, BatchNotFound: Effect.die })
  return { freed, cancelled, ...tallied, watched }
})

/**
 * Inserts the children of forks, and the edges on which their parents wait.
 *
 * A child waits for nothing and is like no other job, so that none can wait for its own parent.
 */
export const fork = Effect.fnUntraced(function* (
  db: Db,
  forks: ReadonlyArray<Forked>,
  deltas: Deltas
): Effect.fn.Return<Aftermath, SqlError> {
  if (forks.length === 0) return nothing
  const jobs = forks.flatMap((one) =>
    one.children.map((child) => ({
      child: { ...child, batch: one.batch, unique: undefined, dependsOn: undefined },
      parent: one.id,
      name: one.name,
      one
    }))
  )
  for (const { batch, children } of forks) if (batch !== undefined) deltaOf(deltas, batch).grown += children.length
  const inserted: Array<Aftermath["inserted"][number]> = []
  for (let i = 0; i < jobs.length; i += chunkSize) {
    const chunk = jobs.slice(i, i + chunkSize)
    const rows = yield* insert(
      db,
      chunk.map((job) => job.child),
      { awaited: new Set(chunk.keys()) }
    )
    yield* insertEdges(
      db,
      chunk.map(({ name, one, parent }, k) => ({
        child: parent,
        parent: rows[k]?.id as JobId, // one row for each job
        onFailure: one.onFailure,
        name,
        outcome: undefined
      }))
    )
    inserted.push(...rows.map((row, k) => told(row, chunk[k]?.child as NewJob))) // as above
  }
  return { ...nothing, inserted }
})

/** Lets go of blocked jobs that nothing holds any more, should there be any; returns where the next sweep goes on. */
export const sweep = (db: Db, after: number) =>
  db.transaction(
    Effect.gen(function* () {
      const { next, stuck } = yield* findStuck(db, after)
      if (stuck.length === 0) return { next, aftermath: nothing }
      yield* heal(db, stuck)
      return { next, aftermath: yield* release(db, stuck, new Map()) }
    })
  )

/** Resolves blocked jobs that are locked, and concludes the ends that come of it. */
export const release = Effect.fnUntraced(function* (
  db: Db,
  children: ReadonlyArray<JobId>,
  deltas: Deltas
): Effect.fn.Return<Aftermath, SqlError> {
  const resolved = yield* resolve(db, children)
  const cancelled = resolved.filter((job) => job._tag === "Cancelled")
  const rest = yield* conclude(db, cancelled.map(cancelledOf), deltas)
  return merge({ ...nothing, freed: resolved.filter((job) => job._tag === "Freed"), cancelled }, rest)
})

// internal

const cancelledOf = (job: Extract<Resolved, { readonly _tag: "Cancelled" }>): EndedJob => ({
  ...job,
  state: "cancelled",
  reason: JSON.stringify(job.reason)
})
