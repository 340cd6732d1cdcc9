/**
 * Room for each live job's second version on its own page.
 *
 * A claim rewrites the row once. On the same page the server logs only what changed, locks the old version once and
 * touches no second page; at 85 most new versions went elsewhere.
 */
import { identifier } from "../src/internal/sql/quote.ts"

/** The statements, in order, for the given schema; its name is checked. */
export const statements = (schema: string): ReadonlyArray<string> => [
  `ALTER TABLE ${identifier(schema)}.jobs SET (fillfactor = 50)`
]
