/**
 * Wake-ups between nodes by LISTEN and NOTIFY: hints that save waiting, never the truth.
 *
 * A hint that is lost costs at most one poll. Hints to the own node need no database. Hints to others go with the
 * statement that inserts a single job where that costs little, and else leave coalesced: one statement carries all that
 * came up while the one before was under way, each payload once.
 *
 * The listener has a connection of its own. It proves itself by a probe at the start, and again once it has heard nothing
 * for as long as two renewals of the lease are apart; what any node sends proves it as well. A connection that is half
 * open is found at most three seconds after the next probe, and the node polls until a new connection has proved itself.
 * Behind a pooler that never delivers it polls, and asks again now and then.
 */
import { PgClient } from "@effect/sql-pg/PgClient"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as PubSub from "effect/PubSub"
import * as EffectQueue from "effect/Queue"
import * as Scope from "effect/Scope"
import { availablePayload } from "./internal/piggyback.ts"
import { pause } from "./internal/loop.ts"
import type { JobId } from "./JobRow.ts"
import { JobStore } from "./JobStore.ts"
import { ShigotoConfig } from "./ShigotoConfig.ts"

/**
 * Something that may have changed; `isHeard` where another process sent it, so that other nodes have heard it as well.
 *
 * @category models
 */
export type Hint =
  | { readonly _tag: "Available"; readonly queue: string; readonly isHeard?: true }
  | { readonly _tag: "Due"; readonly inMillis: number; readonly isHeard?: true }
  | { readonly _tag: "Cancel"; readonly node: number }
  | { readonly _tag: "Queues" }
  | { readonly _tag: "Cron" }
  /** Jobs have ended whose results somebody waits for. */
  | { readonly _tag: "Settled"; readonly ids: ReadonlyArray<JobId> }
  /** Hints may have been missed: look at everything. */
  | { readonly _tag: "CatchUp" }

/**
 * The sender and receiver of hints.
 *
 * @category services
 */
export class Notifier extends Context.Service<
  Notifier,
  {
    /** Sends a hint to this node at once, and to the others soon. */
    readonly send: (hint: Hint) => Effect.Effect<void>
    /** Sends a hint to this node alone. */
    readonly wake: (hint: Hint) => void
    /** The hints to this node. */
    readonly hints: Effect.Effect<PubSub.Subscription<Hint>, never, Scope.Scope>
    /** Whether this process is to hear other nodes. */
    readonly listens: boolean
    /** Whether notifications of other nodes arrive. */
    readonly isListening: () => boolean
  }
>()("effect-shigoto/Notifier") {}

/**
 * Sends hints and hears only those of its own process: for producers, and where listening is switched off.
 *
 * @category layers
 */
export const layerSend: Layer.Layer<Notifier, never, JobStore | ShigotoConfig> = Layer.effect(
  Notifier,
  Effect.map(makeBus(), (bus) => bus.service(false, () => false))
)

/**
 * Sends hints and listens for those of other nodes.
 *
 * @category layers
 */
export const layer: Layer.Layer<Notifier, never, JobStore | PgClient | ShigotoConfig> = Layer.effect(
  Notifier,
  Effect.gen(function* () {
    const config = yield* ShigotoConfig
    const bus = yield* makeBus()
    if (!config.listen || config.timeSource === "clock") return bus.service(false, () => false)
    const client = yield* PgClient
    const store = yield* JobStore
    const state = { listening: false }
    let deaf = 0
    const clock = yield* Clock.Clock
    const monotonic = (): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
    const silence = Duration.toMillis(config.leaseBeat) * 2
    const connection = PgConnection.make({
      ...(config.listenUrl === undefined ? client.config : { ...client.config, ...noAddress, url: config.listenUrl }),
      applicationName: `shigoto-listener/${config.nodeName}`.slice(0, 63)
    })
    const session = Effect.scoped(
      Effect.gen(function* () {
        // The connection closes before the subscription, which else waits for the answer of a silent network.
        const subscription = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
        const listener = yield* connection
        const incoming = yield* Scope.provide(listener.listen(config.schema), subscription).pipe(
          Effect.timeout("5 seconds")
        )
        const heard = Latch.makeUnsafe(false)
        let heardAt = -Infinity
        const probe = Effect.gen(function* () {
          heard.closeUnsafe()
          yield* Effect.ignore(store.notify([`probe ${bus.origin}`]))
          return yield* heard.await.pipe(
            Effect.as(true),
            Effect.timeoutOrElse({
              duration: "3 seconds",
              orElse: () => Effect.succeed(false)
            })
          )
        })
        const receive = Effect.forever(
          Effect.map(EffectQueue.take(incoming), ({ payload }) => {
            const [kind, origin, ...rest] = payload.split(" ")
            heardAt = monotonic()
            if (origin !== bus.origin) bus.receive(kind ?? "", rest.join(" "))
            else if (kind === "probe") heard.openUnsafe()
          })
        )
        const prove = Effect.gen(function* () {
          while (yield* probe) {
            if (!state.listening) {
              state.listening = true
              deaf = 0
              bus.wake({ _tag: "CatchUp" })
            }
            while (monotonic() < heardAt + silence) yield* Effect.sleep(heardAt + silence - monotonic())
          }
          if (state.listening) return yield* Effect.logDebug("Shigoto's listener hears nothing any more")
          // Once: whoever runs behind a pooler on purpose does not want to read it each minute.
          yield* deaf++ === 0
            ? Effect.logWarning(
                "Shigoto hears no notifications and polls instead. Behind a pooler in transaction mode, set ShigotoConfig.listenUrl to a direct URL, or listen to false."
              )
            : Effect.void
          yield* Effect.sleep("30 seconds")
        })
        yield* Effect.raceFirst(receive, prove)
      })
    )
    let failures = 0
    yield* session.pipe(
      Effect.tapCause((cause) => Effect.logDebug("Shigoto's listener lost its connection", cause)),
      Effect.exit,
      Effect.andThen(
        Effect.suspend(() => {
          failures = state.listening ? 0 : failures + 1
          state.listening = false
          bus.wake({ _tag: "CatchUp" })
          return pause(failures)
        })
      ),
      Effect.forever,
      Effect.withTracerEnabled(false),
      Effect.forkScoped
    )
    return bus.service(true, () => state.listening)
  })
)

// internal

/** The address fields that a URL of its own replaces. */
const noAddress = { host: undefined, port: undefined, path: undefined, stream: undefined } as const

/** How long a sender waits after one statement before the next, in milliseconds: commits that notify are serialised. */
const spacing = 5

/**
 * How far ahead a hint of a due job reaches, in milliseconds. Nodes look for due jobs by themselves at least this often,
 * however long their poll interval is. On the injected clock there is one process, which hears of every job, so that
 * an idle virtual year costs no looks.
 *
 * @category constants
 */
export const dueHorizonMillis = (config: ShigotoConfig["Service"]): number =>
  config.timeSource === "clock" ? Infinity : 60_000

function makeBus() {
  return Effect.gen(function* () {
    const config = yield* ShigotoConfig
    const store = yield* JobStore
    const scope = yield* Effect.scope
    const bus = yield* PubSub.sliding<Hint>(4096)
    const { origin } = store
    const alone = config.timeSource === "clock"
    let pending = new Set<string>()
    let sending = false

    const wake = (hint: Hint): void => {
      PubSub.publishUnsafe(bus, hint)
    }
    const flush = Effect.gen(function* () {
      while (pending.size > 0) {
        const payloads = [...pending]
        pending = new Set()
        yield* Effect.uninterruptible(Effect.exit(store.notify(payloads)))
        yield* Effect.sleep(spacing)
      }
      sending = false
    })
    // What a part of the node says as it stops, such as a leader's resignation.
    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => (pending.size === 0 ? Effect.void : Effect.ignore(store.notify([...pending]))))
    )
    const service = (listens: boolean, isListening: () => boolean): Notifier["Service"] =>
      Notifier.of({
        wake,
        listens,
        isListening,
        hints: PubSub.subscribe(bus),
        send: (hint) =>
          Effect.suspend(() => {
            wake(hint)
            if (alone) return Effect.void
            for (const payload of encode(origin, hint)) pending.add(payload)
            if (sending) return Effect.void
            sending = true
            return Effect.asVoid(Effect.forkIn(flush, scope))
          })
      })
    const receive = (kind: string, rest: string): void => {
      const hint = decode(kind, rest)
      if (hint !== undefined) wake(hint)
    }
    return { origin, wake, receive, service }
  })
}

/** As many ids as fit into the 7,999 bytes of a payload. */
const idsInPayload = 400

const encode = (origin: string, hint: Hint): ReadonlyArray<string> => {
  if (hint._tag !== "Settled") return [encodeOne(origin, hint)]
  const payloads: Array<string> = []
  for (let i = 0; i < hint.ids.length; i += idsInPayload) {
    payloads.push(`settled ${origin} ${hint.ids.slice(i, i + idsInPayload).join(",")}`)
  }
  return payloads
}

const encodeOne = (origin: string, hint: Exclude<Hint, { readonly _tag: "Settled" }>): string => {
  switch (hint._tag) {
    case "Available":
      return availablePayload(origin, hint.queue)
    case "Due":
      return `due ${origin} ${Math.ceil(hint.inMillis)}`
    case "Cancel":
      return `cancel ${origin} ${hint.node}`
    case "Queues":
      return `queues ${origin}`
    case "Cron":
      return `cron ${origin}`
    case "CatchUp":
      return `all ${origin}`
  }
}

/** Reads a payload; anybody with access to the database may have sent it, so what makes no sense is nothing. */
const decode = (kind: string, rest: string): Hint | undefined => {
  switch (kind) {
    case "available":
      return { _tag: "Available", queue: rest, isHeard: true }
    case "due":
      return /^\d{1,9}$/.test(rest) ? { _tag: "Due", inMillis: Number(rest), isHeard: true } : undefined
    case "cancel":
      return /^\d{1,10}$/.test(rest) ? { _tag: "Cancel", node: Number(rest) } : undefined
    case "queues":
      return { _tag: "Queues" }
    case "cron":
      return { _tag: "Cron" }
    case "settled":
      return /^\d{1,16}(,\d{1,16})*$/.test(rest)
        ? { _tag: "Settled", ids: rest.split(",").map((id) => Number(id) as JobId) } // an id, under its brand
        : undefined
    case "all":
      return { _tag: "CatchUp" }
    default:
      return undefined
  }
}
