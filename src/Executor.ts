/**
 * Runs claimed jobs, each in a fiber of its own, and hands every ending to the settler.
 *
 * | an attempt is | it leaves by |
 * |---|---|
 * | running | its handler's end, or an interruption: timeout, cancel, shutdown, lost lease |
 * | interrupted | its handler's end, finalizers included; after `interruptGrace` a timed-out one is stuck |
 * | stuck | its handler's end; the outcome is already settled, the slot is still taken |
 * | settling | the database's verdict |
 *
 * A slot is free again when the handler has ended. The job counts as held by this node until its outcome is settled.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import { Heartbeat } from "./Heartbeat.ts"
import { budgetOf } from "./internal/deadline.ts"
import { makeDiscards } from "./internal/discards.ts"
import { Events } from "./internal/events.ts"
import { spread } from "./internal/aftermath.ts"
import { Encrypted } from "./internal/envelope.ts"
import { Admission } from "./internal/admission.ts"
import { CurrentAttempt } from "./internal/attempt.ts"
import { makeBacklog } from "./internal/backlog.ts"
import { makeBag } from "./internal/bag.ts"
import { makeCounts } from "./internal/counts.ts"
import { forever } from "./internal/loop.ts"
import { makeReporter } from "./internal/progress.ts"
import { quotingOf } from "./internal/quotes.ts"
import { Conclusion, isMarked, Running, timedOut } from "./internal/running.ts"
import type { Claimed } from "./internal/sql/claimed.ts"
import type { JobId } from "./JobRow.ts"
import { JobStore } from "./JobStore.ts"
import { Notifier } from "./Notifier.ts"
import { decide, type Ending } from "./Outcome.ts"
import { Queues } from "./Queues.ts"
import { type Ended, Settler, type Succession } from "./Settler.ts"
import { ShigotoConfig } from "./ShigotoConfig.ts"
import type { StorageFailure } from "./ShigotoError.ts"
import { type Stopped, type Worker, Workers } from "./Workers.ts"

/**
 * The attempts of this node.
 *
 * @category services
 */
export class Executor extends Context.Service<
  Executor,
  {
    /** Starts claimed jobs: the first at once, those of a large batch in the turns after this. */
    readonly start: (jobs: ReadonlyArray<Claimed>, node: number) => void
    /** Whether attempts may start at all; false while the node or one of its workers is leaving. */
    readonly isAccepting: () => boolean
    /** How many claimed jobs of a queue have not begun yet. */
    readonly waiting: (queue: string) => number
    /** How many slots of a queue are taken: by attempts that run or are to, and by outcomes that the database is too slow for. */
    readonly running: (queue: string) => number
    /** How many attempts run or are to, of all queues. */
    readonly total: () => number
    /** How many attempts of a worker run or are to. */
    readonly runningOf: (worker: Worker) => number
    /** How many more attempts of a worker may run. */
    readonly room: (worker: Worker) => number
    /** Interrupts the attempts whose jobs are to be cancelled. */
    readonly cancel: (
      requests: ReadonlyArray<{ readonly id: JobId; readonly epoch: number; readonly reason: string | undefined }>
    ) => void
    /** Begins to tell the workers of this node of jobs that were given up; says whether there may be more. */
    readonly tellDiscards: Effect.Effect<boolean, StorageFailure>
    /** Whether a look may miss some of them. */
    readonly missesDiscards: () => boolean
    /**
     * Calls back when a slot of a queue has become free, when a job that a limit over all nodes counted is settled, and,
     * without a queue, when attempts may start again.
     */
    readonly onFree: (callback: (queue: string | undefined, what: "slot" | "place") => void) => void
    /** Sets who says which jobs take the places that attempts of a worker leave. */
    readonly onLeave: (successionOf: (queue: string, worker: Worker) => Succession | undefined) => void
  }
>()("effect-shigoto/Executor") {}

/**
 * Provides the executor; as its scope closes, running attempts get `shutdownGrace` to end, are then interrupted, and
 * what has not ended after `interruptGrace` is given back without its outcome.
 *
 * @category layers
 */
export const layer: Layer.Layer<
  Executor,
  never,
  Workers | Settler | Heartbeat | Queues | Notifier | JobStore | ShigotoConfig | Events | Admission
> = Layer.effect(
  Executor,
  Effect.gen(function* () {
    const config = yield* ShigotoConfig
    const workers = yield* Workers
    const settler = yield* Settler
    const heartbeat = yield* Heartbeat
    const queues = yield* Queues
    const notifier = yield* Notifier
    const events = yield* Events
    const admission = yield* Admission
    const discards = yield* makeDiscards(yield* JobStore, heartbeat, workers)
    const clock = yield* Clock.Clock
    const report = yield* makeReporter
    const scope = yield* Effect.scope
    const context = yield* Effect.context<never>()
    const fork = Effect.runForkWith(context)
    const running = makeBag<"runningAt", Running>("runningAt")
    const settling = makeBag<"settlingAt", Running>("settlingAt")
    const byQueue = makeCounts()
    const byWorker = makeCounts()
    const free: Array<(queue: string | undefined, what: "slot" | "place") => void> = []
    let successionOf = (_queue: string, _worker: Worker): Succession | undefined => undefined
    const waiters = new Set<{ readonly name: string | undefined; readonly resume: () => void }>()
    const deadlines = Latch.makeUnsafe(false)
    let nextDeadline = Infinity
    let draining = 0
    let stopped = false

    const monotonic = (): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
    // Many attempts end in one millisecond, and many jobs were inserted in one.
    let last = { millis: Number.NaN, text: "" }
    const iso = (): string => {
      const millis = clock.currentTimeMillisUnsafe()
      if (millis !== last.millis) last = { millis, text: new Date(millis).toISOString() }
      return last.text
    }
    let lastUtc = DateTime.makeUnsafe(0)
    const utc = (date: Date): DateTime.Utc =>
      date.getTime() === lastUtc.epochMilliseconds ? lastUtc : (lastUtc = DateTime.fromDateUnsafe(date))
    const matching = (name: string | undefined): ReadonlyArray<Running> =>
      running.all().filter((entry) => name === undefined || entry.worker.name === name)

    const isCounted = ({ claimed, worker }: Running): boolean =>
      worker.governed?.concurrency !== undefined ||
      claimed.passage?.probe === true ||
      config.partitions.get(claimed.queue)?.isLimited === true
    const tellFree = (queue: string | undefined, what: "slot" | "place"): void =>
      free.forEach((callback) => callback(queue, what))
    const freeSlot = ({ claimed, worker }: Running): void => {
      byQueue.add(claimed.queue, -1)
      byWorker.add(worker.name, -1)
    }
    const finish = (entry: Running, ending: Ending, isLeaving: boolean): void => {
      if (entry.concluded) return
      entry.concluded = true
      const { claimed } = entry
      const outcome = decide(ending, {
        attempt: claimed.attempt,
        maxAttempts: claimed.maxAttempts,
        cancel: entry.cancel
      })
      settling.add(entry)
      const isAlone = !isMarked(claimed.links) && outcome._tag !== "Forked"
      const succession = isLeaving && isAlone ? successionOf(claimed.queue, entry.worker) : undefined
      entry.leaves = succession !== undefined
      const settled: Ended["settled"] = (state, isSucceeded) => {
        settling.delete(entry)
        if (entry.leaves) {
          freeSlot(entry)
          if (!isSucceeded) tellFree(claimed.queue, "slot")
        }
        // What is beyond the slack holds back all queues.
        if (settling.size() === settlingSlack) tellFree(undefined, "slot")
        // A limit over all nodes counts the job until it is settled.
        if (isCounted(entry) && !isSucceeded) tellFree(claimed.queue, "place")
        // An attempt that would start after the deadline ends the job now, not then.
        if ((state === "retryable" || state === "scheduled") && claimed.startBefore !== undefined) {
          notifier.wake({ _tag: "Due", inMillis: 0 })
        }
        if (state === "discarded" && entry.worker.isTold) {
          discards.notice()
          // A look finds it.
          notifier.wake({ _tag: "Due", inMillis: 0 })
        }
      }
      const runMillis = events.isHeard() ? monotonic() - entry.startedAt : undefined
      settler.settle(new Conclusion(entry, outcome, config.nodeName, iso(), runMillis, succession, settled))
    }
    const release = (entry: Running): void => {
      running.delete(entry)
      if (!entry.leaves) freeSlot(entry)
      for (const waiter of waiters) if (matching(waiter.name).length === 0) waiter.resume()
      if (!entry.leaves) tellFree(entry.claimed.queue, "slot")
    }
    admission.onWake(() => tellFree(undefined, "slot"))
    admission.attach((queue) => (queue === undefined ? total() : slotsOf(queue)))
    const leave = (entry: Running, ending: Ending): Effect.Effect<void> | undefined => {
      if (entry.left) return undefined
      entry.left = true
      const { claimed, permit, startedAt, worker } = entry
      const ofWorker = Math.max(byWorker.of(worker.name), entry.ofWorker)
      const ofQueue = Math.max(byQueue.of(claimed.queue), entry.ofQueue)
      return admission.leave({ claimed, permit, startedAt, worker, ofWorker, ofQueue }, ending)
    }
    const conclude = (entry: Running, ending: Ending): void => {
      const told = leave(entry, ending)
      const end = (): void => {
        finish(entry, ending, true)
        release(entry)
      }
      if (told === undefined) return end()
      running.add(entry)
      fork(Effect.andThen(told, Effect.sync(end)))
    }
    const ended = (entry: Running, exit: Exit.Exit<string | undefined, unknown>): void => {
      entry.deadline = Infinity
      // What waits for the database is kept as small as it can be.
      entry.fiber = undefined
      if (exit._tag === "Success") conclude(entry, { _tag: "Succeeded", result: exit.value })
      else {
        fork(
          Effect.map(
            entry.worker.ending(exit, entry.attempt, entry.stopped, config.nodeName, entry.quoting),
            (ending) => conclude(entry, ending)
          )
        )
      }
    }
    const interrupt = (entry: Running, why: Stopped): void => {
      if (entry.stopped !== undefined) return
      entry.stopped = why
      entry.fiber?.interruptUnsafe()
    }
    const begin = (claimed: Claimed, node: number): void => {
      const worker = workers.get(claimed.worker)
      const startedAt = monotonic()
      const isOurs = isAccepting() && heartbeat.current(startedAt) === node
      const permit = isOurs ? worker?.circuit?.enter(startedAt) : undefined
      // A job that was claimed before its circuit opened is given back like one that comes too late.
      if (worker === undefined || !isOurs || (worker.circuit !== undefined && permit === undefined)) {
        settler.settle({
          id: claimed.id,
          worker: claimed.worker,
          queue: claimed.queue,
          epoch: claimed.epoch,
          attempt: claimed.attempt,
          encrypted: claimed.encrypted,
          linked: isMarked(claimed.links),
          holder: node,
          outcome: { _tag: "Released", deferredBy: isOurs && worker !== undefined ? "circuit" : undefined },
          endedAt: iso(),
          runMillis: undefined,
          node: config.nodeName,
          settled: () => {}
        })
        return
      }
      const ofWorker = byWorker.add(worker.name, 1)
      const ofQueue = byQueue.add(claimed.queue, 1)
      const inserted = utc(claimed.insertedAt)
      const due = claimed.scheduledFor === undefined ? inserted : utc(claimed.scheduledFor)
      const deadline = claimed.startBefore === undefined ? undefined : utc(claimed.startBefore)
      const attempt = new CurrentAttempt(claimed, due, inserted, deadline, claimed.dependencies)
      const entry = new Running(claimed, node, worker, attempt, startedAt, permit, ofWorker, ofQueue)
      if (events.isHeard()) {
        const { attempt: number, claimedAt, id, queue, runAt } = claimed
        const waitMillis = Math.max(claimedAt.getTime() - runAt.getTime(), 0)
        events.publish({ _tag: "Started", id, worker: worker.name, queue, attempt: number, waitMillis })
      }
      // Added to what is there: a copy for each job is garbage, and instances of a class that extends another grow old.
      const reporting = Object.assign(attempt, {
        progress: (percent: number) => report(attempt, percent),
        remaining: budgetOf(claimed, worker.timeoutMillis, () => monotonic() - startedAt)
      })
      const run =
        claimed.flow === undefined || claimed.args instanceof Encrypted
          ? worker.run(claimed.args, reporting, entry.quoting)
          : Effect.flatMap(workers.argsOf(claimed.flow, attempt), (computed) => {
              entry.quoting = quotingOf(computed, attempt)
              return worker.run(computed, reporting, entry.quoting)
            })
      entry.fiber = Effect.runForkWith(worker.inside(context, reporting))(run, { uninterruptible: true })
      const exit = entry.fiber.pollUnsafe()
      // One that has succeeded already has nothing to be found for.
      if (exit?._tag === "Success") return ended(entry, exit)
      running.add(entry)
      entry.fiber.addObserver((exit) => ended(entry, exit))
      if (entry.deadline < nextDeadline) {
        nextDeadline = entry.deadline
        deadlines.openUnsafe()
      }
    }
    const isAccepting = (): boolean => !stopped && draining === 0
    const backlog = makeBacklog(fork, begin, (queue) => tellFree(queue, "slot"))
    const total = (): number => running.size() + backlog.total()
    const slotsOf = (queue: string): number => byQueue.of(queue) + backlog.ofQueue(queue)
    const runningOf = ({ name }: Worker): number => byWorker.of(name) + backlog.ofWorker(name)

    /** A handler that outlives its timeout and its interruption is given up: its job goes on, its slot does not. */
    const giveUp = (entry: Running): Effect.Effect<void> => {
      if (entry.concluded || !running.has(entry)) return Effect.void
      events.publish({
        _tag: "Stuck",
        id: entry.claimed.id,
        worker: entry.claimed.worker,
        queue: entry.claimed.queue,
        attempt: entry.claimed.attempt
      })
      return Effect.andThen(
        Effect.logWarning(
          `The handler of ${entry.worker.name} (job ${entry.claimed.id}) did not end after its timeout and keeps its slot; it never yields to interruption.`
        ),
        Effect.flatMap(
          entry.worker.ending(timedOut(entry.worker), entry.attempt, "timeout", config.nodeName),
          (ending) =>
            Effect.andThen(
              leave(entry, ending) ?? Effect.void,
              Effect.sync(() => finish(entry, ending, false))
            )
        )
      )
    }
    const expire = (entry: Running): void => {
      entry.deadline = Infinity
      interrupt(entry, "timeout")
      fork(
        Effect.andThen(
          Effect.sleep(config.interruptGrace),
          Effect.suspend(() => giveUp(entry))
        )
      )
    }
    yield* forever(
      "timeouts",
      Effect.gen(function* () {
        const now = monotonic()
        deadlines.closeUnsafe()
        nextDeadline = Infinity
        for (const entry of running.all()) {
          if (entry.deadline <= now) expire(entry)
          else if (entry.deadline < nextDeadline) nextDeadline = entry.deadline
        }
        yield* nextDeadline === Infinity
          ? deadlines.await
          : Effect.raceFirst(deadlines.await, Effect.sleep(nextDeadline - now))
      })
    )

    const quiet = (name: string | undefined): Effect.Effect<void> =>
      Effect.callback<void>((resume) => {
        if (matching(name).length === 0) return resume(Effect.void)
        const waiter = { name, resume: () => resume(Effect.void) }
        waiters.add(waiter)
        return Effect.sync(() => waiters.delete(waiter))
      })
    const within = (effect: Effect.Effect<void>, millis: number): Effect.Effect<unknown> =>
      Effect.timeoutOption(effect, Math.max(millis, 0))

    // Workers that leave one after the other share one grace, and none claims in the moment between two of them.
    let drainStarted = -Infinity
    const drain = (leaving?: Worker): Effect.Effect<void> =>
      Effect.gen(function* () {
        const name = leaving?.name
        const now = monotonic()
        if (draining++ === 0) drainStarted = now
        // While the node or a worker leaves, to begin is to give back.
        backlog.flush()
        yield* within(quiet(name), Duration.toMillis(config.shutdownGrace) - (now - drainStarted))
        for (const entry of matching(name)) interrupt(entry, "shutdown")
        yield* within(quiet(name), Duration.toMillis(config.interruptGrace))
        for (const entry of matching(name)) {
          if (entry.concluded) continue
          yield* Effect.logWarning(
            `The handler of ${entry.worker.name} (job ${entry.claimed.id}) did not end in time; its job is given back.`
          )
          finish(entry, { _tag: "Interrupted" }, false)
        }
        yield* within(settler.flushed, Duration.toMillis(config.queryTimeout))
        yield* within(discards.finish(leaving), Duration.toMillis(config.interruptGrace))
      }).pipe(
        Effect.ensuring(
          Effect.forkIn(
            Effect.andThen(
              Effect.sleep("1 second"),
              Effect.sync(() => {
                draining--
                if (isAccepting()) tellFree(undefined, "slot")
              })
            ),
            scope
          )
        )
      )
    workers.onLeave(drain)
    workers.onRegister(heartbeat.republish)
    queues.onChange(heartbeat.republish)
    yield* Effect.addFinalizer(() => {
      stopped = true
      return drain()
    })

    heartbeat.attach({
      describe: () => ({
        workers: [...workers.all()].map((worker) => worker.name),
        queues: queues
          .states()
          .map((queue) => ({ ...queue, concurrency: admission.slots(queue.name, queue.concurrency) })),
        broken: [...workers.all()].filter((one) => one.circuit?.state() === "open").map((one) => one.name),
        capacity: config.shedding?.maxInFlight,
        shedBelow: admission.shedBelow(),
        places: [...workers.all()].flatMap((worker) => {
          const places = admission.places(worker)
          return places === Infinity ? [] : [{ worker: worker.name, places }]
        }),
        limits: [
          ...[...workers.all()].flatMap((worker) => worker.governed ?? []),
          ...[...config.rates].map(([queue, rate]) => ({ worker: "", queue, concurrency: undefined, rate }))
        ],
        listening: notifier.isListening()
      }),
      // A stuck handler's job is settled: it may be anywhere by now, also lost in a claim's reply.
      held: (node) =>
        [...matching(undefined).filter((entry) => !entry.concluded), ...settling.all()]
          .flatMap((entry) => (entry.node === node ? [entry.claimed.id] : []))
          .concat(backlog.held(node).map(({ id }) => id)),
      fence: (node) => {
        for (const entry of running.all()) if (entry.node === node) interrupt(entry, "lease")
      },
      revived: () => tellFree(undefined, "slot"),
      spread: (aftermath) => spread(events, notifier, aftermath)
    })
    return Executor.of({
      start: backlog.add,
      isAccepting,
      waiting: backlog.ofQueue,
      // Handlers that are faster than the database must not pile up outcomes: beyond the slack they take up slots.
      running: (queue) => slotsOf(queue) + Math.max(settling.size() - settlingSlack, 0),
      total,
      runningOf,
      room: (worker) =>
        Math.min(Math.max(admission.places(worker) - runningOf(worker), 0), worker.circuit?.room() ?? Infinity),
      cancel: (requests) => {
        const wanted = new Map(requests.map((request) => [request.id, request]))
        for (const entry of running.all()) {
          const request = wanted.get(entry.claimed.id)
          if (request === undefined || request.epoch !== entry.claimed.epoch || entry.cancel !== undefined) continue
          entry.cancel = request.reason === undefined ? {} : { reason: request.reason }
          interrupt(entry, "cancel")
        }
      },
      tellDiscards: discards.round(),
      missesDiscards: discards.isUncertain,
      onFree: (callback) => {
        free.push(callback)
      },
      onLeave: (ask) => {
        successionOf = ask
      }
    })
  })
)

// internal

/** How many outcomes may wait for the database without holding up claims: two batches. */
const settlingSlack = 2000
