/**
 * Waits for the ends of jobs, wherever they run: one reader for all who wait in this process.
 *
 * A notification names the jobs that have ended, and those that somebody here waits for are read together. A job that
 * somebody begins to wait for is read once, since it may have ended just before; all are read again whenever
 * notifications may have been missed, and as often as a node that hears none looks for work. While nobody waits,
 * nothing runs.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as PubSub from "effect/PubSub"
import type { JobId } from "../JobRow.ts"
import { JobStore } from "../JobStore.ts"
import { Notifier } from "../Notifier.ts"
import { ShigotoConfig } from "../ShigotoConfig.ts"
import { AwaitInTransaction, type StorageFailure } from "../ShigotoError.ts"
import { pause, warn } from "./loop.ts"
import type { NewJob } from "./newJob.ts"
import type { Settled } from "./sql/result.ts"

/** How long the first of several wishes waits for the others, so that they share a statement. */
const gather = Duration.millis(5)

/** The most jobs that one statement asks for. */
const readSize = 5000

/** Builds the verb that stores a job and waits for its end. */
export const makeExecute =
  <E, E2>(
    store: JobStore["Service"],
    verbs: {
      readonly insert: (
        jobs: ReadonlyArray<NewJob>
      ) => Effect.Effect<ReadonlyArray<{ readonly _tag: string; readonly id: JobId }>, E>
      readonly cancel: (id: JobId, reason: string) => Effect.Effect<unknown, E2>
      readonly waitFor: (id: JobId) => Effect.Effect<Settled>
    }
  ) =>
  (job: NewJob, cancelOnInterrupt: boolean): Effect.Effect<Settled, AwaitInTransaction | StorageFailure | E> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.gen(function* () {
        if (yield* store.results.inTransaction) {
          return yield* new AwaitInTransaction({
            worker: job.worker,
            message: `execute cannot wait for "${job.worker}" inside of a transaction, which nobody sees before it commits. Enqueue in it, or execute after it.`
          })
        }
        const inserting = verbs.insert([{ ...job, watched: true }])
        // Whoever wants it cancelled has to know whether it is there.
        const [stored] = yield* cancelOnInterrupt ? inserting : restore(inserting)
        const { _tag, id } = stored as NonNullable<typeof stored> // one job in, one result out
        if (_tag !== "Inserted") yield* restore(store.results.watch(id))
        const end = restore(verbs.waitFor(id))
        return yield* cancelOnInterrupt && _tag === "Inserted"
          ? Effect.onInterrupt(end, () => Effect.ignore(verbs.cancel(id, "Nobody waits for it any more.")))
          : end
      })
    )

/** Builds the reader; the effect that it gives waits for the end of a job. */
export const makeAwaiting = Effect.gen(function* () {
  const store = yield* JobStore
  const notifier = yield* Notifier
  const config = yield* ShigotoConfig
  const clock = yield* Clock.Clock
  const scope = yield* Effect.scope
  const context = yield* Effect.context<never>()
  const waiters = new Map<JobId, Set<(settled: Settled) => void>>()
  const asked = new Set<JobId>()
  const wanted = Latch.makeUnsafe(false)
  let running = false
  let readAllAt = Infinity

  const monotonic = (): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  // On the injected clock there is one process, which hears of every end.
  const alone = config.timeSource === "clock"
  const interval = (): number =>
    alone ? Infinity : Duration.toMillis(notifier.isListening() ? config.idlePollInterval : config.pollInterval)
  const ask = (ids: Iterable<JobId>): void => {
    for (const id of ids) if (waiters.has(id)) asked.add(id)
    if (asked.size > 0) wanted.openUnsafe()
  }
  const deliver = (settled: Settled): void => {
    for (const resume of waiters.get(settled.id) ?? []) resume(settled)
  }
  const readAsked = Effect.gen(function* () {
    const ids = [...asked].filter((id) => waiters.has(id))
    asked.clear()
    for (let i = 0; i < ids.length; i += readSize) {
      const some = ids.slice(i, i + readSize)
      for (const settled of yield* Effect.tapError(store.results.read(some), () =>
        Effect.sync(() => ask(ids.slice(i)))
      )) {
        deliver(settled)
      }
    }
  })
  const round = Effect.gen(function* () {
    const left = readAllAt - monotonic()
    yield* left === Infinity ? wanted.await : Effect.raceFirst(wanted.await, Effect.sleep(Math.max(left, 0)))
    yield* alone ? Effect.yieldNow : Effect.sleep(gather)
    wanted.closeUnsafe()
    if (monotonic() >= readAllAt) {
      ask(waiters.keys())
      readAllAt = monotonic() + interval()
    }
    yield* readAsked
  })
  const listen = Effect.flatMap(notifier.hints, (hints) =>
    Effect.forkScoped(
      Effect.forever(
        Effect.map(PubSub.take(hints), (hint) => {
          if (hint._tag === "Settled") ask(hint.ids)
          else if (hint._tag === "CatchUp") ask(waiters.keys())
        })
      ),
      { startImmediately: true }
    )
  )
  const serve = Effect.gen(function* () {
    yield* listen
    readAllAt = monotonic() + interval()
    let failures = 0
    while (waiters.size > 0) {
      const exit = yield* Effect.exit(round)
      if (exit._tag === "Success") failures = 0
      else {
        if ((failures & (failures - 1)) === 0) {
          yield* warn("Shigoto could not read awaited results and keeps trying", exit.cause)
        }
        yield* pause(failures++)
      }
    }
  }).pipe(
    Effect.scoped,
    Effect.withTracerEnabled(false),
    // Whoever came after the look above finds no reader; once the scope closes, nobody is served.
    Effect.andThen(
      Effect.sync(() => {
        running = false
        start()
      })
    )
  )
  const fork = Effect.runForkWith(context)
  const start = (): void => {
    if (running || waiters.size === 0) return
    running = true
    fork(Effect.forkIn(serve, scope))
  }
  return (id: JobId): Effect.Effect<Settled> =>
    Effect.callback<Settled>((resume) => {
      const waiter = (settled: Settled): void => {
        leave()
        resume(Effect.succeed(settled))
      }
      const leave = (): void => {
        const others = waiters.get(id)
        others?.delete(waiter)
        if (others?.size !== 0) return
        waiters.delete(id)
        // The last one: its reader finds that nobody waits.
        if (waiters.size === 0) wanted.openUnsafe()
      }
      const others = waiters.get(id) ?? new Set()
      waiters.set(id, others.add(waiter))
      ask([id])
      start()
      return Effect.sync(leave)
    })
})
