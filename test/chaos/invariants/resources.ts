/** What the library takes from the server. */
import { producerConnections, workerConnections } from "../settings.ts"
import type { Invariant } from "./invariant.ts"

/** The network belongs to the place in the fleet, whichever process is there. */
const placeOf = (row: string): string => `regexp_replace(${row}.process, '-[0-9]+$', '')`

/** Milliseconds of a span in which a process could go on: its event loop turned, and its network was well. */
const free = (row: string, since: string, until: string): string => `
  SELECT (extract(epoch FROM sum(upper(r) - lower(r))) * 1000)::float8
  FROM unnest(tstzmultirange(tstzrange(${since}, ${until})) - coalesce(
    (
      SELECT range_agg(tstzrange(h.since, h.until)) FROM hindered AS h
      WHERE h.place IN ('', ${row}.process, ${placeOf(row)}) AND h.since < ${until} AND h.until > ${since}
    ),
    '{}'
  )) AS r`

/** Processes that lived for two minutes at least: what they took after their start, and in the end. */
const lasting = `
  SELECT process, early.heap AS heap_then, late.heap AS heap_now, early.handles AS handles_then, late.handles AS handles_now,
    (extract(epoch FROM lived.until - lived.since) / 60)::float8 AS minutes
  FROM (
    SELECT process, min(ts) AS since, max(ts) AS until FROM used GROUP BY process
    HAVING max(ts) - min(ts) > interval '2 minutes'
  ) AS lived
  -- The least of half a minute: what waits for the database for a while is no leak.
  CROSS JOIN LATERAL (
    SELECT min(heap) AS heap, min(handles) AS handles FROM used AS u
    WHERE u.process = lived.process AND u.ts BETWEEN since + interval '10 seconds' AND since + interval '40 seconds'
  ) AS early
  CROSS JOIN LATERAL (
    SELECT min(heap) AS heap, min(handles) AS handles FROM used AS u
    WHERE u.process = lived.process AND u.ts > until - interval '30 seconds'
  ) AS late`

export const resources: ReadonlyArray<Invariant> = [
  {
    id: "I19b",
    says: "a process that lives on takes no more memory, sockets and timers than in its beginning",
    cases: `SELECT count(*) FROM (${lasting}) AS l`,
    offenders: `
      SELECT * FROM (${lasting}) AS l
      -- Some of it is code that is compiled as it runs.
      WHERE heap_now - heap_then > (8 + minutes) * 1024 * 1024
        OR handles_now > handles_then * 1.1 + ${workerConnections}`
  },
  {
    id: "I20",
    timed: true,
    says: "no more connections than configured for over a second, and no lock left behind",
    cases: "SELECT count(*) FROM sample",
    // A connection that is given up is replaced before the server has noticed, or has ended what runs on it. Counted is
    // the time between looks that all find too many, as far as the process was there to close them.
    offenders: `
      SELECT process, min(ts) AS ts, max(connections) AS connections, 0 AS advisory, sum(free) AS millis
      FROM (
        SELECT s.*, (${free("s", "s.ts", "s.until")}) AS free
        FROM (
          SELECT *, lead(connections) OVER later AS still, lead(ts) OVER later AS until,
            count(*) FILTER (WHERE connections <= allowed) OVER later AS run
          FROM (
            SELECT *,
              CASE WHEN process LIKE 'worker%' THEN ${workerConnections} + 1 ELSE ${producerConnections} END AS allowed
            FROM sample
          ) AS bounded
          WINDOW later AS (PARTITION BY process ORDER BY seq)
        ) AS s
        WHERE connections > allowed AND still > allowed
      ) AS crowded
      GROUP BY process, run
      HAVING sum(free) > 1000
      UNION ALL
      SELECT process, ts, connections, advisory, NULL FROM sample WHERE advisory > 0`
  },
  {
    id: "I20a",
    timed: true,
    says: "no transaction waits for over a second for a process that could go on with it",
    cases: "SELECT count(*) FROM sample",
    offenders: `
      SELECT process, pid, began, idle_since, max(free) AS millis, min(query) AS after FROM (
        SELECT o.*, (${free("o", "o.idle_since", "o.seen")}) AS free
        FROM opened AS o WHERE o.idle_since IS NOT NULL
      ) AS waiting
      WHERE free > 1000
      GROUP BY process, pid, began, idle_since`
  }
]
