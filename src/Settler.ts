/**
 * Brings outcomes to the database: batched, fenced, and sent again until they are accepted or refused.
 *
 * An outcome is sent at once while no statement is under way; those that come up meanwhile leave together in the next.
 * A lost connection loses no outcome: the same batch goes out over the next connection, and a batch whose reply was
 * lost after its commit is recognised by its epochs. A value that the database refuses is settled alone, so that it
 * never holds up its neighbours.
 */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Events } from "./internal/events.ts"
import { fingerprintOf } from "./internal/fingerprint.ts"
import { spread } from "./internal/aftermath.ts"
import { pause, warn } from "./internal/loop.ts"
import type { Aftermath } from "./internal/newJob.ts"
import type { Claimed } from "./internal/sql/claimed.ts"
import type { Heirs } from "./internal/sql/handover.ts"
import type { Verdict } from "./internal/sql/settle.ts"
import type { JobId } from "./JobRow.ts"
import { JobStore } from "./JobStore.ts"
import { Notifier } from "./Notifier.ts"
import type { Outcome } from "./Outcome.ts"

/**
 * An attempt that has ended.
 *
 * @category models
 */
export interface Ended {
  readonly id: JobId
  readonly worker: string
  readonly queue: string
  readonly epoch: number
  /** Whether its claim said that its end concerns other jobs or a batch. */
  readonly linked: boolean
  /** Whether its worker wants to be told where it is discarded. */
  readonly telling?: boolean | undefined
  /** Whether what it leaves is encrypted where there is a cipher. Defaults to true. */
  readonly encrypted?: boolean | undefined
  readonly attempt: number
  readonly outcome: Outcome
  /** The incarnation of this node that claimed it. */
  readonly holder: number
  /** When it ended, by this node's clock, as ISO 8601. */
  readonly endedAt: string
  /** The name of this node. */
  readonly node: string
  /** How long its handler ran; undefined where it did not start, or nobody listens. */
  readonly runMillis: number | undefined
  /** Who may take the place that it leaves; undefined where that is for a claim to find out. */
  readonly succession?: Succession | undefined
  /**
   * Called once the database has said what became of it: the state that the job is in, undefined for refused, and whether
   * another job has its place already.
   */
  readonly settled: (accepted: string | undefined, isSucceeded: boolean) => void
}

/**
 * Who takes the places that attempts of one worker in one queue leave, as they are settled; the same value for all of
 * them.
 *
 * @category models
 */
export interface Succession {
  /** Who is to take so many places; undefined for nobody. */
  readonly heirs: (places: number) => Heirs | undefined
  /** Starts the jobs that took them. */
  readonly start: (jobs: ReadonlyArray<Claimed>, heirs: Heirs) => void
  /** Takes note that jobs may have taken them that nobody knows of. */
  readonly lost: () => void
}

/**
 * The sender of outcomes.
 *
 * @category services
 */
export class Settler extends Context.Service<
  Settler,
  {
    /** Takes an outcome in, to be sent with others; returns at once. */
    readonly settle: (ended: Ended) => void
    /** Waits until every outcome so far has been accepted or refused. */
    readonly flushed: Effect.Effect<void>
  }
>()("effect-shigoto/Settler") {}

/**
 * The most outcomes in one statement.
 *
 * @category constants
 */
export const batchSize = 1000

/**
 * Provides the settler.
 *
 * @category layers
 */
export const layer: Layer.Layer<Settler, never, JobStore | Notifier | Events> = Layer.effect(
  Settler,
  Effect.gen(function* () {
    const store = yield* JobStore
    const notifier = yield* Notifier
    const events = yield* Events
    const context = yield* Effect.context<never>()
    const scope = yield* Effect.scope
    let pending: Array<Ended> = []
    let sending = false
    let waiters: Array<Deferred.Deferred<void>> = []

    /** Tells what became of an outcome; returns the queue that others are to hear of, if any. */
    const conclude = (ended: Ended, verdict: Verdict, resent: boolean, isSucceeded = false): string | undefined => {
      // A row that is gone after a reply was lost went by our own hand where nobody else can have taken it: its state
      // keeps no history. Where the lease was lost meanwhile somebody may have, and the outcome counts as refused.
      const accepted =
        verdict._tag === "Accepted"
          ? verdict.state
          : verdict._tag === "Gone" && verdict.held && resent
            ? finalState(ended.outcome)
            : undefined
      if (verdict._tag === "Pending") {
        pending.push(ended)
        return
      }
      if (events.isHeard()) publish(events, ended, accepted)
      ended.settled(accepted, isSucceeded)
      if (accepted === "available") return ended.queue
      if (accepted !== undefined && "delayMillis" in ended.outcome) {
        notifier.wake({ _tag: "Due", inMillis: ended.outcome.delayMillis })
      }
      return
    }
    const told = (queues: ReadonlyArray<string | undefined>, aftermath: Aftermath): Effect.Effect<void> =>
      Effect.forEach(
        new Set(queues),
        (queue) => (queue === undefined ? Effect.void : notifier.send({ _tag: "Available", queue })),
        { discard: true }
      ).pipe(Effect.andThen(spread(events, notifier, aftermath)))
    const send = Effect.fnUntraced(function* (batch: ReadonlyArray<Ended>, from = 0) {
      for (let failures = from; true; failures++) {
        const exit = yield* Effect.exit(store.settle(batch))
        if (exit._tag === "Success") {
          const { aftermath, verdicts } = exit.value
          return yield* told(
            batch.map((ended, i) => conclude(ended, verdicts[i] ?? { _tag: "Pending" }, failures > 0)),
            aftermath
          )
        }
        const refused = exit.cause.reasons.find((reason) => reason._tag === "Fail")
        if (refused?._tag === "Fail" && isDataError(refused.error.code))
          return yield* sendEach(batch, refused.error.message)
        events.publish({ _tag: "SettleRetried", jobs: batch.length, failures: failures + 1 })
        if ((failures & (failures - 1)) === 0) {
          yield* warn(`Shigoto could not settle ${batch.length} jobs and keeps trying`, exit.cause)
        }
        yield* pause(failures)
      }
    })
    /** Settles attempts that leave places, and starts who took these; should that fail, settles them alone. */
    const handOver = Effect.fnUntraced(function* (batch: ReadonlyArray<Ended>, succession: Succession) {
      const heirs = succession.heirs(batch.length)
      if (heirs === undefined) return yield* send(batch)
      const exit = yield* Effect.exit(store.limits.handOver(batch, heirs))
      if (exit._tag === "Failure") {
        succession.lost()
        return yield* send(batch, 1)
      }
      const { aftermath, jobs, verdicts } = exit.value
      // Before the places that they took are given back.
      succession.start(jobs, heirs)
      let left = jobs.length
      const queues = batch.map((ended, i) => {
        const verdict: Verdict = verdicts[i] ?? { _tag: "Pending" }
        return conclude(ended, verdict, false, verdict._tag === "Accepted" && left-- > 0)
      })
      yield* told(queues, aftermath)
    })
    const sendEach = (batch: ReadonlyArray<Ended>, refusal: string): Effect.Effect<void> => {
      const [only, ...others] = batch
      if (only !== undefined && others.length === 0) {
        return only.outcome._tag === "Discarded" && only.outcome.failure.tag === "ResultEncodeError"
          ? Effect.andThen(
              Effect.logError(`Shigoto could not settle job ${only.id} in any way: ${refusal}`),
              Effect.sync(() => only.settled(undefined, false))
            )
          : send([{ ...only, outcome: unstorable(refusal, only) }])
      }
      return Effect.forEach(batch, (ended) => send([ended]), { discard: true })
    }
    const rest = (): void => {
      sending = false
      for (const waiter of waiters) Deferred.doneUnsafe(waiter, Effect.void)
      waiters = []
    }
    const flush = Effect.gen(function* () {
      while (pending.length > 0) {
        const batch = pending.slice(0, fitting(pending))
        pending = pending.slice(batch.length)
        const parts = partsOf(batch)
        yield* Effect.forEach(parts, ([succession, part]) =>
          succession === undefined ? send(part) : handOver(part, succession)
        )
      }
      // In the same turn as the look above: an outcome that comes later starts a flush of its own.
      rest()
    }).pipe(Effect.onError(() => Effect.sync(rest)))
    const fork = Effect.runForkWith(context)
    return Settler.of({
      settle: (ended) => {
        pending.push(ended)
        if (sending) return
        sending = true
        // One turn of the fiber scheduler lets outcomes of the same moment share a statement.
        fork(Effect.forkIn(Effect.andThen(Effect.yieldNow, flush), scope))
      },
      flushed: Effect.suspend(() => {
        if (!sending) return Effect.void
        const waiter = Deferred.makeUnsafe<void>()
        waiters.push(waiter)
        return Deferred.await(waiter)
      })
    })
  })
)

// internal

/** Those whose places are to be taken by the same jobs, and all others. */
const partsOf = (batch: ReadonlyArray<Ended>): Iterable<readonly [Succession | undefined, ReadonlyArray<Ended>]> =>
  batch.every(({ succession }) => succession === undefined)
    ? [[undefined, batch]]
    : Map.groupBy(batch, ({ succession }) => succession)

/** How many outcomes go into one statement: with those that add jobs, fewer, so that it ends in time. */
const fitting = (pending: ReadonlyArray<Ended>): number => {
  let weight = 0
  const over = pending.findIndex(({ outcome }) => {
    weight += outcome._tag === "Forked" ? 1 + outcome.children.length / 10 : 1
    return weight > batchSize
  })
  return over === -1 ? pending.length : Math.max(over, 1)
}

/** Data exceptions and broken constraints: sending the same value again cannot help. */
const isDataError = (code: string): boolean => code.startsWith("22") || code.startsWith("23") || code === "54000"

const unstorable = (refusal: string, ended: Ended): Outcome => ({
  _tag: "Discarded",
  failure: {
    attempt: ended.attempt,
    at: ended.endedAt,
    node: ended.node,
    tag: "ResultEncodeError",
    message: `The database refused to store the outcome: ${refusal.slice(0, 500)}`,
    fingerprint: fingerprintOf(ended.worker, "ResultEncodeError", refusal)
  }
})

const finalState = (outcome: Outcome): string | undefined => {
  switch (outcome._tag) {
    case "Completed":
      return "completed"
    case "Discarded":
      return "discarded"
    case "Cancelled":
      return "cancelled"
    default:
      return undefined
  }
}

const publish = (events: Events["Service"], ended: Ended, state: string | undefined): void => {
  const { outcome } = ended
  const { attempt, id, queue, runMillis, worker } = ended
  const ref = { id, worker, queue, attempt, runMillis }
  if (state === undefined) return events.publish({ _tag: "LeaseLost", ...ref })
  if (state === "cancelled") {
    return events.publish({
      _tag: "Cancelled",
      ...ref,
      reason: outcome._tag === "Cancelled" ? outcome.reason : undefined
    })
  }
  switch (outcome._tag) {
    case "Completed":
      return events.publish({ _tag: "Completed", ...ref })
    case "Retryable":
      return events.publish({ _tag: "Failed", ...ref, failure: outcome.failure, delayMillis: outcome.delayMillis })
    case "Discarded":
      return events.publish({ _tag: "Discarded", ...ref, failure: outcome.failure })
    case "Snoozed":
      return events.publish({ _tag: "Snoozed", ...ref, delayMillis: outcome.delayMillis })
    case "Released":
      return events.publish(
        outcome.deferredBy === undefined
          ? { _tag: "Released", ...ref }
          : { _tag: "Deferred", id, worker, queue, by: outcome.deferredBy }
      )
    case "Forked":
      return events.publish({ _tag: "Blocked", ...ref })
    case "Cancelled":
      return
  }
}
