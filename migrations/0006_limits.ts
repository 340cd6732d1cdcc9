/**
 * Accounts of limits over all nodes, where whoever holds a row's lock decides what its limit admits, and the turns of
 * partitions in fair queues.
 */
import { identifier } from "../src/internal/sql/quote.ts"

/** The statements, in order, for the given schema; its name is checked. */
export const statements = (schema: string): ReadonlyArray<string> => {
  const s = identifier(schema)
  return [
    `CREATE TABLE ${s}.limits (
  name text NOT NULL,
  key text NOT NULL DEFAULT '',
  account jsonb NOT NULL DEFAULT '[]',
  held_until timestamptz(3),
  rule jsonb,
  places integer,
  updated_at timestamptz(3) NOT NULL,
  idle_at timestamptz(3) NOT NULL,
  PRIMARY KEY (name, key)
) WITH (fillfactor = 50)`,
    `COMMENT ON COLUMN ${s}.limits.key IS 'The partition key whose account it is; empty for the limit as a whole, whose lock is that of all.'`,
    `COMMENT ON COLUMN ${s}.limits.rule IS 'What an operator set in place of the rate that the code says.'`,
    `COMMENT ON COLUMN ${s}.limits.places IS 'The same for a concurrency.'`,
    `COMMENT ON COLUMN ${s}.limits.account IS 'What was spent, as [instant in milliseconds, amount] pairs.'`,
    `COMMENT ON COLUMN ${s}.limits.held_until IS 'Until when nothing is admitted, as a handler asked.'`,
    `COMMENT ON COLUMN ${s}.limits.idle_at IS 'From when on a row says no more than none would.'`,
    `CREATE TABLE ${s}.partitions (
  queue text NOT NULL,
  key text NOT NULL,
  pass float8 NOT NULL,
  served float8 NOT NULL,
  paused_at timestamptz(3),
  updated_at timestamptz(3) NOT NULL,
  PRIMARY KEY (queue, key)
) WITH (fillfactor = 50)`,
    `COMMENT ON COLUMN ${s}.partitions.pass IS 'Whose is the lowest is next; key is empty for jobs without one.'`,
    `CREATE INDEX jobs_partition ON ${s}.jobs (queue, partition_key, rank, run_at, id)
  WHERE state = 'available' AND partition_key IS NOT NULL`
  ]
}
