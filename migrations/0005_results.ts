/**
 * Results that somebody waits for, kept for some minutes whatever the retention is; and indexes to find failed jobs by
 * what they have in common, and finished ones by when they ended.
 */
import { identifier } from "../src/internal/sql/quote.ts"

/** The statements, in order, for the given schema; its name is checked. */
export const statements = (schema: string): ReadonlyArray<string> => {
  const s = identifier(schema)
  return [
    `CREATE TABLE ${s}.results (
  id bigint PRIMARY KEY,
  state text NOT NULL,
  result jsonb,
  failure jsonb,
  reason text,
  finished_at timestamptz(3) NOT NULL,
  CONSTRAINT results_state CHECK (state IN ('completed', 'discarded', 'cancelled'))
)`,
    `COMMENT ON TABLE ${s}.results IS 'How jobs ended whose ends somebody waits for; kept for some minutes.'`,
    `CREATE INDEX results_finished ON ${s}.results (finished_at)`,
    `CREATE INDEX jobs_fingerprint ON ${s}.jobs (fingerprint, id) WHERE fingerprint IS NOT NULL`,
    `CREATE INDEX jobs_archive_fingerprint ON ${s}.jobs_archive (fingerprint, id) WHERE fingerprint IS NOT NULL`,
    // Rows are written in the order of this time, so the ranges say all; a B-tree would cost every settle an entry.
    `CREATE INDEX jobs_archive_finished ON ${s}.jobs_archive USING brin (finished_at)
  WITH (pages_per_range = 32, autosummarize = on)`
  ]
}
