import { maxNameBytes } from "../../src/internal/names.ts"

/** Legal, however odd: they work everywhere. */
export const oddNames: ReadonlyArray<string> = [
  "a",
  "emails.high/eu-1",
  "'; DROP TABLE shigoto.jobs; --",
  'quo"ted',
  "back\\slash",
  "50% off_now?&=#",
  "snö och 雪 \u{1f600}",
  "two  words",
  "constructor",
  "__proto__",
  "${boom}",
  "x".repeat(maxNameBytes),
  "\u{1f600}".repeat(maxNameBytes / 4)
]
