/** Jobs that failed alike. */
import { useState } from "react"
import { type Answers, term } from "./api.ts"
import { Bulk } from "./Bulk.tsx"
import { Empty, jobsLink, number, Page, Table, Time, useCan, useGet } from "./kit.tsx"

export const FailureTable = ({ rows }: { readonly rows: Answers["failures"] }) => {
  const can = useCan()
  const [operation, setOperation] = useState<{ readonly action: "retry" | "cancel"; readonly q: string }>()
  if (rows.length === 0) return <Empty>Nothing fails.</Empty>
  const acts = (["retry", "cancel"] as const).filter((action) => can(`jobs:${action}`))
  return (
    <>
      {operation !== undefined && <Bulk {...operation} onClose={() => setOperation(undefined)} />}
      <Table label="Failures" heads={["Jobs", "Failure", "Worker", "First", "Last", "Example", "Control"]}>
        {rows.map((row) => {
          const q = term("fingerprint", row.fingerprint)
          return (
            <tr key={row.fingerprint}>
              <th scope="row">
                <a href={jobsLink(q)}>
                  {number(row.count)}
                  {row.isExact ? "" : "+"}
                </a>
              </th>
              <td className="wide">
                <b>{row.tag}</b> {row.message.slice(0, 200)}
              </td>
              <td>
                {row.worker} <small className="dim">{row.queue}</small>
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
              <td>
                <span className="row">
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
                </span>
              </td>
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
