import { assert, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Heartbeat from "../src/Heartbeat.ts"
import * as Events from "../src/internal/events.ts"
import { JobStore } from "../src/JobStore.ts"
import * as ShigotoConfig from "../src/ShigotoConfig.ts"
import { eventually } from "./setup/eventually.ts"

it.live("trusts no lease that has run out while the process was stopped, before any timer has told", () =>
  Effect.gen(function* () {
    let stopped = 0
    const real = yield* Clock.Clock
    const clock = Object.assign(Object.create(real) as Clock.Clock /* its heir */, {
      monotonicTimeNanosUnsafe: () => real.monotonicTimeNanosUnsafe() + BigInt(stopped) * 1_000_000n
    })
    const store = {
      register: () => Effect.succeed(7),
      renew: () => Effect.succeed({ isLive: true, others: [] }),
      retire: () => Effect.void
    } as unknown as JobStore["Service"] // all that a heartbeat asks for while nothing is lost
    const layer = Heartbeat.layer.pipe(
      Layer.provide([
        Layer.succeed(JobStore, store),
        Events.layer,
        ShigotoConfig.layer({ leaseTtl: "1 minute", leaseBeat: "20 seconds" })
      ])
    )
    const context = yield* Layer.build(layer).pipe(Effect.provideService(Clock.Clock, clock))
    const heartbeat = Context.get(context, Heartbeat.Heartbeat)
    const fenced: Array<number> = []
    let revivals = 0
    heartbeat.attach({
      describe: () => ({
        workers: [],
        queues: [],
        limits: [],
        broken: [],
        listening: false,
        capacity: undefined,
        shedBelow: undefined,
        places: []
      }),
      held: () => [],
      fence: (id) => fenced.push(id),
      revived: () => revivals++,
      spread: () => Effect.void
    })
    stopped = 30_000
    assert.strictEqual(heartbeat.current(), 7)
    // A tenth of the lease covers the drift of two clocks.
    stopped = 54_000
    assert.isUndefined(heartbeat.current())
    assert.isUndefined(heartbeat.current())
    assert.deepStrictEqual([fenced, revivals], [[7], 0])
    heartbeat.republish()
    yield* eventually(Effect.sync(heartbeat.current), (id) => id === 7)
    assert.deepStrictEqual([fenced, revivals], [[7], 1])
  }).pipe(Effect.scoped)
)
