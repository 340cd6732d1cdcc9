/** What all endpoints share: the rules of who sees what, and the looks that are made once for all viewers. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { type Health, type HealthReason, tell } from "../../Health.ts"
import { type JobRow, type JobState, states } from "../../JobRow.ts"
import { type FailureGroup, Jobs } from "../../Jobs.ts"
import { type QueueOverview, Queues } from "../../Queues.ts"
import type { InvalidFilter, StorageFailure } from "../../ShigotoError.ts"
import { type Access, type Environment, seesQueue } from "../Access.ts"
import { shared, type Shared } from "./sampler.ts"
import { makeViewing, type Redaction, seesAll, type Viewing } from "./viewing.ts"

/** What is seen at once of the whole. */
export interface Sample {
  readonly health: Health
  /** Undefined where counting took too long. */
  readonly queues: ReadonlyArray<QueueOverview> | undefined
}

/** What all endpoints share. */
export class Board extends Context.Service<
  Board,
  {
    readonly viewing: Viewing
    readonly environment: Environment | undefined
    readonly sample: Shared<Sample, never>
    /** Groups of failures, each with its newest job where that is still there. */
    readonly failures: Shared<
      ReadonlyArray<{ readonly group: FailureGroup; readonly job: JobRow | undefined }>,
      InvalidFilter | StorageFailure
    >
  }
>()("effect-shigoto/dashboard/internal/Board") {}

/** Provides them; `options` says what counts as a secret, and which system this is. */
export const layer = (
  options: Redaction & { readonly environment: Environment | undefined }
): Layer.Layer<Board, never, Jobs | Queues> =>
  Layer.effect(
    Board,
    Effect.gen(function* () {
      const jobs = yield* Jobs
      const queues = yield* Queues
      return Board.of({
        viewing: makeViewing(jobs, options, yield* shared(jobs.secretFields, 10_000)),
        environment: options.environment,
        sample: yield* shared(
          Effect.gen(function* () {
            const health = yield* jobs.health
            const overview = health.status === "down" ? Option.none() : yield* Effect.option(queues.overview)
            return { health, queues: Option.getOrUndefined(overview) }
          }),
          2000
        ),
        failures: yield* shared(
          Effect.flatMap(jobs.failures({ limit: 50 }), (found) =>
            Effect.forEach(found, (group) =>
              Effect.map(Effect.option(jobs.get(group.sample)), (job) => ({ group, job: Option.getOrUndefined(job) }))
            )
          ),
          5000
        )
      })
    })
  )

/** The totals of what exists for a viewer. */
export const totalsOf = (access: Access, { health, queues }: Sample) => {
  const seen = queues?.filter((queue) => seesQueue(access, queue.name))
  const total = (state: JobState) =>
    seen === undefined ? null : seen.reduce((sum, queue) => sum + (queue.counts[state] ?? 0), 0)
  const ages = health.queues.filter(({ queue }) => seesQueue(access, queue)).map((queue) => queue.oldestMillis)
  return {
    atLeast: states.filter((state) => seen?.some((queue) => queue.atLeast.includes(state)) ?? false),
    waiting: total("available"),
    running: total("executing"),
    scheduled: total("scheduled"),
    retryable: total("retryable"),
    blocked: total("blocked"),
    oldestMillis: ages.length === 0 ? null : Math.max(0, ...ages)
  }
}

/** The reasons that exist for a viewer: who sees some queues only is told of these, and of what holds for all. */
export const problems = (access: Access, reasons: ReadonlyArray<HealthReason>) =>
  reasons
    .filter((reason) =>
      seesAll(access) ? true : "queue" in reason ? seesQueue(access, reason.queue) : forAll.has(reason._tag)
    )
    .map((reason) => ({
      tag: reason._tag,
      message: tell(reason),
      queue: "queue" in reason ? reason.queue : null,
      worker: "worker" in reason ? reason.worker : null,
      node: "node" in reason ? reason.node : null
    }))

// internal

/** Reasons that tell nothing of a queue. */
const forAll: ReadonlySet<HealthReason["_tag"]> = new Set<HealthReason["_tag"]>([
  "DatabaseUnavailable",
  "DatabaseReadOnly",
  "SchemaVersion",
  "NoNode",
  "NodeSilent",
  "NodeLagging"
])
