/**
 * Which queues a node runs everywhere: nodes that have them as ordinary ones leave their jobs alone.
 */
import { identifier } from "../src/internal/sql/quote.ts"

/** The statements, in order, for the given schema; its name is checked. */
export const statements = (schema: string): ReadonlyArray<string> => {
  const s = identifier(schema)
  return [
    `ALTER TABLE ${s}.nodes ADD COLUMN broadcasts text[]`,
    `COMMENT ON COLUMN ${s}.nodes.broadcasts IS 'The queues whose jobs every node runs, as this node is configured; null for none.'`
  ]
}
