/** Who did what. */
import { Empty, Page, Table, useGet } from "./kit.tsx"
import { Time } from "./time.tsx"

export const Audit = ({ search }: { readonly search: URLSearchParams }) => {
  const after = search.get("after")
  const audit = useGet("audit", `audit${after === null ? "" : `?after=${encodeURIComponent(after)}`}`)
  const rows = audit.data?.entries ?? []
  return (
    <Page title="Audit" query={audit}>
      {rows.length === 0 ? (
        <Empty>Nobody has changed anything in this dashboard yet.</Empty>
      ) : (
        <Table label="Audit" heads={["When", "Who", "Action", "Of what", "Outcome", "Detail"]}>
          {rows.map((row) => (
            <tr key={row.id}>
              <td>
                <Time at={row.at} />
              </td>
              <th scope="row">{row.user}</th>
              <td>{row.action}</td>
              <td>{row.subject}</td>
              <td>{row.outcome ?? "–"}</td>
              <td className="wide">{row.detail ?? ""}</td>
            </tr>
          ))}
        </Table>
      )}
      {audit.data?.next != null && <a href={`#/audit?after=${audit.data.next}`}>Older →</a>}
    </Page>
  )
}
