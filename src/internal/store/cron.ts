/** The store's verbs for cron entries and their ticks. */
import * as cron from "../sql/cron.ts"
import type { Db } from "../sql/db.ts"
import type { Runner } from "./runner.ts"

/** Builds the verbs. */
export const cronVerbs = (db: Db, { background, called }: Runner) => ({
  /** Stores an entry. */
  upsert: (entry: cron.NewCron) => called("cron")(cron.upsert(db, entry)),
  /** All entries, or the one of a name. */
  list: (name?: string) => called("cron")(cron.list(db, name)),
  /** Removes an entry; false where there is none. */
  remove: (name: string) => called("cron")(cron.remove(db, name)),
  /** Pauses or resumes an entry; false where there is none. */
  pause: (name: string, paused: boolean) => called("cron")(cron.pause(db, name, paused)),
  /** Says which entries are due for a node, and when the next one is. */
  look: (node: Parameters<typeof cron.look>[1]) => background("cron")(cron.look(db, node)),
  /** Deals with the ticks of a due entry; undefined where another node does or did. */
  evaluate: (name: string, plan: (entry: cron.CronColumns, now: number) => cron.CronPlan) =>
    background("cron")(cron.evaluate(db, name, plan)),
  /** Notes why an entry cannot tick. */
  fail: (name: string, problem: string) => background("cron")(cron.fail(db, name, problem)),
  /** Gives up a node's leadership over entries. */
  resign: (node: number) => background("cron")(cron.resign(db, node)),
  /** Forgets old ticks. */
  pruneTicks: background("prune")(cron.pruneTicks(db))
})

/** The verbs. */
export type CronVerbs = ReturnType<typeof cronVerbs>
