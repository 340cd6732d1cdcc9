/**
 * What the workers of the fleet take, for those who enqueue without their code.
 */
import { identifier } from "../src/internal/sql/quote.ts"

/** The statements, in order, for the given schema; its name is checked. */
export const statements = (schema: string): ReadonlyArray<string> => {
  const s = identifier(schema)
  return [
    `CREATE TABLE ${s}.workers (
  name text PRIMARY KEY,
  args jsonb NOT NULL,
  published_at timestamptz(3) NOT NULL
)`,
    `COMMENT ON COLUMN ${s}.workers.args IS 'The JSON Schema of its args, as the node that started last has it.'`
  ]
}
