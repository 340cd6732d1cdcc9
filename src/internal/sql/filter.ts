/** A filter as conditions of a statement. */
import type { Fragment } from "effect/sql/Statement"
import type { Bound, Checked } from "../../Filter.ts"
import { array, type Db, oid } from "./db.ts"

/** The conditions that all hold, on jobs or on live ones alone, which have no time of an end. */
export const matches = (db: Db, filter: Checked, now: Fragment, of: "all" | "live" = "all"): Fragment =>
  db.sql.and([...cheap(db, filter, now, of), ...costly(db, filter)])

/** The conditions on plain columns. */
export const matchesPlain = (db: Db, filter: Checked, now: Fragment, of: "all" | "live" = "all"): Fragment =>
  db.sql.and(cheap(db, filter, now, of))

/** The part of a filter that an index or a partition answers. */
export const selective = (filter: Checked): Checked => ({
  anyOf: pick(filter.anyOf, ["state", "fingerprint"]),
  numbers: pick(filter.numbers, ["id", "batch"]),
  times: {},
  json: {}
})

/** The conditions for which a job's JSON has to be read; undefined where there are none. */
export const matchesJson = (db: Db, filter: Checked): Fragment | undefined => {
  const conditions = costly(db, filter)
  return conditions.length === 0 ? undefined : db.sql.and(conditions)
}

// internal

const columns = {
  worker: "worker",
  queue: "queue",
  state: "state",
  partitionKey: "partition_key",
  fingerprint: "fingerprint",
  id: "id",
  batch: "batch_id",
  priority: "priority",
  attempt: "attempt",
  inserted: "inserted_at",
  due: "run_at",
  finished: "finished_at",
  args: "args",
  meta: "meta"
} as const

const pick = <A extends object, K extends keyof A>(fields: A, names: ReadonlyArray<K>): Partial<A> =>
  Object.fromEntries(
    Object.entries(fields).filter(([name]) => (names as ReadonlyArray<string>).includes(name)) // to ask of any text
  ) as Partial<A> // fewer of them

const cheap = (db: Db, filter: Checked, now: Fragment, of: "all" | "live"): Array<Fragment> => {
  const { sql } = db
  const column = (field: string) => sql.literal(columns[field as keyof typeof columns]) // a field of a checked filter
  const conditions: Array<Fragment> = []
  for (const [field, names] of Object.entries(filter.anyOf)) {
    const any = array(names, oid.text)
    if (field === "cron") {
      conditions.push(
        sql`id IN (SELECT t.job_id FROM ${sql(`${db.schema}.cron_ticks`)} AS t WHERE t.name = ANY(${any}::text[]))`
      )
    } else if (field === "error") conditions.push(sql`fingerprint IS NOT NULL`)
    else if (field !== "node") conditions.push(sql`${column(field)} = ANY(${any}::text[])`)
  }
  if (filter.tags !== undefined) conditions.push(sql`tags @> ${array(filter.tags, oid.text)}::text[]`)
  for (const [field, numbers] of Object.entries(filter.numbers)) {
    if ("in" in numbers) {
      conditions.push(sql`${column(field)} = ANY(${array(numbers.in.map(BigInt), oid.int8)}::bigint[])`)
      continue
    }
    const { max, min } = numbers
    if (min !== undefined) conditions.push(sql`${column(field)} >= ${BigInt(min)}::bigint`)
    if (max !== undefined) conditions.push(sql`${column(field)} <= ${BigInt(max)}::bigint`)
  }
  const instant = (bound: Bound) =>
    "at" in bound
      ? sql`${bound.at}::timestamptz(3)`
      : sql`${now} - ${bound.agoMillis}::float8 * interval '1 millisecond'`
  for (const [field, { from, to }] of Object.entries(filter.times)) {
    if (field === "finished" && of === "live") {
      conditions.push(sql`FALSE`)
      continue
    }
    if (from !== undefined) conditions.push(sql`${column(field)} >= ${instant(from)}`)
    if (to !== undefined) conditions.push(sql`${column(field)} < ${instant(to)}`)
  }
  return conditions
}

const costly = (db: Db, filter: Checked): Array<Fragment> => {
  const { sql } = db
  const conditions = Object.entries(filter.json).map(
    ([field, json]) => sql`${sql.literal(columns[field as "args" | "meta"])} @> ${json}::text::jsonb`
  )
  const { error, node } = filter.anyOf
  if (error !== undefined) {
    conditions.push(sql`EXISTS (
      SELECT FROM unnest(${array(error, oid.text)}::text[]) AS wanted
      WHERE errors -> -1 ->> 'tag' = wanted
        OR strpos(errors -> -1 ->> 'message', wanted) > 0
    )`)
  }
  if (node !== undefined) {
    const names = array(node, oid.text)
    conditions.push(sql`(
      claimed_by IN (SELECT n.id FROM ${db.nodes} AS n WHERE n.name = ANY(${names}::text[]))
      OR errors -> -1 ->> 'node' = ANY(${names}::text[])
    )`)
  }
  return conditions
}
