/** A process that enqueues, cancels and retries until it is told to stop. */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Redacted } from "effect"
import { Shigoto, ShigotoConfig } from "effect-shigoto"
import * as Pulse from "./pulse.ts"
import { makeRandom } from "./random.ts"
import { callerPatience, configOf, processSettings, producerConnections } from "./settings.ts"
import * as Truth from "./truth.ts"
import { recordUsage } from "./usage.ts"
import { type Known, makeEnqueue } from "./workload/enqueue.ts"
import { makeOperate } from "./workload/operate.ts"

const settings = processSettings()
const { name, seed } = settings
Pulse.start(settings.directory, name)
const fibers = 4

const produce = Effect.gen(function* () {
  const known: Known = { ids: [] }
  const enqueue = yield* makeEnqueue(name, known)
  const operate = yield* makeOperate(name, known)
  const loop = (fiber: number) => {
    const random = makeRandom(seed, `${name}/${fiber}`)
    // Whoever was kept from enqueueing makes up for it: what is offered does not depend on how fast the machine is.
    let due = performance.now()
    return Effect.forever(
      Effect.gen(function* () {
        // A caller's statement may wait as long as its network does; what became of it is then unknown.
        const done = yield* Effect.timeoutOption(enqueue(random), callerPatience)
        if (random.chance(0.04)) yield* Effect.timeoutOption(operate(random), callerPatience)
        const count = done._tag === "Some" ? done.value : 1
        due += (count * 1000 * fibers) / settings.rate
        yield* Effect.sleep(Math.max(due - performance.now(), 0))
      })
    )
  }
  yield* recordUsage(name)
  yield* Effect.sync(() => globalThis.process.stdout.write("ready\n"))
  yield* Effect.forEach(Array.from({ length: fibers }).keys(), loop, { concurrency: "unbounded" })
})

globalThis.process.stdin.resume().once("close", () => globalThis.process.exit(1))
Effect.scoped(produce).pipe(
  Effect.provide(
    Shigoto.layerProducer.pipe(
      Layer.provideMerge(
        PgClient.layer({
          url: Redacted.make(settings.url),
          applicationName: name,
          maxConnections: producerConnections,
          prepare: false
        })
      ),
      Layer.provide(ShigotoConfig.layer(configOf(name))),
      Layer.provideMerge(Truth.layer(settings.truthUrl))
    )
  ),
  NodeRuntime.runMain
)
