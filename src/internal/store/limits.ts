/** The store's verbs for limits over all nodes. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type { Limit } from "../../Limit.ts"
import type { Partitions } from "../../ShigotoConfig.ts"
import { type ClaimRequest, scout } from "../sql/claim.ts"
import type { Db } from "../sql/db.ts"
import { pruneAccounts, setPlaces } from "../sql/account.ts"
import { handOver, type Heirs } from "../sql/handover.ts"
import * as limit from "../sql/limit.ts"
import { standings } from "../sql/limitView.ts"
import { pausePartition, prunePartitions } from "../sql/partition.ts"
import type { Settlement } from "../sql/settle.ts"
import type { Rule } from "../rate.ts"
import type { Runner } from "./runner.ts"

/** Builds the verbs. */
export const limitVerbs = (db: Db, { background, called }: Runner, node: () => number | undefined) => ({
  /** The incarnation whose own rates a charge is about; undefined where this process has none. */
  node,
  /** Takes the available jobs that come before the first of the limited workers, and says whether there was one. */
  scout: (request: ClaimRequest, limited: ReadonlyArray<string>) => background("claim")(scout(db, request, limited)),
  /** Takes the available jobs that the limits of their workers and of the queue admit; a failure admits none. */
  claim: (
    request: ClaimRequest,
    governed: ReadonlyArray<limit.Governed>,
    partitions?: Partitions,
    queueRate?: Limit<never>
  ) => background("claim")(limit.claimLimited(db, request, governed, partitions, queueRate)),
  /** Ends attempts of a worker, each fenced by its epoch, and gives their places to its next jobs. */
  handOver: (settlements: ReadonlyArray<Settlement>, heirs: Heirs) =>
    background("settle")(handOver(db, settlements, heirs)),
  /** Spends units of a limit, or of one of its keys, or gives some back. */
  charge: (of: Limit<never>, amount: number, key = "") =>
    outside(db, background("charge")(limit.charge(db, of, key, amount, node()))),
  /** Admits nothing for some time. */
  backOff: (of: Limit<never>, millis: number, key = "") =>
    outside(db, background("backOff")(limit.backOff(db, of, key, millis, node()))),
  /** Sets a rule in place of the code's, or takes that back. */
  change: (of: Limit<never>, key: string, rule: Rule | undefined) =>
    outside(db, background("limits")(limit.change(db, of, key, rule))),
  /** Sets a worker's concurrency in place of the code's, or takes that back. */
  setPlaces: (worker: string, places: number | undefined) =>
    outside(db, background("limits")(setPlaces(db, worker, places))),
  /** How the limits of live workers stand. */
  standings: called("limits")(standings(db)),
  /** Pauses a partition key of a fair queue, or takes that back. */
  pause: (queue: string, key: string, paused: boolean) => called("queue")(pausePartition(db, queue, key, paused)),
  /** Forgets accounts and turns that nobody needs. */
  prune: background("prune")(Effect.andThen(pruneAccounts(db), prunePartitions(db)))
})

/** The verbs. */
export type LimitVerbs = ReturnType<typeof limitVerbs>

// internal

/** Leaves a caller's transaction aside: it would hold the limit's lock, and every claim, until its end. */
const outside = <A, E>(db: Db, effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.updateContext(effect, (context: Context.Context<never>) => Context.omit(db.sql.transactionService)(context))
