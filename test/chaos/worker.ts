/** A process that runs jobs until it is told to stop, with a clock that may be wrong. */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Clock, Effect, Layer, Redacted, Stream } from "effect"
import { Jobs, ShigotoConfig, ShigotoLive } from "effect-shigoto"
import * as Pulse from "./pulse.ts"
import { configOf, processSettings, workerConnections } from "./settings.ts"
import { layer as truthLayer, Truth } from "./truth.ts"
import { recordUsage } from "./usage.ts"
import * as Workload from "./workload/jobs.ts"

const settings = processSettings()
const { name } = settings
Pulse.start(settings.directory, name)

const skewed = (millis: number): Clock.Clock => {
  const real = Clock.Clock.defaultValue()
  const nanos = BigInt(millis) * 1_000_000n
  return {
    currentTimeMillisUnsafe: () => real.currentTimeMillisUnsafe() + millis,
    currentTimeMillis: Effect.map(real.currentTimeMillis, (now) => now + millis),
    currentTimeNanosUnsafe: () => real.currentTimeNanosUnsafe() + nanos,
    currentTimeNanos: Effect.map(real.currentTimeNanos, (now) => now + nanos),
    monotonicTimeNanosUnsafe: () => real.monotonicTimeNanosUnsafe(),
    monotonicTimeNanos: real.monotonicTimeNanos,
    sleep: (duration) => real.sleep(duration)
  }
}

/** How much it uses. */
const Using = Layer.effectDiscard(recordUsage(name))

/** What the node says of itself, to compare with what happened. */
const Telling = Layer.effectDiscard(
  Effect.gen(function* () {
    const jobs = yield* Jobs
    const truth = yield* Truth
    yield* Stream.runForEachArray(jobs.events, (events) =>
      truth.writeAll(
        "told",
        events.flatMap((event) =>
          "id" in event && "attempt" in event
            ? [{ process: name, tag: event._tag, job: event.id, attempt: event.attempt }]
            : []
        )
      )
    ).pipe(Effect.forkScoped({ startImmediately: true }))
  })
)

const WorkerLive = Layer.effectDiscard(Effect.sync(() => globalThis.process.stdout.write("ready\n"))).pipe(
  Layer.provide(Layer.mergeAll(Workload.layer(name, settings.version, settings.poison), Telling, Using)),
  Layer.provide(ShigotoLive),
  Layer.provide(ShigotoConfig.layer(configOf(name))),
  Layer.provide(
    PgClient.layer({
      url: Redacted.make(settings.url),
      applicationName: name,
      maxConnections: workerConnections,
      // The proxy finds a statement by its text, which a prepared one would send only once.
      prepare: false
    })
  ),
  Layer.provide(truthLayer(settings.truthUrl))
)

globalThis.process.stdin.resume().once("close", () => globalThis.process.exit(1))
NodeRuntime.runMain(Effect.provideService(Layer.launch(WorkerLive), Clock.Clock, skewed(settings.skew)))
