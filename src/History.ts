/**
 * What happened when: jobs that ended, how long they ran and waited, and how much waited, for charts.
 *
 * Where `ShigotoConfig.history` is on, a node adds up what its attempts did and writes it every ten seconds, in one
 * statement for its minute, hour and day; a quiet node writes nothing. What cannot be written is dropped: a chart rather
 * misses ten seconds than holds up jobs. Minutes are kept for 7 days, hours for 90, days for a year.
 */
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { count, empty, percentile } from "./internal/buckets.ts"
import { Events } from "./internal/events.ts"
import { forever } from "./internal/loop.ts"
import { shown } from "./internal/names.ts"
import type { Increment, PointColumns } from "./internal/sql/history.ts"
import type { JobEvent } from "./JobEvent.ts"
import { JobStore } from "./JobStore.ts"
import { ShigotoConfig } from "./ShigotoConfig.ts"
import { InvalidFilter, type StorageFailure } from "./ShigotoError.ts"

/**
 * How far back a chart goes, and in which steps.
 *
 * @category constants
 */
export const spans = {
  "1h": { tier: "minute", spanMillis: 3_600_000, stepMillis: 60_000 },
  "6h": { tier: "minute", spanMillis: 6 * 3_600_000, stepMillis: 60_000 },
  "24h": { tier: "minute", spanMillis: 86_400_000, stepMillis: 600_000 },
  "7d": { tier: "hour", spanMillis: 7 * 86_400_000, stepMillis: 3_600_000 },
  "90d": { tier: "day", spanMillis: 90 * 86_400_000, stepMillis: 86_400_000 }
} as const

/**
 * How far back a chart goes.
 *
 * @category models
 */
export type Span = keyof typeof spans

/**
 * Times of which so many in a hundred are shorter; estimated from fixed buckets, in milliseconds.
 *
 * @category models
 */
export interface Percentiles {
  readonly p50: number
  readonly p95: number
  readonly p99: number
}

/**
 * One step of a span.
 *
 * @category models
 */
export interface Point {
  readonly at: DateTime.Utc
  readonly completed: number
  /** Attempts that failed and are tried again. */
  readonly failed: number
  readonly discarded: number
  readonly cancelled: number
  readonly snoozed: number
  /** How long attempts ran; undefined where none ended. */
  readonly run: Percentiles | undefined
  /** How long jobs had been due as their first attempt started; what waits between attempts is not counted. */
  readonly wait: Percentiles | undefined
  /** The most jobs that waited for a slot, and the longest that one had been due; undefined where nobody looked. */
  readonly depth: { readonly available: number; readonly oldestMillis: number } | undefined
}

/**
 * What to read.
 *
 * @category models
 */
export interface ReadOptions {
  /** How far back, and in which steps. */
  readonly span: Span
  /** Only these queues. Defaults to all. */
  readonly queues?: ReadonlyArray<string> | undefined
  /** Only this worker, without what waits. Defaults to all. */
  readonly worker?: string | undefined
}

/**
 * A span, step by step; a step in which nothing happened is absent.
 *
 * @category models
 */
export interface Chart {
  readonly from: DateTime.Utc
  readonly to: DateTime.Utc
  readonly stepMillis: number
  readonly points: ReadonlyArray<Point>
}

/**
 * What happened in a span to the jobs of one queue or worker, step by step; a step in which nothing happened is absent.
 *
 * @category models
 */
export interface Group {
  /** Undefined for all that are not told apart. */
  readonly name: string | undefined
  readonly points: ReadonlyArray<{
    readonly at: DateTime.Utc
    readonly completed: number
    /** Attempts that failed, whether they are tried again or not. */
    readonly failed: number
    readonly run: Percentiles | undefined
    readonly wait: Percentiles | undefined
  }>
}

/**
 * A span by queue or worker.
 *
 * @category models
 */
export interface GroupedChart extends Omit<Chart, "points"> {
  /** Those of which most ended, by name, and the rest at last. */
  readonly groups: ReadonlyArray<Group>
}

/**
 * What happened in the last hour to the jobs of one queue or worker.
 *
 * @category models
 */
export interface Activity {
  readonly name: string
  readonly completed: number
  /** Attempts that failed, whether they are tried again or not. */
  readonly failed: number
  readonly run: Percentiles | undefined
  readonly wait: Percentiles | undefined
  /** Twelve steps of five minutes, the last of which goes on. */
  readonly steps: ReadonlyArray<{ readonly completed: number; readonly failed: number }>
}

/**
 * What happened when.
 *
 * @category services
 */
export class History extends Context.Service<
  History,
  {
    /** Reads a span; gives up after two seconds. */
    readonly read: (options: ReadOptions) => Effect.Effect<Chart, InvalidFilter | StorageFailure>
    /** Reads a span for each of the six queues or workers of which most ended, and the rest; gives up after two seconds. */
    readonly readBy: (
      by: "queue" | "worker",
      options: Omit<ReadOptions, "worker">
    ) => Effect.Effect<GroupedChart, InvalidFilter | StorageFailure>
    /** The last hour of each queue or worker in which anything happened, by name; gives up after two seconds. */
    readonly activity: (by: "queue" | "worker") => Effect.Effect<ReadonlyArray<Activity>, StorageFailure>
  }
>()("effect-shigoto/History") {}

/**
 * Provides what was recorded.
 *
 * @category layers
 */
export const layer: Layer.Layer<History, never, JobStore> = Layer.effect(
  History,
  Effect.map(JobStore, ({ history }) =>
    History.of({
      read: Effect.fn("History.read")(function* ({ queues, span, worker }) {
        const page = { ...(yield* known(span)), queues, worker }
        const { depths, now, points } = yield* history.read(page)
        // What waits is known by queue.
        const waited = new Map((worker === undefined ? depths : []).map((depth) => [depth.at.getTime(), depth]))
        const happened = new Map(points.map((point) => [point.at.getTime(), point]))
        const steps = [...new Set([...waited.keys(), ...happened.keys()])].toSorted((a, b) => a - b)
        return {
          ...reachOf(now, page),
          points: steps.map((at) => {
            const depth = waited.get(at)
            return {
              ...pointOf(at, happened.get(at)),
              depth: depth && { available: depth.available, oldestMillis: depth.oldest_millis }
            }
          })
        }
      }),
      readBy: Effect.fn("History.readBy")(function* (by, { queues, span }) {
        const page = { ...(yield* known(span)), queues }
        const { now, rows } = yield* history.readBy(by, page, groupLimit)
        const found = Map.groupBy(rows, ({ name }) => name ?? undefined)
        const names = [...found.keys()].filter((name) => name !== undefined).toSorted()
        return {
          ...reachOf(now, page),
          groups: [...names, ...(found.has(undefined) ? [undefined] : [])].map((name) => ({
            name,
            points: (found.get(name) ?? []).map(({ at, completed, failed, run, wait }) => ({
              at: DateTime.fromDateUnsafe(at),
              completed,
              failed,
              run: percentilesOf(run),
              wait: percentilesOf(wait)
            }))
          }))
        }
      }),
      activity: Effect.fn("History.activity")(function* (by) {
        const { now, rows } = yield* history.activity(by)
        const first = Math.floor(now.getTime() / activityStepMillis) - activitySteps + 1
        return rows.map(({ name, run, steps, wait }) => {
          const inStep = new Map(steps.map((step) => [Math.floor(Date.parse(step.at) / activityStepMillis), step]))
          return {
            name,
            completed: steps.reduce((sum, step) => sum + step.completed, 0),
            failed: steps.reduce((sum, step) => sum + step.failed, 0),
            run: percentilesOf(run),
            wait: percentilesOf(wait),
            steps: Array.from({ length: activitySteps }, (_, i) => {
              const { completed = 0, failed = 0 } = inStep.get(first + i) ?? {}
              return { completed, failed }
            })
          }
        })
      })
    })
  )
)

/**
 * Records what happens on this node, where `ShigotoConfig.history` is on.
 *
 * @category layers
 */
export const layerRecorder: Layer.Layer<never, never, Events | JobStore | ShigotoConfig> = Layer.effectDiscard(
  Effect.gen(function* () {
    const config = yield* ShigotoConfig
    if (!config.history) return
    const events = yield* Events
    const { history } = yield* JobStore
    let tallies = new Map<string, Tally>()
    yield* Effect.addFinalizer(() => write)
    yield* events.observe((event) => note(tallies, event))

    const write = Effect.suspend(() => {
      if (tallies.size === 0) return Effect.void
      const increments = [...tallies.values()]
      tallies = new Map()
      return Effect.catch(history.add([totalOf(increments), ...increments]), (error) =>
        Effect.logDebug("Shigoto could not keep ten seconds of its history", error)
      )
    })
    yield* forever("history", Effect.andThen(Effect.sleep(writeMillis), write))
    yield* forever("depths", Effect.andThen(Effect.ignore(history.noteDepths), Effect.sleep(depthMillis)))
  })
)

// internal

/** How often what happened is written. */
const writeMillis = 10_000

/** How often a node asks whether somebody has looked how much waits. */
const depthMillis = 60_000

/** The most pairs of queue and worker that a node tells apart in one writing. */
const pairLimit = 200

/** The most queues or workers that a chart tells apart. */
const groupLimit = 6

const activitySteps = 12
const activityStepMillis = 5 * 60_000

type Tally = { -readonly [K in keyof Increment]: Increment[K] extends number | string ? Increment[K] : Array<number> }

const tally = (queue: string, worker: string): Tally => ({
  queue,
  worker,
  completed: 0,
  failed: 0,
  discarded: 0,
  cancelled: 0,
  snoozed: 0,
  run: empty(),
  wait: empty()
})

const tallyOf = (tallies: Map<string, Tally>, queue: string, worker: string): Tally => {
  const key = `${queue}\n${worker}`
  const known = tallies.get(key)
  if (known !== undefined) return known
  if (tallies.size >= pairLimit && worker !== "other") return tallyOf(tallies, "other", "other")
  const made = tally(queue, worker)
  tallies.set(key, made)
  return made
}

const counters = {
  Completed: "completed",
  Failed: "failed",
  Discarded: "discarded",
  Cancelled: "cancelled",
  Snoozed: "snoozed"
} as const

const note = (tallies: Map<string, Tally>, event: JobEvent): void => {
  switch (event._tag) {
    case "Started": {
      // Between attempts a job waits as long as its backoff says.
      if (event.attempt === 1) count(tallyOf(tallies, event.queue, event.worker).wait, event.waitMillis)
      return
    }
    case "Rescued": {
      if (event.state === "discarded") tallyOf(tallies, event.queue, event.worker).discarded++
      return
    }
    case "Completed":
    case "Failed":
    case "Discarded":
    case "Cancelled":
    case "Snoozed": {
      const own = tallyOf(tallies, event.queue, event.worker)
      own[counters[event._tag]]++
      if (event.runMillis !== undefined) count(own.run, event.runMillis)
      return
    }
    default:
  }
}

const totalOf = (increments: ReadonlyArray<Increment>): Increment => {
  const total = tally("", "")
  for (const one of increments) {
    for (const name of Object.values(counters)) total[name] += one[name]
    for (const [i, value] of one.run.entries()) total.run[i] = (total.run[i] ?? 0) + value
    for (const [i, value] of one.wait.entries()) total.wait[i] = (total.wait[i] ?? 0) + value
  }
  return total
}

const known = (span: Span): Effect.Effect<(typeof spans)[Span], InvalidFilter> =>
  Object.hasOwn(spans, span)
    ? Effect.succeed(spans[span])
    : Effect.fail(
        new InvalidFilter({
          field: "span",
          value: shown(span),
          message: `span cannot be ${shown(span)}: the spans are ${Object.keys(spans).join(", ")}.`
        })
      )

const reachOf = (now: Date, page: { readonly spanMillis: number; readonly stepMillis: number }) => ({
  from: DateTime.makeUnsafe(now.getTime() - page.spanMillis),
  to: DateTime.fromDateUnsafe(now),
  stepMillis: page.stepMillis
})

const pointOf = (at: number, point: PointColumns | undefined) => ({
  at: DateTime.makeUnsafe(at),
  completed: point?.completed ?? 0,
  failed: point?.failed ?? 0,
  discarded: point?.discarded ?? 0,
  cancelled: point?.cancelled ?? 0,
  snoozed: point?.snoozed ?? 0,
  run: percentilesOf(point?.run ?? []),
  wait: percentilesOf(point?.wait ?? [])
})

const percentilesOf = (buckets: ReadonlyArray<number>): Percentiles | undefined => {
  const [p50, p95, p99] = [percentile(buckets, 0.5), percentile(buckets, 0.95), percentile(buckets, 0.99)]
  return p50 === undefined || p95 === undefined || p99 === undefined ? undefined : { p50, p95, p99 }
}
