/**
 * Keeps the history: makes the partitions of the next days ahead of time and drops those past their retention.
 *
 * Runs on every node; the database lets one at a time do the work. A lock that is not free within half a second is
 * left for the next round, so that settles never wait for upkeep.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { forever } from "./internal/loop.ts"
import { JobStore } from "./JobStore.ts"
import { ShigotoConfig } from "./ShigotoConfig.ts"
import type { StorageError } from "./ShigotoError.ts"

/**
 * What became of the history of the jobs that ended in one state.
 *
 * @category models
 */
export interface Pruned {
  readonly state: "completed" | "discarded" | "cancelled"
  /** Partitions that were made ahead of time. */
  readonly made: number
  /** Partitions that were dropped, with all that was in them. */
  readonly dropped: number
  /** Jobs that were deleted one by one. */
  readonly deleted: number
  /** Whether a lock was taken or the server away, so that the rest is left for the next round. */
  readonly postponed: boolean
  /** For how many milliseconds they are kept. */
  readonly keptMillis: number
}

/**
 * Prunes once, by the retention of the configuration alone, and tells what became of the history.
 *
 * @category pruning
 */
export const round: Effect.Effect<ReadonlyArray<Pruned>, StorageError, JobStore | ShigotoConfig> = Effect.suspend(() =>
  pruneOnce(false)
)

/**
 * Prunes at the start and every `ShigotoConfig.pruneInterval`, by the longest retention of all nodes that are up.
 *
 * @category layers
 */
export const layer: Layer.Layer<never, never, JobStore | ShigotoConfig> = Layer.effectDiscard(
  Effect.gen(function* () {
    const { pruneInterval, retention } = yield* ShigotoConfig
    const warned = new Set<Pruned["state"]>()
    yield* forever(
      "pruner",
      Effect.gen(function* () {
        for (const { keptMillis, state } of yield* pruneOnce(true)) {
          if (keptMillis <= Duration.toMillis(retention[state]) || warned.has(state)) continue
          warned.add(state)
          yield* Effect.logWarning(
            `Shigoto keeps ${state} jobs for ${Duration.format(Duration.millis(keptMillis))}, as another node is configured, and not for ${Duration.format(retention[state])}, as this one is. What this node itself keeps none of is in no history. Set ShigotoConfig.retention alike on all nodes.`
          )
        }
        yield* Effect.sleep(pruneInterval)
      })
    )
  })
)

// internal

const pruneOnce = (agreed: boolean): Effect.Effect<ReadonlyArray<Pruned>, StorageError, JobStore | ShigotoConfig> =>
  Effect.gen(function* () {
    const config = yield* ShigotoConfig
    const store = yield* JobStore
    const history = yield* Effect.forEach(["completed", "discarded", "cancelled"] as const, (state) => {
      const total = {
        state,
        made: 0,
        dropped: 0,
        deleted: 0,
        postponed: false,
        keptMillis: Duration.toMillis(config.retention[state])
      }
      const portion = Effect.map(store.prune(state, agreed), ({ deleted, dropped, keptMillis, made }) => {
        total.keptMillis = keptMillis
        total.made += made
        total.dropped += dropped
        total.deleted += deleted
        return deleted > 0
      })
      return Effect.as(
        Effect.catchTag(
          // What is deleted row by row goes in portions.
          Effect.asVoid(Effect.repeat(portion, { while: (more) => more })),
          "StorageUnavailable",
          // A lock that is taken or a server that is away: history can wait.
          (error) => {
            total.postponed = true
            return Effect.logDebug(`Shigoto leaves the history of ${state} jobs for the next round`, error)
          }
        ),
        total satisfies Pruned
      )
    })
    yield* Effect.forEach(
      [
        store.cron.pruneTicks,
        store.pruneKeys,
        store.limits.prune,
        store.cells.prune,
        Effect.repeat(store.discards.prune, { while: (gone) => gone > 0 }),
        store.broadcast.prune,
        Effect.repeat(store.composition.prune, { while: (more) => more }),
        Effect.repeat(store.history.prune, { while: (gone) => gone > 0 }),
        Effect.repeat(store.audit.prune, { while: (gone) => gone > 0 }),
        Effect.repeat(store.results.prune, { while: (more) => more }),
        Effect.repeat(store.insight.pruneLogs(Duration.toMillis(config.logRetention)), { while: (gone) => gone > 0 })
      ],
      (upkeep: Effect.Effect<unknown, unknown>) => Effect.ignore(upkeep),
      { discard: true }
    )
    return history
  })
