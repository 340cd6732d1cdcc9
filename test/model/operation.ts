/** What may be done to the jobs, as data that can be generated and shrunk. */
import * as Schema from "effect/Schema"

const Index = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 40 }))
const Node = Schema.Literals([0, 1])
const Queue = Schema.Literals(["x", "x", "x", "y"])
const Worker = Schema.Literals(["a", "b"])
// Mostly the latest claims, at times one long settled or lost.
const Recent = Schema.Literals([0, 1, 2, 3, 5, 8, 13, 21])
const Small = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 3 }))

const Ending = Schema.Literals(["Succeeded", "Failed", "Snoozed", "Interrupted", "DiscardAsked", "CancelAsked"])

/** What a failing sequence shrinks to, where an operation does not matter. */
const Nothing = Schema.TaggedStruct("Nothing", {})
const Enqueue = Schema.TaggedStruct("Enqueue", {
  worker: Worker,
  queue: Queue,
  priority: Schema.Literals([-1, 0, 1]),
  maxAttempts: Small,
  delay: Schema.Literals([0, 0, 500, 60_000])
})
const Claim = Schema.TaggedStruct("Claim", {
  node: Node,
  queue: Queue,
  limit: Small,
  workers: Schema.Literals(["a", "b", "both"]),
  room: Schema.Literals([1, 5])
})
const Settle = Schema.TaggedStruct("Settle", {
  // Which of all claims ever made: also those that were settled before or lost since.
  claims: Schema.Array(Schema.Struct({ claim: Recent, ending: Ending })).check(
    Schema.isMinLength(1),
    Schema.isMaxLength(3)
  )
})
const Look = Schema.TaggedStruct("Look", { node: Node })
const Rescue = Schema.TaggedStruct("Rescue", {})
const Beat = Schema.TaggedStruct("Beat", { node: Node })
const Retire = Schema.TaggedStruct("Retire", { node: Node })
const Reconcile = Schema.TaggedStruct("Reconcile", {
  node: Node,
  knows: Schema.Boolean,
  grace: Schema.Literals([0, 5000])
})
const Cancel = Schema.TaggedStruct("Cancel", { job: Index })
const Retry = Schema.TaggedStruct("Retry", { job: Index })
const Prune = Schema.TaggedStruct("Prune", { state: Schema.Literals(["completed", "discarded", "cancelled"]) })
const Advance = Schema.TaggedStruct("Advance", {
  millis: Schema.Literals([1, 500, 700, 1000, 2000, 3000, 5000, 10_000, 31_000, 3_600_000])
})

export const Operation = Schema.Union([
  Nothing,
  Enqueue,
  Claim,
  Settle,
  Look,
  Rescue,
  Beat,
  Retire,
  Reconcile,
  Cancel,
  Retry,
  Prune,
  Advance,
  // What moves jobs along comes more often.
  Enqueue,
  Enqueue,
  Claim,
  Claim,
  Claim,
  Claim,
  Settle,
  Settle,
  Settle,
  Look,
  Beat,
  Rescue
])

export type Operation = typeof Operation.Type
