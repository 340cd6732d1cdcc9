/** Stores progress of attempts: coalesced, at most twice a second, the last value of each surely. */
import * as Effect from "effect/Effect"
import type { Attempt } from "../CurrentJob.ts"
import { JobStore } from "../JobStore.ts"
import { Events } from "./events.ts"

/** Makes the reporter; its writer ends with the scope. */
export const makeReporter = Effect.gen(function* () {
  const store = yield* JobStore
  const events = yield* Events
  const scope = yield* Effect.scope
  let pending = new Map<string, { readonly id: Attempt["id"]; readonly epoch: number; readonly percent: number }>()
  let writing = false

  const write = Effect.gen(function* () {
    while (pending.size > 0) {
      const reports = [...pending.values()]
      pending = new Map()
      yield* Effect.exit(store.progress(reports))
      yield* Effect.sleep("500 millis")
    }
    writing = false
  })

  return (attempt: Attempt, percent: number): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (events.isHeard())
        events.publish({ _tag: "Progress", id: attempt.id, worker: attempt.worker, queue: attempt.queue, percent })
      pending.set(`${attempt.id}:${attempt.epoch}`, { id: attempt.id, epoch: attempt.epoch, percent })
      if (writing) return Effect.void
      writing = true
      return Effect.asVoid(Effect.forkIn(write, scope))
    })
})
