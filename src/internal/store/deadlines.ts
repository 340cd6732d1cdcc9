/** The store's verbs for jobs that have to start in time. */
import type { Db } from "../sql/db.ts"
import * as expire from "../sql/expire.ts"
import type { Runner } from "./runner.ts"

/** Builds the verbs. */
export const deadlineVerbs = (db: Db, { background }: Runner) => ({
  /** Ends jobs that have expired; at most 500 at a time, and none while another node does. */
  expire: (by: string) => background("expire")(expire.expire(db, by))
})

/** The verbs. */
export type DeadlineVerbs = ReturnType<typeof deadlineVerbs>
