/** The database behind it all, and the settings of the process that serves this page. */
import { Json } from "./json.tsx"
import { Empty, Facts, number, Page, size, Table, useGet } from "./kit.tsx"
import { duration, Time } from "./time.tsx"

export const System = () => {
  const system = useGet("system", "system")
  const row = system.data
  return (
    <Page title="System" query={system}>
      {row !== undefined && (
        <>
          <p className={`lead ${row.status === "ok" ? "good" : "bad"}`}>
            {row.status === "ok" ? "● all is well" : `▲ ${row.status}`}
          </p>
          <ul className="problems" aria-label="Reasons">
            {row.reasons.map((reason) => (
              <li key={`${reason.tag} ${reason.message}`}>{reason.message}</li>
            ))}
          </ul>
          <Facts
            facts={[
              ["PostgreSQL", row.postgres ?? "–"],
              [
                "Schema",
                row.schema.found === row.schema.expected
                  ? `version ${row.schema.expected}`
                  : `version ${row.schema.found ?? "unknown"}, this code wants ${row.schema.expected}`
              ],
              ["Dead rows", row.deadRows === null ? "–" : number(row.deadRows)],
              [
                "Oldest transaction",
                row.oldestTransactionSeconds === null ? "–" : duration(row.oldestTransactionSeconds * 1000)
              ],
              ["Notifications", row.listening ? "arrive" : "do not arrive: this process polls"]
            ]}
          />
          <h2>Tables</h2>
          {row.tables.length === 0 ? (
            <Empty>Their sizes span all queues, or may not be read by this role.</Empty>
          ) : (
            <Table
              label="Tables"
              heads={["Table", { count: "Takes" }, { count: "Rows, ≈" }, { count: "Dead rows" }, "Vacuumed"]}
            >
              {row.tables.map((table) => (
                <tr key={table.name}>
                  <th scope="row">{table.name}</th>
                  <td className="number">{size(table.bytes)}</td>
                  <td className="number">{number(table.rows)}</td>
                  <td className={table.deadRows > Math.max(5 * table.rows, 10_000) ? "number warn" : "number"}>
                    {number(table.deadRows)}
                  </td>
                  <td>
                    <Time at={table.vacuumedAt} />
                  </td>
                </tr>
              ))}
            </Table>
          )}
          <h2>Settings of this process</h2>
          <Json title="Settings" value={row.settings} />
          <p>
            <a href="api/openapi.json">The API of this dashboard as OpenAPI</a>
          </p>
        </>
      )}
    </Page>
  )
}
