/**
 * The jobs that were given up and whose worker has yet to be told.
 */
import { identifier } from "../src/internal/sql/quote.ts"

/** The statements, in order, for the given schema; its name is checked. */
export const statements = (schema: string): ReadonlyArray<string> => {
  const s = identifier(schema)
  return [
    `CREATE TABLE ${s}.discards (
  job_id bigint NOT NULL,
  epoch integer NOT NULL,
  worker text NOT NULL,
  at timestamptz(3) NOT NULL,
  taken_by integer,
  job jsonb NOT NULL,
  PRIMARY KEY (job_id, epoch)
)`,
    `COMMENT ON TABLE ${s}.discards IS 'Jobs whose worker has yet to be told that they were given up; empty most of the time.'`,
    `COMMENT ON COLUMN ${s}.discards.taken_by IS 'The node that tells; null for none yet.'`,
    `COMMENT ON COLUMN ${s}.discards.job IS 'The row as it ended, which the history need not keep.'`
  ]
}
