/** What the library takes from the server. */
import { producerConnections, workerConnections } from "../settings.ts"
import type { Invariant } from "./invariant.ts"

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
    says: "no more connections than configured, none idle in a transaction for over a second, no lock left behind",
    cases: "SELECT count(*) FROM sample",
    // What a silent network left half open is found out late; a process that is stopped, or whose event loop is blocked,
    // holds what it holds. The transactions of producers are their own: none ends before its client gives up the wait.
    // A connection that is given up is replaced before the server has noticed.
    offenders: `
      SELECT process, connections, idle_in_transaction, advisory
      FROM (
        SELECT *, least(connections, lead(connections) OVER (PARTITION BY process ORDER BY seq)) AS lasting FROM sample
      ) AS s
      WHERE (
        lasting > CASE WHEN process LIKE 'worker%' THEN ${workerConnections} + 1 ELSE ${producerConnections} END
        OR idle_in_transaction > 1000
        OR advisory > 0
      )
      AND NOT EXISTS (
        SELECT FROM handler AS h
        WHERE h.process = s.process AND h.kind = 'start' AND h.args ->> 'kind' = 'spin'
          AND h.ts < s.ts AND h.ts + (h.args ->> 'millis')::float8 * interval '1 millisecond' + interval '2 seconds' > s.ts
      )
      AND NOT EXISTS (
        SELECT FROM trouble AS f
        -- The network belongs to the place in the fleet, whichever process is there.
        WHERE regexp_replace(f.target, '-[0-9]+$', '') = regexp_replace(s.process, '-[0-9]+$', '') AND f.kind IN ('blackhole', 'freeze', 'latency', 'stop', 'lost-reply', 'reset')
          AND f.since < s.ts
          AND f.until + CASE WHEN s.process LIKE 'producer%' THEN interval '75 seconds' ELSE interval '15 seconds' END > s.ts
      )`
  }
]
