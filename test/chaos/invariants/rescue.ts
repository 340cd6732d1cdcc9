/** What becomes of the jobs of a process that ends, well or badly. */
import { rescueBound } from "../settings.ts"
import { type Invariant, outages } from "./invariant.ts"

/** What the dead held as they died. */
const orphans = `
  SELECT k.process, k.ts AS died, h.id, h.until, h.left_by
  FROM fleet AS k
  JOIN node AS n ON n.name = k.process
  JOIN stay AS h ON h.node = n.id AND h.state = 'executing' AND h.since < k.ts AND coalesce(h.until, 'infinity') > k.ts
  WHERE k.event = 'exit'`

/** How a process was told to stop, and when it had. */
const stops = `
  SELECT t.process, t.ts AS told, e.ts AS ended
  FROM fleet AS t JOIN fleet AS e ON e.process = t.process AND e.event = 'exit'
  JOIN fleet AS r ON r.process = t.process AND r.event = 'ready' AND r.ts < t.ts
  WHERE t.event = 'term' AND e.detail ->> 'code' IS DISTINCT FROM '77'
    AND NOT EXISTS (SELECT FROM fleet AS k WHERE k.process = t.process AND k.event = 'kill')
    AND NOT EXISTS (
      SELECT FROM trouble AS f
      -- Cut connections are no excuse: there are others.
      WHERE (f.target = t.process AND f.kind <> 'term' OR f.kind IN ${outages} AND f.kind <> 'terminate')
        AND f.since < e.ts AND f.until > t.ts
    )`

export const rescue: ReadonlyArray<Invariant> = [
  {
    id: "I13",
    timed: true,
    says: "a process that stops with the database at hand leaves nothing executing",
    cases: `SELECT count(*) FROM (${stops}) AS s`,
    offenders: `
      SELECT o.id, o.process FROM (${orphans}) AS o JOIN (${stops}) AS s ON s.process = o.process`
  },
  {
    id: "I15",
    timed: true,
    says: `what a dead process held is taken from it within ${rescueBound} ms, outages not counted`,
    cases: `SELECT count(*) FROM (${orphans}) AS o`,
    offenders: `
      SELECT o.id, o.process, o.until - o.died AS took
      FROM (${orphans}) AS o
      WHERE coalesce(o.until, 'infinity') > o.died + interval '${rescueBound} milliseconds' + coalesce((
        SELECT sum(least(f.until, o.until) - greatest(f.since, o.died)) FROM trouble AS f
        WHERE f.kind IN ${outages} AND f.since < o.until AND f.until > o.died
      ), interval '0')`
  },
  {
    id: "I19",
    says: "no process ends by itself once it has started",
    cases: "SELECT count(*) FROM fleet WHERE event = 'ready'",
    offenders: `
      SELECT e.process, e.detail FROM fleet AS e
      WHERE e.event = 'exit'
        AND EXISTS (SELECT FROM fleet AS r WHERE r.process = e.process AND r.event = 'ready')
        AND NOT EXISTS (SELECT FROM fleet AS k WHERE k.process = e.process AND k.event IN ('kill', 'term'))
        AND NOT EXISTS (
          SELECT FROM handler AS h
          WHERE h.process = e.process AND h.kind = 'start' AND h.args ->> 'kind' = 'exit' AND e.detail ->> 'code' = '77'
        )`
  },
  {
    id: "I19a",
    timed: true,
    says: "each process stops within 20 seconds of being told to",
    cases: "SELECT count(*) FROM fleet WHERE event = 'term'",
    offenders: "SELECT process, detail FROM fleet WHERE event = 'deaf'"
  }
]
