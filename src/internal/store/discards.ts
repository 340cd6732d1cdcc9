/** The store's verbs for jobs that were given up and whose worker is to be told. */
import type { Db } from "../sql/db.ts"
import * as discard from "../sql/discard.ts"
import type { Runner } from "./runner.ts"

/** Builds the verbs. */
export const discardVerbs = (db: Db, { background }: Runner) => ({
  /** Takes discards for a node to tell its workers of; at most 100 at a time. */
  take: (by: discard.Teller) => background("discards")(discard.take(db, by)),
  /** Forgets one that a worker has been told of. */
  told: (one: discard.Discard) => background("discards")(discard.told(db, one)),
  /** Forgets those that no node has come for; returns how many. */
  prune: background("prune")(discard.prune(db))
})

/** The verbs. */
export type DiscardVerbs = ReturnType<typeof discardVerbs>
