/** What can be done to jobs from the command line. */
import * as Effect from "effect/Effect"
import type { Verb } from "./change.ts"

/** Runs jobs again. */
export const retryVerb: Verb = {
  verb: "retry",
  doing: "retrying",
  done: "retried",
  states: ["retryable", "discarded"],
  asks: false,
  one: (jobs, id) =>
    Effect.map(jobs.retry(id), (result) => ({
      outcome: result._tag,
      detail:
        result._tag === "Unchanged"
          ? `it is ${result.state} already`
          : result._tag === "UniqueConflict"
            ? `job #${result.holder} holds its unique key`
            : undefined
    })),
  many: (jobs, filter, options) => jobs.retryBy(filter, options)
}

/** Deletes jobs that do not run. */
export const deleteVerb: Verb = {
  verb: "delete",
  doing: "deleting",
  done: "deleted",
  states: ["scheduled", "blocked", "available", "retryable", "completed", "discarded", "cancelled"],
  asks: true,
  one: (jobs, id) =>
    Effect.map(jobs.delete(id), ({ _tag }) => ({
      outcome: _tag,
      detail: _tag === "Executing" ? "it is running: cancel it first" : undefined
    })),
  many: (jobs, filter, options) => jobs.deleteBy(filter, options)
}

/** Cancels jobs, wherever they are. */
export const cancelVerb = (reason: string | undefined): Verb => ({
  verb: "cancel",
  doing: "cancelling",
  done: "cancelled",
  states: ["scheduled", "blocked", "available", "executing", "retryable"],
  asks: false,
  one: (jobs, id) =>
    Effect.map(jobs.cancel(id, reason), (result) => ({
      outcome: result._tag,
      detail: result._tag === "Finished" ? `it is ${result.state} already` : undefined
    })),
  many: (jobs, filter, options) => jobs.cancelBy(filter, { ...options, reason })
})
