/** The state machine: legal steps only, one end for each life, and every end has its cause. */
import type { Invariant } from "./invariant.ts"

export const lifecycle: ReadonlyArray<Invariant> = [
  {
    id: "I3",
    says: "every change of a row is a step of the state machine, attempt and epoch included",
    cases: "SELECT count(*) FROM step",
    offenders: `
      SELECT id, from_state, to_state, from_attempt, to_attempt, from_epoch, to_epoch, app FROM step WHERE move IS NULL`
  },
  {
    id: "I3a",
    says: "each life ends once, and only an operator's retry begins another",
    cases: "SELECT count(*) FROM step WHERE to_state IN ('completed', 'discarded', 'cancelled')",
    offenders: `
      SELECT id, from_state, before FROM (
        SELECT id, from_state, lag(to_state) OVER (PARTITION BY id ORDER BY seq) AS before FROM step
      ) AS chained
      WHERE from_state IS DISTINCT FROM before
      UNION ALL
      SELECT id, 'nobody asked for a retry', move FROM step AS s
      WHERE move = 'retry'
        AND NOT EXISTS (
          SELECT FROM client AS c WHERE c.job = s.id AND c.op = 'retry' AND c.phase = 'intent' AND c.ts < s.ts
        )
        -- One that was cancelled on its parent's account comes back with it, in the same transaction.
        AND NOT EXISTS (
          SELECT FROM edge AS e JOIN step AS p ON p.id = e.parent AND p.tx = s.tx AND p.move = 'retry'
          WHERE e.child = s.id AND s.from_state = 'cancelled'
        )`
  },
  {
    id: "I3b",
    says: "every accepted completion follows a successful end of the same claim",
    cases: "SELECT count(*) FROM step WHERE to_state = 'completed'",
    offenders: `
      SELECT s.id, s.from_epoch, s.app FROM step AS s
      WHERE s.to_state = 'completed'
        AND NOT EXISTS (
          SELECT FROM handler AS h
          WHERE h.job = s.id AND h.epoch = s.from_epoch AND h.kind = 'end' AND h.outcome = 'ok' AND h.ts < s.ts
        )`
  },
  {
    id: "I3c",
    says: "every discard and cancellation has a cause: attempts used up, a handler's word, an operator's",
    cases: "SELECT count(*) FROM step WHERE to_state IN ('discarded', 'cancelled')",
    offenders: `
      SELECT s.id, s.move, s.to_state FROM step AS s
      WHERE s.to_state = 'discarded' AND s.to_attempt < s.max_attempts
        AND NOT EXISTS (
          SELECT FROM handler AS h
          WHERE h.job = s.id AND h.epoch = s.from_epoch AND h.kind = 'end' AND h.outcome IN ('discard', 'unstorable') AND h.ts < s.ts
        )
      UNION ALL
      SELECT s.id, s.move, s.to_state FROM step AS s
      WHERE s.to_state = 'cancelled'
        AND NOT EXISTS (
          SELECT FROM client AS c WHERE c.job = s.id AND c.op = 'cancel' AND c.phase = 'intent' AND c.ts < s.ts
        )
        AND NOT EXISTS (
          SELECT FROM handler AS h
          WHERE h.job = s.id AND h.epoch = s.from_epoch AND h.kind = 'end' AND h.outcome = 'cancel' AND h.ts < s.ts
        )
        AND NOT EXISTS (
          SELECT FROM edge AS e JOIN step AS p ON p.id = e.parent
          WHERE e.child = s.id AND e.on_failure = 'cancel'
            AND p.to_state IN ('discarded', 'cancelled') AND p.seq <= s.seq
        )`
  },
  {
    id: "I5",
    says: "no more attempts than allowed, crashes included; what is given back costs none",
    cases: "SELECT count(*) FROM step WHERE move = 'claim'",
    offenders: `
      SELECT id, to_attempt, max_attempts FROM step WHERE to_attempt > max_attempts
      UNION ALL
      SELECT f.id, f.attempt, counted.attempts FROM final AS f JOIN (
        SELECT id, count(*) FILTER (WHERE move = 'claim')
          - count(*) FILTER (WHERE move IN ('snooze', 'release', 'reconcile', 'fork')) AS attempts
        FROM step GROUP BY id
      ) AS counted ON counted.id = f.id
      WHERE counted.attempts <> f.attempt`
  },
  {
    id: "I25",
    says: "of each discard its worker is told, after it",
    cases: "SELECT count(*) FROM step WHERE to_state = 'discarded'",
    offenders: `
      SELECT s.id, s.to_epoch, s.move FROM step AS s
      WHERE s.to_state = 'discarded'
        AND NOT EXISTS (
          SELECT FROM handler AS h WHERE h.job = s.id AND h.epoch = s.to_epoch AND h.kind = 'told' AND h.ts > s.ts
        )`
  },
  {
    id: "I23",
    says: "the history keeps what ended, as it ended",
    cases: "SELECT count(*) FROM final",
    offenders: `
      SELECT s.id, s.to_state, f.state FROM (
        SELECT DISTINCT ON (id) id, to_state, to_attempt, to_epoch FROM step ORDER BY id, seq DESC
      ) AS s LEFT JOIN final AS f ON f.id = s.id
      WHERE (f.state, f.attempt, f.epoch) IS DISTINCT FROM (s.to_state, s.to_attempt, s.to_epoch)
      UNION ALL
      SELECT id, 'twice', NULL FROM final GROUP BY id HAVING count(*) > 1`
  },
  {
    id: "I24",
    says: "what a node reports is so: the job had ended that way before",
    cases: "SELECT count(*) FROM told WHERE tag IN ('Completed', 'Discarded', 'Cancelled')",
    offenders: `
      SELECT t.job, t.tag, t.attempt FROM told AS t
      WHERE t.tag IN ('Completed', 'Discarded', 'Cancelled')
        AND NOT EXISTS (
          SELECT FROM step AS s
          WHERE s.id = t.job AND s.to_state = lower(t.tag) AND s.to_attempt = t.attempt AND s.ts < t.ts
        )`
  }
]
