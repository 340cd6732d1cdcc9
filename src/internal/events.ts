/** The bus of job events within one node; costs nothing while nobody listens. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as PubSub from "effect/PubSub"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { JobEvent } from "../JobEvent.ts"

/** The bus. */
export class Events extends Context.Service<
  Events,
  {
    /** Whether anybody listens; asked before an event of a single job is even made. */
    readonly isHeard: () => boolean
    readonly publish: (event: JobEvent) => void
    readonly stream: Stream.Stream<JobEvent>
    /** Calls back with each event as it is published, until the scope closes; must be quick and never throw. */
    readonly observe: (observer: (event: JobEvent) => void) => Effect.Effect<void, never, Scope.Scope>
  }
>()("effect-shigoto/internal/Events") {}

/** A bus whose slowest listener may fall 65,536 events behind before it loses the oldest. */
export const layer: Layer.Layer<Events> = Layer.effect(
  Events,
  Effect.map(PubSub.sliding<JobEvent>(65_536), (bus) => {
    const observers = new Set<(event: JobEvent) => void>()
    let listeners = 0
    const subscribe = Effect.acquireRelease(
      Effect.sync(() => listeners++),
      () => Effect.sync(() => listeners--)
    ).pipe(Effect.andThen(PubSub.subscribe(bus)))
    return Events.of({
      isHeard: () => listeners + observers.size > 0,
      publish: (event) => {
        if (listeners > 0) PubSub.publishUnsafe(bus, event)
        for (const observer of observers) observer(event)
      },
      stream: Stream.unwrap(Effect.map(subscribe, Stream.fromSubscription)),
      observe: (observer) =>
        Effect.acquireRelease(
          Effect.sync(() => {
            observers.add(observer)
          }),
          () => Effect.sync(() => observers.delete(observer))
        )
    })
  })
)
