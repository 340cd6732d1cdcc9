/** How limits over all nodes stand, for people. */
import * as Effect from "effect/Effect"
import type { Limit } from "../../Limit.ts"
import { type Accounts, makeBooks } from "../budget.ts"
import { rateRow, readAccounts, underRules, workerRow } from "./account.ts"
import type { Db } from "./db.ts"
import type { Governed } from "./limit.ts"

/**
 * What the limits of one worker, or of one queue, say and how they stand; undefined where it has no such limit.
 *
 * @category models
 */
export interface LimitStanding {
  /** Empty for a queue. */
  readonly worker: string
  /** Undefined for a worker. */
  readonly queue: string | undefined
  readonly running: number
  readonly concurrency: number | undefined
  readonly rate:
    | {
        readonly name: string
        readonly limit: number
        readonly windowMillis: number
        readonly algorithm: string
        /** Zero where it depends on the job. */
        readonly cost: number
        /** Whether each partition key has an account; then `room` and `heldUntil` are those of jobs without a key. */
        readonly perKey: boolean
        /** Whether each node keeps an account of its own; then what is told is that of the fullest. */
        readonly local: boolean
        /** Whether an operator set the rate, in place of what the code says. */
        readonly changed: boolean
        /** Units that may be spent now; below zero after more was charged than there was. */
        readonly room: number
        /** Nothing is admitted before. */
        readonly heldUntil: Date | undefined
        /** The partition keys with something spent, held or set, the fullest first; at most 100. */
        readonly keys: ReadonlyArray<{
          readonly partitionKey: string
          readonly limit: number
          readonly windowMillis: number
          readonly room: number
          readonly heldUntil: Date | undefined
        }>
      }
    | undefined
}

/** The limits that live nodes tell of, by worker and queue; of nodes that tell different things, the latest. */
export const standings = Effect.fnUntraced(function* (db: Db) {
  const { sql } = db
  const now = yield* db.now
  const rows = yield* sql<{
    readonly id: number
    readonly limits: ReadonlyArray<Governed>
    readonly now: Date
  }>`
    SELECT id, limits, ${now} AS now
    FROM ${db.nodes}
    WHERE expires_at > ${now}
    ORDER BY beat_at`
  const governed = new Map(
    rows.flatMap((row) => row.limits.map((one) => [JSON.stringify([one.worker, one.queue]), one] as const))
  )
  if (governed.size === 0) return []
  const limits = [...governed.values()].flatMap(({ rate }) => rate ?? [])
  const rates = limits.flatMap((limit) => [rateRow(limit), ...rows.map(({ id }) => rateRow(limit, id))])
  const workers = [...governed.values()].map(({ worker }) => workerRow(worker))
  const read = yield* readAccounts(db, [...new Set([...rates, ...workers])], [...new Set(rates)])
  const locals = limits.filter(({ local }) => local)
  const accounts = rows.reduce((merged, { id }) => underRules(merged, read, locals, id), read)
  const running = yield* sql<{ readonly worker: string; readonly running: number }>`
    SELECT worker, count(*)::integer AS running
    FROM ${db.jobs}
    WHERE state = 'executing'
    GROUP BY worker`
  const at = rows[0]?.now.getTime() ?? 0
  return [...governed.values()]
    .toSorted((a, b) => (a.worker < b.worker ? -1 : 1))
    .flatMap(({ concurrency, queue, rate, worker }): ReadonlyArray<LimitStanding> => {
      if (concurrency == null && rate == null) return []
      return [
        {
          worker,
          queue,
          running: running.find((row) => row.worker === worker)?.running ?? 0,
          concurrency: makeBooks(accounts, at).places(workerRow(worker)) ?? concurrency ?? undefined,
          rate: rate == null ? undefined : fullest(rows.map(({ id }) => rateStanding(accounts, rate, at, id)))
        }
      ]
    })
})

// internal

/** The most partition keys told of one limit. */
const keyLimit = 100

const fullest = (standings: ReadonlyArray<NonNullable<LimitStanding["rate"]>>): LimitStanding["rate"] =>
  standings.toSorted((a, b) => a.room - b.room)[0]

const rateStanding = (
  accounts: Accounts,
  limit: Limit<never>,
  at: number,
  node: number
): NonNullable<LimitStanding["rate"]> => {
  const books = makeBooks(accounts, at)
  const share = { row: rateRow(limit, node), limit }
  const standing = (key: string) => {
    const heldUntil = books.heldUntil(share, key)
    return {
      ...books.ruleOf(share, key),
      room: books.room(share, key),
      heldUntil: heldUntil > at ? new Date(heldUntil) : undefined
    }
  }
  const keys = books
    .keys(share)
    .filter((key) => key !== "")
    .map((key) => ({ ...standing(key), partitionKey: key }))
  return {
    name: limit.name,
    ...standing(""),
    cost: limit.cost,
    perKey: limit.perKey,
    local: limit.local,
    changed: books.isChanged(share),
    keys: keys
      .toSorted((a, b) => a.room - b.room)
      .slice(0, keyLimit)
      .map(({ heldUntil, limit, partitionKey, room, windowMillis }) => ({
        partitionKey,
        limit,
        windowMillis,
        room,
        heldUntil
      }))
  }
}
