/** Limits over all nodes: claims what they admit, and keeps their accounts. */
import * as Effect from "effect/Effect"
import type { Rule as CircuitRule } from "../../CircuitBreaker.ts"
import type { Limit } from "../../Limit.ts"
import type { Partitions } from "../../ShigotoConfig.ts"
import { type Account, freesAt, idleAt, room, slack, spend } from "../rate.ts"
import { claim, type Claimed, type ClaimRequest } from "./claim.ts"
import { type Guarded, lookAtPassages, type Passage, passages } from "./circuit.ts"
import { array, type Db, oid } from "./db.ts"
import { claimFair, type FairClaim } from "./partition.ts"
import { autonomous } from "./statement.ts"

/** What limits one worker over all nodes. */
export interface Governed {
  readonly worker: string
  readonly concurrency: number | undefined
  readonly rate: Limit | undefined
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
 * Claims what the limits of the workers admit, in the order of a plain claim or of a fair queue.
 *
 * The rows of the limits are locked first, in the order of their names; what runs and what was spent is read by later
 * statements, so each claim sees what the one before it did. Running jobs are counted, never booked: a dead holder's
 * place is free as soon as its jobs are rescued.
 */
export const claimLimited = (
  db: Db,
  request: ClaimRequest,
  governed: ReadonlyArray<Governed>,
  partitions: Partitions | undefined
) =>
  autonomous(
    db.sql,
    Effect.gen(function* () {
      const fair = partitions === undefined ? [] : [`queue:${request.queue}`]
      const accounts = yield* lock(db, [...new Set([...fair, ...governed.flatMap(rowsOf)])].toSorted())
      const running = yield* count(
        db,
        governed.flatMap(({ concurrency, worker }) => (concurrency === undefined ? [] : [worker]))
      )
      const now = (yield* db.instant).getTime()
      const circuits = yield* circuitsOf(governed, (guarded) => passages(db, guarded))
      const byWorker = new Map(governed.map((one) => [one.worker, one]))
      const places = (worker: string) =>
        Math.min(
          (byWorker.get(worker)?.concurrency ?? Infinity) - (running.get(worker) ?? 0),
          circuits.get(worker)?.room ?? Infinity
        )
      const units = (rate: Limit) => unitsOf(rate, accounts.get(rateRow(rate)), now)
      const workers = request.workers.flatMap(({ name, room: here }) => {
        const rate = byWorker.get(name)?.rate
        const left = Math.min(here, places(name))
        if (rate === undefined) return left > 0 ? [{ name, room: left }] : []
        const share = { name: rateRow(rate), units: units(rate) + slack, cost: rate.cost }
        return left > 0 && share.units >= share.cost ? [{ name, room: left, share }] : []
      })
      const admitted: ClaimRequest = { ...request, workers, from: undefined }
      const { jobs, saturated }: FairClaim =
        workers.length === 0
          ? { jobs: [], saturated: false }
          : partitions === undefined
            ? { jobs: yield* claim(db, admitted), saturated: false }
            : yield* claimFair(db, admitted, partitions)
      // Spent no earlier than the claim's own instant, so that a slow statement admits no more to a window.
      const spentAt = jobs.length === 0 ? now : (yield* db.instant).getTime()
      const started = new Map<string, number>()
      for (const { worker } of jobs) started.set(worker, (started.get(worker) ?? 0) + 1)
      for (const { rate, worker } of governed) {
        const amount = (rate?.cost ?? 0) * (started.get(worker) ?? 0)
        if (rate === undefined || amount === 0) continue
        const account = accounts.get(rateRow(rate))
        accounts.set(rateRow(rate), {
          spent: spend(rate.rule, account?.spent ?? [], spentAt, amount),
          heldUntil: account?.heldUntil
        })
      }
      if (jobs.length > 0) yield* keep(db, governed, accounts, spentAt)
      for (const [worker, more] of started) running.set(worker, (running.get(worker) ?? 0) + more)
      const held = heldBack(governed, running, accounts, now)
      return {
        jobs: circuits.size === 0 ? jobs : jobs.map((job) => passed(job, circuits.get(job.worker))),
        held: withCircuits(held, circuits, started),
        saturated,
        halfOpened: [...circuits.values()].filter((passage) => passage.halfOpened).map(({ worker }) => worker)
      } satisfies LimitedClaim
    })
  )

/** Says which workers their limits hold back, without a lock: as a claim of this instant would find it. */
export const look = Effect.fnUntraced(function* (db: Db, governed: ReadonlyArray<Governed>) {
  const rows = yield* read(db, governed.flatMap(rowsOf))
  const running = yield* count(
    db,
    governed.flatMap(({ concurrency, worker }) => (concurrency === undefined ? [] : [worker]))
  )
  const held = heldBack(governed, running, byName(rows), (yield* db.instant).getTime())
  return withCircuits(held, yield* circuitsOf(governed, (guarded) => lookAtPassages(db, guarded)), new Map())
})

/**
 * Charges a limit for more than its jobs' costs, or less; what is charged above the rate holds back later jobs.
 *
 * A limit that nobody has used yet is charged all the same.
 */
export const charge = (db: Db, limit: Limit, amount: number) =>
  autonomous(
    db.sql,
    Effect.gen(function* () {
      const name = rateRow(limit)
      const accounts = yield* lock(db, [name])
      const now = (yield* db.instant).getTime()
      const account = accounts.get(name)
      accounts.set(name, {
        spent: spend(limit.rule, account?.spent ?? [], now, amount),
        heldUntil: account?.heldUntil
      })
      yield* keep(db, [{ worker: "", concurrency: undefined, rate: limit }], accounts, now)
    })
  )

/** Admits nothing more under a limit for some time, or for longer than was asked before. */
export const backOff = (db: Db, limit: Limit, millis: number) =>
  autonomous(
    db.sql,
    Effect.gen(function* () {
      const name = rateRow(limit)
      yield* lock(db, [name])
      const now = yield* db.now
      yield* db.sql`
        UPDATE ${table(db)}
        SET held_until = greatest(held_until, ${now} + ${millis}::float8 * interval '1 millisecond'),
          updated_at = ${now}
        WHERE name = ${name}`
    })
  )

/** Removes accounts that say no more than none would. */
export const pruneLimits = Effect.fnUntraced(function* (db: Db) {
  const now = yield* db.now
  yield* db.statement(db.sql`
    DELETE FROM ${table(db)}
    WHERE name = ANY(ARRAY(
      SELECT name
      FROM ${table(db)}
      WHERE idle_at < ${now} - interval '1 minute'
        AND (held_until IS NULL OR held_until < ${now})
      FOR UPDATE SKIP LOCKED
    ))`)
})

// internal

interface Stored {
  readonly spent: Account
  readonly heldUntil: number | undefined
}

const table = (db: Db) => db.sql(`${db.schema}.limits`)

const rateRow = (limit: Limit): string => `rate:${limit.name}`

const rowsOf = ({ concurrency, rate, worker }: Governed): ReadonlyArray<string> => [
  ...(concurrency === undefined ? [] : [`worker:${worker}`]),
  ...(rate === undefined ? [] : [rateRow(rate)])
]

const unitsOf = (rate: Limit, account: Stored | undefined, now: number): number =>
  account === undefined ? rate.rule.burst : (account.heldUntil ?? now) > now ? 0 : room(rate.rule, account.spent, now)

/** Which workers have too few units for one job, or no place left. */
const heldBack = (
  governed: ReadonlyArray<Governed>,
  running: ReadonlyMap<string, number>,
  accounts: ReadonlyMap<string, Stored>,
  now: number
): ReadonlyArray<Held> =>
  governed.flatMap(({ concurrency = Infinity, rate, worker }): ReadonlyArray<Held> => {
    const account = rate === undefined ? undefined : accounts.get(rateRow(rate))
    if (rate !== undefined && unitsOf(rate, account, now) + slack < rate.cost) {
      const at = Math.max(account?.heldUntil ?? now, freesAt(rate.rule, account?.spent ?? [], now, rate.cost))
      return [{ worker, why: "rate", limit: rate.name, freesInMillis: Math.max(1, Math.ceil(at - now)) }]
    }
    return concurrency <= (running.get(worker) ?? 0)
      ? [{ worker, why: "concurrency", limit: worker, freesInMillis: undefined }]
      : []
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

const passed = (job: Claimed, passage: Passage | undefined): Claimed =>
  passage === undefined ? job : { ...job, passage: { generation: passage.generation, probe: passage.room < Infinity } }

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

interface LimitColumns {
  readonly name: string
  readonly account: Account
  readonly held_until: Date | null
}

const read = (db: Db, names: ReadonlyArray<string>) => db.sql<LimitColumns>`
  SELECT name, account, held_until
  FROM ${table(db)}
  WHERE name = ANY(${array(names, oid.text)}::text[])
  ORDER BY name`

const byName = (rows: ReadonlyArray<LimitColumns>): Map<string, Stored> =>
  new Map(rows.map((row) => [row.name, { spent: row.account, heldUntil: row.held_until?.getTime() ?? undefined }]))

/** Locks the rows of limits, made where they are missing, and reads them. */
const lock = Effect.fnUntraced(function* (db: Db, names: ReadonlyArray<string>) {
  const { sql } = db
  const wanted = array(names, oid.text)
  const locked = sql<LimitColumns>`${read(db, names)} FOR UPDATE`
  let rows = yield* locked
  // A row may be pruned between its insert and its lock; then it is made again.
  while (rows.length < names.length) {
    const now = yield* db.now
    yield* sql`
      INSERT INTO ${table(db)} (name, updated_at, idle_at)
      SELECT name, ${now}, ${now}
      FROM unnest(${wanted}::text[]) AS wanted (name)
      ORDER BY name
      ON CONFLICT (name) DO NOTHING`
    rows = yield* locked
  }
  return byName(rows)
})

/** Counts the executing jobs of workers. */
const count = Effect.fnUntraced(function* (db: Db, workers: ReadonlyArray<string>) {
  if (workers.length === 0) return new Map<string, number>()
  const rows = yield* db.sql<{ readonly worker: string; readonly running: number }>`
    SELECT worker, count(*)::integer AS running
    FROM ${db.jobs}
    WHERE state = 'executing'
      AND worker = ANY(${array(workers, oid.text)}::text[])
    GROUP BY worker`
  return new Map(rows.map((row) => [row.worker, row.running]))
})

/** Writes accounts back; the caller holds their locks. */
const keep = Effect.fnUntraced(function* (
  db: Db,
  governed: ReadonlyArray<Governed>,
  accounts: ReadonlyMap<string, Stored>,
  now: number
) {
  const rates = new Map(governed.flatMap(({ rate }) => (rate === undefined ? [] : [[rateRow(rate), rate] as const])))
  if (rates.size === 0) return
  const spentOf = (name: string) => accounts.get(name)?.spent ?? []
  yield* db.sql`
    UPDATE ${table(db)} AS l
    SET account = kept.account::jsonb,
      updated_at = ${new Date(now)}::timestamptz(3),
      idle_at = kept.idle_at
    FROM unnest(
      ${array([...rates.keys()], oid.text)}::text[],
      ${array(
        [...rates.keys()].map((name) => JSON.stringify(spentOf(name))),
        oid.text
      )}::text[],
      ${array(
        [...rates].map(([name, { rule }]) => new Date(idleAt(rule, spentOf(name), now))),
        oid.timestamptz
      )}::timestamptz[]
    ) AS kept (name, account, idle_at)
    WHERE l.name = kept.name`
})
