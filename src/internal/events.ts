/** The bus of job events within one node; costs nothing while nobody listens. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as PubSub from "effect/PubSub"
import * as Stream from "effect/Stream"
import type { JobEvent } from "../JobEvent.ts"

/** The bus. */
export class Events extends Context.Service<
  Events,
  {
    readonly publish: (event: JobEvent) => void
    readonly stream: Stream.Stream<JobEvent>
  }
>()("effect-shigoto/internal/Events") {}

/** A bus whose slowest listener may fall 65,536 events behind before it loses the oldest. */
export const layer: Layer.Layer<Events> = Layer.effect(
  Events,
  Effect.map(PubSub.sliding<JobEvent>(65_536), (bus) =>
    Events.of({
      publish: (event) => {
        PubSub.publishUnsafe(bus, event)
      },
      stream: Stream.fromPubSub(bus)
    })
  )
)
