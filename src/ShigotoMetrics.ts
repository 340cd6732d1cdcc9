/**
 * What a node counts and measures, as `effect/Metric`: whatever exports those, exports these.
 *
 * | metric | kind, unit | labels |
 * |---|---|---|
 * | `shigoto_jobs_inserted_total` | counter | worker, queue |
 * | `shigoto_attempts_total` | counter | worker, queue, outcome |
 * | `shigoto_attempt_run_seconds` | histogram, seconds | worker, queue |
 * | `shigoto_job_wait_seconds` | histogram, seconds | worker, queue |
 * | `shigoto_jobs_rescued_total` | counter | worker, queue |
 * | `shigoto_jobs_expired_total` | counter | worker, queue |
 * | `shigoto_limited_total` | counter | worker, queue, limit |
 * | `shigoto_deferred_total` | counter | worker, queue, by |
 * | `shigoto_circuits_opened_total` | counter | worker |
 * | `shigoto_bulkhead_full_total` | counter | |
 * | `shigoto_load_shed_total` | counter | by |
 * | `shigoto_lease_lost_total` | counter | |
 * | `shigoto_settle_retries_total` | counter | |
 * | `shigoto_jobs_executing` | gauge | queue |
 * | `shigoto_queue_concurrency` | gauge | queue |
 * | `shigoto_worker_concurrency` | gauge | worker |
 * | `shigoto_oldest_available_seconds` | gauge, seconds | queue |
 * | `shigoto_dead_rows` | gauge | |
 * | `shigoto_oldest_transaction_seconds` | gauge, seconds | |
 *
 * Off by default, and then nothing runs. Labels are bounded: after 200 pairs of worker and queue, and after 200 queues,
 * the rest counts as `other`. The last three ask the database and tell the same on every node; the others are the
 * node's own and add up.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import { Executor } from "./Executor.ts"
import { Admission } from "./internal/admission.ts"
import { Events } from "./internal/events.ts"
import { forever } from "./internal/loop.ts"
import type { JobEvent } from "./JobEvent.ts"
import { JobStore } from "./JobStore.ts"
import { Queues } from "./Queues.ts"
import { ShigotoConfig } from "./ShigotoConfig.ts"
import { Workers } from "./Workers.ts"

/**
 * The most values of a label, or pairs of worker and queue, before the rest becomes `other`.
 *
 * @category constants
 */
export const labelLimit = 200

/**
 * Counts and measures what happens on this node, where `ShigotoConfig.metrics` is on.
 *
 * @category layers
 */
export const layer: Layer.Layer<never, never, Events | ShigotoConfig> = /*#__PURE__*/ Layer.effectDiscard(
  // Both are marked, so that a bundle without this layer is one without the executor.
  /*#__PURE__*/ Effect.gen(function* () {
    const config = yield* ShigotoConfig
    if (!config.metrics) return
    const events = yield* Events
    yield* events.observe(makeRecorder(yield* Effect.context<never>()))
  })
)

/**
 * Shows how full the queues of this node are and reads the gauges that ask the database, where `ShigotoConfig.metrics`
 * is on.
 *
 * @category layers
 */
export const layerGauges: Layer.Layer<
  never,
  never,
  Executor | Admission | Workers | Queues | JobStore | ShigotoConfig
> = /*#__PURE__*/ Layer.effectDiscard(
  // Both are marked, so that a bundle without this layer is one without the executor.
  /*#__PURE__*/ Effect.gen(function* () {
    const config = yield* ShigotoConfig
    if (!config.metrics) return
    const executor = yield* Executor
    const admission = yield* Admission
    const workers = yield* Workers
    const queues = yield* Queues
    const { insight } = yield* JobStore
    const context = yield* Effect.context<never>()
    const bounded = makeBound()
    const boundedWorker = makeBound()
    const shown = new Set<string>()

    const set = (metric: Metric.Metric<number, unknown>, value: number): void => metric.updateUnsafe(value, context)
    const measure = Effect.sync(() => {
      for (const { concurrency, name } of queues.states()) {
        set(executingOf(bounded(name)), executor.running(name))
        set(concurrencyOf(bounded(name)), admission.slots(name, concurrency))
      }
      for (const worker of workers.all()) {
        if (worker.adaptive !== undefined) set(placesOf(boundedWorker(worker.name)), admission.places(worker))
      }
    })
    const sample = Effect.gen(function* () {
      const oldest = new Map((yield* insight.oldest).map((row) => [bounded(row.queue), row.oldest_millis]))
      // A queue that has been emptied has no job that waits.
      for (const queue of shown) if (!oldest.has(queue)) set(oldestOf(queue), 0)
      for (const [queue, millis] of oldest) {
        shown.add(queue)
        set(oldestOf(queue), Math.max(millis, 0) / 1000)
      }
      const server = yield* insight.server
      set(deadRows, server?.dead_rows ?? 0)
      set(oldestTransaction, server?.oldest_transaction ?? 0)
    })
    yield* forever("gauges", Effect.andThen(measure, Effect.sleep("1 second")))
    yield* forever("metrics", Effect.andThen(sample, Effect.sleep(config.metricsInterval)))
  })
)

// internal

/** From 5 milliseconds to 20 minutes, each about twice the one before. */
const boundaries = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1200]

const seconds = { unit: "seconds" }

const leaseLost = Metric.counter("shigoto_lease_lost_total", {
  description: "Leases of this node that ran out, and outcomes refused since the job had been taken away",
  incremental: true
})
const settleRetries = Metric.counter("shigoto_settle_retries_total", {
  description: "Batches of outcomes that the database did not take and that were sent again",
  incremental: true
})
const bulkheadFull = Metric.counter("shigoto_bulkhead_full_total", {
  description: "Seconds in which as many attempts ran on this node as may, with more to claim",
  incremental: true
})
const shedOf = (by: "attempts" | "waits") =>
  Metric.counter("shigoto_load_shed_total", {
    description: "Times that this node began to start no jobs of low priority",
    attributes: { by },
    incremental: true
  })
const shedBy = { attempts: shedOf("attempts"), waits: shedOf("waits") }
const deadRows = Metric.gauge("shigoto_dead_rows", { description: "Dead rows of the table of live jobs" })
const oldestTransaction = Metric.gauge("shigoto_oldest_transaction_seconds", {
  description: "Age of the oldest transaction that holds back vacuum",
  attributes: seconds
})
const executingOf = (queue: string) =>
  Metric.gauge("shigoto_jobs_executing", { description: "Slots in use on this node", attributes: { queue } })
const concurrencyOf = (queue: string) =>
  Metric.gauge("shigoto_queue_concurrency", { description: "Slots on this node", attributes: { queue } })
const placesOf = (worker: string) =>
  Metric.gauge("shigoto_worker_concurrency", {
    description: "How many attempts of a worker may run on this node, where that number finds itself",
    attributes: { worker }
  })
const oldestOf = (queue: string) =>
  Metric.gauge("shigoto_oldest_available_seconds", {
    description: "How long the available job that waits longest has been due",
    attributes: { queue, ...seconds }
  })

/** Takes up to a limit of different names; the others become one. */
const makeBound = (): ((name: string) => string) => {
  const names = new Set<string>()
  return (name) => {
    if (names.has(name)) return name
    if (names.size >= labelLimit) return "other"
    names.add(name)
    return name
  }
}

/** The metrics of one pair of worker and queue. */
const makeSeries = (worker: string, queue: string) => {
  const attributes = { worker, queue }
  const byLabel = new Map<string, Metric.Counter<number>>()
  const counter = (name: string, description: string, label: Readonly<Record<string, string>>) => {
    const key = `${name} ${Object.values(label).join(" ")}`
    const made =
      byLabel.get(key) ??
      Metric.counter(name, { description, attributes: { ...attributes, ...label }, incremental: true })
    byLabel.set(key, made)
    return made
  }
  return {
    inserted: Metric.counter("shigoto_jobs_inserted_total", {
      description: "Jobs that this process inserted",
      attributes,
      incremental: true
    }),
    expired: Metric.counter("shigoto_jobs_expired_total", {
      description: "Jobs that have not started before their deadline",
      incremental: true,
      attributes
    }),
    rescued: Metric.counter("shigoto_jobs_rescued_total", {
      description: "Jobs that this node took away from dead ones",
      attributes,
      incremental: true
    }),
    run: Metric.histogram("shigoto_attempt_run_seconds", {
      description: "How long attempts took, from their start to the end of their handler",
      attributes: { ...attributes, ...seconds },
      boundaries
    }),
    wait: Metric.histogram("shigoto_job_wait_seconds", {
      description: "How long jobs had been due as they were claimed",
      attributes: { ...attributes, ...seconds },
      boundaries
    }),
    attempts: (outcome: string) => counter("shigoto_attempts_total", "Attempts that ended on this node", { outcome }),
    deferred: (by: string) =>
      counter("shigoto_deferred_total", "Jobs that were claimed and turned away before their handler started", { by }),
    limited: (limit: "rate" | "concurrency") =>
      counter("shigoto_limited_total", "Times that a limit over all nodes began to hold jobs back on this node", {
        limit
      })
  }
}

const makeRecorder = (context: Context.Context<never>): ((event: JobEvent) => void) => {
  const all = new Map<string, ReturnType<typeof makeSeries>>()
  const bounded = makeBound()
  const opened = (worker: string) =>
    Metric.counter("shigoto_circuits_opened_total", {
      description: "Times that this node opened the circuit of a worker",
      attributes: { worker: bounded(worker) },
      incremental: true
    })
  const seriesOf = (worker: string, queue: string): ReturnType<typeof makeSeries> => {
    const key = `${worker}\n${queue}`
    const known = all.get(key)
    if (known !== undefined) return known
    if (all.size >= labelLimit && worker !== "other") return seriesOf("other", "other")
    const made = makeSeries(worker, queue)
    all.set(key, made)
    return made
  }
  const ended = (
    event: JobEvent & { readonly worker: string; readonly queue: string },
    outcome: string,
    run: number
  ) => {
    const series = seriesOf(event.worker, event.queue)
    series.attempts(outcome).updateUnsafe(1, context)
    series.run.updateUnsafe(run / 1000, context)
  }
  return (event) => {
    switch (event._tag) {
      case "Inserted":
        return seriesOf(event.worker, event.queue).inserted.updateUnsafe(1, context)
      case "Started":
        return seriesOf(event.worker, event.queue).wait.updateUnsafe(event.waitMillis / 1000, context)
      case "Completed":
      case "Failed":
      case "Discarded":
      case "Cancelled":
      case "Snoozed":
      case "Released":
      case "Blocked":
      case "LeaseLost": {
        if (event._tag === "LeaseLost") leaseLost.updateUnsafe(1, context)
        return event.runMillis === undefined ? undefined : ended(event, outcomes[event._tag], event.runMillis)
      }
      case "Rescued":
        return seriesOf(event.worker, event.queue).rescued.updateUnsafe(1, context)
      case "Expired":
        return seriesOf(event.worker, event.queue).expired.updateUnsafe(1, context)
      case "RateLimited":
        return seriesOf(event.worker, event.queue).limited("rate").updateUnsafe(1, context)
      case "ConcurrencyLimited":
        return seriesOf(event.worker, event.queue).limited("concurrency").updateUnsafe(1, context)
      case "Deferred":
        return seriesOf(event.worker, event.queue).deferred(event.by).updateUnsafe(1, context)
      case "CircuitOpened":
        return opened(event.worker).updateUnsafe(1, context)
      case "BulkheadFull":
        return bulkheadFull.updateUnsafe(1, context)
      case "LoadShed":
        return shedBy[event.by].updateUnsafe(1, context)
      case "NodeLeaseLost":
        return leaseLost.updateUnsafe(1, context)
      case "SettleRetried":
        return settleRetries.updateUnsafe(1, context)
      default:
        return
    }
  }
}

/** How an attempt's end is called in the label `outcome`. */
const outcomes = {
  Completed: "completed",
  Failed: "retryable",
  Discarded: "discarded",
  Cancelled: "cancelled",
  Snoozed: "snoozed",
  Released: "released",
  Blocked: "blocked",
  LeaseLost: "lost"
} as const
