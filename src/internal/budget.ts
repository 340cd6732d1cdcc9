/**
 * What one claim may take of the limits that apply to it: accounts and candidates in, those that may start out.
 *
 * Candidates come in the order of the queue. Once an account had too little for one of them, nothing more is taken from
 * it: a costly job is not overtaken for ever by cheap ones.
 */
import type { Limit } from "../Limit.ts"
import { type Account, freesAt, room, type Rule, slack, spend } from "./rate.ts"

/** The row of a limit, or of one of its keys. */
export interface Stored {
  readonly spent: Account
  readonly heldUntil: number | undefined
  /** What an operator set in place of the rule; undefined for nothing. */
  readonly rule: Rule | undefined
  /** The same for a concurrency. */
  readonly places: number | undefined
  /** When it was written; undefined for now. */
  readonly writtenAt?: number | undefined
}

/** Rows by the name of their limit, then by key; the empty key is that of the limit as a whole. */
export type Accounts = ReadonlyMap<string, ReadonlyMap<string, Stored>>

/** What a job takes of one limit. */
export interface Share {
  /** The name of the limit's row. */
  readonly row: string
  readonly limit: Limit<never>
}

/** A job that waits, as limits see it. */
export interface Candidate<Id> {
  readonly id: Id
  readonly worker: string
  /** Its partition key; empty for none. */
  readonly key: string
  /** What its worker's rate takes for it; undefined for what the rate says. */
  readonly cost: number | undefined
}

/**
 * Reads accounts as of one instant. One that was written in the future goes back with the clock: else a server whose
 * clock was set back by an hour would admit nothing for an hour.
 */
export const makeBooks = (accounts: Accounts, now: number) => {
  const of = (row: string, key: string): Stored | undefined => {
    const stored = accounts.get(row)?.get(key)
    const ahead = (stored?.writtenAt ?? now) - now
    return stored === undefined || ahead <= 0
      ? stored
      : {
          ...stored,
          spent: stored.spent.map(([at, amount]) => [at - ahead, amount] as const),
          heldUntil: stored.heldUntil === undefined ? undefined : stored.heldUntil - ahead
        }
  }
  const ruleOf = ({ limit, row }: Share, key: string): Rule => of(row, key)?.rule ?? of(row, "")?.rule ?? limit.rule
  const heldUntil = ({ row }: Share, key: string): number =>
    Math.max(of(row, "")?.heldUntil ?? now, of(row, key)?.heldUntil ?? now)
  const roomOf = (share: Share, key: string): number => room(ruleOf(share, key), of(share.row, key)?.spent ?? [], now)
  return {
    now,
    /** The key of the account that a job of a partition key takes from. */
    keyOf: ({ limit }: Share, partitionKey: string): string => (limit.perKey ? partitionKey : ""),
    /** The keys with an account of their own. */
    keys: ({ row }: Share): ReadonlyArray<string> => [...(accounts.get(row)?.keys() ?? [])],
    ruleOf,
    heldUntil,
    /** What may be spent of an account, were it not held. */
    room: roomOf,
    /** What an account can give; nothing while it is held. */
    units: (share: Share, key: string): number => (heldUntil(share, key) > now ? 0 : roomOf(share, key)),
    /** Whether an operator set the rule of a limit. */
    isChanged: ({ row }: Share): boolean => of(row, "")?.rule !== undefined,
    /** The least that a job takes, and what a job of this cost does: no more than can ever be there. */
    priceOf: (share: Share, key: string, cost = share.limit.cost): number =>
      Math.min(Math.max(cost, 2 * slack), ruleOf(share, key).burst),
    /** When an account has so much, held or not. */
    freesAt: (share: Share, key: string, cost: number): number =>
      Math.max(heldUntil(share, key), freesAt(ruleOf(share, key), of(share.row, key)?.spent ?? [], now, cost)),
    /** An account after something was spent from it. */
    after: (share: Share, key: string, at: number, amount: number): Account =>
      spend(ruleOf(share, key), of(share.row, key)?.spent ?? [], at, amount),
    /** What an operator set in place of a concurrency. */
    places: (row: string): number | undefined => of(row, "")?.places
  }
}

/** Accounts as of one instant. */
export type Books = ReturnType<typeof makeBooks>

/** One account, and an amount. */
export interface Entry {
  readonly share: Share
  readonly key: string
  readonly amount: number
}

/**
 * What is left for one claim; choosing takes from it.
 *
 * `rooms` says how many jobs of each worker may start, `sharesOf` which limits they take from.
 */
export const makeBudget = (
  books: Books,
  rooms: ReadonlyMap<string, number>,
  sharesOf: (worker: string) => ReadonlyArray<Share>
) => {
  const left = new Map(rooms)
  const spent = new Map<string, Entry>()
  const refused = new Map<string, Entry>()
  const idOf = ({ row }: Share, key: string): string => `${row}\u001f${key}`
  const unitsOf = (share: Share, key: string): number =>
    books.units(share, key) - (spent.get(idOf(share, key))?.amount ?? 0)
  const isOut = (share: Share, key: string): boolean =>
    refused.has(idOf(share, key)) || unitsOf(share, key) + slack < books.priceOf(share, key)
  const outOf = (share: Share): ReadonlyArray<string> => {
    const touched = [...refused.values(), ...spent.values()].filter((entry) => entry.share.row === share.row)
    return [...new Set([...books.keys(share), ...touched.map(({ key }) => key)])].filter((key) => isOut(share, key))
  }
  const took = (worker: string): void => {
    left.set(worker, (left.get(worker) ?? 0) - 1)
  }
  return {
    /** The workers that still have room, with it; their limits have units, or these are by key. */
    workers: (): ReadonlyArray<{ readonly name: string; readonly room: number }> =>
      [...left].flatMap(([name, room]) =>
        room > 0 && sharesOf(name).every((share) => share.limit.perKey || !isOut(share, "")) ? [{ name, room }] : []
      ),
    /** The workers' partition keys that have no units. */
    except: (): ReadonlyArray<{ readonly worker: string; readonly key: string }> =>
      [...left.keys()].flatMap((worker) =>
        sharesOf(worker)
          .filter(({ limit }) => limit.perKey)
          .flatMap((share) => outOf(share).map((key) => ({ worker, key })))
      ),
    /** Counts a job that started without having been chosen here. */
    took,
    /** Those of the candidates that may start, in their order. */
    choose: <Id>(candidates: ReadonlyArray<Candidate<Id>>): ReadonlyArray<Candidate<Id>> =>
      candidates.filter(({ cost, key: partitionKey, worker }) => {
        if ((left.get(worker) ?? 0) <= 0) return false
        const entries = sharesOf(worker).map((share, i): Entry => {
          const key = books.keyOf(share, partitionKey)
          // The first is the worker's own; the others do not know its args.
          return { share, key, amount: books.priceOf(share, key, i === 0 ? cost : undefined) }
        })
        if (entries.some(({ key, share }) => refused.has(idOf(share, key)))) return false
        const lacking = entries.find(({ amount, key, share }) => unitsOf(share, key) + slack < amount)
        if (lacking !== undefined) {
          refused.set(idOf(lacking.share, lacking.key), lacking)
          return false
        }
        took(worker)
        for (const entry of entries) {
          const id = idOf(entry.share, entry.key)
          spent.set(id, { ...entry, amount: entry.amount + (spent.get(id)?.amount ?? 0) })
        }
        return true
      }),
    /** What was taken from which accounts. */
    spent: (): ReadonlyArray<Entry> => [...spent.values()],
    /** Which accounts had too little for how much. */
    refused: (): ReadonlyArray<Entry> => [...refused.values()]
  }
}

/** What is left for one claim. */
export type Budget = ReturnType<typeof makeBudget>
