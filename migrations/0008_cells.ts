/**
 * Values that many processes change as a whole: shared circuits, and the stores behind Effect's rate limiter and
 * circuit breaker.
 */
import { identifier } from "../src/internal/sql/quote.ts"

/** The statements, in order, for the given schema; its name is checked. */
export const statements = (schema: string): ReadonlyArray<string> => {
  const s = identifier(schema)
  return [
    `CREATE TABLE ${s}.cells (
  name text PRIMARY KEY,
  value jsonb NOT NULL,
  version bigint NOT NULL,
  idle_at timestamptz(3) NOT NULL
) WITH (fillfactor = 50)`,
    `COMMENT ON COLUMN ${s}.cells.version IS 'Rises with each change; a change names the version that it has seen.'`,
    `COMMENT ON COLUMN ${s}.cells.idle_at IS 'From when on a row says no more than none would.'`
  ]
}
