/**
 * Which node has which copy of the jobs that every node runs.
 */
import { identifier } from "../src/internal/sql/quote.ts"

/** The statements, in order, for the given schema; its name is checked. */
export const statements = (schema: string): ReadonlyArray<string> => {
  const s = identifier(schema)
  return [
    `CREATE TABLE ${s}.broadcasts (
  job_id bigint NOT NULL,
  epoch integer NOT NULL,
  node integer NOT NULL,
  node_name text NOT NULL,
  copy_id bigint NOT NULL,
  queue text NOT NULL,
  until timestamptz(3) NOT NULL,
  opens boolean NOT NULL,
  PRIMARY KEY (job_id, epoch, node)
)`,
    `CREATE INDEX broadcasts_open ON ${s}.broadcasts (queue, until) WHERE opens`,
    `CREATE UNIQUE INDEX broadcasts_copy ON ${s}.broadcasts (copy_id)`,
    `CREATE INDEX broadcasts_until ON ${s}.broadcasts (until)`,
    `COMMENT ON TABLE ${s}.broadcasts IS 'Copies of broadcast jobs: one for each incarnation of a node, and each life of the job.'`,
    `COMMENT ON COLUMN ${s}.broadcasts.opens IS 'Whether it is the first of its job: there is one.'`
  ]
}
