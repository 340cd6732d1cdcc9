/** Which partition keys of a queue have work. */
import type { Fragment } from "effect/sql/Statement"
import type { Db } from "./db.ts"

/**
 * What a recursive CTE of (key, place) is made of: the keys of a queue's available jobs in their order, their places from
 * 1, and at most so many; the last one may be null.
 *
 * Jumps along jobs_partition from one key to the next, so it costs a probe for each key, whatever waits behind it.
 */
export const keysAtWork = ({ jobs, sql }: Db, queue: string, most?: number): Fragment => sql`
      (
        SELECT partition_key AS key, 1 AS place
        FROM ${jobs}
        WHERE queue = ${queue}
          AND state = 'available'
          AND partition_key IS NOT NULL
        ORDER BY partition_key
        LIMIT 1
      )
      UNION ALL
      SELECT (
        SELECT j.partition_key
        FROM ${jobs} AS j
        WHERE j.queue = ${queue}
          AND j.state = 'available'
          AND j.partition_key > keyed.key
        ORDER BY j.partition_key
        LIMIT 1
      ), keyed.place + 1
      FROM keyed
      WHERE keyed.key IS NOT NULL
        ${most === undefined ? sql`` : sql`AND keyed.place < ${most}::integer`}`
