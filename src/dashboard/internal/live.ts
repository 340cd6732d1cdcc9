/**
 * Tells viewers what is new: one loop looks for all of them, and only at what somebody watches.
 *
 * A viewer is told which topics changed, never what is in them: what it may see, it asks for. Hints that a slow viewer
 * has not taken become one, so that a stream holds no more than the names of its topics. Each stream begins with a hint
 * for every topic, as they are found for the first time, so that a viewer who was cut off misses nothing.
 */
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import { createHash } from "node:crypto"
import { Audit } from "../../Audit.ts"
import { Batches } from "../../Batches.ts"
import { CronJobs } from "../../CronJobs.ts"
import type { JobId } from "../../JobRow.ts"
import { Jobs } from "../../Jobs.ts"
import { Limits } from "../../Limits.ts"
import { Resilience } from "../../Resilience.ts"
import type { Access } from "../Access.ts"
import { Unavailable } from "../DashboardApi.ts"
import type { LiveEvent, Totals } from "../Views.ts"
import { Board, totalsOf } from "./board.ts"
import { shared } from "./sampler.ts"

/** How often it looks, in milliseconds. */
export const pollMillis = 2000

/** The most streams of a process. */
export const maxStreams = 200

/** What can be watched, besides `job:<id>`. */
export const topics = [
  "overview",
  "queues",
  "jobs",
  "failures",
  "batches",
  "cron",
  "nodes",
  "limits",
  "breakers",
  "operations",
  "audit"
] as const

type Topic = (typeof topics)[number]
type Told = (typeof LiveEvent)["Type"]

/** What is new. */
export class Live extends Context.Service<
  Live,
  {
    /** How topics stand: another digest, another state. */
    readonly digests: (wanted: Iterable<string>) => Effect.Effect<Readonly<Record<string, string>>>
    /** Hints about topics, for as long as somebody reads them. */
    readonly watch: (access: Access, wanted: ReadonlyArray<string>) => Effect.Effect<Stream.Stream<Told>, Unavailable>
    /** Tells at once that topics have changed, as after what a viewer did. */
    readonly changed: (changed: ReadonlyArray<string>) => Effect.Effect<void>
  }
>()("effect-shigoto/dashboard/internal/Live") {}

/** Provides it; streams end with the layer. */
export const layer: Layer.Layer<Live, never, Board | Jobs | Audit | Batches | CronJobs | Limits> = Layer.effect(
  Live,
  Effect.gen(function* () {
    const { failures, sample } = yield* Board
    const jobs = yield* Jobs
    const batches = yield* Batches
    const cron = yield* CronJobs
    const limits = yield* Limits
    const audit = yield* Audit
    const resilience = Option.getOrUndefined(yield* Effect.serviceOption(Resilience))
    const scope = yield* Effect.scope
    const viewers = new Set<Viewer>()
    let loop: Fiber.Fiber<never> | undefined
    let isLooking = false
    let isOver = false
    const arrivals = yield* Queue.dropping<void>(1)

    const sampled = Effect.map(sample.seen, ({ at, exit }) => ({ at, ...Option.getOrThrow(Exit.getSuccess(exit)) }))
    const looks: Readonly<Record<Topic, Effect.Effect<unknown, unknown>>> = {
      overview: Effect.map(sampled, ({ health, queues }) => [
        health.status,
        health.reasons.map((reason) => reason._tag),
        queues?.map((queue) => [queue.name, queue.counts]),
        health.queues.map((queue) => [queue.queue, queue.available])
      ]),
      queues: Effect.map(sampled, ({ health, queues }) => [queues, health.queues.map((queue) => queue.available)]),
      jobs: Effect.gen(function* () {
        const { at, queues } = yield* sampled
        const [newest] = yield* jobs.list({ limit: 1 })
        const isBusy = queues?.some((queue) => (queue.counts.executing ?? 0) > 0) ?? true
        // While jobs run, those that ended and those that came may make up for each other.
        return [queues?.map((queue) => queue.counts), newest?.id, isBusy ? at : undefined]
      }),
      nodes: Effect.map(sampled, ({ health }) =>
        health.nodes.map(({ executing, id, live, queues, workers }) => [id, live, executing, queues, workers])
      ),
      failures: Effect.map(
        Effect.flatMap(failures.seen, ({ exit }) => exit),
        (found) => found.map(({ group }) => [group.fingerprint, group.count, group.sample])
      ),
      batches: (yield* shared(batches.list({ limit: 100 }), pollMillis)).seen.pipe(Effect.flatMap(({ exit }) => exit)),
      cron: (yield* shared(cron.list, pollMillis)).seen.pipe(Effect.flatMap(({ exit }) => exit)),
      limits: (yield* shared(limits.list, pollMillis)).seen.pipe(Effect.flatMap(({ exit }) => exit)),
      operations: (yield* shared(audit.operations({ limit: 20 }), pollMillis)).seen.pipe(
        Effect.flatMap(({ exit }) => exit)
      ),
      audit: Effect.map(audit.list({ limit: 1 }), ([newest]) => newest?.id),
      breakers: resilience?.circuits ?? Effect.succeed([])
    }
    const digests = Effect.fnUntraced(function* (wanted: Iterable<string>) {
      const found: Record<string, string> = {}
      const ids: Array<JobId> = []
      for (const topic of new Set(wanted)) {
        if (isTopic(topic)) {
          // What cannot be read stands as that, until it can.
          found[topic] = digest(yield* Effect.catch(looks[topic], () => Effect.succeed("unreadable")))
        } else ids.push(Number(topic.slice("job:".length)) as JobId) // an id, under its brand
      }
      if (ids.length === 0) return found
      const rows = yield* Effect.catch(jobs.list({ id: ids, limit: Math.min(ids.length, 1000) }), () =>
        Effect.succeed(undefined)
      )
      for (const id of ids) {
        const row = rows?.find((job) => job.id === id)
        found[`job:${id}`] = digest(
          row === undefined
            ? [rows === undefined]
            : [row.state, row.epoch, row.attempt, row.progress, row.cancelRequestedAt, row.errors.length, row.snoozes]
        )
      }
      return found
    })

    const round = Effect.gen(function* () {
      const now = yield* digests([...viewers].flatMap((viewer) => viewer.topics))
      const seen = yield* sampled
      for (const viewer of viewers) {
        for (const topic of viewer.topics) {
          if (now[topic] === undefined || now[topic] === viewer.known.get(topic)) continue
          viewer.known.set(topic, now[topic])
          viewer.news.add(topic)
        }
        const totals = totalsOf(viewer.access, seen)
        const text = JSON.stringify({ ...totals, oldestMillis: null })
        if (text !== viewer.counted) viewer.totals = totals
        viewer.counted = text
        wake(viewer)
      }
    })
    const look = round.pipe(
      Effect.catchCause((cause) => Effect.logWarning("The dashboard could not look for what is new", cause)),
      // Who has just come is told at once how things stand.
      Effect.andThen(Effect.timeoutOption(Queue.take(arrivals), pollMillis)),
      Effect.forever
    )

    const enter = Effect.fnUntraced(function* (access: Access, wanted: ReadonlyArray<string>) {
      const viewer: Viewer = {
        access,
        topics: wanted,
        known: new Map(),
        news: new Set(),
        totals: undefined,
        counted: "",
        bell: yield* Queue.dropping<void>(1)
      }
      viewers.add(viewer)
      Queue.offerUnsafe(arrivals, undefined)
      if (!isLooking) {
        isLooking = true
        loop = yield* Effect.forkIn(look, scope)
      }
      return viewer
    })
    const leave = (viewer: Viewer) =>
      Effect.suspend(() => {
        viewers.delete(viewer)
        if (viewers.size > 0 || loop === undefined) return Effect.void
        isLooking = false
        return Fiber.interrupt(loop)
      })
    /** The next events of a viewer, once there are any. */
    const next = (viewer: Viewer, until: number) =>
      Effect.gen(function* () {
        const rung = yield* Effect.timeoutOption(Queue.take(viewer.bell), beatMillis)
        const now = yield* DateTime.now
        if (isOver || now.epochMilliseconds >= until) return [bye]
        if (Option.isNone(rung)) return [beat]
        const events: Array<Told> = []
        if (viewer.totals !== undefined) events.push({ event: "counts", data: viewer.totals })
        if (viewer.news.size > 0) events.push({ event: "changed", data: { topics: [...viewer.news] } })
        viewer.totals = undefined
        viewer.news.clear()
        return events
      })
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        isOver = true
        for (const viewer of viewers) Queue.offerUnsafe(viewer.bell, undefined)
      })
    )

    return Live.of({
      digests,
      watch: Effect.fnUntraced(function* (access, wanted) {
        if (viewers.size >= maxStreams) {
          return yield* new Unavailable({ message: "Too many pages listen already: this one has to poll." })
        }
        return Stream.unwrap(
          Effect.gen(function* () {
            const viewer = yield* Effect.acquireRelease(enter(access, wanted), leave)
            const now = yield* DateTime.now
            const hello: Told = { event: "hello", data: { serverTime: DateTime.formatIso(now), pollMillis } }
            return Stream.concat(
              Stream.make(hello),
              Stream.fromEffectRepeat(next(viewer, now.epochMilliseconds + lifeMillis)).pipe(
                Stream.flatMap((events) => Stream.fromIterable(events))
              )
            ).pipe(Stream.takeUntil(({ event }) => event === "bye"))
          })
        )
      }),
      changed: (changed) =>
        Effect.andThen(
          sample.forget,
          Effect.sync(() => {
            for (const viewer of viewers) {
              for (const topic of changed) if (viewer.topics.includes(topic)) viewer.news.add(topic)
              wake(viewer)
            }
          })
        )
    })
  })
)

// internal

/** One stream. */
interface Viewer {
  readonly access: Access
  readonly topics: ReadonlyArray<string>
  /** The digests that it was told of. */
  readonly known: Map<string, string>
  /** What changed since it last took something. */
  readonly news: Set<string>
  /** The latest totals, where it was not told of them. */
  totals: (typeof Totals)["Type"] | undefined
  counted: string
  readonly bell: Queue.Queue<void>
}

const beatMillis = 15_000

/** A stream ends after ten minutes, so that its viewer is asked again who they are. */
const lifeMillis = 600_000

const beat: Told = { event: "beat", data: {} }
const bye: Told = { event: "bye", data: {} }

const isTopic = (name: string): name is Topic => topics.some((topic) => topic === name)

const digest = (value: unknown): string =>
  createHash("sha256")
    .update(JSON.stringify(value) ?? "")
    .digest("base64url")
    .slice(0, 16)

const wake = (viewer: Viewer): void => {
  if (viewer.news.size > 0 || viewer.totals !== undefined) Queue.offerUnsafe(viewer.bell, undefined)
}
