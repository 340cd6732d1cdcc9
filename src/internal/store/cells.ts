/** The store's verbs for values that many processes change. */
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type { StorageFailure } from "../../ShigotoError.ts"
import { type NextCell, pruneCells, readCell, writeCell } from "../sql/cell.ts"
import type { Db } from "../sql/db.ts"
import type { Runner } from "./runner.ts"

/**
 * A change of a value, undefined where there is none: what it answers, and what the value is to be, if that is another.
 *
 * It may be made several times, each time on what was found then; only the last counts.
 */
export type Change<A> = (value: unknown, now: number) => { readonly answer: A; readonly next?: NextCell | undefined }

/** Builds the verbs. */
export const cellVerbs = Effect.fnUntraced(function* (db: Db, { background }: Runner) {
  const fork = Effect.runForkWith(yield* Effect.context<never>())
  const lanes = new Map<string, Array<Waiting>>()

  /** Makes the changes of one moment, one after the other, in one write. */
  const round = Effect.fnUntraced(function* (name: string, batch: ReadonlyArray<Waiting>) {
    for (let lost = 0; true; lost++) {
      const { now, value, version } = yield* readCell(db, name)
      let next: NextCell | undefined
      const answers = batch.map(({ change }) => {
        const made = change(next === undefined ? value : next.value, now)
        next = made.next ?? next
        return made.answer
      })
      if (next === undefined || (yield* writeCell(db, name, version, next))) return answers
      // Those who meet here again part by some milliseconds.
      yield* lost === 0 ? Effect.yieldNow : Effect.sleep(yield* Random.nextBetween(0, Math.min(2 ** lost, 50)))
    }
  })
  const drain = Effect.fnUntraced(function* (name: string) {
    while (true) {
      const batch = lanes.get(name)?.splice(0) ?? []
      if (batch.length === 0) break
      const exit = yield* Effect.exit(background("cell")(round(name, batch)))
      for (const [i, { resume }] of batch.entries()) {
        resume(exit._tag === "Success" ? Effect.succeed(exit.value[i]) : Effect.failCause(exit.cause))
      }
    }
    // In the same turn as the look above: whoever comes later starts over.
    lanes.delete(name)
  })
  return {
    /**
     * Changes a value, whatever becomes of a transaction around the call. Changes of one process that come up while one
     * is under way are made together by the next; an interrupted caller takes back a change that has not left.
     */
    change: <A>(name: string, change: Change<A>): Effect.Effect<A, StorageFailure> =>
      Effect.callback((resume) => {
        const waiting: Waiting = { change, resume: resume as Waiting["resume"] } // the answer is that of its change
        const lane = lanes.get(name)
        if (lane !== undefined) lane.push(waiting)
        else {
          lanes.set(name, [waiting])
          fork(drain(name))
        }
        return Effect.sync(() => {
          const waits = lanes.get(name) ?? []
          const place = waits.indexOf(waiting)
          if (place !== -1) waits.splice(place, 1)
        })
      }),
    /** Forgets values that nobody needs. */
    prune: Effect.asVoid(Effect.repeat(background("prune")(pruneCells(db)), { while: (more) => more }))
  }
})

/** The verbs. */
export type CellVerbs = Effect.Success<ReturnType<typeof cellVerbs>>

// internal

interface Waiting {
  readonly change: Change<unknown>
  readonly resume: (answer: Effect.Effect<unknown, StorageFailure>) => void
}
