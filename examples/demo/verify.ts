/** What must have happened, what did happen as the database tells it, and the difference. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { courierHolds } from "./courier.ts"
import { isDeclined, isExpress, isFlaky, isHopeless, isOutOfStock, orders } from "./shop.ts"

const count = (holds: (order: number) => boolean) =>
  Array.from({ length: orders }, (_, i) => i + 1).filter(holds).length

const charged = orders - count(isDeclined) - count(isHopeless)
const packed = (order: number) => isOutOfStock(order) && !isDeclined(order) && !isHopeless(order)

/** The jobs of each queue that will ever be: every order is charged, and what is charged is packed and shipped. */
export const totals = { payments: orders, warehouse: charged + 1, shipping: charged }

export const express = count(isExpress)

/** What the summary must say. */
export const expected = {
  "payments completed": charged,
  "payments discarded": orders - charged,
  "warehouse completed": charged,
  "warehouse cancelled": 1,
  "shipping completed": charged,
  "jobs not finished": 0,
  retries: count(isFlaky) + 2 * count(isHopeless),
  snoozes: count(packed),
  rescues: courierHolds,
  "orders charged, packed and shipped": charged,
  "express orders charged first": express,
  "finalizers of the cancelled job": 1
}

export type Counts = Record<keyof typeof expected, number>

/** Reads the counts that the database can tell. */
export const read = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const finished = yield* sql<{ readonly name: string; readonly count: number }>`
    SELECT queue || ' ' || state AS name, count(*)::integer AS count
    FROM shigoto.jobs_archive
    GROUP BY queue, state
    ORDER BY queue, state`
  // An error entry with a later attempt behind it is a retry, or a rescue where the entry was made by one.
  const [more] = yield* sql<Record<"live" | "retries" | "rescues" | "snoozes" | "orders", number>>`
    SELECT
      (SELECT count(*) FROM shigoto.jobs)::integer AS live,
      count(*) FILTER (WHERE error ->> 'tag' = 'GatewayDown' AND (error ->> 'attempt')::integer < attempt)::integer
        AS retries,
      count(*) FILTER (WHERE error ->> 'tag' = 'LeaseExpired')::integer AS rescues,
      (SELECT sum(snoozes) FROM shigoto.all_jobs)::integer AS snoozes,
      (SELECT count(*) FROM shop_orders WHERE charged + packed + shipped = 3)::integer AS orders
    FROM shigoto.all_jobs
    CROSS JOIN jsonb_array_elements(errors) AS error`
  const counts: Record<string, number> = Object.fromEntries(finished.map((row) => [row.name, row.count]))
  return {
    ...counts,
    "jobs not finished": more?.live ?? 0,
    retries: more?.retries ?? 0,
    snoozes: more?.snoozes ?? 0,
    rescues: more?.rescues ?? 0,
    "orders charged, packed and shipped": more?.orders ?? 0
  }
}).pipe(Effect.orDie)

/** Every count that is not what it must be, and every count that must not be there at all. */
export const differences = (actual: Readonly<Record<string, number>>): ReadonlyArray<string> =>
  [...new Set([...Object.keys(expected), ...Object.keys(actual)])].flatMap((name) => {
    const wanted = (expected as Readonly<Record<string, number>>)[name] ?? 0
    const found = actual[name] ?? 0
    return found === wanted ? [] : [`${name}: ${found}, but it must be ${wanted}`]
  })
