/** The processes that run jobs. */
import { term } from "./api.ts"
import { Count, Empty, Page, queueLink, Table, useGet, workerLink } from "./kit.tsx"
import { duration, Time } from "./time.tsx"

/** What puts a worker on a node. */
export const workerSnippet = `SendEmail.toLayer(({ to }) => deliver(to)).pipe(Layer.provideMerge(ShigotoLive))`

export const Nodes = () => {
  const nodes = useGet("nodes", "nodes")
  const rows = nodes.data ?? []
  return (
    <Page title="Nodes" query={nodes}>
      <p className="dim">A node is a process that runs jobs; it holds a lease that it renews.</p>
      {rows.length === 0 ? (
        <Empty code={workerSnippet}>No process runs jobs: they wait.</Empty>
      ) : (
        <Table
          label="Nodes"
          heads={[
            "Node",
            "Lease",
            "Started",
            { count: "Running" },
            "Queues and slots",
            "Workers",
            { count: "Loop lag" },
            "Notified"
          ]}
        >
          {rows.map((row) => (
            <tr key={row.id}>
              <th scope="row" className="nowrap">
                {row.name} <small>#{row.id}</small>
              </th>
              <td className={row.live ? "good nowrap" : "bad nowrap"}>
                {row.live ? "● live" : `✕ silent for ${duration(row.silentMillis)}`}
              </td>
              <td>
                <Time at={row.startedAt} />
              </td>
              <td className="number">
                {row.executing === null ? (
                  "–"
                ) : (
                  <Count q={`${term("node", row.name)} state:executing`} value={row.executing} />
                )}
              </td>
              <td className="wide">
                {row.queues.map(({ concurrency, name }) => (
                  <a key={name} className="tag" href={queueLink(name)}>
                    {name} {concurrency}
                  </a>
                ))}
              </td>
              <td className="wide">
                {row.workers.map((name) => (
                  <a key={name} className="tag" href={workerLink(name)}>
                    {name}
                  </a>
                ))}
              </td>
              <td className={row.lagMillis > 500 ? "number warn" : "number"}>{duration(row.lagMillis)}</td>
              <td>{row.listening ? "yes" : "no, it polls"}</td>
            </tr>
          ))}
        </Table>
      )}
    </Page>
  )
}
