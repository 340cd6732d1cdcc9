/** The part of a node's look that sees to jobs which every node runs. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { JobId } from "../JobRow.ts"
import type { JobStore } from "../JobStore.ts"
import type { Notifier } from "../Notifier.ts"
import type { ShigotoConfig } from "../ShigotoConfig.ts"
import { spread } from "./aftermath.ts"
import type { Events } from "./events.ts"
import { keyOf, roundLimit } from "./sql/broadcast.ts"

/**
 * Builds the round of a node: it opens windows, makes the node's copies, completes jobs whose window is over, and gives
 * up copies whose node is gone. Says which queues have new copies for this node, and whether there is more to do.
 */
export const makeBroadcast = (
  config: ShigotoConfig["Service"],
  store: JobStore["Service"],
  notifier: Notifier["Service"],
  events: Events["Service"]
) => {
  const queues = new Map([...config.broadcast].map(([queue, window]) => [queue, Duration.toMillis(window)]))
  const none = { ready: new Set<string>(), more: false }

  const warned = new Set<string>()

  const giveUp = Effect.fnUntraced(function* (id: JobId) {
    const reason = "its node is gone"
    const cancelled = yield* store.cancel(id, reason)
    if (cancelled._tag !== "Cancelled") return
    const { aftermath, attempt, queue, worker } = cancelled
    events.publish({ _tag: "Cancelled", id, worker, queue, attempt, reason, runMillis: undefined })
    yield* spread(events, notifier, aftermath)
  })
  return {
    /** What the node may claim of a queue; undefined for all of it. */
    partitions: (queue: string, node: number, room: number) =>
      queues.has(queue) ? [{ key: keyOf(node), room }] : undefined,
    /** Whether the jobs of a queue go to all nodes. */
    has: (queue: string): boolean => queues.has(queue),
    round: Effect.fnUntraced(function* (node: number | undefined, workers: ReadonlyArray<string>) {
      if (queues.size === 0 || node === undefined || workers.length === 0) return none
      const by = { node, nodeName: config.nodeName, queues, workers }
      const { due, ordinary, strays } = yield* store.broadcast.look(by)
      for (const { name, queue } of ordinary) {
        if (warned.has(`${name} ${queue}`)) continue
        warned.add(`${name} ${queue}`)
        yield* Effect.logWarning(
          `The node ${name} has "${queue}" as an ordinary queue, and this node as one whose jobs every node runs: ${name} runs none of them. Say broadcast on all nodes that have the queue.`
        )
      }
      yield* Effect.forEach(strays, giveUp, { discard: true })
      if (!due) return none
      const { aftermath, closed, copies, opened } = yield* store.broadcast.spread(by)
      for (const job of copies) events.publish({ _tag: "Inserted", ...job, state: "available" })
      for (const job of opened) {
        events.publish({ _tag: "BroadcastOpened", ...job, windowMillis: queues.get(job.queue) ?? 0 })
      }
      for (const job of closed) events.publish({ _tag: "BroadcastClosed", ...job })
      yield* spread(events, notifier, aftermath)
      const widened = new Set(opened.map(({ queue }) => queue))
      yield* Effect.forEach(widened, (queue) => notifier.send({ _tag: "Available", queue }), { discard: true })
      return {
        ready: new Set(copies.map(({ queue }) => queue)),
        more: copies.length + closed.length >= roundLimit
      }
    })
  }
}
