/** How queues look to people. */
import type { JobState } from "../../JobRow.ts"
import type { QueueOverview } from "../../Queues.ts"
import type { Cell } from "./screen.ts"
import { count } from "./text.ts"

/** How many of its jobs are in a state, or at least. */
export const counted = (queue: QueueOverview, state: JobState): string =>
  `${count(queue.counts[state] ?? 0)}${queue.atLeast.includes(state) ? "+" : ""}`

/** How a queue stands, in one word: the one that matters most. */
export const standing = (queue: QueueOverview): Cell => {
  if (queue.paused) return ["paused", "yellow"]
  if (queue.nodes > 0) return ["ok", "green"]
  if (queue.wishes.some((wish) => wish.removed && wish.node === undefined)) return ["removed", "yellow"]
  return (queue.counts.available ?? 0) > 0 ? ["no node", "red"] : ["idle", "dim"]
}
