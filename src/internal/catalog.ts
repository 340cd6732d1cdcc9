/**
 * Tells the database what the workers of this node take, once after they have registered.
 *
 * Nothing depends on it but those who enqueue without the code: a failure is left to the next start.
 */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import { JobStore } from "../JobStore.ts"
import { ShigotoConfig } from "../ShigotoConfig.ts"
import { type Worker, Workers } from "../Workers.ts"

/** Publishes as workers register. */
export const layer: Layer.Layer<never, never, JobStore | ShigotoConfig | Workers> = Layer.effectDiscard(
  Effect.gen(function* () {
    const { timeSource } = yield* ShigotoConfig
    // A test with virtual time has its code at hand.
    if (timeSource === "clock") return
    const store = yield* JobStore
    const workers = yield* Workers
    const published = new Set<string>()
    const registered = Latch.makeUnsafe(true)
    workers.onRegister(() => registered.openUnsafe())
    yield* Effect.gen(function* () {
      yield* registered.await
      registered.closeUnsafe()
      // Those of one application come together.
      yield* Effect.sleep("50 millis")
      const news = [...workers.all()].filter((worker) => !published.has(worker.name)).flatMap(describe)
      if (news.length === 0) return
      yield* Effect.ignore(store.insight.publishWorkers(news))
      for (const { name } of news) published.add(name)
    }).pipe(Effect.forever, Effect.forkScoped)
  })
)

// internal

/** The largest schema that is published, in characters. */
const maxLength = 64 * 1024

const describe = (worker: Worker): ReadonlyArray<{ readonly name: string; readonly args: string }> => {
  const schema = worker.argsSchema?.()
  const args = schema === undefined ? undefined : JSON.stringify(schema)
  return args === undefined || args.length > maxLength ? [] : [{ name: worker.name, args }]
}
