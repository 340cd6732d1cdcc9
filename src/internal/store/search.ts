/** The store's verbs that find jobs for people. */
import type { Checked } from "../../Filter.ts"
import type { Db } from "../sql/db.ts"
import * as search from "../sql/search.ts"
import type { Runner } from "./runner.ts"

/** Builds the verbs. */
export const searchVerbs = (db: Db, { called }: Runner) => ({
  /** A page of jobs. */
  list: (page: search.Page) => called("list")(search.list(db, page)),
  /** How many jobs match, of the first 10,000 and one. */
  count: (filter: Checked) => called("count")(search.count(db, filter)),
  /** How many jobs of each state a search by JSON finds. */
  countByState: (filter: Checked) => called("count")(search.countByState(db, filter)),
  /** Groups of failures. */
  failures: (limit: number) => called("failures")(search.failures(db, limit))
})

/** The verbs. */
export type SearchVerbs = ReturnType<typeof searchVerbs>
