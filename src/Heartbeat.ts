/**
 * The lease of this node: while it is live the node may claim and run; when it is not, others take its jobs.
 *
 * | state | claims | running attempts | leaves by |
 * |---|---|---|---|
 * | trusted | yes | run | no renewal until `trustedUntil`: untrusted; renewal refused: lost |
 * | untrusted | no | interrupted as it is entered | a renewal that is accepted: trusted; refused: lost |
 * | lost | no | interrupted as it is entered | registering a new incarnation: trusted |
 *
 * Trust is counted by the local monotonic clock from the moment a renewal was *sent*, so a slow reply cannot stretch
 * it. The beat runs on the main loop: a loop that is blocked for longer than the lease has honestly lost it.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import { Events } from "./internal/events.ts"
import { forever, pause, warn } from "./internal/loop.ts"
import { type Aftermath, merge, nothing } from "./internal/newJob.ts"
import type { Published } from "./internal/sql/node.ts"
import type { Rescued } from "./internal/sql/rescue.ts"
import { rescueLimit } from "./internal/sql/rescue.ts"
import type { AttemptFailure } from "./JobRow.ts"
import { JobStore } from "./JobStore.ts"
import { ShigotoConfig } from "./ShigotoConfig.ts"
import type { StorageFailure } from "./ShigotoError.ts"

/**
 * What other parts of the node tell the heartbeat, and hear from it.
 *
 * @category models
 */
export interface Body {
  /** What to publish with the lease. */
  readonly describe: () => Omit<Published, "lagMillis">
  /** The ids of the jobs that this node knows it holds under an incarnation. */
  readonly held: (node: number) => ReadonlyArray<number>
  /** Stops everything that runs under an incarnation; its lease is gone. */
  readonly fence: (node: number) => void
  /** A lease is live again, or jobs were given back. */
  readonly revived: () => void
  /** Tells others what the end of a job brought about. */
  readonly spread: (aftermath: Aftermath) => Effect.Effect<void>
}

/**
 * The lease of this node.
 *
 * @category services
 */
export class Heartbeat extends Context.Service<
  Heartbeat,
  {
    /** The incarnation that may claim now; undefined while there is none to trust. `now` spares a reading of the monotonic clock. */
    readonly current: (now?: number) => number | undefined
    /** How many live nodes hear of a queue, this one included, as its last renewal found. */
    readonly listeners: (queue: string) => number
    /** Says that a claim's reply was lost, so that jobs may be held that the node does not know. */
    readonly claimLost: () => void
    /** Says that what is published with the lease has changed. */
    readonly republish: () => void
    /** Connects the running part of the node. */
    readonly attach: (body: Body) => void
    /** Takes the jobs of dead nodes, on any node's word. */
    readonly rescue: Effect.Effect<
      { readonly rescued: ReadonlyArray<Rescued>; readonly aftermath: Aftermath },
      StorageFailure
    >
  }
>()("effect-shigoto/Heartbeat") {}

/**
 * Registers the node and keeps its lease until the scope closes; the lease ends last.
 *
 * @category layers
 */
export const layer: Layer.Layer<Heartbeat, StorageFailure, JobStore | ShigotoConfig | Events> = Layer.effect(
  Heartbeat,
  Effect.gen(function* () {
    const config = yield* ShigotoConfig
    const store = yield* JobStore
    const events = yield* Events
    const ttl = Duration.toMillis(config.leaseTtl)
    const beat = Duration.toMillis(config.leaseBeat)
    // A renewal that is accepted late still counts from when it was sent; a tenth covers the drift of two clocks.
    const trust = ttl * 0.9
    // A claim is believed for one query timeout, and this question may be under way for another.
    const reconcileGrace = Duration.toMillis(config.queryTimeout) * 2
    let body: Body | undefined
    let node: { readonly id: number; trustedUntil: number; trusted: boolean } | undefined
    /** How many more beats look for jobs that the node does not know it holds. */
    let uncertainBeats = 0
    let listeners: ReadonlyMap<string, number> = new Map()
    /** The longest that the event loop was late since the last renewal, in milliseconds. */
    let lag = 0
    const changed = Latch.makeUnsafe(false)

    const clock = yield* Clock.Clock
    const monotonic = (): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
    const suspend = (id: number): void => {
      if (node?.id === id && node.trusted) {
        node.trusted = false
        body?.fence(id)
      }
    }
    const register = Effect.gen(function* () {
      const sent = monotonic()
      const id = yield* store.register({ name: config.nodeName, ttlMillis: ttl })
      node = { id, trustedUntil: sent + trust, trusted: true }
      events.publish({ _tag: "NodeStarted", node: id, name: config.nodeName })
      body?.revived()
    })
    const renew = Effect.fnUntraced(function* (id: number) {
      const sent = monotonic()
      const published = body?.describe() ?? nobody
      const renewal = yield* store
        .renew({ id, lagMillis: Math.round(lag), ...published })
        .pipe(Effect.timeoutOrElse({ duration: ttl / 3, orElse: () => Effect.succeed(undefined) }))
      if (node?.id !== id || renewal === undefined) return
      lag = 0
      if (renewal.isLive) {
        listeners = new Map(published.queues.map(({ name }, i) => [name, 1 + (renewal.others[i] ?? 0)]))
        node.trustedUntil = sent + trust
        if (!node.trusted) {
          node.trusted = true
          body?.revived()
        }
        return
      }
      suspend(id)
      node = undefined
      events.publish({ _tag: "NodeLeaseLost", node: id, name: config.nodeName })
      yield* Effect.logWarning(
        `Shigoto's node ${config.nodeName} (${id}) lost its lease: it was silent for longer than ${Duration.format(config.leaseTtl)}. Its jobs were interrupted; others may run them again.`
      )
      yield* register
    })
    const reconcile = Effect.fnUntraced(function* (id: number, graceMillis: number) {
      if (uncertainBeats === 0) return
      const { aftermath, cancelled, given } = yield* store.reconcile({ id, known: body?.held(id) ?? [], graceMillis })
      uncertainBeats--
      if (given.length === 0) return
      yield* Effect.logInfo(`Shigoto gave back ${given.length} jobs whose claim was never answered`)
      for (const job of cancelled) events.publish({ _tag: "Cancelled", ...job, runMillis: undefined })
      yield* body?.spread(aftermath) ?? Effect.void
      body?.revived()
    })
    /** Sleeps and says how late it woke up. */
    const sleep = Effect.fnUntraced(function* (millis: number) {
      const before = monotonic()
      yield* Effect.sleep(millis)
      const late = monotonic() - before - millis
      lag = Math.max(lag, late)
      return late
    })
    /** Warns where the event loop was late by a quarter of the lease: the lease is in danger, by the node's own fault. */
    const watch = Effect.gen(function* () {
      const late = yield* sleep(lagMillis)
      if (late > ttl / 4) {
        yield* Effect.logWarning(
          `Shigoto's event loop was blocked for ${Math.round(late)} ms; at ${ttl} ms the node loses its lease. Move CPU-bound work to a worker thread or split it.`
        )
      }
    })

    yield* register
    yield* Effect.addFinalizer(() => {
      const id = node?.id
      node = undefined
      // No claim is under way any more: what one without an answer took need not wait for a rescue, nor lose an attempt.
      return id === undefined
        ? Effect.void
        : Effect.andThen(Effect.ignore(reconcile(id, 0)), Effect.ignore(store.retire(id)))
    })
    yield* forever(
      "lease renewal",
      Effect.gen(function* () {
        yield* Effect.raceFirst(sleep(beat), changed.await)
        changed.closeUnsafe()
        let failures = 0
        while (true) {
          const id = node?.id
          const exit = yield* Effect.exit(
            id === undefined
              ? register
              : Effect.andThen(
                  renew(id),
                  Effect.suspend(() => reconcile(id, reconcileGrace))
                )
          )
          if (exit._tag === "Success") return
          if (failures === 0) yield* warn("Shigoto cannot renew its lease", exit.cause)
          yield* pause(failures++)
        }
      })
    )
    yield* forever(
      "lease guard",
      Effect.gen(function* () {
        const left = (node?.trustedUntil ?? 0) - monotonic()
        if (left <= 0 && node !== undefined) suspend(node.id)
        yield* Effect.sleep(Math.max(left, beat / 4))
      })
    )
    // Virtual time has no event loop that could be late.
    if (config.timeSource === "database") yield* forever("event loop", watch)
    return Heartbeat.of({
      current: (now = monotonic()) => {
        // A process that was stopped reads what came meanwhile before its timers: the guard may not have had its turn.
        if (node !== undefined && now >= node.trustedUntil) suspend(node.id)
        return node?.trusted === true ? node.id : undefined
      },
      listeners: (queue) => listeners.get(queue) ?? 1,
      claimLost: () => {
        uncertainBeats = Math.ceil(reconcileGrace / beat) + 2
      },
      republish: () => {
        changed.openUnsafe()
      },
      attach: (attached) => {
        body = attached
      },
      rescue: Effect.gen(function* () {
        const all: Array<Rescued> = []
        let after = nothing
        while (true) {
          const { aftermath, rescued } = yield* store.rescue(config.nodeName)
          for (const job of rescued) announce(events, job)
          after = merge(after, aftermath)
          all.push(...rescued)
          if (rescued.length < rescueLimit) break
        }
        yield* store.sweep
        return { rescued: all, aftermath: after }
      })
    })
  })
)

// internal

/** How often it is looked whether the event loop is late. */
const lagMillis = 500

const nobody: Omit<Published, "lagMillis"> = {
  workers: [],
  queues: [],
  limits: [],
  broken: [],
  listening: false,
  capacity: undefined,
  shedBelow: undefined,
  places: []
}

const announce = (events: Events["Service"], job: Rescued): void => {
  const ref = { id: job.id, worker: job.worker, queue: job.queue, attempt: job.attempt }
  events.publish({ _tag: "Rescued", ...ref, state: job.state, node: job.node })
  if (job.state === "discarded") {
    events.publish({
      _tag: "Discarded",
      ...ref,
      failure: JSON.parse(job.failure) as AttemptFailure, // as it was stored
      runMillis: undefined
    })
  } else if (job.state === "cancelled") {
    events.publish({ _tag: "Cancelled", ...ref, reason: job.reason, runMillis: undefined })
  }
}
