/**
 * What handlers logged, for jobs whose logs are kept.
 */
import { identifier } from "../src/internal/sql/quote.ts"

/** The statements, in order, for the given schema; its name is checked. */
export const statements = (schema: string): ReadonlyArray<string> => {
  const s = identifier(schema)
  return [
    `CREATE TABLE ${s}.logs (
  job_id bigint NOT NULL,
  stored_at timestamptz(3) NOT NULL,
  logged_at timestamptz(3) NOT NULL,
  line integer NOT NULL,
  epoch integer NOT NULL,
  attempt smallint NOT NULL,
  level text NOT NULL,
  message jsonb NOT NULL
)`,
    `COMMENT ON COLUMN ${s}.logs.epoch IS 'Of the claim: an attempt that snoozed runs again under the same number.'`,
    `COMMENT ON COLUMN ${s}.logs.logged_at IS 'By the clock of the node that ran the attempt.'`,
    `CREATE INDEX logs_job ON ${s}.logs (job_id, epoch, line)`,
    `CREATE INDEX logs_stored ON ${s}.logs (stored_at)`
  ]
}
