/** What must hold of every run: a query over the event log that returns the rows that break it. */

export interface Invariant {
  readonly id: string
  readonly says: string
  /** Its first column names the offender. */
  readonly offenders: string
  /** Whether a machine that is slow enough breaks it: then it is told, and does not count, in `--ci`. */
  readonly timed?: boolean
  /** How often it was put to the test: a count of the cases that could have broken it. */
  readonly cases: string
}

/** Kinds of fault that keep everybody from the database, or from all that is to be written there. */
export const outages = "('restart', 'lock', 'timeouts', 'read-only', 'disk-full', 'terminate')"
