/** How limits over all nodes stand, for people. */
import * as Effect from "effect/Effect"
import { type Account, room } from "../rate.ts"
import type { Db } from "./db.ts"
import type { Governed } from "./limit.ts"

/** What one live worker's limits say, and how they stand; undefined where it has no such limit. */
export interface LimitStanding {
  readonly worker: string
  readonly running: number
  readonly concurrency: number | undefined
  readonly rate:
    | {
        readonly name: string
        readonly limit: number
        readonly windowMillis: number
        readonly algorithm: string
        readonly cost: number
        /** Units that may be spent now; below zero after more was charged than there was. */
        readonly room: number
        /** Nothing is admitted before. */
        readonly heldUntil: Date | undefined
      }
    | undefined
}

/** The limits that live nodes tell of, by worker; of nodes that tell different things, the latest. */
export const standings = Effect.fnUntraced(function* (db: Db) {
  const { sql } = db
  const now = yield* db.now
  const rows = yield* sql<{
    readonly limits: ReadonlyArray<Governed>
    readonly now: Date
  }>`
    SELECT limits, ${now} AS now
    FROM ${db.nodes}
    WHERE expires_at > ${now}
    ORDER BY beat_at`
  const governed = new Map(rows.flatMap((row) => row.limits.map((one) => [one.worker, one] as const)))
  if (governed.size === 0) return []
  const accounts = yield* sql<{ readonly name: string; readonly account: Account; readonly held_until: Date | null }>`
    SELECT name, account, held_until
    FROM ${sql(`${db.schema}.limits`)}
    WHERE starts_with(name, 'rate:')`
  const running = yield* sql<{ readonly worker: string; readonly running: number }>`
    SELECT worker, count(*)::integer AS running
    FROM ${db.jobs}
    WHERE state = 'executing'
    GROUP BY worker`
  const at = rows[0]?.now.getTime() ?? 0
  return [...governed.values()]
    .toSorted((a, b) => (a.worker < b.worker ? -1 : 1))
    .flatMap(({ concurrency, rate, worker }): ReadonlyArray<LimitStanding> => {
      if (concurrency == null && rate == null) return []
      const account = rate == null ? undefined : accounts.find((row) => row.name === `rate:${rate.name}`)
      return [
        {
          worker,
          running: running.find((row) => row.worker === worker)?.running ?? 0,
          concurrency: concurrency ?? undefined,
          rate:
            rate == null
              ? undefined
              : {
                  name: rate.name,
                  ...rate.rule,
                  cost: rate.cost,
                  room: room(rate.rule, account?.account ?? [], at),
                  heldUntil: (account?.held_until?.getTime() ?? 0) > at ? (account?.held_until ?? undefined) : undefined
                }
        }
      ]
    })
})
