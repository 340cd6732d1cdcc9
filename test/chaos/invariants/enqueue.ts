/** What an enqueue promises: what was acknowledged is there, what was rolled back is not, and it arrives unchanged. */
import type { Invariant } from "./invariant.ts"

const inserts = "('one', 'many', 'transaction', 'unique', 'diamond', 'batch', 'crowd')"

export const enqueue: ReadonlyArray<Invariant> = [
  {
    id: "I1",
    says: "no acknowledged or committed job is lost: each has ended",
    cases: "SELECT count(*) FROM step WHERE move = 'insert'",
    offenders: `
      SELECT job, 'acknowledged' AS what, f.state
      FROM client AS c LEFT JOIN final AS f ON f.id = c.job
      WHERE c.op IN ${inserts} AND c.phase = 'ack' AND f.finished_at IS NULL
      UNION ALL
      SELECT s.id, 'committed', f.state
      FROM step AS s LEFT JOIN final AS f ON f.id = s.id
      WHERE s.move = 'insert' AND f.finished_at IS NULL`
  },
  {
    id: "I2",
    // The parts of a fan-out are meant by who adds them, who is the head of their keys.
    says: "no job is invented: each row and each start has an intent",
    cases: "SELECT count(*) FROM handler WHERE kind = 'start'",
    offenders: `
      SELECT key, 'start' AS what FROM handler AS h
      WHERE kind = 'start' AND NOT EXISTS (SELECT FROM client AS c WHERE c.key = split_part(h.key, '/', 1) AND c.phase = 'intent')
      UNION ALL
      SELECT key, 'row' FROM step AS s
      WHERE move = 'insert' AND NOT EXISTS (SELECT FROM client AS c WHERE c.key = split_part(s.key, '/', 1) AND c.phase = 'intent')`
  },
  {
    id: "I2b",
    says: "one enqueue, or part of a fan-out, makes one row at most, whatever happens to its reply",
    cases: "SELECT count(DISTINCT key) FROM step WHERE move = 'insert'",
    offenders: "SELECT key, count(*) FROM step WHERE move = 'insert' AND key <> 'tick' GROUP BY key HAVING count(*) > 1"
  },
  {
    id: "I12",
    says: "a rolled back enqueue leaves no row and starts nothing",
    cases: "SELECT count(*) FROM client WHERE op = 'rollback' AND phase = 'intent'",
    offenders: `
      SELECT c.key FROM client AS c
      WHERE c.op = 'rollback' AND c.phase = 'intent'
        AND (EXISTS (SELECT FROM step AS s WHERE s.key = c.key) OR EXISTS (SELECT FROM handler AS h WHERE h.key = c.key))`
  },
  {
    id: "I12b",
    says: "a transaction commits all of its jobs or none",
    cases: "SELECT count(DISTINCT tx) FROM step WHERE move = 'insert'",
    offenders: `
      SELECT c.key FROM client AS c
      WHERE c.op IN ${inserts} AND c.phase = 'ack'
        -- A unique one may be somebody else's.
        AND NOT EXISTS (
          SELECT FROM step AS s
          WHERE s.id = c.job AND (s.key = c.key OR c.op = 'unique' AND s.slot IS NOT NULL) AND s.move = 'insert'
        )`
  },
  {
    id: "I21",
    says: "no job is claimed before it is due, nor started before the delay that was asked for",
    cases: "SELECT count(*) FROM client WHERE phase = 'intent' AND (detail ->> 'delay')::integer > 0",
    offenders: `
      SELECT id, 'claim' AS what FROM step WHERE move = 'claim' AND ts < run_at
      UNION ALL
      SELECT h.job, 'start' FROM handler AS h JOIN client AS c ON c.key = h.key AND c.phase = 'intent'
      WHERE h.kind = 'start' AND (c.detail ->> 'delay')::integer > 0
        AND h.ts < c.ts + (c.detail ->> 'delay')::integer * interval '1 millisecond'
        -- An operator's retry hurries it.
        AND NOT EXISTS (SELECT FROM step AS s WHERE s.id = h.job AND s.move = 'retry')`
  },
  {
    id: "I22",
    says: "the args that a handler gets are those that were enqueued",
    cases: "SELECT count(*) FROM handler WHERE kind = 'start'",
    offenders: `
      SELECT h.job, h.args, c.detail -> 'args'
      FROM handler AS h JOIN client AS c ON c.key = h.key AND c.phase = 'intent'
      WHERE h.kind = 'start' AND h.args IS DISTINCT FROM c.detail -> 'args'`
  }
]
