/** The kinds of jobs that live nodes run. */
import { term } from "./api.ts"
import { Charts } from "./Charts.tsx"
import { Enqueue } from "./Enqueue.tsx"
import { FailureTable } from "./Failures.tsx"
import { Json } from "./json.tsx"
import { Count, Empty, jobsLink, JobsOf, number, Page, Table, useCan, useGet, workerLink } from "./kit.tsx"
import { workerSnippet } from "./Nodes.tsx"
import { Activity, Runs } from "./spark.tsx"
import { duration } from "./time.tsx"

const percentile = (millis: number | undefined): string => (millis === undefined ? "–" : `≈ ${duration(millis)}`)

export const Workers = () => {
  const workers = useGet("workers", "workers")
  const activity = useGet("activity", "activity?by=worker")
  const rows = workers.data ?? []
  return (
    <Page title="Workers" query={workers}>
      <p className="dim">A worker is a kind of job with its handler; the processes are called nodes.</p>
      {rows.length === 0 ? (
        <Empty code={workerSnippet}>No live node runs any kind of job.</Empty>
      ) : (
        <Table
          label="Workers"
          heads={[
            "Worker",
            "Last hour",
            { count: "Completed" },
            { count: "Failed" },
            { count: "Run p50" },
            { count: "Run p95" },
            { count: "Wait p95" },
            "Nodes",
            "Jobs"
          ]}
        >
          {rows.map(({ name, nodes }) => {
            const of = activity.data?.find((one) => one.name === name)
            const ends = (of?.completed ?? 0) + (of?.failed ?? 0)
            const worker = term("worker", name)
            return (
              <tr key={name}>
                <th scope="row">
                  <a href={workerLink(name)}>{name}</a>
                </th>
                <td>
                  <Activity of={of} />
                </td>
                <td className="number">
                  <Count q={`${worker} state:completed`} value={of?.completed ?? 0} />
                </td>
                <td className={ends > 0 && (of?.failed ?? 0) > 0 ? "number bad" : "number"}>
                  <Count
                    q={`${worker} state:retryable,discarded`}
                    value={
                      of === undefined || of.failed === 0
                        ? 0
                        : `${number(of.failed)} (${Math.round((of.failed / ends) * 100)} %)`
                    }
                  />
                </td>
                <td className="number">{percentile(of?.run?.p50)}</td>
                <td className="number">{percentile(of?.run?.p95)}</td>
                <td className="number">{percentile(of?.wait?.p95)}</td>
                <td>{nodes.join(", ")}</td>
                <td>
                  <JobsOf field="worker" value={name} />
                </td>
              </tr>
            )
          })}
        </Table>
      )}
    </Page>
  )
}

export const WorkerPage = ({ name }: { readonly name: string }) => {
  const worker = useGet("worker", `workers/${encodeURIComponent(name)}`)
  const runs = useGet("jobs", `jobs?q=${encodeURIComponent(term("worker", name))}&order=finished&limit=60`)
  const failures = useGet("failures", "failures")
  const breakers = useGet("breakers", "breakers")
  const can = useCan()
  const row = worker.data
  const circuit = breakers.data?.find((one) => one.worker === name)
  return (
    <Page title={`Worker ${name}`} query={worker}>
      {row !== undefined && (
        <>
          <p className="lead">
            {row.nodes.length === 0 ? (
              <span className="warn">No live node runs it: its jobs wait.</span>
            ) : (
              `Runs on ${row.nodes.join(", ")}`
            )}
            {circuit !== undefined && (
              <>
                , its circuit is{" "}
                <a className={circuit.state === "closed" ? "good" : "bad"} href="#/limits">
                  {circuit.state}
                </a>
              </>
            )}{" "}
            <a href={jobsLink(term("worker", name))}>Its jobs</a>
          </p>
          <p>
            Last ends: <Runs q={term("worker", name)} jobs={runs.data?.jobs ?? []} />
          </p>
          <h2>Throughput and latency</h2>
          <Charts span="1h" worker={name} />
          <h2>Failing</h2>
          <FailureTable rows={(failures.data ?? []).filter((group) => group.worker === name)} />
          {can("jobs:enqueue") && row.schema !== null && <Enqueue name={name} schema={row.schema} />}
          <Json title="Schema of its args" value={row.schema} />
        </>
      )}
    </Page>
  )
}
