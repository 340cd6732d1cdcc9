/** Lets calls of the same moment share a statement: what comes up while one is under way leaves together in the next. */
import type * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"

/** How items are sent. */
export interface Sending<Item, Answer, Failure> {
  /** How many batches may be under way at once. */
  readonly lanes: number
  /**
   * How long a batch may be under way alone. A second one beside it halves both, so it leaves only where a whole batch
   * waits, or where the first is so late that it should not hold up the others.
   */
  readonly patience: Duration.Input
  /** The most items of a batch. */
  readonly most: number
  /** The most bytes of a batch, unless a single item has more. */
  readonly mostBytes: number
  readonly bytes: (item: Item) => number
  /** Answers each item, in order. */
  readonly send: (items: ReadonlyArray<Item>) => Effect.Effect<ReadonlyArray<Answer>, Failure>
  /** Whether a failure may be the fault of one item, so that each is to be sent alone. */
  readonly isolates: (failure: Failure) => boolean
}

/**
 * Makes a function that sends one item and waits for its answer.
 *
 * The first item leaves at once: nobody waits for company. An interrupted caller takes an item back that has not left;
 * one that has left arrives, as it does for a statement whose caller is interrupted.
 */
export const makeCoalescer = <Item, Answer, Failure>(
  context: Context.Context<never>,
  sending: Sending<Item, Answer, Failure>
): ((item: Item) => Effect.Effect<Answer, Failure>) => {
  const fork = Effect.runForkWith(context)
  let pending: Array<Waiting<Item, Answer, Failure>> = []
  const state = { lanes: 0, taken: 0, watched: false }

  const take = (): ReadonlyArray<Waiting<Item, Answer, Failure>> => {
    let bytes = 0
    let count = 0
    for (const { item } of pending) {
      bytes += sending.bytes(item)
      if (count === sending.most || (count > 0 && bytes > sending.mostBytes)) break
      count++
    }
    const batch = pending.slice(0, count)
    pending = pending.slice(count)
    state.taken++
    return batch
  }
  const deliver = (batch: ReadonlyArray<Waiting<Item, Answer, Failure>>): Effect.Effect<void> =>
    Effect.flatMap(Effect.exit(sending.send(batch.map((waiting) => waiting.item))), (exit) => {
      if (exit._tag === "Failure" && batch.length > 1 && isolated(exit, sending.isolates)) {
        return Effect.forEach(batch, (waiting) => deliver([waiting]), { discard: true })
      }
      for (const [i, waiting] of batch.entries()) {
        // one answer for each
        waiting.resume(exit._tag === "Failure" ? Effect.failCause(exit.cause) : Effect.succeed(exit.value[i] as Answer)) // one for each
      }
      return Effect.void
    })
  const lane = Effect.gen(function* () {
    while (pending.length > 0) yield* deliver(take())
    // In the same turn as the look above: whoever comes later starts a lane.
    state.lanes--
  })
  const start = () => {
    state.lanes++
    // Once all have called that were woken at the same moment: they share the first batch.
    queueMicrotask(() => fork(lane))
  }
  const watch = Effect.gen(function* () {
    while (state.lanes > 0 && state.lanes < sending.lanes) {
      const before = state.taken
      yield* Effect.sleep(sending.patience)
      if (state.taken === before && pending.length > 0 && state.lanes < sending.lanes) start()
    }
    state.watched = false
  })
  return (item) =>
    Effect.callback((resume) => {
      const waiting = { item, resume }
      pending.push(waiting)
      if (state.lanes === 0 || (state.lanes < sending.lanes && pending.length >= sending.most)) start()
      else if (!state.watched && state.lanes < sending.lanes) {
        state.watched = true
        fork(watch)
      }
      return Effect.sync(() => {
        pending = pending.filter((each) => each !== waiting)
      })
    })
}

// internal

interface Waiting<Item, Answer, Failure> {
  readonly item: Item
  readonly resume: (answer: Effect.Effect<Answer, Failure>) => void
}

const isolated = <Failure>(exit: Exit.Failure<unknown, Failure>, isolates: (failure: Failure) => boolean): boolean =>
  exit.cause.reasons.some((reason) => reason._tag === "Fail" && isolates(reason.error))
