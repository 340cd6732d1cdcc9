/** The store's verbs that change many jobs. */
import type { Checked } from "../../Filter.ts"
import type { JobId } from "../../JobRow.ts"
import * as bulk from "../sql/bulk.ts"
import type { Db } from "../sql/db.ts"
import type { Runner } from "./runner.ts"

/** Builds the verbs. */
export const bulkVerbs = (db: Db, { called }: Runner) => ({
  /** The highest id so far. */
  top: called("find")(bulk.top(db)),
  /** The matching jobs in the next window below an id. */
  find: (filter: Checked, below: number) => called("find")(bulk.find(db, filter, below)),
  /** Those of some jobs that match still. */
  still: (chunk: bulk.Chunk) => called("find")(bulk.still(db, chunk)),
  /** Cancels jobs, or asks their holders to. */
  cancel: (chunk: bulk.Chunk, reason: string | undefined) => called("cancel")(bulk.cancel(db, chunk, reason)),
  /** Runs jobs again that are tied to nothing. */
  retryPlain: (chunk: bulk.Chunk) => called("retry")(bulk.retryPlain(db, chunk)),
  /** Runs one job again, whatever it is tied to. */
  retryOne: (id: JobId, filter: Checked) => called("retry")(bulk.retryOne(db, id, filter)),
  /** Deletes jobs that do not run. */
  remove: (chunk: bulk.Chunk) => called("delete")(bulk.remove(db, chunk))
})

/** The verbs. */
export type BulkVerbs = ReturnType<typeof bulkVerbs>
