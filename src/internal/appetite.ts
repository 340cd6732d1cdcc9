/** What the claim loop of a queue knows of its queue. */
import * as Latch from "effect/Latch"
import type { ClaimRequest } from "./sql/claim.ts"

/** What is known of a queue between two claims. */
export interface Appetite {
  /** Open while there may be work. */
  readonly latch: Latch.Latch
  /** Whether the last claim was bounded by slots or room, so that a free slot is worth a claim. */
  full: boolean
  /** Whether the last claim was bounded by a limit over all nodes, so that a job that is settled is worth a claim. */
  held: boolean
  /** Whether a job that such a limit counted was settled since the last claim began, which may have counted it still. */
  freed: boolean
  /** Whether claims follow each other, wait for nothing but a slot, or for something that says that there may be work. */
  stage: "claiming" | "outOfSlots" | "waiting"
  /** Where in the claim order the last claim ended, while claims come back full; nothing available is known below. */
  from: ClaimRequest["from"]
  /** Whether something may have become available below. */
  below: boolean
  rewoundAt: number
  /** Whether the last claim came upon a job of a worker with limits over all nodes. */
  limited: boolean
  /** Whether the last claim left nothing behind that it might have taken. */
  emptied: boolean
}

/** Whether claims come back full, and the next is under way or needs nothing but a slot: that there is work is known. */
export const isBusy = ({ from, stage }: Appetite): boolean => from !== undefined && stage !== "waiting"

/**
 * How many jobs a claim that takes up to `most` asks for, by the slots that are open and the claimed jobs that have not
 * begun.
 *
 * The next claim is under way while the jobs of this one begin, so that neither the database nor the node waits for the
 * other. Where slots allow for less than a whole claim it comes as the last of them begin: sooner it would bring few.
 */
export const claimSize = (most: number, open: number, waiting: number): number =>
  waiting > (open < most ? most / 2 : most) ? 0 : Math.min(open, most)

/** Of a queue of which nothing is known. */
export const hungry = (): Appetite => ({
  latch: Latch.makeUnsafe(true),
  full: false,
  held: false,
  freed: false,
  stage: "waiting",
  from: undefined,
  below: false,
  rewoundAt: -Infinity,
  limited: false,
  emptied: false
})
