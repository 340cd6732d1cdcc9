/**
 * Makes cron entries tick: sleeps until the next tick, then deals with everything since the last one.
 *
 * Evaluating the range since the last evaluation, and not the instant of waking, is what keeps a late timer from
 * losing ticks. An entry that is overdue by more than half a minute was missed, and its `catchUp` decides.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as PubSub from "effect/PubSub"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import { CronJobs, ruleOf } from "./CronJobs.ts"
import { Heartbeat } from "./Heartbeat.ts"
import { last, next } from "./internal/cronRule.ts"
import { Events } from "./internal/events.ts"
import { sanitize } from "./internal/json.ts"
import { forever, warn } from "./internal/loop.ts"
import type { CronColumns, CronPlan, Evaluated } from "./internal/sql/cron.ts"
import { JobStore } from "./JobStore.ts"
import { dueHorizonMillis, Notifier } from "./Notifier.ts"
import { ShigotoConfig } from "./ShigotoConfig.ts"
import { StorageUnavailable } from "./ShigotoError.ts"

/**
 * How far a tick may be overdue before it counts as missed, in milliseconds: 30 seconds.
 *
 * @category constants
 */
export const toleranceMillis = 30_000

/**
 * The most ticks of one entry that one evaluation inserts.
 *
 * @category constants
 */
export const maxTicks = 1000

/**
 * Decides which ticks of a due entry run, and when it is due again.
 *
 * **Details**
 *
 * While the entry is not overdue beyond the tolerance, every tick since the last evaluation runs. Otherwise `skip` runs
 * only a tick within the tolerance, `latest` the last tick, `all` the last `max` within its window.
 *
 * @category rules
 */
export const plan = (entry: CronColumns, now: number): CronPlan => {
  const parsed = ruleOf(entry)
  if (Result.isFailure(parsed)) {
    return { ticks: [], next: undefined, problem: `${parsed.failure.field}: ${parsed.failure.reason}` }
  }
  const rule = parsed.success
  const after = entry.last_tick.getTime()
  const overdue = now - (entry.next_tick?.getTime() ?? now)
  const within = (millis: number, max: number) =>
    // A tick that is exactly that old belongs to it.
    last(rule, { after: Math.max(after, now - millis - 1), upTo: now, max })
  const upcoming = next(rule, now)
  if (overdue <= toleranceMillis) return { ticks: within(Infinity, maxTicks), next: upcoming }
  switch (entry.catch_up._tag) {
    case "skip":
      return { ticks: within(toleranceMillis, 1), next: upcoming }
    case "latest":
      return { ticks: within(Infinity, 1), next: upcoming }
    case "all":
      return { ticks: within(entry.catch_up.windowMillis, entry.catch_up.max), next: upcoming }
  }
}

/**
 * Makes the entries tick on this node until the scope closes; a leader that stops hands over.
 *
 * @category layers
 */
export const layer: Layer.Layer<never, never, CronJobs | Heartbeat | JobStore | Notifier | Events | ShigotoConfig> =
  Layer.effectDiscard(
    Effect.gen(function* () {
      const config = yield* ShigotoConfig
      const cronJobs = yield* CronJobs
      const heartbeat = yield* Heartbeat
      const store = yield* JobStore
      const notifier = yield* Notifier
      const events = yield* Events
      const clock = yield* Clock.Clock
      const wake = Latch.makeUnsafe(false)
      const interval = Duration.toMillis(config.idlePollInterval) * 2
      /** Entries that could not be evaluated, and when to try again. */
      const resting = new Map<string, { readonly until: number; readonly failures: number }>()

      const monotonic = (): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
      const announce = Effect.fnUntraced(function* (name: string, evaluated: Evaluated) {
        const { cancelled, queue, ticks, worker } = evaluated
        let soonest = Infinity
        for (const { job, tick } of ticks) {
          if (job !== undefined) {
            soonest = Math.min(soonest, job.runAt.getTime() - job.insertedAt.getTime())
            events.publish({ _tag: "Inserted", id: job.id, worker, queue, state: job.state })
          }
          events.publish({ _tag: "CronTicked", name, tick: DateTime.fromDateUnsafe(tick), job: job?.id })
        }
        const expiry = Math.max(soonest, 0) + (evaluated.expiresMillis ?? Infinity)
        if (expiry <= dueHorizonMillis(config)) yield* notifier.send({ _tag: "Due", inMillis: expiry })
        if (soonest <= 0) yield* notifier.send({ _tag: "Available", queue })
        else if (soonest <= dueHorizonMillis(config)) yield* notifier.send({ _tag: "Due", inMillis: soonest })
        for (const { id, reason, result } of cancelled) {
          if (result._tag === "Cancelled") events.publish({ ...result, id, reason, runMillis: undefined })
          else if (result._tag === "Requested") yield* notifier.send({ _tag: "Cancel", node: result.node })
        }
      })
      /** Deals with a due entry; false where it is to be left alone for a while. */
      const evaluate = Effect.fnUntraced(function* (name: string) {
        const exit = yield* Effect.exit(store.cron.evaluate(name, plan))
        if (exit._tag === "Success" && exit.value !== undefined) {
          resting.delete(name)
          yield* announce(name, exit.value)
          return true
        }
        if (exit._tag === "Success") {
          resting.set(name, { until: monotonic() + contestedMillis, failures: 0 })
          return false
        }
        if (Cause.hasInterruptsOnly(exit.cause)) return yield* Effect.interrupt
        const failures = resting.get(name)?.failures ?? 0
        resting.set(name, { until: monotonic() + Math.min(100 * 2 ** failures, longestRest), failures: failures + 1 })
        const failure = Cause.squash(exit.cause)
        // A server that is away is no fault of the entry.
        if (failure instanceof StorageUnavailable) return false
        if (failures === 0) yield* warn(`Shigoto cannot evaluate the cron entry "${name}"`, exit.cause)
        yield* Effect.ignore(
          store.cron.fail(name, sanitize(failure instanceof Error ? failure.message : String(failure), 500))
        )
        return false
      })
      yield* Effect.addFinalizer(() =>
        Effect.suspend(() => {
          const node = heartbeat.current()
          return node === undefined
            ? Effect.void
            : Effect.ignore(Effect.andThen(store.cron.resign(node), notifier.send({ _tag: "Cron" })))
        })
      )
      const hints = yield* notifier.hints
      yield* forever(
        "cron hints",
        Effect.map(PubSub.take(hints), (hint) => {
          if (hint._tag === "Cron" || hint._tag === "CatchUp") wake.openUnsafe()
        })
      )
      yield* forever(
        "cron",
        Effect.gen(function* () {
          wake.closeUnsafe()
          const found = yield* store.cron.look({
            id: heartbeat.current() ?? 0,
            entries: cronJobs.registered(),
            leaseMillis: interval * 3
          })
          for (const name of resting.keys()) if (!found.due.includes(name)) resting.delete(name)
          let moved = false
          for (const name of found.due) {
            // One entry that cannot be evaluated never stops the others.
            if ((resting.get(name)?.until ?? 0) <= monotonic()) moved = (yield* evaluate(name)) || moved
          }
          // The look did not know the ticks that follow those it found due: look again at once.
          if (moved) return
          const jitter = yield* Random.nextBetween(0.9, 1)
          const idle = found.nextMillis === undefined && found.due.length === 0
          const rest = notifier.isListening() ? interval * (idle ? 3 : jitter) : interval * jitter * 0.5
          const next = found.leads ? Math.ceil(found.nextMillis ?? Infinity) : Infinity
          const again = Math.min(...[...resting.values()].map(({ until }) => until)) - monotonic()
          const left = Math.max(Math.min(rest, next, again), 0)
          yield* Effect.raceFirst(wake.await, Effect.sleep(left))
        })
      )
    })
  )

// internal

/** How soon to look again at an entry whose row another transaction holds, in milliseconds. */
const contestedMillis = 100

/** The longest wait for an entry that keeps failing, in milliseconds. */
const longestRest = 60_000
