/** Tells this node and the others what an end or an insert brought about beside itself. */
import * as Effect from "effect/Effect"
import type { Notifier } from "../Notifier.ts"
import type { JobRef } from "../JobEvent.ts"
import type { Events } from "./events.ts"
import type { Aftermath } from "./newJob.ts"

/** Publishes it, and wakes whoever has something to do now. */
export const spread = (
  events: Events["Service"],
  notifier: Notifier["Service"],
  { cancelled, finished, freed, inserted, watched }: Aftermath
): Effect.Effect<void> => {
  if (freed.length + cancelled.length + inserted.length + finished.length + watched.length === 0) return Effect.void
  const queues = new Set<string>()
  let soonest = Infinity
  for (const { dueMillis, ...job } of freed) {
    events.publish({ _tag: "Unblocked", ...refOf(job), state: job.state })
    if (job.state === "available") queues.add(job.queue)
    else soonest = Math.min(soonest, dueMillis)
  }
  for (const job of cancelled) {
    events.publish({ _tag: "Cancelled", ...refOf(job), attempt: job.attempt, reason: job.reason, runMillis: undefined })
  }
  for (const { dueMillis, expiresMillis = Infinity, ...job } of inserted) {
    soonest = Math.min(soonest, Math.max(expiresMillis, 0))
    events.publish({ _tag: "Inserted", ...refOf(job), state: job.state })
    if (job.state === "available") queues.add(job.queue)
    else soonest = Math.min(soonest, dueMillis)
  }
  for (const batch of finished) events.publish({ _tag: "BatchFinished", batch })
  return Effect.andThen(
    Effect.forEach(queues, (queue) => notifier.send({ _tag: "Available", queue }), { discard: true }),
    Effect.andThen(
      watched.length === 0 ? Effect.void : notifier.send({ _tag: "Settled", ids: watched }),
      soonest === Infinity ? Effect.void : Effect.sync(() => notifier.wake({ _tag: "Due", inMillis: soonest }))
    )
  )
}

// internal

const refOf = (job: JobRef): JobRef => ({
  id: job.id,
  worker: job.worker,
  queue: job.queue
})
