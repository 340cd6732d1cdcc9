/**
 * Tests of jobs on a real PostgreSQL whose time you move: no sleeping, no polling, the same run every time.
 *
 * `layer` is everything that `ShigotoLive` is, over an embedded server, with two differences. Time is virtual: it stands
 * still until `advance` moves it, from one due instant to the next, and each time only when every fiber is parked and no
 * statement is under way. And work is done only within `drain` and `advance`, so that a test sees what it has enqueued
 * before a worker does.
 *
 * Statements leave one at a time, and random numbers come from a seed, so a program without other sources of chance
 * gives the same ids, the same order of events and the same timestamps in every run.
 *
 * What neither fibers nor this database show is not waited for: a `fetch`, a file, a timer of Node, a fiber outside of
 * the layer. Give handlers test services in their place.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as Scheduler from "effect/Scheduler"
import type * as Schema from "effect/Schema"
import type * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as Stream from "effect/Stream"
import * as Claimer from "../Claimer.ts"
import type { CronJobs } from "../CronJobs.ts"
import * as EmbeddedPostgres from "../embedded/EmbeddedPostgres.ts"
import type { Batches } from "../Batches.ts"
import type { Dependencies, Job, Results } from "../Job.ts"
import type { Flows } from "../Flows.ts"
import type { JobEvent } from "../JobEvent.ts"
import type { JobRow, JobState } from "../JobRow.ts"
import type { History } from "../History.ts"
import { Jobs } from "../Jobs.ts"
import * as Migrations from "../Migrations.ts"
import type { Queues } from "../Queues.ts"
import * as Shigoto from "../Shigoto.ts"
import * as ShigotoConfig from "../ShigotoConfig.ts"
import type { AttemptError, EnqueueError, InvalidConfig, InvalidSchemaName, StorageFailure } from "../ShigotoError.ts"
import type { Signal } from "../Signal.ts"
import * as Workers from "../Workers.ts"
import { Activity } from "./internal/activity.ts"
import * as VirtualClock from "./internal/clock.ts"
import * as Gate from "./internal/gate.ts"
import * as Perform from "./internal/perform.ts"
import { report } from "./internal/report.ts"
import * as Search from "./internal/search.ts"
import { addressOf, connect } from "./internal/wire.ts"

/**
 * What drained or advanced work came to: attempts by how they ended.
 *
 * @category models
 */
export interface Tally {
  readonly completed: number
  /** Failed with another attempt to come. */
  readonly failed: number
  readonly snoozed: number
  readonly discarded: number
  readonly cancelled: number
  /** Given back by a node that stopped or lost its lease. */
  readonly released: number
}

/**
 * An event and the virtual instant at which it was published.
 *
 * @category models
 */
export interface Happened {
  readonly at: DateTime.Utc
  readonly event: JobEvent
}

/**
 * The control over virtual time; the functions of this module use it.
 *
 * @category services
 */
export class ShigotoTest extends Context.Service<
  ShigotoTest,
  {
    /** Runs what is due, and what becomes due by running it; time stands still. */
    readonly drain: Effect.Effect<Tally>
    /** Lets so much time pass, and runs what becomes due in it. */
    readonly advance: (duration: Duration.Input) => Effect.Effect<Tally>
    /** What has happened to jobs so far. */
    readonly events: Effect.Effect<ReadonlyArray<Happened>>
  }
>()("effect-shigoto/testing/ShigotoTest") {}

/**
 * The settings of the test layer: those of `ShigotoConfig`, and where, when and by which seed it runs.
 *
 * **Details**
 *
 * Intervals default to a day and the lease to as long, so that idle time costs next to nothing; due jobs have timers of
 * their own. Set `leaseTtl` and `leaseBeat` to test what depends on them.
 *
 * @category models
 */
export interface Options extends Omit<ShigotoConfig.Options, "timeSource" | "listen" | "listenUrl"> {
  /**
   * The database, by the settings of a client: `{ url }`. Best an empty one for each layer, and never one with real jobs:
   * its time is virtual. The connection is unencrypted. Defaults to an embedded server that lives as long as the layer.
   */
  readonly client?: Omit<PgClient.PgPoolConfig, "ssl" | "stream"> | undefined
  /** When virtual time starts. Defaults to 2030-01-01T00:00:00Z. */
  readonly start?: DateTime.DateTime | Date | undefined
  /** Where random numbers start from. Defaults to `shigoto`. */
  readonly seed?: string | number | undefined
}

/**
 * What the test layer may fail with.
 *
 * @category errors
 */
export type LayerError =
  | EmbeddedPostgres.EmbeddedPostgresError
  | SqlError
  | Shigoto.StartError
  | InvalidConfig
  | InvalidSchemaName

/**
 * What the test layer provides.
 *
 * @category models
 */
export type Services =
  | ShigotoTest
  | Jobs
  | Queues
  | CronJobs
  | Batches
  | Flows
  | History
  | Workers.Workers
  | ShigotoConfig.ShigotoConfig
  | PgClient.PgClient
  | SqlClient.SqlClient

/**
 * Provides all of Shigoto in virtual time. Worker layers go on top: `Layer.provideMerge(ShigotoTest.layer())`.
 *
 * **Details**
 *
 * The `Clock` in the layer and in all that it is provided to is the virtual one, in place of any other, that of
 * `it.effect` included. It is a `TestClock` too: `TestClock.adjust` is `advance`.
 *
 * As the layer closes, time runs by itself: handlers that still run get their grace and are interrupted.
 *
 * @category layers
 */
export const layer = (options: Options = {}): Layer.Layer<Services, LayerError> =>
  Layer.fresh(Layer.unwrap(make(options)))

/**
 * Provides what `perform` needs and nothing else: no database, no time of its own.
 *
 * @category layers
 */
export const layerPerform: Layer.Layer<Workers.Workers> = Layer.fresh(Workers.layer)

/**
 * What may be said of a performed attempt.
 *
 * @category models
 */
export type PerformOptions = Perform.PerformOptions

/**
 * The same for a job that reads results of others: with those, as its handler gets them.
 *
 * @category models
 */
export type PerformOptionsFor<Needs extends Dependencies> = keyof Needs extends never
  ? [options?: PerformOptions]
  : [options: PerformOptions & { readonly dependencies: Results<Needs> }]

/**
 * What the children of a fan-out have returned, for `perform`'s `fannedOut`.
 *
 * @category models
 */
export const children = <Success extends Schema.Top>(
  job: { readonly name: string; readonly success: Success; readonly error: Schema.Top },
  results: ReadonlyArray<Success["Type"]>
): Perform.Children => ({ job, results })

/**
 * Runs one attempt of a job as a node would: args are checked, encoded, and decoded again, the handler has the job's
 * timeout, the result is encoded and decoded. Nothing is stored, retried or settled.
 *
 * **Details**
 *
 * Succeeds with the handler's result. Fails with what an enqueue refuses, with the handler's error or signal
 * (`Job.snooze` …), or with an `AttemptError`; a defect is an `AttemptDefect`.
 *
 * **Gotchas**
 *
 * The timeout follows the `Clock` of the caller: under `it.effect` it passes only with `TestClock.adjust`.
 *
 * @category running
 */
export const perform = <
  Name extends string,
  Args extends Schema.Top,
  Success extends Schema.Top,
  Error extends Schema.Top,
  Needs extends Dependencies
>(
  job: Job<Name, Args, Success, Error, Needs>,
  args: Args["~type.make.in"],
  ...options: PerformOptionsFor<Needs>
): Effect.Effect<
  Success["Type"],
  Error["Type"] | Signal | AttemptError | Exclude<EnqueueError, StorageFailure>,
  Workers.Workers | Args["EncodingServices"] | Success["DecodingServices"]
> =>
  // Inside, schemas are just schemas; the types are those of the definition.
  Perform.perform(job as never, args, options[0] ?? {}) // typed by this function's own signature

/**
 * Runs everything that is due now, and what becomes due by running it, until nothing moves; time does not pass.
 *
 * **Details**
 *
 * A handler that sleeps is left sleeping. A job that always enqueues another without a delay drains for ever.
 *
 * @category running
 */
export const drain: Effect.Effect<Tally, never, ShigotoTest> = Effect.flatMap(ShigotoTest, (test) => test.drain)

/**
 * Lets time pass: to each instant at which something is due, in order, and each time until nothing moves.
 *
 * At the end it is exactly that much later, and all that was due by then has been run.
 *
 * @category running
 */
export const advance = (duration: Duration.Input): Effect.Effect<Tally, never, ShigotoTest> =>
  Effect.flatMap(ShigotoTest, (test) => test.advance(duration))

/**
 * Everything that has happened to jobs so far, with its virtual time.
 *
 * @category looking
 */
export const events: Effect.Effect<ReadonlyArray<Happened>, never, ShigotoTest> = Effect.flatMap(
  ShigotoTest,
  (test) => test.events
)

/**
 * A part of a value: fields may be left out at any depth; arrays are whole.
 *
 * @category models
 */
export type Part<A> =
  A extends ReadonlyArray<unknown> ? A : A extends object ? { readonly [K in keyof A]?: Part<A[K]> | undefined } : A

/**
 * Which jobs are meant: all conditions hold at once.
 *
 * @category models
 */
export interface Filter<Args extends Schema.Top = Schema.Codec<unknown>> {
  /** A definition, or a name. */
  readonly job?: string | { readonly name: string; readonly args: Args } | undefined
  /** A part of the args, encoded or, with a definition, as handlers see them. */
  readonly args?: Part<Args["Type"]> | Part<Args["Encoded"]> | undefined
  readonly queue?: string | undefined
  /** All of them. */
  readonly tags?: ReadonlyArray<string> | undefined
  /** Defaults to all in which a job is not finished. */
  readonly state?: JobState | ReadonlyArray<JobState> | undefined
}

/**
 * The jobs that a filter means, oldest first.
 *
 * @category looking
 */
export const enqueued = <Args extends Schema.Top = Schema.Codec<unknown>>(
  filter: Filter<Args> = {}
): Effect.Effect<ReadonlyArray<JobRow>, never, Jobs | Args["DecodingServices"]> =>
  Effect.map(Search.find(filter), ({ matching }) => matching.map(({ row }) => row))

/**
 * There are not the jobs that a test expects; the message shows which there are.
 *
 * @category errors
 */
export class UnexpectedJobs extends Data.TaggedError("UnexpectedJobs")<{
  readonly message: string
  /** The jobs that the filter means. */
  readonly found: ReadonlyArray<JobRow>
}> {}

/**
 * Fails unless there is a job that the filter means; with `count`, unless there are exactly so many.
 *
 * @category assertions
 */
export const assertEnqueued = <Args extends Schema.Top = Schema.Codec<unknown>>(
  filter: Filter<Args> & { readonly count?: number | undefined }
): Effect.Effect<void, UnexpectedJobs, Jobs | Args["DecodingServices"]> =>
  expect(
    filter,
    filter.count === undefined
      ? "an enqueued job"
      : `exactly ${filter.count} enqueued job${filter.count === 1 ? "" : "s"}`,
    (found) => (filter.count === undefined ? found > 0 : found === filter.count)
  )

/**
 * Fails if there is a job that the filter means.
 *
 * @category assertions
 */
export const refuteEnqueued = <Args extends Schema.Top = Schema.Codec<unknown>>(
  filter: Filter<Args> = {}
): Effect.Effect<void, UnexpectedJobs, Jobs | Args["DecodingServices"]> =>
  expect(filter, "no enqueued job", (found) => found === 0)

// internal

/** Idle time is cheap: nothing here wakes more than three times a day. */
const idle = {
  nodeName: "test",
  pollInterval: "1 day",
  idlePollInterval: "1 day",
  leaseTtl: "1 day",
  leaseBeat: "8 hours",
  pruneInterval: "1 day"
} as const satisfies ShigotoConfig.Options

const live: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R> = Effect.provideService(
  Clock.Clock,
  Clock.Clock.defaultValue()
)

const make = Effect.fnUntraced(function* (options: Options) {
  const { client, seed, start, ...config } = options
  const activity = new Activity()
  const gate = Gate.make()
  const clock = VirtualClock.make(activity, {
    start: start === undefined ? Date.UTC(2030, 0, 1) : DateTime.toEpochMillis(DateTime.makeUnsafe(start)),
    live: Clock.Clock.defaultValue(),
    around: (moving) =>
      Effect.acquireUseRelease(
        Effect.sync(gate.open),
        () => moving,
        () => Effect.sync(gate.close)
      )
  })
  const random = yield* Effect.gen(function* () {
    return yield* Random.Random
  }).pipe(Random.withSeed(seed ?? "shigoto"))
  const world = Context.make(Clock.Clock, clock as Clock.Clock).pipe(
    // it is a TestClock, made above
    Context.add(Scheduler.Scheduler, activity.scheduler(yield* Scheduler.Scheduler)),
    Context.add(Random.Random, random),
    Context.add(Claimer.Gate, gate)
  )
  // The pool, its timeouts included, keeps real time: virtual time would starve or expire it.
  const database = PgClient.layerFrom(
    live(
      Effect.gen(function* () {
        const given = client ?? (yield* EmbeddedPostgres.make()).clientConfig
        const address = addressOf(given)
        return yield* PgClient.make({ ...given, ssl: false, stream: () => connect(address, activity) })
      })
    )
  )
  // It may wait for another process that migrates.
  const migrations = Layer.provide(Migrations.layerConfigured, Layer.succeed(Clock.Clock, Clock.Clock.defaultValue()))
  return control(clock).pipe(
    Layer.provideMerge(Shigoto.layer),
    Layer.provide(migrations),
    Layer.provideMerge(
      Layer.mergeAll(
        database,
        ShigotoConfig.layer({
          ...idle,
          ...(config.leaseTtl !== undefined && { leaseBeat: ShigotoConfig.defaults.leaseBeat }),
          ...config,
          timeSource: "clock",
          listen: false
        })
      )
    ),
    Layer.provideMerge(Layer.succeedContext(world))
  )
})

const control = (
  clock: VirtualClock.VirtualClock
): Layer.Layer<ShigotoTest | Workers.Workers, never, Jobs | Workers.Workers> =>
  Layer.effectContext(
    Effect.gen(function* () {
      const jobs = yield* Jobs
      const workers = yield* Workers.Workers
      const happened: Array<Happened> = []
      yield* Effect.forkScoped(
        Stream.runForEach(jobs.events, (event) =>
          Effect.sync(() => happened.push({ at: DateTime.makeUnsafe(clock.currentTimeMillisUnsafe()), event }))
        )
      )
      yield* clock.settled
      const moved = (duration: Duration.Input): Effect.Effect<Tally> =>
        Effect.suspend(() => {
          const from = happened.length
          return Effect.map(clock.adjust(duration), () => tally(happened.slice(from)))
        })
      yield* Effect.addFinalizer(() => Effect.sync(clock.release))
      return Context.make(
        ShigotoTest,
        ShigotoTest.of({ drain: moved(0), advance: moved, events: Effect.sync(() => [...happened]) })
      ).pipe(
        Context.add(Workers.Workers, {
          ...workers,
          // Worker layers close before this one does: time has to run for the grace of their handlers.
          register: (worker) =>
            Effect.addFinalizer(() => Effect.sync(clock.hold)).pipe(
              Effect.andThen(workers.register(worker)),
              Effect.andThen(Effect.addFinalizer(() => Effect.sync(clock.release)))
            )
        })
      )
    })
  )

const tally = (happened: ReadonlyArray<Happened>): Tally => {
  const count = (tag: JobEvent["_tag"]): number => happened.filter(({ event }) => event._tag === tag).length
  return {
    completed: count("Completed"),
    failed: count("Failed"),
    snoozed: count("Snoozed"),
    discarded: count("Discarded"),
    cancelled: count("Cancelled"),
    released: count("Released")
  }
}

const expect = <Args extends Schema.Top>(
  filter: Filter<Args>,
  expectation: string,
  holds: (found: number) => boolean
): Effect.Effect<void, UnexpectedJobs, Jobs | Args["DecodingServices"]> =>
  Effect.flatMap(Search.find(filter), (search) =>
    holds(search.matching.length)
      ? Effect.void
      : Effect.fail(
          new UnexpectedJobs({
            message: report(expectation, search),
            found: search.matching.map(({ row }) => row)
          })
        )
  )
