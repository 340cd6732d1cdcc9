/**
 * Cron entries, their ledger of ticks, and the leases of leaders.
 */
import { identifier } from "../src/internal/sql/quote.ts"

/** The statements, in order, for the given schema; its name is checked. */
export const statements = (schema: string): ReadonlyArray<string> => {
  const s = identifier(schema)
  return [
    `CREATE TABLE ${s}.cron (
  name text PRIMARY KEY,
  source text NOT NULL,
  expression text NOT NULL,
  timezone text NOT NULL,
  on_gap text,
  on_overlap text,
  worker text NOT NULL,
  queue text NOT NULL,
  args jsonb NOT NULL,
  priority smallint NOT NULL,
  max_attempts smallint NOT NULL,
  tags text[],
  meta jsonb,
  partition_key text,
  expires_in_millis float8,
  on_expire text,
  catch_up jsonb NOT NULL,
  overlap text NOT NULL,
  jitter_millis integer NOT NULL DEFAULT 0,
  live_jobs bigint[] NOT NULL DEFAULT '{}',
  last_tick timestamptz(3) NOT NULL,
  next_tick timestamptz(3),
  paused_at timestamptz(3),
  problem text,
  inserted_at timestamptz(3) NOT NULL,
  updated_at timestamptz(3) NOT NULL,
  CONSTRAINT cron_source CHECK (source IN ('code', 'database')),
  CONSTRAINT cron_overlap CHECK (overlap IN ('allow', 'skip', 'queueOne', 'cancelRunning')),
  CONSTRAINT cron_dst CHECK (on_gap IN ('run', 'skip') AND on_overlap IN ('first', 'both')),
  CONSTRAINT cron_catch_up CHECK (
    coalesce(catch_up ->> '_tag' IN ('skip', 'latest'), false)
    OR coalesce(catch_up ->> '_tag' = 'all'
      AND jsonb_typeof(catch_up -> 'max') = 'number'
      AND jsonb_typeof(catch_up -> 'windowMillis') = 'number', false)
  )
)`,
    `COMMENT ON COLUMN ${s}.cron.last_tick IS 'Ticks up to here have been dealt with.'`,
    `COMMENT ON COLUMN ${s}.cron.live_jobs IS 'Jobs of ticks that may not have ended; kept where the overlap policy asks.'`,
    `CREATE INDEX cron_next ON ${s}.cron (next_tick) WHERE paused_at IS NULL`,
    `CREATE TABLE ${s}.cron_ticks (
  name text NOT NULL,
  tick timestamptz(3) NOT NULL,
  outcome text NOT NULL,
  job_id bigint,
  inserted_at timestamptz(3) NOT NULL,
  PRIMARY KEY (name, tick),
  CONSTRAINT cron_ticks_outcome CHECK (outcome IN ('inserted', 'skipped'))
)`,
    `CREATE TABLE ${s}.leaders (
  name text PRIMARY KEY,
  node integer NOT NULL,
  term bigint NOT NULL,
  expires_at timestamptz(3) NOT NULL
) WITH (fillfactor = 50)`,
    `COMMENT ON TABLE ${s}.leaders IS 'Who does a shared chore; an optimisation, never a guard.'`
  ]
}
