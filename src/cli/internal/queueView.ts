/** How queues look to people. */
import type { QueueOverview } from "../../Queues.ts"
import type { Cell } from "./screen.ts"

/** How a queue stands, in one word: the one that matters most. */
export const standing = (queue: QueueOverview): Cell => {
  if (queue.paused) return ["paused", "yellow"]
  if (queue.nodes > 0) return ["ok", "green"]
  if (queue.wishes.some((wish) => wish.removed && wish.node === undefined)) return ["removed", "yellow"]
  return (queue.counts.available ?? 0) > 0 ? ["no node", "red"] : ["idle", "dim"]
}
