/** An operator beside the producers: cancels jobs in any state, and runs finished ones again. */
import { Effect } from "effect"
import { type JobId, Jobs } from "effect-shigoto"
import type { Random } from "../random.ts"
import { Truth } from "../truth.ts"
import type { Known } from "./enqueue.ts"

export const makeOperate = Effect.fnUntraced(function* (process: string, known: Known) {
  const truth = yield* Truth
  const jobs = yield* Jobs
  return Effect.fnUntraced(function* (random: Random) {
    if (known.ids.length === 0) return
    const id = random.pick(known.ids)
    if (random.chance(0.5)) yield* call(truth, process, "cancel", id, jobs.cancel(id as JobId))
    else yield* call(truth, process, "retry", id, jobs.retry(id as JobId))
  })
})

/** Records the wish before and the answer after. */
export const call = <A extends { readonly _tag: string }, E extends { readonly _tag: string }, R>(
  truth: Truth["Service"],
  process: string,
  op: string,
  id: number,
  effect: Effect.Effect<A, E, R>
) =>
  Effect.andThen(
    truth.write("client", { process, op, phase: "intent", job: id }),
    Effect.matchEffect(effect, {
      onFailure: (error) =>
        truth.write("client", { process, op, phase: "error", job: id, detail: JSON.stringify({ error: error._tag }) }),
      onSuccess: (answer) =>
        truth.write("client", { process, op, phase: "ack", job: id, detail: JSON.stringify({ answer: answer._tag }) })
    })
  )
