/**
 * The only door to SQL: one verb for each step of a job's life, in the order of that life.
 *
 * Everything here is encoded; schemas live above. A write names the state that it expects, so a verb that comes too
 * late meets no row instead of the wrong one. Verbs of background loops give up after `ShigotoConfig.queryTimeout`
 * and open no spans; those that an application calls join its transaction and its trace.
 */
import { PgClient } from "@effect/sql-pg/PgClient"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import { Cipher } from "./Cipher.ts"
import type { Aftermath, MergeRefusal, NewJob } from "./internal/newJob.ts"
import * as cancel from "./internal/sql/cancel.ts"
import * as claim from "./internal/sql/claim.ts"
import * as count from "./internal/sql/count.ts"
import type { Claimed } from "./internal/sql/claimed.ts"
import * as database from "./internal/sql/db.ts"
import { type AuditVerbs, auditVerbs } from "./internal/store/audit.ts"
import { type BroadcastVerbs, broadcastVerbs } from "./internal/store/broadcast.ts"
import { type BulkVerbs, bulkVerbs } from "./internal/store/bulk.ts"
import { type CellVerbs, cellVerbs } from "./internal/store/cells.ts"
import { type CircuitVerbs, circuitVerbs } from "./internal/store/circuits.ts"
import { type CompositionVerbs, compositionVerbs } from "./internal/store/composition.ts"
import { type CronVerbs, cronVerbs } from "./internal/store/cron.ts"
import { type DeadlineVerbs, deadlineVerbs } from "./internal/store/deadlines.ts"
import { type ResultVerbs, resultVerbs } from "./internal/store/results.ts"
import { type LimitVerbs, limitVerbs } from "./internal/store/limits.ts"
import { type DiscardVerbs, discardVerbs } from "./internal/store/discards.ts"
import { type EncryptionVerbs, encryptionVerbs } from "./internal/store/encryption.ts"
import { type HistoryVerbs, historyVerbs } from "./internal/store/history.ts"
import { insertVerb } from "./internal/store/insert.ts"
import { type InsightVerbs, insightVerbs } from "./internal/store/insight.ts"
import { type SearchVerbs, searchVerbs } from "./internal/store/search.ts"
import { makeRunner } from "./internal/store/runner.ts"
import * as inspect from "./internal/sql/inspect.ts"
import * as node from "./internal/sql/node.ts"
import * as promote from "./internal/sql/promote.ts"
import * as prune from "./internal/sql/prune.ts"
import * as queue from "./internal/sql/queue.ts"
import * as rescue from "./internal/sql/rescue.ts"
import * as retry from "./internal/sql/retry.ts"
import { limited as timely } from "./internal/sql/search.ts"
import * as settle from "./internal/sql/settle.ts"
import { classify } from "./internal/sql/statement.ts"
import * as reservation from "./internal/sql/unique.ts"
import type { JobId, JobRow } from "./JobRow.ts"
import { ShigotoConfig } from "./ShigotoConfig.ts"
import { StorageError, type StorageFailure } from "./ShigotoError.ts"

/**
 * The store of jobs.
 *
 * @category services
 */
export class JobStore extends Context.Service<
  JobStore,
  {
    /**
     * Inserts jobs, all or none, in the order given; inside a caller's transaction, as part of it. Single ones outside
     * of a transaction share a statement with others of the same moment.
     */
    readonly insert: (
      jobs: ReadonlyArray<NewJob>
    ) => Effect.Effect<ReadonlyArray<reservation.Stored>, StorageFailure | MergeRefusal>
    /** What the hints of this process are known by. */
    readonly origin: string
    /** Runs an effect once the caller's transaction has committed; at once where there is none. */
    readonly afterCommit: (effect: Effect.Effect<void>) => Effect.Effect<void>
    /** Tells every listener; a hint, never a truth. */
    readonly notify: (payloads: ReadonlyArray<string>) => Effect.Effect<void, StorageFailure>
    /** Makes due jobs available and says what there is to do. */
    readonly promote: (node: promote.Looker) => Effect.Effect<promote.Look, StorageFailure>
    /** Takes available jobs for a node with a live lease. */
    readonly claim: (request: claim.ClaimRequest) => Effect.Effect<ReadonlyArray<Claimed>, StorageFailure>
    /** Claims under limits, and their accounts. */
    readonly limits: LimitVerbs
    /** Values that many processes change. */
    readonly cells: CellVerbs
    /** Circuits that all nodes share. */
    readonly circuits: CircuitVerbs
    /** Stores how far attempts have come. */
    readonly progress: (
      reports: ReadonlyArray<{ readonly id: JobId; readonly epoch: number; readonly percent: number }>
    ) => Effect.Effect<void, StorageFailure>
    /** Ends attempts, each fenced by its epoch. */
    readonly settle: (
      settlements: ReadonlyArray<settle.Settlement>
    ) => Effect.Effect<
      { readonly verdicts: ReadonlyArray<settle.Verdict>; readonly aftermath: Aftermath },
      StorageFailure
    >
    /** Jobs tied to jobs, and batches of them. */
    readonly composition: CompositionVerbs
    /** Makes a lease for a new incarnation of a node and returns its number. */
    readonly register: (node: {
      readonly name: string
      readonly ttlMillis: number
    }) => Effect.Effect<number, StorageFailure>
    /** Renews a lease, unless it has run out. */
    readonly renew: (node: { readonly id: number } & node.Published) => Effect.Effect<node.Renewal, StorageFailure>
    /** Gives back the jobs of a node that it does not know, and cancels those that are to be. */
    readonly reconcile: (node: {
      readonly id: number
      readonly known: ReadonlyArray<number>
      readonly graceMillis: number
    }) => Effect.Effect<
      {
        readonly given: ReadonlyArray<JobId>
        readonly cancelled: ReadonlyArray<node.CancelledInstead>
        readonly aftermath: Aftermath
      },
      StorageFailure
    >
    /** Takes jobs away from dead nodes; at most 500 at a time. */
    readonly rescue: (
      by: string
    ) => Effect.Effect<
      { readonly rescued: ReadonlyArray<rescue.Rescued>; readonly aftermath: Aftermath },
      StorageFailure
    >
    /** Removes the rows of dead nodes that hold nothing. */
    readonly sweep: Effect.Effect<void, StorageFailure>
    /** Ends the lease of a node. */
    readonly retire: (id: number) => Effect.Effect<void, StorageFailure>
    /** Cancels a job, or asks its holder to. */
    readonly cancel: (id: JobId, reason: string | undefined) => Effect.Effect<cancel.Cancelled, StorageFailure>
    /** The jobs that a node holds and is to cancel. */
    readonly cancelRequests: (
      node: number
    ) => Effect.Effect<
      ReadonlyArray<{ readonly id: JobId; readonly epoch: number; readonly reason: string | undefined }>,
      StorageFailure
    >
    /** Makes a finished, scheduled or retryable job available now. */
    readonly retry: (id: JobId) => Effect.Effect<retry.Retried, StorageFailure>
    /** One job, live or archived. */
    readonly get: (id: JobId) => Effect.Effect<JobRow | undefined, StorageFailure>
    /** Pages, counts and groups of jobs. */
    readonly search: SearchVerbs
    /** How many live jobs are in each queue and state; gives up after two seconds. */
    readonly counts: Effect.Effect<ReadonlyArray<count.QueueCount>, StorageFailure>
    /** Stores what is asked of a queue. */
    readonly changeQueue: (change: queue.QueueChange) => Effect.Effect<void, StorageFailure>
    /** What is asked of queues at the moment, and which partition keys are paused. */
    readonly wishes: Effect.Effect<
      { readonly wishes: ReadonlyArray<promote.QueueColumns>; readonly keys: ReadonlyArray<queue.PausedKey> },
      StorageFailure
    >
    /** The partition keys of a queue that have the most jobs; gives up after two seconds. */
    readonly partitions: (name: string) => Effect.Effect<queue.PartitionsFound, StorageFailure>
    /** How many jobs of a queue are executing on nodes of one name, or anywhere. */
    readonly executing: (queue: string, node: string) => Effect.Effect<number, StorageFailure>
    /** Jobs that every node runs. */
    readonly broadcast: BroadcastVerbs
    /** Changes of many jobs. */
    readonly bulk: BulkVerbs
    /** Ends that somebody waits for. */
    readonly results: ResultVerbs
    /** Jobs that have to start in time. */
    readonly deadlines: DeadlineVerbs
    /** Jobs that were given up and whose worker is to be told. */
    readonly discards: DiscardVerbs
    /** Cron entries and their ticks. */
    readonly cron: CronVerbs
    /** What people and probes ask about the whole: nodes, health, why a job does not run. */
    readonly insight: InsightVerbs
    /** Under which keys values stand. */
    readonly encryption: EncryptionVerbs
    /** Who did what. */
    readonly audit: AuditVerbs
    /** What happened when. */
    readonly history: HistoryVerbs
    /** Forgets keys of unique jobs whose time is over. */
    readonly pruneKeys: Effect.Effect<void, StorageFailure>
    /** Makes and drops partitions of the archive of one state, by this node's retention or the longest of all nodes. */
    readonly prune: (
      state: "completed" | "discarded" | "cancelled",
      agreed?: boolean
    ) => Effect.Effect<prune.Pruned, StorageFailure>
  }
>()("effect-shigoto/JobStore") {}

/**
 * Builds the store over the application's own client, so that an enqueue joins the application's transactions.
 *
 * @category constructors
 */
export const make: Effect.Effect<JobStore["Service"], StorageFailure, PgClient | ShigotoConfig> = Effect.gen(
  function* () {
    const config = yield* ShigotoConfig
    const client = yield* PgClient
    const cipher = Option.getOrUndefined(yield* Effect.serviceOption(Cipher))
    const base = yield* Effect.mapError(
      database.make(client, config, {
        completed: Duration.toMillis(config.retention.completed),
        discarded: Duration.toMillis(config.retention.discarded),
        cancelled: Duration.toMillis(config.retention.cancelled)
      }),
      (error) => classify("connect", error)
    )
    const db = { ...base, cipher }
    const runner = makeRunner(client, config)
    const { background, called, limited, told } = runner
    const cells = yield* cellVerbs(db, runner)
    let registered: number | undefined
    const origin = (yield* Random.nextIntBetween(1, Number.MAX_SAFE_INTEGER)).toString(36)
    const insert = yield* insertVerb(db, runner, { client, config, origin })
    return JobStore.of({
      insert,
      origin,
      afterCommit: (effect) => db.sql.afterCommit(effect),
      notify: (payloads) => background("notify")(inspect.notify(db, payloads)),
      promote: (options) => background("promote")(promote.promote(db, options)),
      claim: (request) => background("claim")(claim.claim(db, request)),
      limits: limitVerbs(db, runner, () => registered),
      cells,
      circuits: circuitVerbs(cells),
      progress: (reports) => background("progress")(inspect.progress(db, reports)),
      settle: (settlements) =>
        Effect.andThen(refuseClear(db, settlements), background("settle")(settle.settle(db, settlements))),
      register: (options) =>
        Effect.tap(
          background("register")(node.register(db, { ...options, broadcasts: [...config.broadcast.keys()] })),
          (id) =>
            Effect.sync(() => {
              registered = id
            })
        ),
      renew: (options) => background("renew")(node.renew(db, options)),
      reconcile: (options) => background("reconcile")(node.reconcile(db, options)),
      rescue: (by) => background("rescue")(rescue.rescue(db, by)),
      composition: compositionVerbs(db, runner),
      sweep: background("sweep")(node.sweep(db)),
      retire: (id) => background("retire")(node.retire(db, id)),
      cancel: (id, reason) => called("cancel")(cancel.cancel(db, id, reason)),
      cancelRequests: (id) => background("cancel")(cancel.requested(db, id)),
      retry: (id) => called("retry")(db.transaction(retry.retry(db, id))),
      get: (id) => called("get")(inspect.get(db, id)),
      search: searchVerbs(db, runner),
      counts: called("counts")(timely(db, count.counts(db))),
      changeQueue: (change) => called("queue")(queue.change(db, change)),
      wishes: called("queue")(queue.wishes(db)),
      partitions: (name) => called("queue")(queue.partitions(db, name)),
      executing: (name, on) => called("executing")(queue.executing(db, name, on)),
      broadcast: broadcastVerbs(db, runner),
      bulk: bulkVerbs(db, runner),
      results: resultVerbs(db, runner),
      deadlines: deadlineVerbs(db, runner),
      discards: discardVerbs(db, runner),
      cron: cronVerbs(db, runner),
      insight: insightVerbs(db, runner),
      audit: auditVerbs(db, runner),
      history: historyVerbs(db, runner),
      encryption: encryptionVerbs(db, runner),
      pruneKeys: background("prune")(reservation.pruneKeys(db)),
      // A lock that is taken is not tried for again: settles wait behind each try.
      prune: (state, agreed = false) => limited("prune")(told("prune")(prune.prune(db, state, agreed)))
    })
  }
)

/**
 * Provides the store over the application's client.
 *
 * @category layers
 */
export const layer: Layer.Layer<JobStore, StorageFailure, PgClient | ShigotoConfig> = Layer.effect(JobStore, make)

// internal

/** Children of a fan-out that are to be encrypted are not stored in the clear by a node that has no cipher. */
const refuseClear = (
  { cipher }: { readonly cipher: unknown },
  settlements: ReadonlyArray<settle.Settlement>
): Effect.Effect<void, StorageError> => {
  const exposed =
    cipher === undefined
      ? settlements
          .flatMap(({ outcome }) => (outcome._tag === "Forked" ? outcome.children : []))
          .find((child) => child.encrypted === true)
      : undefined
  return exposed === undefined
    ? Effect.void
    : Effect.fail(
        new StorageError({
          operation: "settle",
          code: "22023",
          message: `"${exposed.worker}" is to be encrypted and this node has no cipher: provide Cipher.layerAesGcm under ShigotoLive.`,
          cause: undefined
        })
      )
}
