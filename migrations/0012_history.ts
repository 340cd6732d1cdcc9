/**
 * What happened when: counts and times by minute, hour and day, and how much waited.
 */
import { identifier } from "../src/internal/sql/quote.ts"

/** The statements, in order, for the given schema; its name is checked. */
export const statements = (schema: string): ReadonlyArray<string> => {
  const s = identifier(schema)
  return [
    `CREATE TABLE ${s}.metrics (
  tier text NOT NULL,
  at timestamptz(3) NOT NULL,
  queue text NOT NULL,
  worker text NOT NULL,
  completed bigint NOT NULL,
  failed bigint NOT NULL,
  discarded bigint NOT NULL,
  cancelled bigint NOT NULL,
  snoozed bigint NOT NULL,
  run bigint[] NOT NULL,
  wait bigint[] NOT NULL,
  PRIMARY KEY (tier, at, queue, worker),
  CONSTRAINT metrics_tier CHECK (tier IN ('minute', 'hour', 'day'))
) WITH (fillfactor = 50)`,
    `COMMENT ON TABLE ${s}.metrics IS 'The rows of a tier whose queue and worker are empty hold the totals.'`,
    `COMMENT ON COLUMN ${s}.metrics.run IS 'How many attempts ran how long: one number for each bucket.'`,
    `COMMENT ON COLUMN ${s}.metrics.wait IS 'How many jobs waited how long for their first attempt.'`,
    `CREATE TABLE ${s}.depths (
  at timestamptz(3) NOT NULL,
  queue text NOT NULL,
  available integer NOT NULL,
  oldest_millis float8 NOT NULL,
  PRIMARY KEY (at, queue)
)`,
    `COMMENT ON TABLE ${s}.depths IS 'The first node of a minute looks for all; the row whose queue is empty holds the totals.'`
  ]
}
