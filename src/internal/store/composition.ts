/** The store's verbs for jobs that are tied to jobs, and for batches of them. */
import * as Effect from "effect/Effect"
import type { BatchId, JobId } from "../../JobRow.ts"
import type { NewJob } from "../newJob.ts"
import * as batch from "../sql/batch.ts"
import * as compose from "../sql/compose.ts"
import * as conclude from "../sql/conclude.ts"
import type { Db } from "../sql/db.ts"
import * as depend from "../sql/depend.ts"
import * as flow from "../sql/flow.ts"
import { related } from "../sql/related.ts"
import type { Runner } from "./runner.ts"

/** Builds the verbs. */
export const compositionVerbs = (db: Db, { background, called }: Runner) => ({
  /** Inserts jobs that are tied to others or to batches, and creates a batch for them where one is given. */
  insert: (jobs: ReadonlyArray<NewJob>, created?: batch.NewBatch, by?: compose.Holder) =>
    called("enqueue")(compose.compose(db, jobs, created, by)),
  /** Closes a batch. */
  seal: (id: BatchId) => called("seal")(compose.seal(db, id)),
  /** One batch. */
  get: (id: BatchId) => called("batch")(batch.get(db, id)),
  /** How many of its members have ended of late, and within how long. */
  pace: (id: BatchId) => called("batch")(batch.pace(db, id)),
  /** How the jobs of a flow stand. */
  flow: (id: BatchId) => called("flow")(Effect.all({ counts: flow.counts(db, id), nodes: flow.nodes(db, id) })),
  /** What a job waits for, and what waits for it, up to `limit` of each. */
  related: (id: JobId, limit: number) =>
    called("related")(
      Effect.all({ parents: related(db, "parents", id, limit), children: related(db, "children", id, limit) })
    ),
  /** A page of batches. */
  list: (page: batch.BatchPage) => called("batch")(batch.list(db, page)),
  /** A page of a batch's members. */
  members: (page: Parameters<typeof batch.members>[1]) => called("batch")(batch.members(db, page)),
  /** The batches nested in one. */
  nested: (id: BatchId) => called("batch")(batch.nested(db, id)),
  /** Lets go of blocked jobs that nothing holds, should there be any among the first thousand after an id. */
  sweepBlocked: (after: number) => background("sweep")(conclude.sweep(db, after)),
  /** Forgets edges and batches of jobs that are no more; says whether there may be more. */
  prune: background("prune")(
    Effect.map(
      Effect.all([depend.prune(db), batch.prune(db)]),
      ([edges, batches]) => edges === 10_000 || batches === 1000
    )
  )
})

/** The verbs. */
export type CompositionVerbs = ReturnType<typeof compositionVerbs>
