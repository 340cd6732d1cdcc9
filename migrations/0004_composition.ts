/**
 * Edges between jobs, batches of jobs, and the mark on a job's row that says whether its end concerns anybody else.
 */
import { identifier } from "../src/internal/sql/quote.ts"

/** The statements, in order, for the given schema; its name is checked. */
export const statements = (schema: string): ReadonlyArray<string> => {
  const s = identifier(schema)
  return [
    `COMMENT ON COLUMN ${s}.jobs.links IS
  'Bits: 1 jobs wait for it, 2 it is in a batch, 4 it waits for jobs, 8 a dependency cancelled it, 16 its args come from its dependencies, 32 somebody waits for its result.'`,
    `CREATE INDEX jobs_blocked ON ${s}.jobs (id) WHERE state = 'blocked'`,
    `CREATE INDEX jobs_batch ON ${s}.jobs (batch_id, id) WHERE batch_id IS NOT NULL`,
    `CREATE INDEX jobs_archive_batch ON ${s}.jobs_archive (batch_id, id) WHERE batch_id IS NOT NULL`,
    `CREATE TABLE ${s}.dependencies (
  child_id bigint NOT NULL,
  parent_id bigint NOT NULL,
  on_failure text NOT NULL,
  name text,
  outcome text,
  result jsonb,
  PRIMARY KEY (child_id, parent_id),
  CONSTRAINT dependencies_order CHECK (child_id <> parent_id),
  CONSTRAINT dependencies_policy CHECK (on_failure IN ('cancel', 'run', 'hold')),
  CONSTRAINT dependencies_outcome CHECK (outcome IN ('completed', 'discarded', 'cancelled', 'pruned'))
) WITH (fillfactor = 85)`,
    `COMMENT ON COLUMN ${s}.dependencies.outcome IS 'How the parent ended; null while it lives.'`,
    `COMMENT ON COLUMN ${s}.dependencies.result IS 'The result of a parent whose row was not kept.'`,
    `CREATE INDEX dependencies_parent ON ${s}.dependencies (parent_id)`,
    `CREATE INDEX dependencies_pending ON ${s}.dependencies (child_id) WHERE outcome IS NULL`,
    `CREATE INDEX dependencies_failed ON ${s}.dependencies (child_id) WHERE outcome IN ('discarded', 'cancelled')`,
    `CREATE TABLE ${s}.batches (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  parent_id bigint,
  name text NOT NULL,
  input jsonb,
  total integer NOT NULL DEFAULT 0,
  pending integer NOT NULL DEFAULT 0,
  completed integer NOT NULL DEFAULT 0,
  discarded integer NOT NULL DEFAULT 0,
  cancelled integer NOT NULL DEFAULT 0,
  inserted_at timestamptz(3) NOT NULL,
  sealed_at timestamptz(3),
  finished_at timestamptz(3),
  callbacks jsonb NOT NULL DEFAULT '{}',
  fired jsonb NOT NULL DEFAULT '{}',
  CONSTRAINT batches_name CHECK (octet_length(name) BETWEEN 1 AND 128),
  CONSTRAINT batches_parent CHECK (parent_id < id)
) WITH (fillfactor = 50)`,
    `COMMENT ON COLUMN ${s}.batches.callbacks IS 'The jobs to insert, by occasion: finished, succeeded, failed.'`,
    `COMMENT ON COLUMN ${s}.batches.fired IS 'The ids of the callback jobs that were inserted, by occasion.'`,
    `CREATE INDEX batches_parent ON ${s}.batches (parent_id) WHERE parent_id IS NOT NULL`,
    `CREATE INDEX batches_finished ON ${s}.batches (finished_at) WHERE finished_at IS NOT NULL`
  ]
}
