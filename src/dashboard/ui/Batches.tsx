/** Batches and flows: how far they are, and, of a flow, what waits for what. */
import { lazy, Suspense } from "react"
import { type BatchDetail, type BatchView, query, term } from "./api.ts"
import { Action, Commands } from "./action.tsx"
import { Count, Empty, navigate, number, Page, Parts, State, Table, useCan, useGet, workerLink } from "./kit.tsx"
import { duration } from "./time.tsx"

const Graph = lazy(() => import("./graph.tsx"))

const snippet = `const newsletter = Batch.make("newsletter", { onFinished: Report.prepare({}) })

yield* newsletter.enqueue(SendEmail.prepareAll(readers))`

const partsOf = (batch: BatchView): ReadonlyArray<readonly [string, number]> => [
  ["completed", batch.completed],
  ["discarded", batch.discarded],
  ["cancelled", batch.cancelled],
  ["to go", batch.pending]
]

const Control = ({ batch }: { readonly batch: BatchView }) => {
  const can = useCan()
  return (
    <span className="row">
      {can("batches:retry") && batch.discarded + batch.cancelled > 0 && (
        <Action label="Retry failed" about={`of batch ${batch.id}`} path={`batches/${batch.id}/retry`} />
      )}
      {can("batches:cancel") && !batch.finished && (
        <Action
          label="Cancel"
          about={`batch ${batch.id}`}
          path={`batches/${batch.id}/cancel`}
          confirm={`${number(batch.pending)} members that have not ended are cancelled.`}
        />
      )}
    </span>
  )
}

const standing = (batch: BatchView): string =>
  batch.finished ? batch.outcome : batch.sealed ? "running" : "open: it may still get members"

export const Batches = ({ search }: { readonly search: URLSearchParams }) => {
  const finished = search.get("finished")
  const after = search.get("after")
  const batches = useGet("batches", `batches${query({ finished, after })}`)
  const rows = batches.data?.batches ?? []
  const next = batches.data?.next ?? null
  return (
    <Page title="Batches and flows" query={batches}>
      <nav className="tabs" aria-label="Which">
        {(
          [
            [null, "all"],
            ["false", "running"],
            ["true", "finished"]
          ] as const
        ).map(([value, label]) => (
          <a
            key={label}
            href={`#/batches${query({ finished: value })}`}
            aria-current={value === finished ? "page" : undefined}
          >
            {label}
          </a>
        ))}
      </nav>
      {rows.length === 0 ? (
        <Empty code={snippet}>There is no batch here.</Empty>
      ) : (
        <Table label="Batches" heads={["Batch", "Name", "Progress", "Standing", "Control"]}>
          {rows.map((row) => (
            <tr key={row.id}>
              <th scope="row">
                <a href={`#/batches/${row.id}`}>#{row.id}</a>
              </th>
              <td>{row.name}</td>
              <td className="wide">
                <Parts label={`Batch ${row.id}`} parts={partsOf(row)} />
              </td>
              <td>{standing(row)}</td>
              <td>
                <Control batch={row} />
              </td>
            </tr>
          ))}
        </Table>
      )}
      <p className="row">
        {after !== null && <button onClick={() => navigate("/batches", { finished })}>← First page</button>}
        {next !== null && (
          <button onClick={() => navigate("/batches", { finished, after: String(next) })}>Next page →</button>
        )}
      </p>
    </Page>
  )
}

export const BatchPage = ({ id }: { readonly id: number }) => {
  const detail = useGet("batch", `batches/${id}`)
  const batch = detail.data
  return (
    <Page
      title={batch === undefined ? `Batch #${id}` : `${batch.nodes.length > 0 ? "Flow" : "Batch"} #${id} ${batch.name}`}
      query={detail}
      actions={batch !== undefined && <Control batch={batch} />}
    >
      {batch !== undefined && (
        <>
          <p className="lead">
            {standing(batch)}, {number(batch.total - batch.pending)} of {number(batch.total)} have ended
            {batch.remainingMillis !== null && <>, ≈ {duration(batch.remainingMillis)} to go at the pace of the last</>}
            {batch.parent !== null && (
              <>
                , part of <a href={`#/batches/${batch.parent}`}>#{batch.parent}</a>
              </>
            )}
          </p>
          <Parts label="Progress" parts={partsOf(batch)} />
          <ul className="row plain" aria-label="Members by state">
            {Object.entries(batch.counts).map(([state, count]) => (
              <li key={state}>
                <State state={state} /> <Count q={`${term("batch", String(id))} state:${state}`} value={count} />
              </li>
            ))}
          </ul>
          {Object.entries(batch.callbacks).map(([occasion, job]) => (
            <p key={occasion}>
              On {occasion}: <a href={`#/jobs/${job}`}>#{job}</a>
            </p>
          ))}
          <Commands lines={["show", "retry", "cancel"].map((verb) => `shigoto batches ${verb} ${id}`)} />
          {batch.nodes.length > 0 && <Steps nodes={batch.nodes} />}
        </>
      )}
    </Page>
  )
}

/** The most steps that are drawn, and that the table shows: more of them tell nobody anything, and take a browser down. */
const most = 500

const Steps = ({ nodes }: { readonly nodes: BatchDetail["nodes"] }) => {
  const names = new Map(nodes.map(({ id, step }) => [id, step]))
  const isEnded = ({ state }: { readonly state: string }) => ["completed", "discarded", "cancelled"].includes(state)
  const shown =
    nodes.length <= most ? nodes : nodes.toSorted((a, b) => Number(isEnded(a)) - Number(isEnded(b))).slice(0, most)
  return (
    <>
      <h2>Steps</h2>
      {nodes.length <= most ? (
        <Suspense fallback={<p className="dim">Loading…</p>}>
          <Graph nodes={nodes} />
        </Suspense>
      ) : (
        <p className="dim">
          {number(nodes.length)} steps are too many to draw. These are {most} of them, those first that have not ended.
        </p>
      )}
      <Table
        label="Steps"
        heads={["Step", "Job", "Worker", "State", { count: "Attempt" }, "After", { count: "Parts" }]}
      >
        {shown.map((node) => (
          <tr key={node.id}>
            <th scope="row">{node.step}</th>
            <td>
              <a href={`#/jobs/${node.id}`}>#{node.id}</a>
            </td>
            <td>
              <a href={workerLink(node.worker)}>{node.worker}</a>
            </td>
            <td>
              <State state={node.state} /> {node.failure !== null && <small className="bad">{node.failure}</small>}
            </td>
            <td className="number">
              {node.attempt}/{node.maxAttempts}
            </td>
            <td>{node.after.map((parent) => names.get(parent) ?? `#${parent}`).join(", ") || "–"}</td>
            <td className="number">{node.children}</td>
          </tr>
        ))}
      </Table>
    </>
  )
}
