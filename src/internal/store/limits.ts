/** The store's verbs for limits over all nodes. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type { Limit } from "../../Limit.ts"
import type { Partitions } from "../../ShigotoConfig.ts"
import type { ClaimRequest } from "../sql/claim.ts"
import type { Db } from "../sql/db.ts"
import * as limit from "../sql/limit.ts"
import { standings } from "../sql/limitView.ts"
import { pausePartition, prunePartitions } from "../sql/partition.ts"
import type { Runner } from "./runner.ts"

/** Builds the verbs. */
export const limitVerbs = (db: Db, { background, called }: Runner) => ({
  /** Takes the available jobs that the limits of their workers admit; a failure admits none. */
  claim: (request: ClaimRequest, governed: ReadonlyArray<limit.Governed>, partitions?: Partitions) =>
    background("claim")(limit.claimLimited(db, request, governed, partitions)),
  /** Spends units of a limit, or gives some back. */
  charge: (of: Limit, amount: number) => outside(db, background("charge")(limit.charge(db, of, amount))),
  /** Admits nothing for some time. */
  backOff: (of: Limit, millis: number) => outside(db, background("backOff")(limit.backOff(db, of, millis))),
  /** How the limits of live workers stand. */
  standings: called("limits")(standings(db)),
  /** Pauses a partition key of a fair queue, or takes that back. */
  pause: (queue: string, key: string, paused: boolean) => called("queue")(pausePartition(db, queue, key, paused)),
  /** Forgets accounts and turns that nobody needs. */
  prune: background("prune")(Effect.andThen(limit.pruneLimits(db), prunePartitions(db)))
})

/** The verbs. */
export type LimitVerbs = ReturnType<typeof limitVerbs>

// internal

/** Leaves a caller's transaction aside: it would hold the limit's lock, and every claim, until its end. */
const outside = <A, E>(db: Db, effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.updateContext(effect, (context: Context.Context<never>) => Context.omit(db.sql.transactionService)(context))
