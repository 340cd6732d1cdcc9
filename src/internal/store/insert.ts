/** The store's verb for new jobs: single ones share statements, many go in chunks, all of a call or none. */
import type { PgClient } from "@effect/sql-pg/PgClient"
import * as Arr from "effect/Array"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { ShigotoConfig } from "../../ShigotoConfig.ts"
import { makeCoalescer } from "../coalesce.ts"
import type { NewJob } from "../newJob.ts"
import { makePiggyback } from "../piggyback.ts"
import type { Db } from "../sql/db.ts"
import * as enqueue from "../sql/enqueue.ts"
import { retryRaces } from "../sql/statement.ts"
import * as reservation from "../sql/unique.ts"
import type { Runner } from "./runner.ts"

/** Builds the verb; `origin` is what the hints of this process are known by. */
export const insertVerb = Effect.fnUntraced(function* (
  db: Db,
  { called, told }: Runner,
  {
    client,
    config,
    origin
  }: { readonly client: PgClient; readonly config: ShigotoConfig["Service"]; readonly origin: string }
) {
  const clock = yield* Clock.Clock
  const piggyback = makePiggyback(origin, () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6)
  const insertPlain = (jobs: ReadonlyArray<NewJob>, payloads: ReadonlyArray<string>) =>
    Effect.map(enqueue.insert(db, jobs, { payloads }), (rows) =>
      rows.map((inserted): reservation.Stored => ({ _tag: "Inserted", inserted, notified: payloads.length > 0 }))
    )
  const insertChunk = (jobs: ReadonlyArray<NewJob>) =>
    jobs.some((job) => job.unique !== undefined) ? reservation.insertUnique(db, jobs) : insertPlain(jobs, [])
  /** Inserts plain jobs outside of any transaction, with their hints where they can be carried. */
  const insertNotifying = (jobs: ReadonlyArray<NewJob>) => {
    const attempt = (payloads: ReadonlyArray<string>) => told("enqueue")(insertPlain(jobs, payloads))
    const payloads = piggyback.payloadsFor(jobs)
    if (payloads.length === 0) return attempt(payloads)
    return Effect.ensuring(attempt(payloads), Effect.sync(piggyback.arrived)).pipe(
      // Hints are never worth a job: it is stored although the server's queue of notifications is full.
      Effect.catchIf(
        (failure) => "code" in failure && failure.code === "54000",
        () => attempt([])
      )
    )
  }
  const insertAll = (jobs: ReadonlyArray<NewJob>) =>
    Effect.map(Effect.forEach(Arr.chunksOf(jobs, enqueue.chunkSize), insertChunk), (stored) => stored.flat())
  const insertAtOnce = (jobs: ReadonlyArray<NewJob>) =>
    called("enqueue")(jobs.length > enqueue.chunkSize ? db.transaction(insertAll(jobs)) : insertChunk(jobs))
  const insertTogether = makeCoalescer(yield* Effect.context<never>(), {
    lanes: 2,
    patience: "20 millis",
    most: 500,
    mostBytes: 4 * 1024 * 1024,
    bytes: (job: NewJob) => job.args.length,
    send: (jobs) => retryRaces(Effect.suspend(() => insertNotifying(jobs))).pipe(Effect.withTracerEnabled(false)),
    // Data exceptions, broken constraints, statements too large.
    isolates: (failure) => "code" in failure && /^(22|23|54)/.test(failure.code)
  })
  return (jobs: ReadonlyArray<NewJob>): ReturnType<typeof insertAtOnce> => {
    const [only, ...others] = jobs
    if (only === undefined) return Effect.succeed([])
    // Virtual time is the caller's and so is a transaction; unique jobs may have to wait for another transaction.
    if (others.length > 0 || only.unique !== undefined || config.timeSource === "clock") return insertAtOnce(jobs)
    return Effect.flatMap(Effect.serviceOption(client.transactionService), (transaction) =>
      transaction._tag === "Some" ? insertAtOnce(jobs) : Effect.map(insertTogether(only), (stored) => [stored])
    )
  }
})
