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

/**
 * Prunes at the start and every `ShigotoConfig.pruneInterval`.
 *
 * @category layers
 */
export const layer: Layer.Layer<never, never, JobStore | ShigotoConfig> = Layer.effectDiscard(
  Effect.gen(function* () {
    const config = yield* ShigotoConfig
    const store = yield* JobStore
    const states = ["completed", "discarded", "cancelled"] as const
    const round = Effect.forEach(
      states,
      (state) =>
        Effect.catchTag(
          // What is deleted row by row goes in portions.
          Effect.asVoid(Effect.repeat(store.prune(state), { while: ({ deleted }) => deleted > 0 })),
          "StorageUnavailable",
          // A lock that is taken or a server that is away: history can wait.
          (error) => Effect.logDebug(`Shigoto leaves the history of ${state} jobs for the next round`, error)
        ),
      { discard: true }
    )
    const others = Effect.forEach(
      [
        store.cron.pruneTicks,
        store.pruneKeys,
        store.limits.prune,
        store.cells.prune,
        Effect.repeat(store.composition.prune, { while: (more) => more }),
        Effect.repeat(store.results.prune, { while: (more) => more }),
        Effect.repeat(store.insight.pruneLogs(Duration.toMillis(config.logRetention)), { while: (gone) => gone > 0 })
      ],
      (upkeep: Effect.Effect<unknown, unknown>) => Effect.ignore(upkeep),
      { discard: true }
    )
    yield* forever("pruner", Effect.andThen(Effect.andThen(round, others), Effect.sleep(config.pruneInterval)))
  })
)
