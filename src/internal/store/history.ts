/** The store's verbs for what happened when. */
import * as Effect from "effect/Effect"
import type { Db } from "../sql/db.ts"
import * as health from "../sql/health.ts"
import * as history from "../sql/history.ts"
import type { Runner } from "./runner.ts"

/** Builds the verbs. */
export const historyVerbs = (db: Db, { background, called }: Runner) => ({
  /** Adds to this minute, hour and day. */
  add: (increments: ReadonlyArray<history.Increment>) => background("history")(history.add(db, increments)),
  /** Notes how much waits, once a minute for all nodes. */
  noteDepths: background("history")(
    Effect.gen(function* () {
      if (!(yield* history.isUnseen(db))) return
      const { queues } = yield* health.read(db)
      const total = {
        queue: "",
        available: queues.reduce((sum, queue) => sum + queue.available, 0),
        oldest_millis: Math.max(0, ...queues.map((queue) => queue.oldest_millis))
      }
      yield* history.noteDepths(db, [total, ...queues])
    })
  ),
  /** Reads a span in steps. */
  read: (page: history.HistoryPage) => called("history")(history.read(db, page)),
  /** Reads a span in steps for each of some queues or workers. */
  readBy: (by: "queue" | "worker", page: Omit<history.HistoryPage, "worker">, most: number) =>
    called("history")(history.readBy(db, by, page, most)),
  /** Reads the last hour of each queue or worker. */
  activity: (by: "queue" | "worker") => called("history")(history.activity(db, by)),
  /** Forgets what is past its time; says how many rows. */
  prune: background("prune")(history.prune(db))
})

/** The verbs. */
export type HistoryVerbs = ReturnType<typeof historyVerbs>
