/**
 * For how long each node says that finished jobs are kept: the longest counts.
 */
import { identifier } from "../src/internal/sql/quote.ts"

/** The statements, in order, for the given schema; its name is checked. */
export const statements = (schema: string): ReadonlyArray<string> => {
  const s = identifier(schema)
  return [
    `ALTER TABLE ${s}.nodes ADD COLUMN retention jsonb NOT NULL DEFAULT '{}'`,
    `COMMENT ON COLUMN ${s}.nodes.retention IS 'For how many milliseconds it wants finished jobs kept, by their state.'`
  ]
}
