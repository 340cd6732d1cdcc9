/** Limits over all nodes: claims what they admit, and keeps their accounts. */
import * as Effect from "effect/Effect"
import type { Rule as CircuitRule } from "../../CircuitBreaker.ts"
import type { JobRow } from "../../JobRow.ts"
import type { Limit } from "../../Limit.ts"
import type { Partitions } from "../../ShigotoConfig.ts"
import { type Accounts, type Books, type Entry, makeBooks, makeBudget, type Share, type Stored } from "../budget.ts"
import { type Rule, slack } from "../rate.ts"
import {
  holdAccount,
  keepAccounts,
  lockAccounts,
  rateRow,
  rateRows,
  readAccounts,
  setRule,
  underRules,
  workerRow
} from "./account.ts"
import { type ClaimRequest, claimSealed, type Waiting } from "./claim.ts"
import { type Claimed, openAll } from "./claimed.ts"
import { type Guarded, lookAtPassages, type Passage, passages } from "./circuit.ts"
import { array, type Db, oid } from "./db.ts"
import { claimFair, type FairClaim, type Taken } from "./partition.ts"

/** What limits one worker over all nodes, or one queue. */
export interface Governed {
  /** Empty for a queue. */
  readonly worker: string
  readonly queue?: string
  readonly concurrency: number | undefined
  readonly rate: Limit<never> | undefined
  /** What a job takes of the rate, by its args; undefined where all take the same. */
  readonly costOf?: ((args: unknown) => Effect.Effect<number>) | undefined
  /** Of a circuit that all nodes share. */
  readonly circuit?: CircuitRule | undefined
}

/** A worker that a limit kept from being claimed, or from being claimed further. */
export interface Held {
  readonly worker: string
  readonly why: "rate" | "concurrency" | "circuit"
  /** The name of the rate; for anything else, that of the worker. */
  readonly limit: string
  /** In how many milliseconds there is room again; undefined where that depends on running jobs. */
  readonly freesInMillis: number | undefined
  /** What of the worker is held, where that is not all of it: its jobs in this queue, or those of a partition key. */
  readonly only?: "queue" | { readonly key: string }
  /** How many of its jobs run on all nodes, and may, where that holds it. */
  readonly places?: { readonly running: number; readonly limit: number }
}

/** A claim under limits, and what they held back. */
export interface LimitedClaim {
  readonly jobs: ReadonlyArray<Claimed>
  readonly held: ReadonlyArray<Held>
  /** Whether a partition with work had no place left. */
  readonly saturated: boolean
  /** Workers whose circuit this claim found open for long enough. */
  readonly halfOpened: ReadonlyArray<string>
}

/**
 * Claims what the limits of the workers and of the queue admit, in the order of a plain claim or of a fair queue.
 *
 * The rows of the limits are locked first, in the order of their names; what runs and what was spent is read by later
 * statements, so each claim sees what the one before it did. Running jobs are counted, never booked: a dead holder's
 * place is free as soon as its jobs are rescued. A process that freezes in between does not keep the others waiting: the
 * server ends its transaction.
 */
export const claimLimited = (
  db: Db,
  request: ClaimRequest,
  governed: ReadonlyArray<Governed>,
  partitions: Partitions | undefined,
  queueRate: Limit<never> | undefined
) =>
  db
    .transaction(
      Effect.gen(function* () {
        yield* db.sql`SELECT set_config('idle_in_transaction_session_timeout', ${String(idleMillis)}::text, true)`
        const fair = partitions === undefined ? [] : [`queue:${request.queue}`]
        const rates = ratesOf(governed, queueRate)
        const { node } = request
        const locked = yield* lockAccounts(
          db,
          [
            ...new Set([...fair, ...governed.flatMap(placesRow), ...rates.map((rate) => rateRow(rate, node))])
          ].toSorted(),
          keyedRows(rates, node)
        )
        const accounts = yield* withRules(db, locked, rates, node)
        const running = yield* count(db, governed)
        // Places alone need no instant.
        const now = rates.length === 0 ? 0 : (yield* db.instant).getTime()
        const circuits = yield* circuitsOf(governed, (guarded) => passages(db, guarded))
        const books = makeBooks(accounts, now)
        const byWorker = new Map(governed.map((one) => [one.worker, one]))
        const sharesOf = (worker: string) => shares(byWorker.get(worker)?.rate, queueRate, node)
        const rooms = new Map(
          request.workers.map(({ name, room }) => {
            const free = placesOf(books, byWorker.get(name)) - (running.get(name) ?? 0)
            return [name, Math.min(room, free, circuits.get(name)?.room ?? Infinity)]
          })
        )
        const budget = makeBudget(books, rooms, sharesOf)
        const reading = governed.flatMap(({ costOf, worker }) => (costOf === undefined ? [] : [worker]))
        const choose = (waiting: ReadonlyArray<Waiting>) =>
          Effect.map(
            Effect.forEach(waiting, ({ args, id, key, worker }) => {
              const costOf = byWorker.get(worker)?.costOf
              return Effect.map(costOf === undefined ? Effect.undefined : costOf(args), (cost) => ({
                id,
                worker,
                key,
                cost
              }))
            }),
            (candidates) => budget.choose(candidates).map(({ id }) => id)
          )
        const take = Effect.fnUntraced(function* (asked: ClaimRequest) {
          const workers = budget.workers()
          if (workers.length === 0) return { jobs: [], refused: false } satisfies Taken
          if (rates.length === 0) {
            const jobs = yield* claimSealed(db, { ...asked, workers })
            for (const { worker } of jobs) budget.took(worker)
            return { jobs, refused: false } satisfies Taken
          }
          const before = budget.refused().length
          const jobs = yield* claimSealed(db, { ...asked, workers, except: budget.except(), reading, choose })
          return { jobs, refused: budget.refused().length > before } satisfies Taken
        })
        const admitted: ClaimRequest = { ...request, from: undefined }
        const { jobs, saturated }: FairClaim =
          partitions === undefined
            ? { jobs: yield* takeAll(admitted, take), saturated: false }
            : yield* claimFair(db, admitted, partitions, take)
        const started = new Map<string, number>()
        for (const { worker } of jobs) started.set(worker, (started.get(worker) ?? 0) + 1)
        // Spent no earlier than the claim's own instant, so that a slow statement admits no more to a window.
        const spent = budget.spent()
        const spentAt = spent.length === 0 ? now : (yield* db.instant).getTime()
        const kept = spent.map(({ amount, key, share }) => ({
          name: share.row,
          key,
          rule: books.ruleOf(share, key),
          spent: books.after(share, key, spentAt, amount)
        }))
        yield* keepAccounts(db, kept, spentAt)
        for (const [worker, more] of started) running.set(worker, (running.get(worker) ?? 0) + more)
        const held = heldBack(
          makeBooks(withSpent(accounts, kept), now),
          request.workers.map(
            ({ name }) => byWorker.get(name) ?? { worker: name, concurrency: undefined, rate: undefined }
          ),
          queueRate,
          node,
          running,
          budget.refused()
        )
        pass(jobs, circuits)
        return {
          jobs,
          held: withCircuits(held, circuits, started),
          saturated,
          halfOpened: [...circuits.values()].filter((passage) => passage.halfOpened).map(({ worker }) => worker)
        } satisfies LimitedClaim
      })
    )
    .pipe(
      // The locks of the limits are gone: others do not wait for a cipher.
      Effect.flatMap((found) =>
        Effect.map(openAll(db, found.jobs, request), (jobs): LimitedClaim => ({ ...found, jobs }))
      )
    )

/** Says what limits hold a job back, without a lock: as a claim of this instant would find it. */
export const look = Effect.fnUntraced(function* (
  db: Db,
  governed: ReadonlyArray<Governed>,
  job: Pick<JobRow, "worker" | "queue" | "partitionKey">,
  node: number
) {
  const own = governed.filter(({ worker }) => worker === job.worker)
  const queueRate = governed.find(({ queue }) => queue === job.queue)?.rate ?? undefined
  const rates = ratesOf(own, queueRate)
  const rows = [...own.flatMap(placesRow), ...rates.map((rate) => rateRow(rate, node))]
  const accounts = yield* withRules(db, yield* readAccounts(db, rows, keyedRows(rates, node)), rates, node)
  const running = yield* count(db, own)
  const books = makeBooks(accounts, (yield* db.instant).getTime())
  const held = heldBack(
    books,
    own.length === 0 ? [ungoverned(job.worker)] : own,
    queueRate,
    node,
    running,
    [],
    job.partitionKey ?? ""
  )
  return withCircuits(held, yield* circuitsOf(own, (guarded) => lookAtPassages(db, guarded)), new Map())[0]
})

/**
 * Charges a limit, or one of its keys, for more than its jobs' costs, or less; what is charged above the rate holds back
 * later jobs.
 *
 * A limit that nobody has used yet is charged all the same.
 */
export const charge = (db: Db, limit: Limit<never>, key: string, amount: number, node: number | undefined) =>
  db.transaction(
    Effect.gen(function* () {
      const share: Share = { row: rateRow(limit, node), limit }
      const locked = yield* lockAccounts(db, [share.row], keyedRows([limit], node))
      const books = makeBooks(yield* withRules(db, locked, [limit], node), (yield* db.instant).getTime())
      const spent = books.after(share, key, books.now, amount)
      yield* keepAccounts(db, [{ name: share.row, key, rule: books.ruleOf(share, key), spent }], books.now)
    })
  )

/** Admits nothing more under a limit, or one of its keys, for some time, or for longer than was asked before. */
export const backOff = (db: Db, limit: Limit<never>, key: string, millis: number, node: number | undefined) =>
  db.transaction(
    Effect.andThen(lockAccounts(db, [rateRow(limit, node)], []), holdAccount(db, rateRow(limit, node), key, millis))
  )

/** Sets the rule of a limit, or of one of its keys, in place of the code's; undefined takes that back. */
export const change = (db: Db, limit: Limit<never>, key: string, rule: Rule | undefined) =>
  db.transaction(
    rateRows(db, limit).pipe(
      Effect.flatMap((rows) => lockAccounts(db, rows, rows)),
      Effect.flatMap((accounts) => setRule(db, limit, key, rule, accounts))
    )
  )

// internal

/** How long the server waits for the next statement of a claim, in milliseconds, before it takes back the locks. */
const idleMillis = 5000

const ungoverned = (worker: string): Governed => ({ worker, concurrency: undefined, rate: undefined })

const placesRow = ({ concurrency, worker }: Governed): ReadonlyArray<string> =>
  concurrency == null ? [] : [workerRow(worker)]

/** The rates that apply, each once. */
const ratesOf = (
  governed: ReadonlyArray<Governed>,
  queueRate: Limit<never> | undefined
): ReadonlyArray<Limit<never>> => {
  const rates = [...governed.map(({ rate }) => rate), queueRate].filter((rate) => rate != null)
  return [...new Map(rates.map((rate) => [rate.name, rate])).values()]
}

const keyedRows = (rates: ReadonlyArray<Limit<never>>, node: number | undefined): ReadonlyArray<string> =>
  rates.filter(({ perKey }) => perKey).map((rate) => rateRow(rate, node))

/** Rules are set for all nodes, also of rates that each keeps for itself. */
const withRules = Effect.fnUntraced(function* (
  db: Db,
  accounts: Accounts,
  rates: ReadonlyArray<Limit<never>>,
  node: number | undefined
) {
  const locals = rates.filter(({ local }) => local)
  if (locals.length === 0 || node === undefined) return accounts
  const whole = locals.map((limit) => rateRow(limit))
  return underRules(accounts, yield* readAccounts(db, whole, whole), locals, node)
})

/** What a job takes from: its worker's rate first, then that of its queue. */
const shares = (own: Limit<never> | undefined, ofQueue: Limit<never> | undefined, node: number): ReadonlyArray<Share> =>
  [own, ofQueue].filter((limit) => limit != null).map((limit) => ({ row: rateRow(limit, node), limit }))

const placesOf = (books: Books, governed: Governed | undefined): number =>
  governed?.concurrency == null ? Infinity : (books.places(workerRow(governed.worker)) ?? governed.concurrency)

/** Claims again while a limit refused some of what was seen, without that: what stands behind it is not hidden. */
const takeAll = Effect.fnUntraced(function* <E>(
  request: ClaimRequest,
  take: (request: ClaimRequest) => Effect.Effect<Taken, E>
) {
  const jobs: Array<Claimed> = []
  let again = true
  while (again && jobs.length < request.limit) {
    const taken = yield* take({ ...request, limit: request.limit - jobs.length })
    jobs.push(...taken.jobs)
    again = taken.refused
  }
  return jobs
})

const withSpent = (
  accounts: Accounts,
  kept: ReadonlyArray<{ readonly name: string; readonly key: string; readonly spent: Stored["spent"] }>
): Accounts => {
  const after = new Map([...accounts].map(([name, keys]) => [name, new Map(keys)]))
  for (const { key, name, spent } of kept) {
    const keys = after.get(name)
    const none = { heldUntil: undefined, rule: undefined, places: undefined }
    keys?.set(key, { ...(keys.get(key) ?? none), spent, writtenAt: undefined })
  }
  return after
}

/** Which workers have too few units for their next job, or no place left; of one partition key, where it is given. */
const heldBack = (
  books: Books,
  governed: ReadonlyArray<Governed>,
  queueRate: Limit<never> | undefined,
  node: number,
  running: ReadonlyMap<string, number>,
  refused: ReadonlyArray<Entry>,
  partitionKey?: string
): ReadonlyArray<Held> =>
  governed.flatMap((one): ReadonlyArray<Held> => {
    const { rate, worker } = one
    const rates = shares(rate, queueRate, node).flatMap((share): ReadonlyArray<Held> => {
      const ofShare = refused.filter(({ share: { row } }) => row === share.row)
      const keys = !share.limit.perKey
        ? [""]
        : partitionKey !== undefined
          ? [partitionKey]
          : [...new Set([...books.keys(share), ...ofShare.map(({ key }) => key)])]
      const [first] = keys
        .flatMap((key) => {
          const cost = ofShare.find((entry) => entry.key === key)?.amount ?? books.priceOf(share, key)
          return books.units(share, key) + slack >= cost ? [] : [{ key, at: books.freesAt(share, key, cost) }]
        })
        .toSorted((a, b) => a.at - b.at)
      if (first === undefined) return []
      const freesInMillis = Math.max(1, Math.ceil(first.at - books.now))
      const only = share.limit.perKey ? { key: first.key } : share.limit === rate ? undefined : ("queue" as const)
      return [{ worker, why: "rate", limit: share.limit.name, freesInMillis, ...(only !== undefined && { only }) }]
    })
    const whole = rates.find(({ only }) => only === undefined) ?? rates[0]
    if (whole !== undefined && whole.only === undefined) return [whole]
    const places = { running: running.get(worker) ?? 0, limit: placesOf(books, one) }
    return places.limit <= places.running
      ? [{ worker, why: "concurrency", limit: worker, freesInMillis: undefined, places }]
      : whole === undefined
        ? []
        : [whole]
  })

/** The circuits of those workers that share one over all nodes; no statement where there are none. */
const circuitsOf = Effect.fnUntraced(function* <E>(
  governed: ReadonlyArray<Governed>,
  ask: (guarded: ReadonlyArray<Guarded>) => Effect.Effect<ReadonlyArray<Passage>, E>
) {
  const guarded = governed.flatMap(({ circuit, worker }) => (circuit === undefined ? [] : [{ worker, rule: circuit }]))
  const found = guarded.length === 0 ? [] : yield* ask(guarded)
  return new Map(found.map((passage) => [passage.worker, passage]))
})

const pass = (jobs: ReadonlyArray<Claimed>, circuits: ReadonlyMap<string, Passage>): void => {
  for (const job of jobs) {
    const passage = circuits.get(job.worker)
    if (passage !== undefined) job.passage = { generation: passage.generation, probe: passage.room < Infinity }
  }
}

/** Adds what circuits hold back to what limits do; a worker is held by the first that refuses it. */
const withCircuits = (
  held: ReadonlyArray<Held>,
  circuits: ReadonlyMap<string, Passage>,
  started: ReadonlyMap<string, number>
): ReadonlyArray<Held> => [
  ...held,
  ...[...circuits.values()]
    .filter(({ room, worker }) => room <= (started.get(worker) ?? 0) && !held.some((one) => one.worker === worker))
    .map(({ opensInMillis, worker }) => ({
      worker,
      why: "circuit" as const,
      limit: worker,
      freesInMillis: opensInMillis
    }))
]

/** Counts the executing jobs of the workers whose concurrency is limited. */
const count = Effect.fnUntraced(function* (db: Db, governed: ReadonlyArray<Governed>) {
  const workers = governed.flatMap(({ concurrency, worker }) => (concurrency == null ? [] : [worker]))
  if (workers.length === 0) return new Map<string, number>()
  const rows = yield* db.sql<{ readonly worker: string; readonly running: number }>`
    SELECT worker, count(*)::integer AS running
    FROM ${db.jobs}
    WHERE state = 'executing'
      AND worker = ANY(${array(workers, oid.text)}::text[])
    GROUP BY worker`
  return new Map(rows.map((row) => [row.worker, row.running]))
})
