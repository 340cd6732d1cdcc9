/**
 * `shigoto bench`: how fast this database takes, runs and finishes jobs, in a schema that is there only for it.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { randomBytes } from "node:crypto"
import * as Job from "../Job.ts"
import * as Migrations from "../Migrations.ts"
import { Queues } from "../Queues.ts"
import * as ShigotoConfig from "../ShigotoConfig.ts"
import { ShigotoLive } from "../ShigotoLive.ts"
import { target } from "./internal/connection.ts"
import { int } from "./internal/options.ts"
import { Screen } from "./internal/screen.ts"
import { count } from "./internal/text.ts"

/**
 * The command.
 *
 * @category commands
 */
export const bench = Command.make(
  "bench",
  {
    jobs: int("jobs", 100, 10_000_000).pipe(
      Flag.withAlias("n"),
      Flag.withDescription("How many jobs"),
      Flag.withDefault(10_000)
    ),
    concurrency: int("concurrency", 1, 10_000).pipe(
      Flag.withAlias("c"),
      Flag.withDescription("How many run at once"),
      Flag.withDefault(50)
    ),
    connections: int("connections", 2, 100).pipe(
      Flag.withDescription("How many connections the pool has"),
      Flag.withDefault(10)
    )
  },
  Effect.fnUntraced(function* ({ concurrency, connections, jobs: total }) {
    const screen = yield* Screen
    const { pool, shown } = yield* target
    const schema = `shigoto_scratch_${randomBytes(6).toString("hex")}`
    const database = Layer.merge(
      PgClient.layer({ ...pool, maxConnections: connections, applicationName: "shigoto-bench" }),
      ShigotoConfig.layer({ schema, queues: { default: concurrency }, nodeName: "bench" })
    )
    yield* screen.say(`${shown}, in the schema ${schema}, which is dropped at the end.`, "dim")
    const report = yield* Effect.provide(
      measure(total, concurrency, screen),
      ShigotoLive.pipe(Layer.provideMerge(Migrations.layerScratch), Layer.provideMerge(database))
    )
    yield* screen.show(
      { ...report, jobs: total, concurrency, connections },
      screen.table(
        [{ title: "WHAT" }, { title: "RESULT", align: "right" }],
        [
          ["enqueue, one by one", `${count(report.singleEnqueuesPerSecond)} jobs/s`],
          ["enqueue, in bulk", `${count(report.bulkEnqueuesPerSecond)} jobs/s`],
          ["run to completion", `${count(report.completionsPerSecond)} jobs/s`],
          ["enqueue to start, median", `${report.pickupMillis.p50} ms`],
          ["enqueue to start, p99", `${report.pickupMillis.p99} ms`]
        ]
      )
    )
  })
).pipe(Command.withDescription("Measure enqueues, throughput and latency in a scratch schema, on this database"))

// internal

const Nothing = Job.make("bench", { args: { n: Schema.Int, text: Schema.String } })

const measure = Effect.fnUntraced(function* (total: number, concurrency: number, screen: Screen["Service"]) {
  const text = "x".repeat(100)
  const state = { left: 0, done: yield* Deferred.make<void>(), started: (_n: number): void => {} }
  const expect = Effect.fnUntraced(function* (jobs: number) {
    state.left = jobs
    state.done = yield* Deferred.make<void>()
  })
  const worker = Nothing.toLayer(({ n }) =>
    Effect.suspend(() => {
      state.started(n)
      return --state.left === 0 ? Effect.asVoid(Deferred.succeed(state.done, undefined)) : Effect.void
    })
  )
  const timed = Effect.fnUntraced(function* <A, E, R>(label: string, effect: Effect.Effect<A, E, R>) {
    yield* screen.isAnimated ? screen.draw(`\r${label} …\u001b[K`) : Effect.void
    const started = performance.now()
    yield* effect
    yield* screen.isAnimated ? screen.draw("\r\u001b[K") : Effect.void
    return performance.now() - started
  })
  const perSecond = (jobs: number, millis: number): number => Math.round((jobs / millis) * 1000)
  const queues = yield* Queues
  yield* queues.pause("default")
  const singles = Math.ceil(total / 10)
  const singleMillis = yield* timed(
    "enqueueing one by one",
    Effect.forEach(
      Array.from({ length: singles }, (_, n) => n),
      (n) => Nothing.enqueue({ n, text }),
      {
        concurrency,
        discard: true
      }
    )
  )
  const rest = total - singles
  const bulkMillis = yield* timed(
    "enqueueing in bulk",
    Effect.forEach(
      Array.from({ length: Math.ceil(rest / chunk) }, (_, i) => Math.min(chunk, rest - i * chunk)),
      (size) => Nothing.enqueueAll(Array.from({ length: size }, (_, n) => ({ n, text }))),
      { discard: true }
    )
  )
  return yield* Effect.scoped(
    Effect.gen(function* () {
      yield* expect(total)
      yield* Layer.build(worker)
      const runMillis = yield* timed(
        "running",
        Effect.andThen(
          queues.resume("default"),
          Effect.suspend(() => Deferred.await(state.done))
        )
      )
      const waits: Array<number> = []
      yield* timed(
        "measuring latency",
        Effect.forEach(
          Array.from({ length: pickups }, (_, n) => n),
          Effect.fnUntraced(function* (n) {
            yield* expect(1)
            const began = performance.now()
            state.started = () => waits.push(performance.now() - began)
            yield* Nothing.enqueue({ n, text })
            yield* Deferred.await(state.done)
          }),
          { discard: true }
        )
      )
      const sorted = waits.toSorted((a, b) => a - b)
      const at = (share: number): number =>
        Math.round((sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0) * 10) / 10
      return {
        singleEnqueuesPerSecond: perSecond(singles, singleMillis),
        bulkEnqueuesPerSecond: perSecond(rest, bulkMillis),
        completionsPerSecond: perSecond(total, runMillis),
        pickupMillis: { p50: at(0.5), p99: at(0.99) }
      }
    })
  )
})

/** Jobs of one bulk enqueue. */
const chunk = 5000

/** Jobs enqueued alone, on an idle node, to measure how long they wait. */
const pickups = 200
