/** What the library takes from the server. */
import { producerConnections, workerConnections } from "../settings.ts"
import type { Invariant } from "./invariant.ts"

export const resources: ReadonlyArray<Invariant> = [
  {
    id: "I20",
    timed: true,
    says: "no more connections than configured, none idle in a transaction for over a second, no lock left behind",
    cases: "SELECT count(*) FROM sample",
    // What a silent network left half open is found out late; a stopped process holds what it holds.
    offenders: `
      SELECT process, connections, idle_in_transaction, advisory FROM sample AS s
      WHERE (
        connections > CASE WHEN process LIKE 'worker%' THEN ${workerConnections} + 1 ELSE ${producerConnections} END
        OR idle_in_transaction > 1000
        OR advisory > 0
      )
      AND NOT EXISTS (
        SELECT FROM trouble AS f
        -- The network belongs to the place in the fleet, whichever process is there.
        WHERE regexp_replace(f.target, '-[0-9]+$', '') = regexp_replace(s.process, '-[0-9]+$', '') AND f.kind IN ('blackhole', 'freeze', 'latency', 'stop', 'lost-reply', 'reset')
          AND f.since < s.ts AND f.until + interval '15 seconds' > s.ts
      )`
  }
]
