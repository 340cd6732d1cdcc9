/** The store's verbs for who did what. */
import * as audit from "../sql/audit.ts"
import type { Db } from "../sql/db.ts"
import type { Runner } from "./runner.ts"

/** Builds the verbs. */
export const auditVerbs = (db: Db, { background, called }: Runner) => ({
  /** Appends what was done. */
  record: (entry: audit.NewEntry) => called("audit")(audit.record(db, entry)),
  /** Appends an operation that begins. */
  begin: (entry: Parameters<typeof audit.begin>[1]) => called("audit")(audit.begin(db, entry)),
  /** Tells how far an operation has come; says whether it may go on. */
  advance: (id: number, progress: audit.Progress) => called("audit")(audit.advance(db, id, progress)),
  /** Ends an operation. */
  finish: (id: number, end: Parameters<typeof audit.finish>[2]) => called("audit")(audit.finish(db, id, end)),
  /** Asks for the end of an operation; false where it has ended. */
  stop: (id: number) => called("audit")(audit.stop(db, id)),
  /** A page of entries. */
  list: (page: Parameters<typeof audit.list>[1]) => called("audit")(audit.list(db, page)),
  /** Forgets old entries; says how many. */
  prune: background("prune")(audit.prune(db))
})

/** The verbs. */
export type AuditVerbs = ReturnType<typeof auditVerbs>
