/** Tells a test what it expected and what there is. */
import type { JobRow } from "../../JobRow.ts"
import { mismatches, show } from "./matching.ts"
import type { Search } from "./search.ts"

/** What was expected, how many there were, and the jobs that come closest. */
export const report = (expectation: string, { candidates, matching, wanted }: Search): string => {
  const conditions = [
    ...(wanted.name === undefined ? [] : [`job    ${show(wanted.name)}`]),
    ...(wanted.args === undefined ? [] : [`args   ${show(wanted.args)}`]),
    ...(wanted.queue === undefined ? [] : [`queue  ${show(wanted.queue)}`]),
    ...(wanted.tags.length === 0 ? [] : [`tags   ${wanted.tags.map(show).join(", ")}`]),
    `state  ${wanted.states.join(", ")}`
  ]
  const nearest = candidates
    .map((candidate) => ({ candidate, why: mismatches(wanted, candidate) }))
    .filter(({ why }) => why.length > 0)
    .toSorted((a, b) => a.why.length - b.why.length || b.candidate.row.id - a.candidate.row.id)
    .slice(0, shownJobs)
  return [
    `Expected ${expectation} with`,
    ...conditions.map((condition) => `  ${condition}`),
    matching.length === 0 ? "but found none." : `but found ${matching.length}:`,
    ...matching.slice(0, shownJobs).map(({ row }) => `  ${line(row)}`),
    ...(matching.length > shownJobs ? [`  and ${matching.length - shownJobs} more`] : []),
    ...(matching.length === 0 && nearest.length > 0
      ? ["The nearest:", ...nearest.map(({ candidate, why }) => `  ${line(candidate.row)}\n    ${why.join("; ")}`)]
      : []),
    ...(matching.length === 0 && nearest.length === 0 ? ["There are no jobs at all."] : [])
  ].join("\n")
}

// internal

const shownJobs = 5

const line = (row: JobRow): string =>
  `#${row.id} ${show(row.worker)} in ${show(row.queue)}, ${row.state}, args ${show(row.args)}`
