/** The store's verbs for jobs that every node runs. */
import type { JobId } from "../../JobRow.ts"
import * as broadcast from "../sql/broadcast.ts"
import type { Db } from "../sql/db.ts"
import type { Runner } from "./runner.ts"

/** Builds the verbs. */
export const broadcastVerbs = (db: Db, { background, called }: Runner) => ({
  /** Says what there is to do for a node. */
  look: (by: broadcast.Broadcaster) => background("broadcast")(broadcast.look(db, by)),
  /** Opens windows, makes the node's copies, completes jobs whose window is over. */
  spread: (by: broadcast.Broadcaster) => background("broadcast")(broadcast.spread(db, by)),
  /** The copies of a job, by node. */
  copies: (id: JobId) => called("copies")(broadcast.copiesOf(db, id)),
  /** Forgets old copies. */
  prune: background("prune")(broadcast.prune(db))
})

/** The verbs. */
export type BroadcastVerbs = ReturnType<typeof broadcastVerbs>
