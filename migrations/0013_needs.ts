/**
 * How old code may be: the step that older code does not survive says so, where older code can read it.
 */
import { identifier } from "../src/internal/sql/quote.ts"

/** The statements, in order, for the given schema; its name is checked. */
export const statements = (schema: string): ReadonlyArray<string> => {
  const s = identifier(schema)
  return [
    `ALTER TABLE ${s}.migrations ADD COLUMN needs integer`,
    `COMMENT ON COLUMN ${s}.migrations.needs IS 'The oldest step whose code works after this one; null where this step only adds.'`
  ]
}
