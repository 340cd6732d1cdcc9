/**
 * What the workers of the fleet take, for those who enqueue without their code.
 */

/** The statements, in order, for the given schema; its name is a checked identifier. */
export const statements = (schema: string): ReadonlyArray<string> => {
  const s = `"${schema}"`
  return [
    `CREATE TABLE ${s}.workers (
  name text PRIMARY KEY,
  args jsonb NOT NULL,
  published_at timestamptz(3) NOT NULL
)`,
    `COMMENT ON COLUMN ${s}.workers.args IS 'The JSON Schema of its args, as the node that started last has it.'`
  ]
}
