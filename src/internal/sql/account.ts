/**
 * The rows of limits: what was spent under each, until when it is held, and what an operator set in place of its rule.
 *
 * A limit has one row with the empty key, and one more for each partition key that has an account of its own. Whoever
 * holds the lock of the first may change the others: nobody needs to know beforehand which keys will come up.
 */
import * as Effect from "effect/Effect"
import type { Limit } from "../../Limit.ts"
import { type Account, convert, idleAt, type Rule } from "../rate.ts"
import type { Accounts, Stored } from "../budget.ts"
import { array, type Db, oid } from "./db.ts"

/** The row of a rate: that of all nodes, or the own one of a node; no name holds the separator. */
export const rateRow = ({ local, name }: Limit<never>, node?: number): string =>
  local && node !== undefined ? `rate:${name}\u001f${node}` : `rate:${name}`

/** The rows of a rate: that of all nodes, where rules are set, and those of nodes that keep one for themselves. */
export const rateRows = Effect.fnUntraced(function* (db: Db, limit: Limit<never>) {
  const whole = rateRow(limit)
  if (!limit.local) return [whole]
  const rows = yield* db.sql<{ readonly name: string }>`
    SELECT name
    FROM ${table(db)}
    WHERE starts_with(name, ${`${whole}\u001f`})
      AND key = ''
    ORDER BY name`
  return [whole, ...rows.map(({ name }) => name)]
})

/** The row of a worker's concurrency. */
export const workerRow = (worker: string): string => `worker:${worker}`

/** Locks the rows of limits, made where they are missing, in the order of their names, and reads those of their keys. */
export const lockAccounts = Effect.fnUntraced(function* (
  db: Db,
  names: ReadonlyArray<string>,
  keyed: ReadonlyArray<string>
) {
  const { sql } = db
  if (names.length === 0) return new Map() as Accounts // empty
  const locked = sql<LimitColumns>`${selectWhole(db, names)} FOR UPDATE`
  let rows = yield* locked
  // A row may be pruned between its insert and its lock; then it is made again.
  while (rows.length < names.length) {
    const now = yield* db.now
    yield* sql`
      INSERT INTO ${table(db)} (name, updated_at, idle_at)
      SELECT name, ${now}, ${now}
      FROM unnest(${array(names, oid.text)}::text[]) AS wanted (name)
      ORDER BY name
      ON CONFLICT (name, key) DO NOTHING`
    rows = yield* locked
  }
  return accountsOf([...rows, ...(yield* readKeys(db, keyed))])
})

/** Reads the rows of limits, and those of the keys of some, without a lock. */
export const readAccounts = Effect.fnUntraced(function* (
  db: Db,
  names: ReadonlyArray<string>,
  keyed: ReadonlyArray<string>
) {
  if (names.length === 0) return new Map() as Accounts // empty
  return accountsOf([...(yield* selectWhole(db, names)), ...(yield* readKeys(db, keyed))])
})

/** Writes accounts; the caller holds the locks of their limits. */
export const keepAccounts = Effect.fnUntraced(function* (
  db: Db,
  accounts: ReadonlyArray<{
    readonly name: string
    readonly key: string
    readonly rule: Rule
    readonly spent: Account
  }>,
  now: number
) {
  if (accounts.length === 0) return
  const column = (read: (account: (typeof accounts)[number]) => unknown, type: number) =>
    array(accounts.map(read), type)
  yield* db.sql`
    INSERT INTO ${table(db)} AS l (name, key, account, updated_at, idle_at)
    SELECT name, key, account::jsonb, ${new Date(now)}::timestamptz(3), idle_at
    FROM unnest(
      ${column(({ name }) => name, oid.text)}::text[],
      ${column(({ key }) => key, oid.text)}::text[],
      ${column(({ spent }) => JSON.stringify(spent), oid.text)}::text[],
      ${column(({ rule, spent }) => new Date(idleAt(rule, spent, now)), oid.timestamptz)}::timestamptz[]
    ) AS kept (name, key, account, idle_at)
    ORDER BY name, key
    ON CONFLICT (name, key) DO UPDATE
    SET account = excluded.account,
      updated_at = excluded.updated_at,
      idle_at = excluded.idle_at`
})

/** Admits nothing more under a limit, or one of its keys, for some time, or for longer than was asked before. */
export const holdAccount = Effect.fnUntraced(function* (db: Db, name: string, key: string, millis: number) {
  const now = yield* db.now
  yield* db.sql`
    INSERT INTO ${table(db)} AS l (name, key, held_until, updated_at, idle_at)
    VALUES (${name}, ${key}, ${now} + ${millis}::float8 * interval '1 millisecond', ${now}, ${now})
    ON CONFLICT (name, key) DO UPDATE
    SET held_until = greatest(l.held_until, excluded.held_until),
      updated_at = excluded.updated_at`
})

/** Sets the rule of a limit, or of one of its keys, in place of the code's; undefined takes that back. */
export const setRule = Effect.fnUntraced(function* (
  db: Db,
  limit: Limit<never>,
  key: string,
  rule: Rule | undefined,
  accounts: Accounts
) {
  const name = rateRow(limit)
  const now = (yield* db.instant).getTime()
  const rows = accounts.get(name) ?? new Map<string, Stored>()
  const ruleNow = (of: string) => rows.get(of)?.rule ?? rows.get("")?.rule ?? limit.rule
  const ruleThen = (of: string) => (of === key ? rule : rows.get(of)?.rule) ?? (key === "" ? rule : rows.get("")?.rule)
  // An account is in the terms of its rule, so it changes with it; with the limit's, those of all keys that have none.
  const kept = [...accounts].flatMap(([row, keys]) =>
    [...keys].map(([of, stored]) => {
      const then = ruleThen(of) ?? limit.rule
      return { name: row, key: of, rule: then, spent: convert(ruleNow(of), then, stored.spent, now) }
    })
  )
  yield* keepAccounts(db, rows.has(key) ? kept : [...kept, { name, key, rule: limit.rule, spent: [] }], now)
  yield* db.sql`
    UPDATE ${table(db)}
    SET rule = ${rule === undefined ? null : JSON.stringify(rule)}::text::jsonb
    WHERE name = ${name}
      AND key = ${key}`
})

/** Sets the concurrency of a worker in place of the code's; undefined takes that back. */
export const setPlaces = Effect.fnUntraced(function* (db: Db, worker: string, places: number | undefined) {
  const now = yield* db.now
  yield* db.statement(db.sql`
    INSERT INTO ${table(db)} (name, places, updated_at, idle_at)
    VALUES (${workerRow(worker)}, ${places ?? null}::integer, ${now}, ${now})
    ON CONFLICT (name, key) DO UPDATE
    SET places = excluded.places,
      updated_at = excluded.updated_at`)
})

/** Accounts of nodes that keep rates for themselves, under the rules that are set for all. */
export const underRules = (
  accounts: Accounts,
  rules: Accounts,
  locals: ReadonlyArray<Limit<never>>,
  node: number
): Accounts => {
  const merged = new Map(accounts)
  for (const limit of locals) {
    const own = new Map(merged.get(rateRow(limit, node)))
    for (const [key, { heldUntil, rule }] of rules.get(rateRow(limit)) ?? []) {
      const stored = own.get(key) ?? { spent: [], heldUntil: undefined, rule: undefined, places: undefined }
      own.set(key, { ...stored, rule, heldUntil: Math.max(stored.heldUntil ?? 0, heldUntil ?? 0) || undefined })
    }
    merged.set(rateRow(limit, node), own)
  }
  return merged
}

/** Removes accounts that say no more than none would. */
export const pruneAccounts = Effect.fnUntraced(function* (db: Db) {
  const now = yield* db.now
  yield* db.statement(db.sql`
    DELETE FROM ${table(db)}
    WHERE (name, key) IN (
      SELECT name, key
      FROM ${table(db)}
      WHERE idle_at < ${now} - interval '1 minute'
        AND (held_until IS NULL OR held_until < ${now})
        AND rule IS NULL
        AND places IS NULL
      FOR UPDATE SKIP LOCKED
    )`)
})

// internal

interface LimitColumns {
  readonly name: string
  readonly key: string
  readonly account: Account
  readonly held_until: Date | null
  readonly rule: Rule | null
  readonly places: number | null
  readonly updated_at: Date
}

const table = (db: Db) => db.sql(`${db.schema}.limits`)

const selectWhole = (db: Db, names: ReadonlyArray<string>) => db.sql<LimitColumns>`
  SELECT name, key, account, held_until, rule, places, updated_at
  FROM ${table(db)}
  WHERE name = ANY(${array(names, oid.text)}::text[])
    AND key = ''
  ORDER BY name`

/** The rows of keys that say more than none would. */
const readKeys = Effect.fnUntraced(function* (db: Db, names: ReadonlyArray<string>) {
  if (names.length === 0) return []
  const now = yield* db.now
  return yield* db.sql<LimitColumns>`
    SELECT name, key, account, held_until, rule, places, updated_at
    FROM ${table(db)}
    WHERE name = ANY(${array(names, oid.text)}::text[])
      AND key <> ''
      AND (idle_at > ${now} OR held_until > ${now} OR rule IS NOT NULL)`
})

const accountsOf = (rows: ReadonlyArray<LimitColumns>): Accounts => {
  const accounts = new Map<string, Map<string, Stored>>()
  for (const row of rows) {
    const stored: Stored = {
      spent: row.account,
      heldUntil: row.held_until?.getTime(),
      rule: row.rule ?? undefined,
      places: row.places ?? undefined,
      writtenAt: row.updated_at.getTime()
    }
    const ofName = accounts.get(row.name)
    if (ofName === undefined) accounts.set(row.name, new Map([[row.key, stored]]))
    else ofName.set(row.key, stored)
  }
  return accounts
}
