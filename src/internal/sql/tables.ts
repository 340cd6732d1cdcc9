/** How the tables stand: what they take, and what vacuum has to do in them. */
import * as Effect from "effect/Effect"
import type { Db } from "./db.ts"
import { limited } from "./search.ts"

/**
 * A table, or all partitions of one together.
 *
 * @category models
 */
export interface TableHealth {
  readonly name: string
  /** With indexes and what is stored out of line. */
  readonly bytes: number
  /** As vacuum last counted. */
  readonly rows: number
  readonly deadRows: number
  /** When one of its partitions was last vacuumed; undefined where none has been since the server's counters began. */
  readonly vacuumedAt: Date | undefined
}

/** Reads how the tables of the schema stand, the largest first. */
export const tables = (db: Db) =>
  limited(
    db,
    Effect.map(
      db.sql<Omit<TableHealth, "vacuumedAt"> & { readonly vacuumed_at: Date | null }>`
        SELECT root.relname AS name,
          sum(pg_total_relation_size(c.oid))::float8 AS bytes,
          sum(greatest(c.reltuples, 0))::float8 AS rows,
          sum(coalesce(s.n_dead_tup, 0))::float8 AS "deadRows",
          max(greatest(s.last_vacuum, s.last_autovacuum)) AS vacuumed_at
        FROM pg_class AS c
        JOIN pg_class AS root
          ON root.oid = coalesce(pg_partition_root(c.oid), c.oid)
        LEFT JOIN pg_stat_all_tables AS s
          ON s.relid = c.oid
        JOIN pg_namespace AS n
          ON n.oid = c.relnamespace
        WHERE n.nspname = ${db.schema}
          AND c.relkind = 'r'
        GROUP BY root.relname
        ORDER BY bytes DESC, name`,
      (rows) => rows.map(({ vacuumed_at, ...row }): TableHealth => ({ ...row, vacuumedAt: vacuumed_at ?? undefined }))
    )
  )
