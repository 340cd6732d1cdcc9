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

/** With the secret fields beside the schema; a schema that cannot be told then takes nothing from who has no code. */
const describe = (worker: Worker): ReadonlyArray<{ readonly name: string; readonly args: string }> => {
  const told = worker.argsSchema?.()
  const schema = told !== undefined && JSON.stringify(told).length <= maxLength ? told : undefined
  const redacted = worker.secretFields?.() ?? []
  if (schema === undefined && redacted.length === 0) return []
  const args = { ...(schema ?? nothing), ...(redacted.length > 0 && { redacted }) }
  return [{ name: worker.name, args: JSON.stringify(args) }]
}

const nothing = { dialect: "draft-2020-12", schema: { not: {} }, definitions: {} }
