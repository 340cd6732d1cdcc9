/** What workers take: the JSON Schemas of their args, as nodes tell them. */
import * as Effect from "effect/Effect"
import { array, type Db, oid } from "./db.ts"

/** A worker and the JSON Schema of its args, as text. */
export interface Published {
  readonly name: string
  readonly args: string
}

/** Stores what has changed. */
export const publish = Effect.fnUntraced(function* (db: Db, workers: ReadonlyArray<Published>) {
  const now = yield* db.now
  // In the order of their names: nodes that start together lock the same rows.
  const ordered = workers.toSorted((a, b) => (a.name < b.name ? -1 : 1))
  yield* db.statement(db.sql`
    INSERT INTO ${db.sql(`${db.schema}.workers`)} AS w (name, args, published_at)
    SELECT told.name, told.args::jsonb, ${now}
    FROM unnest(
      ${array(
        ordered.map((worker) => worker.name),
        oid.text
      )}::text[],
      ${array(
        ordered.map((worker) => worker.args),
        oid.text
      )}::text[]
    ) AS told (name, args)
    ON CONFLICT (name) DO UPDATE
    SET args = excluded.args,
      published_at = excluded.published_at
    WHERE w.args IS DISTINCT FROM excluded.args`)
})

/** The JSON Schema of a worker's args; undefined where no node has told it. */
export const read = Effect.fnUntraced(function* (db: Db, name: string) {
  const [row] = yield* db.sql<{ readonly args: unknown }>`
    SELECT args
    FROM ${db.sql(`${db.schema}.workers`)}
    WHERE name = ${name}`
  return row?.args
})

/** The secret fields that workers have told of. */
export const readSecrets = (db: Db) =>
  db.sql<{ readonly name: string; readonly fields: ReadonlyArray<string> }>`
    SELECT name, args -> 'redacted' AS fields
    FROM ${db.sql(`${db.schema}.workers`)}
    WHERE args ? 'redacted'`
