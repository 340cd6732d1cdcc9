/** Jobs that failed alike. */
import { useState } from "react"
import { type Answers, term } from "./api.ts"
import { Bulk } from "./Bulk.tsx"
import { Empty, jobsLink, number, Page, queueLink, Table, useCan, useGet, workerLink } from "./kit.tsx"
import { Time } from "./time.tsx"

export const FailureTable = ({ rows }: { readonly rows: Answers["failures"] }) => {
  const can = useCan()
  const [operation, setOperation] = useState<{ readonly action: "retry" | "cancel"; readonly q: string }>()
  if (rows.length === 0) return <Empty>Nothing fails.</Empty>
  const acts = (["retry", "cancel"] as const).filter((action) => can(`jobs:${action}`))
  return (
    <>
      {operation !== undefined && <Bulk {...operation} onClose={() => setOperation(undefined)} />}
      <Table
        label="Failures"
        heads={[
          { count: "Jobs" },
          "Failure",
          "Worker",
          "First",
          "Last",
          "Example",
          ...(acts.length > 0 ? ["Control"] : [])
        ]}
      >
        {rows.map((row) => {
          const q = term("fingerprint", row.fingerprint)
          return (
            <tr key={row.fingerprint}>
              <th scope="row" className="number">
                <a href={jobsLink(q)}>
                  {number(row.count)}
                  {row.isExact ? "" : "+"}
                </a>
              </th>
              <td className="wide">
                <b>{row.tag}</b> {row.message.slice(0, 200)}
              </td>
              <td>
                <a href={workerLink(row.worker)}>{row.worker}</a>{" "}
                <small>
                  in <a href={queueLink(row.queue)}>{row.queue}</a>
                </small>
              </td>
              <td>
                <Time at={row.firstSeen} />
              </td>
              <td>
                <Time at={row.lastSeen} />
              </td>
              <td>
                <a href={`#/jobs/${row.sample}`}>#{row.sample}</a>
              </td>
              {acts.length > 0 && (
                <td className="nowrap">
                  {acts.map((action) => (
                    <button
                      key={action}
                      type="button"
                      onClick={() => setOperation({ action, q })}
                      aria-label={`${action === "retry" ? "Retry" : "Cancel"} all of ${row.fingerprint}`}
                    >
                      {action === "retry" ? "Retry all" : "Cancel all"}
                    </button>
                  ))}
                </td>
              )}
            </tr>
          )
        })}
      </Table>
    </>
  )
}

export const Failures = () => {
  const failures = useGet("failures", "failures")
  return (
    <Page title="Failures" query={failures}>
      <p className="dim">Failures that differ in numbers, ids and quoted texts alone count as one.</p>
      <FailureTable rows={failures.data ?? []} />
    </Page>
  )
}
