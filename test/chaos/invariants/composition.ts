/** Jobs that are tied to others: unique ones, those that wait, batches, and the ticks of a schedule. */
import type { Invariant } from "./invariant.ts"

const ends = "('completed', 'discarded', 'cancelled')"

export const composition: ReadonlyArray<Invariant> = [
  {
    id: "I6",
    says: "a batch inserts its callback once, when its last member has ended, and its counts are those of its members",
    cases: "SELECT count(*) FROM batch",
    offenders: `
      SELECT b.id, 'callbacks' AS what, count(c.id) AS count FROM batch AS b
      LEFT JOIN step AS c ON c.callback_of = b.id AND c.move = 'insert'
      GROUP BY b.id HAVING count(c.id) <> 1
      UNION ALL
      SELECT b.id, 'early', m.id FROM batch AS b
      JOIN step AS c ON c.callback_of = b.id AND c.move = 'insert'
      JOIN step AS m ON m.batch = b.id AND m.move = 'insert'
      WHERE NOT EXISTS (SELECT FROM step AS e WHERE e.id = m.id AND e.to_state IN ${ends} AND e.seq < c.seq)
      UNION ALL
      SELECT b.id, 'counts', b.total FROM batch AS b
      WHERE b.pending <> 0 OR b.finished_at IS NULL
        OR (b.completed, b.discarded, b.cancelled) IS DISTINCT FROM (
          SELECT (
            count(*) FILTER (WHERE f.state = 'completed')::integer,
            count(*) FILTER (WHERE f.state = 'discarded')::integer,
            count(*) FILTER (WHERE f.state = 'cancelled')::integer
          )
          FROM final AS f WHERE f.id IN (SELECT m.id FROM step AS m WHERE m.batch = b.id AND m.move = 'insert')
        )`
  },
  {
    id: "I7",
    says: "each second has one job of the schedule, and none is left out between the first and the last",
    cases: "SELECT count(*) FROM step WHERE worker = 'tick' AND move = 'insert'",
    offenders: `
      SELECT t.at, count(s.id) FROM (
        SELECT generate_series(min(scheduled_for), max(scheduled_for), interval '1 second') AS at
        FROM step WHERE worker = 'tick' AND move = 'insert'
      ) AS t
      LEFT JOIN step AS s ON s.worker = 'tick' AND s.move = 'insert' AND s.scheduled_for = t.at
      GROUP BY t.at HAVING count(s.id) <> 1`
  },
  {
    id: "I8",
    says: "a job that waits for others starts after they have ended, and well where it minds",
    cases: "SELECT count(*) FROM edge",
    offenders: `
      SELECT e.child, e.parent, c.seq FROM edge AS e
      JOIN step AS c ON c.id = e.child AND c.move = 'claim'
      WHERE NOT EXISTS (
          SELECT FROM step AS p
          WHERE p.id = e.parent AND p.seq < c.seq
            AND (p.to_state = 'completed' OR e.on_failure = 'run' AND p.to_state IN ${ends})
        )
        -- What it added itself it waits for from then on.
        AND NOT EXISTS (SELECT FROM step AS i WHERE i.id = e.parent AND i.move = 'insert' AND i.seq > c.seq)
        -- An operator may run it all the same.
        AND NOT EXISTS (
          SELECT FROM client AS o WHERE o.job = e.child AND o.op = 'retry' AND o.phase = 'intent' AND o.ts < c.ts
        )`
  },
  {
    id: "I8b",
    timed: true,
    says: "nothing waits for others that have all ended for over 30 seconds",
    cases: "SELECT count(*) FROM stay WHERE state = 'blocked'",
    offenders: `
      SELECT w.id, w.since, w.until FROM stay AS w
      WHERE w.state = 'blocked' AND coalesce(w.until, 'infinity') > w.since + interval '30 seconds'
        AND NOT EXISTS (
          SELECT FROM edge AS e JOIN stay AS p ON p.id = e.parent
          WHERE e.child = w.id AND p.state NOT IN ${ends}
            AND p.since < coalesce(w.until, 'infinity')
            AND coalesce(p.until, 'infinity') >= greatest(w.since, coalesce(w.until, 'infinity') - interval '30 seconds')
        )`
  },
  {
    id: "I8a",
    says: "a job that fans out has all of its parts or none, and waits for each of them",
    cases: "SELECT count(*) FROM step WHERE move = 'fork' OR worker = 'part' AND move = 'insert'",
    offenders: `
      SELECT s.id, s.key, s.seq FROM step AS s
      WHERE s.move = 'fork'
        AND (SELECT count(*) FROM step AS p WHERE p.tx = s.tx AND p.move = 'insert' AND p.key LIKE s.key || '/%')
          <> (SELECT count(*) FROM edge AS e WHERE e.child = s.id AND e.parent > s.id)
      UNION ALL
      SELECT s.id, s.key, s.seq FROM step AS s
      WHERE s.worker = 'part' AND s.move = 'insert'
        AND NOT EXISTS (SELECT FROM step AS f WHERE f.tx = s.tx AND f.move = 'fork' AND s.key LIKE f.key || '/%')`
  },
  {
    id: "I11",
    says: "of the jobs of one key one lives at a time",
    cases: "SELECT count(*) FROM step WHERE slot IS NOT NULL AND move = 'insert'",
    offenders: `
      SELECT a.id, b.id AS other, a.slot, b.since FROM stay AS a JOIN stay AS b
        ON b.slot = a.slot AND b.id <> a.id AND b.since >= a.since AND b.since < coalesce(a.until, 'infinity')
      WHERE a.state NOT IN ${ends} AND b.state NOT IN ${ends}`
  }
]
