/** Who may run a job, and who may say how it ended: the holder of its claim alone. */
import type { Invariant } from "./invariant.ts"

/** An attempt lasts from its start to its end, or to the death of its process. */
const attempts = `
  SELECT s.job, s.epoch, s.process, s.began AS started, least(
    (SELECT min(e.ts) FROM handler AS e WHERE e.job = s.job AND e.epoch = s.epoch AND e.kind = 'end'),
    (SELECT min(f.ts) FROM fleet AS f WHERE f.process = s.process AND f.event = 'exit')
  ) AS ended
  FROM handler AS s
  WHERE s.kind = 'start'`

export const claims: ReadonlyArray<Invariant> = [
  {
    id: "I4",
    says: "two attempts of a job overlap only if a rescue lies between their starts",
    cases: `
      SELECT count(*) FROM (${attempts}) AS a JOIN (${attempts}) AS b
        ON b.job = a.job AND b.epoch <> a.epoch AND b.started > a.started AND b.started < coalesce(a.ended, 'infinity')`,
    offenders: `
      SELECT a.job, a.epoch, a.process, b.epoch AS other_epoch, b.process AS other
      FROM (${attempts}) AS a JOIN (${attempts}) AS b
        ON b.job = a.job AND b.epoch <> a.epoch AND b.started > a.started AND b.started < coalesce(a.ended, 'infinity')
      WHERE NOT EXISTS (
        SELECT FROM step AS s WHERE s.id = a.job AND s.move = 'rescue' AND s.ts BETWEEN a.started AND b.started
      )`
  },
  {
    id: "I4a",
    says: "a claim starts its handler once at most, on the node that claimed",
    cases: "SELECT count(*) FROM handler WHERE kind = 'start'",
    offenders: `
      SELECT job, epoch, 'started twice' AS what FROM handler WHERE kind = 'start'
      GROUP BY job, epoch HAVING count(*) > 1
      UNION ALL
      SELECT h.job, h.epoch, h.process FROM handler AS h
      WHERE h.kind = 'start'
        AND NOT EXISTS (
          SELECT FROM step AS s JOIN node AS n ON n.id = s.to_node
          WHERE s.id = h.job AND s.move = 'claim' AND s.to_epoch = h.epoch AND n.name = h.process AND s.ts < h.ts
        )`
  },
  {
    id: "I14",
    says: "a stale outcome changes nothing: each accepted one comes from the holder of the claim",
    cases: "SELECT count(*) FROM step WHERE move IN ('settle', 'snooze', 'release', 'reconcile', 'fork')",
    offenders: `
      SELECT s.id, s.from_epoch, s.move, s.app, n.name FROM step AS s LEFT JOIN node AS n ON n.id = s.from_node
      WHERE s.move IN ('settle', 'snooze', 'release', 'reconcile', 'fork') AND n.name IS DISTINCT FROM s.app`
  },
  {
    id: "I17",
    says: "claims take the first in the order of priority, time and id: none passes over a job again and again",
    cases: "SELECT count(*) FROM step WHERE move = 'claim'",
    // Once is no offence: a job that another claim has locked in that moment is passed over as it must be, and a lock on
    // a row leaves no trace. But a transaction that holds one for long is seen by a look each half a second, which is late
    // by as much again on a busy machine: what is passed over for longer than that has such a witness, one that was open
    // from the first time to the last.
    offenders: `
      SELECT * FROM (
        SELECT better, count(*) AS times, min(ts) AS first, max(began) AS last FROM overtaken GROUP BY better, since
      ) AS passed
      WHERE last - first > interval '2 seconds'
        AND NOT EXISTS (
          SELECT FROM opened AS o
          WHERE o.locks_jobs AND o.began < passed.first AND o.seen > passed.last - interval '1 second'
        )`
  }
]
