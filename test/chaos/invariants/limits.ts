/** Limits over all nodes, and turns. */
import { queues } from "../settings.ts"
import { limits } from "../workload/jobs.ts"
import type { Invariant } from "./invariant.ts"

/** How many ran at the instant of each claim, itself included; rows are in the order in which they changed. */
const running = (among: string, together: string) => `
  SELECT c.id, c.seq, c.worker, c.part, (
    SELECT count(*) FROM stay AS r
    WHERE r.state = 'executing' AND ${together} AND r.seq <= c.seq AND coalesce(r.left, ${endless}) > c.seq
  ) AS running
  FROM step AS c WHERE c.move = 'claim' AND ${among}`

const endless = "9223372036854775807"

const all = running("c.worker = 'bounded'", "r.worker = 'bounded'")
const ofKey = running("c.queue = 'sites'", "r.worker = c.worker AND r.queue = 'sites' AND r.part = c.part")
const places = queues.sites.partitionConcurrency

/** How many other claims of the second before a claim there were, itself included. */
const starts = `
  SELECT id, seq, ts, count(*) OVER (ORDER BY ts RANGE BETWEEN interval '998 milliseconds' PRECEDING AND CURRENT ROW) AS starts
  FROM step WHERE worker = 'metered' AND move = 'claim'`

/** Windows of 20 claims of the fair queue through all of which a tenant had more waiting than one claim takes. */
const windows = `
  SELECT tenant.part, t.last, t.mine FROM (VALUES ('ada'), ('bob')) AS tenant (part)
  CROSS JOIN LATERAL (
    SELECT c.seq AS last, count(*) OVER twenty AS claims, count(*) FILTER (WHERE c.part = tenant.part) OVER twenty AS mine,
      min((
        SELECT count(*) FROM stay AS w
        WHERE w.state = 'available' AND w.queue = 'fair' AND w.part = tenant.part
          AND w.committed < c.stmt AND coalesce(w.left, ${endless}) > c.seq
      )) OVER twenty AS waiting
    FROM step AS c WHERE c.queue = 'fair' AND c.move = 'claim'
    WINDOW twenty AS (ORDER BY c.seq ROWS BETWEEN 19 PRECEDING AND CURRENT ROW)
  ) AS t
  WHERE t.claims = 20 AND t.waiting > ${queues.fair.concurrency}`

export const limited: ReadonlyArray<Invariant> = [
  {
    id: "I9",
    says: `of the bounded ${limits.running} run at once on all nodes together, of one key ${places}`,
    // Claims that took the last place.
    cases: `
      SELECT (SELECT count(*) FROM (${all}) AS a WHERE running = ${limits.running})
        + (SELECT count(*) FROM (${ofKey}) AS k WHERE running = ${places}) AS count`,
    offenders: `
      SELECT * FROM (${all}) AS a WHERE running > ${limits.running}
      UNION ALL
      SELECT * FROM (${ofKey}) AS k WHERE running > ${places}`
  },
  {
    id: "I10",
    says: `of the metered ${limits.starts} start in any second on all nodes together`,
    // Claims that used up a second.
    cases: `SELECT count(*) FROM (${starts}) AS s WHERE starts >= ${limits.starts} - 1`,
    offenders: `SELECT * FROM (${starts}) AS s WHERE starts > ${limits.starts}`
  },
  {
    id: "I18",
    says: "of 20 starts of two tenants with work each has eight",
    cases: `SELECT count(*) FROM (${windows}) AS w`,
    offenders: `SELECT * FROM (${windows}) AS w WHERE mine < 8`
  }
]
