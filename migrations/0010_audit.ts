/**
 * Who did what: what operators asked for, and how far bulk operations have come.
 */
import { identifier } from "../src/internal/sql/quote.ts"

/** The statements, in order, for the given schema; its name is checked. */
export const statements = (schema: string): ReadonlyArray<string> => {
  const s = identifier(schema)
  return [
    `CREATE TABLE ${s}.audit (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at timestamptz(3) NOT NULL,
  actor text NOT NULL,
  action text NOT NULL,
  subject text NOT NULL,
  outcome text,
  detail text,
  progress jsonb,
  beat_at timestamptz(3),
  finished_at timestamptz(3),
  stop_requested boolean NOT NULL DEFAULT false,
  CONSTRAINT audit_outcome CHECK ((outcome IS NULL) = (beat_at IS NOT NULL AND finished_at IS NULL))
)`,
    `COMMENT ON COLUMN ${s}.audit.outcome IS 'Null for a bulk operation that has not ended.'`,
    `COMMENT ON COLUMN ${s}.audit.progress IS 'How far a bulk operation has come; null for what is done at once.'`,
    `COMMENT ON COLUMN ${s}.audit.beat_at IS 'When a bulk operation last told how far it has come.'`,
    `CREATE INDEX audit_at ON ${s}.audit (at)`,
    `CREATE INDEX audit_operations ON ${s}.audit (id) WHERE progress IS NOT NULL`
  ]
}
