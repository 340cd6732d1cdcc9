/** Ends the jobs whose deadline has passed, and tells of it. */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import type { AttemptFailure } from "../JobRow.ts"
import type { JobStore } from "../JobStore.ts"
import type { Notifier } from "../Notifier.ts"
import { spread } from "./aftermath.ts"
import type { Events } from "./events.ts"
import type { Expired } from "./sql/expire.ts"

/** Ends what has expired, on any node's word; says whether there may be more, and whether something was discarded. */
export const expireJobs = Effect.fnUntraced(function* (
  store: JobStore["Service"],
  events: Events["Service"],
  notifier: Notifier["Service"],
  nodeName: string
) {
  const { aftermath, expired, full } = yield* store.deadlines.expire(nodeName)
  for (const job of expired) announce(events, job)
  yield* spread(events, notifier, aftermath)
  return { full, discarded: expired.some(({ state }) => state === "discarded") }
})

// internal

const announce = (events: Events["Service"], job: Expired): void => {
  const { attempt, fallback, id, queue, reason, state, worker } = job
  const ref = { id, worker, queue, attempt }
  events.publish({ _tag: "Expired", ...ref, state, startBefore: DateTime.fromDateUnsafe(job.startBefore), fallback })
  events.publish(
    state === "discarded"
      ? { _tag: "Discarded", ...ref, failure: JSON.parse(job.failure) as AttemptFailure, runMillis: undefined } // as it was stored
      : { _tag: "Cancelled", ...ref, reason, runMillis: undefined }
  )
}
