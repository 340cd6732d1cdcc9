/**
 * Makes cron entries tick: sleeps until the next tick, then deals with everything since the last one.
 *
 * Evaluating the range since the last evaluation, and not the instant of waking, is what keeps a late timer from
 * losing ticks. An entry that is overdue by more than half a minute was missed, and its `catchUp` decides.
 */
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
import { forever } from "./internal/loop.ts"
import type { CronColumns, CronPlan } from "./internal/sql/cron.ts"
import { Jobs } from "./Jobs.ts"
import { JobStore } from "./JobStore.ts"
import { Notifier } from "./Notifier.ts"
import { ShigotoConfig } from "./ShigotoConfig.ts"

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
  const within = (from: number, max: number) => last(rule, { after: Math.max(after, from), upTo: now, max })
  const upcoming = next(rule, now)
  if (overdue <= toleranceMillis) return { ticks: within(after, maxTicks), next: upcoming }
  switch (entry.catch_up._tag) {
    case "skip":
      return { ticks: within(now - toleranceMillis, 1), next: upcoming }
    case "latest":
      return { ticks: within(after, 1), next: upcoming }
    case "all":
      return { ticks: within(now - entry.catch_up.windowMillis, entry.catch_up.max), next: upcoming }
  }
}

/**
 * Makes the entries tick on this node until the scope closes.
 *
 * @category layers
 */
export const layer: Layer.Layer<
  never,
  never,
  CronJobs | Heartbeat | Jobs | JobStore | Notifier | Events | ShigotoConfig
> = Layer.effectDiscard(
  Effect.gen(function* () {
    const config = yield* ShigotoConfig
    const cronJobs = yield* CronJobs
    const heartbeat = yield* Heartbeat
    const jobs = yield* Jobs
    const store = yield* JobStore
    const notifier = yield* Notifier
    const events = yield* Events
    const clock = yield* Clock.Clock
    const wake = Latch.makeUnsafe(false)
    const interval = Duration.toMillis(config.idlePollInterval) * 2
    const leaseMillis = interval * 3

    const evaluate = Effect.fnUntraced(function* (name: string) {
      const ticked = yield* store.evaluateCron(name, plan)
      for (const { cancelled, job, queue, tick } of ticked) {
        events.publish({ _tag: "CronTicked", name, tick: DateTime.fromDateUnsafe(tick), job })
        yield* Effect.forEach(
          cancelled,
          (id) => Effect.ignore(jobs.cancel(id, `the next tick of the cron entry ${name}`)),
          { discard: true }
        )
        if (job === undefined) continue
        yield* notifier.send({ _tag: "Available", queue })
        // A job that its jitter holds back is due later; a look finds out when.
        notifier.wake({ _tag: "Due", inMillis: 0 })
      }
    })
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
        const found = yield* store.lookCron({
          id: heartbeat.current() ?? 0,
          entries: cronJobs.registered(),
          leaseMillis
        })
        yield* Effect.forEach(
          found.due,
          // One entry that cannot be evaluated never stops the others.
          (name) =>
            Effect.catchCause(evaluate(name), (cause) =>
              Effect.logWarning(`Shigoto cannot evaluate the cron entry "${name}"`, cause)
            ),
          { discard: true }
        )
        const jitter = yield* Random.nextBetween(0.9, 1)
        const idle = found.nextMillis === undefined
        const rest = idle ? interval * 3 : interval * jitter
        const soonest = found.leads ? Math.ceil(found.nextMillis ?? Infinity) : Infinity
        // The look did not know the ticks that follow those it found due: look again at once.
        if (found.due.length > 0) return
        const left = Math.min(rest, soonest)
        const until = Number(clock.monotonicTimeNanosUnsafe()) / 1e6 + left
        yield* Effect.raceFirst(
          wake.await,
          Effect.suspend(() => Effect.sleep(Math.max(until - Number(clock.monotonicTimeNanosUnsafe()) / 1e6, 0)))
        )
      })
    )
  })
)
