/** The store's verbs for results that somebody waits for. */
import * as Effect from "effect/Effect"
import type { JobId } from "../../JobRow.ts"
import type { Db } from "../sql/db.ts"
import * as result from "../sql/result.ts"
import type { Runner } from "./runner.ts"

/** Builds the verbs. */
export const resultVerbs = (db: Db, { background, called }: Runner) => ({
  /** Whether the caller is in a transaction: what it inserts then cannot end before it commits. */
  inTransaction: Effect.map(Effect.serviceOption(db.sql.transactionService), ({ _tag }) => _tag === "Some"),
  /** Has the end of a live job kept. */
  watch: (id: JobId) => called("watch")(result.watch(db, id)),
  /** The ends of those that have ended, for those who wait. */
  read: (wanted: ReadonlyArray<JobId>) => background("read results")(result.read(db, wanted)),
  /** The end of a job, for one who asks. */
  find: (id: JobId) => called("result")(Effect.map(result.read(db, [id]), (settled) => settled[0])),
  /** Forgets what was kept long enough; says whether there may be more. */
  prune: background("prune")(result.prune(db))
})

/** The verbs. */
export type ResultVerbs = ReturnType<typeof resultVerbs>
