/**
 * Keys that unique jobs hold, and the trigger that gives them back.
 *
 * A key is a row of its own, so that an insert of the same key waits for whoever holds it uncommitted and then sees
 * what became of it, at every isolation level. A job without a key costs its statements nothing but a check for null.
 */
import { identifier } from "../src/internal/sql/quote.ts"

/** The statements, in order, for the given schema; its name is checked. */
export const statements = (schema: string): ReadonlyArray<string> => {
  const s = identifier(schema)
  return [
    `ALTER TABLE ${s}.jobs ADD COLUMN unique_key bytea, ADD COLUMN unique_states smallint`,
    `ALTER TABLE ${s}.jobs_archive ADD COLUMN unique_key bytea, ADD COLUMN unique_states smallint`,
    `CREATE TABLE ${s}.unique_keys (
  key bytea PRIMARY KEY,
  job_id bigint NOT NULL,
  states smallint NOT NULL,
  first_at timestamptz(3) NOT NULL,
  expires_at timestamptz(3)
) WITH (fillfactor = 85)`,
    `COMMENT ON COLUMN ${s}.unique_keys.states IS 'In which states its job holds the key: bits in the order of a job''s life.'`,
    `CREATE INDEX unique_keys_expiry ON ${s}.unique_keys (expires_at) WHERE expires_at IS NOT NULL`,
    followFunction(schema),
    `REVOKE ALL ON FUNCTION ${s}.release_unique_key() FROM PUBLIC`,
    `CREATE TRIGGER jobs_unique_move AFTER UPDATE OF state ON ${s}.jobs
FOR EACH ROW WHEN (OLD.unique_key IS NOT NULL AND OLD.state IS DISTINCT FROM NEW.state)
EXECUTE FUNCTION ${s}.release_unique_key()`,
    `CREATE TRIGGER jobs_unique_end AFTER DELETE ON ${s}.jobs
FOR EACH ROW WHEN (OLD.unique_key IS NOT NULL)
EXECUTE FUNCTION ${s}.release_unique_key()`
  ]
}

// internal

/** Gives a key back in the transaction that takes its job out of the states that hold it. */
const followFunction = (schema: string): string =>
  `CREATE FUNCTION ${identifier(schema)}.release_unique_key() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $release$
DECLARE
  now_in text := NULL;
BEGIN
  IF TG_OP = 'UPDATE' THEN
    now_in := NEW.state;
  ELSIF OLD.unique_states & 224 <> 0 THEN
    -- It ended in a state that may hold the key; the archive knows which, unless nothing is kept of it.
    SELECT a.state INTO now_in
    FROM ${identifier(schema)}.jobs_archive AS a
    WHERE a.id = OLD.id;
  END IF;
  DELETE FROM ${identifier(schema)}.unique_keys AS u
  WHERE u.key = OLD.unique_key
    AND u.job_id = OLD.id
    AND (now_in IS NULL OR u.states & CASE now_in
      WHEN 'scheduled' THEN 1
      WHEN 'blocked' THEN 2
      WHEN 'available' THEN 4
      WHEN 'executing' THEN 8
      WHEN 'retryable' THEN 16
      WHEN 'completed' THEN 32
      WHEN 'discarded' THEN 64
      WHEN 'cancelled' THEN 128
      ELSE 0
    END = 0);
  RETURN NULL;
END
$release$`
