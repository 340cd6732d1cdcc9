/** What operators ask of queues. */
import type { Invariant } from "./invariant.ts"

export const queues: ReadonlyArray<Invariant> = [
  {
    id: "I16",
    says: "a paused queue starts nothing later than two seconds after the pause",
    cases: "SELECT count(*) FROM client WHERE op = 'pause' AND phase = 'ack'",
    offenders: `
      SELECT s.id, s.app, s.ts - p.ts AS late
      FROM client AS p JOIN step AS s
        ON s.queue = 'pausable' AND s.move = 'claim' AND s.began > p.ts + interval '2 seconds'
      WHERE p.op = 'pause' AND p.phase = 'ack'
        AND s.ts < coalesce(
          (SELECT min(r.ts) FROM client AS r WHERE r.op = 'resume' AND r.ts > p.ts), 'infinity')`
  }
]
