/** Who runs jobs: nodes, workers, what limits them, and the database behind them. */
import { useState } from "react"
import { term } from "./api.ts"
import { Charts } from "./Overview.tsx"
import { Action, duration, Empty, Json, jobsLink, JobsOf, number, Page, Table, Time, useCan, useGet } from "./kit.tsx"

const snippet = `SendEmail.toLayer(({ to }) => deliver(to)).pipe(Layer.provideMerge(ShigotoLive))`

export const Nodes = () => {
  const nodes = useGet("nodes", "nodes")
  const rows = nodes.data ?? []
  return (
    <Page title="Nodes" query={nodes}>
      <p className="dim">A node is a process that runs jobs; it holds a lease that it renews.</p>
      {rows.length === 0 ? (
        <Empty code={snippet}>No process runs jobs: they wait.</Empty>
      ) : (
        <Table
          label="Nodes"
          heads={["Node", "Lease", "Up for", "Running", "Queues and slots", "Workers", "Loop lag", "Notified"]}
        >
          {rows.map((row) => (
            <tr key={row.id}>
              <th scope="row">
                {row.name} <small className="dim">#{row.id}</small>
              </th>
              <td className={row.live ? "good" : "bad"}>
                {row.live ? "● live" : `✕ silent for ${duration(row.silentMillis)}`}
              </td>
              <td>
                <Time at={row.startedAt} />
              </td>
              <td>{row.executing ?? "–"}</td>
              <td>
                {row.queues.map(({ concurrency, name }) => (
                  <a key={name} className="tag" href={`#/queues/${encodeURIComponent(name)}`}>
                    {name} {concurrency}
                  </a>
                ))}
              </td>
              <td>{row.workers.length}</td>
              <td className={row.lagMillis > 500 ? "warn" : ""}>{duration(row.lagMillis)}</td>
              <td>{row.listening ? "yes" : "no, it polls"}</td>
            </tr>
          ))}
        </Table>
      )}
    </Page>
  )
}

export const Workers = () => {
  const workers = useGet("workers", "workers")
  const rows = workers.data ?? []
  return (
    <Page title="Workers" query={workers}>
      <p className="dim">A worker is a kind of job with its handler; the processes are called nodes.</p>
      {rows.length === 0 ? (
        <Empty code={snippet}>No live node runs any kind of job.</Empty>
      ) : (
        <Table label="Workers" heads={["Worker", "Nodes", "Jobs"]}>
          {rows.map((row) => (
            <tr key={row.name}>
              <th scope="row">
                <a href={`#/workers/${encodeURIComponent(row.name)}`}>{row.name}</a>
              </th>
              <td>{row.nodes.join(", ")}</td>
              <td>
                <JobsOf field="worker" value={row.name} />
              </td>
            </tr>
          ))}
        </Table>
      )}
    </Page>
  )
}

export const WorkerPage = ({ name }: { readonly name: string }) => {
  const worker = useGet("worker", `workers/${encodeURIComponent(name)}`)
  const can = useCan()
  const row = worker.data
  return (
    <Page title={`Worker ${name}`} query={worker}>
      {row !== undefined && (
        <>
          <p className="lead">
            {row.nodes.length === 0 ? (
              <span className="warn">No live node runs it: its jobs wait.</span>
            ) : (
              `Runs on ${row.nodes.join(", ")}`
            )}{" "}
            <a href={jobsLink(term("worker", name))}>Its jobs</a>
          </p>
          <h2>Throughput and latency</h2>
          <Charts span="1h" worker={name} />
          {can("jobs:enqueue") && row.schema !== null && <Enqueue name={name} schema={row.schema} />}
          <Json title="Args" value={row.schema} />
        </>
      )}
    </Page>
  )
}

interface Shape {
  readonly type?: unknown
  readonly properties?: Readonly<Record<string, { readonly type?: unknown; readonly enum?: ReadonlyArray<unknown> }>>
  readonly required?: ReadonlyArray<string>
}

/** The properties that have a field of their own; none for args that are written as JSON. */
const fieldsOf = (document: unknown) => {
  const { schema = {} } = (document ?? {}) as { readonly schema?: Shape } // what the worker has published
  const properties = Object.entries(schema.properties ?? {})
  const isPlain = properties.every(
    ([, { enum: values, type }]) =>
      values !== undefined || type === "string" || type === "number" || type === "integer" || type === "boolean"
  )
  return properties.length > 0 && isPlain
    ? properties.map(([key, of]) => ({ key, of, isNeeded: schema.required?.includes(key) ?? false }))
    : []
}

const Enqueue = ({ name, schema }: { readonly name: string; readonly schema: unknown }) => {
  const fields = fieldsOf(schema)
  const [values, setValues] = useState<Readonly<Record<string, string>>>({})
  const [text, setText] = useState("{}")
  const [delay, setDelay] = useState("")
  const read = (): { readonly args: unknown } | { readonly problem: string } => {
    if (fields.length === 0) {
      try {
        return { args: JSON.parse(text) as unknown }
      } catch (error) {
        return { problem: error instanceof Error ? error.message : String(error) }
      }
    }
    const args: Record<string, unknown> = {}
    for (const { isNeeded, key, of } of fields) {
      const value = values[key] ?? ""
      if (value === "" && (!isNeeded || of.type !== "string")) {
        if (isNeeded) return { problem: `${key} is missing.` }
        continue
      }
      if (of.type === "number" || of.type === "integer") args[key] = Number(value)
      else if (of.type === "boolean") args[key] = value === "true"
      else args[key] = value
    }
    return { args }
  }
  const got = read()
  return (
    <section aria-label="Enqueue" className="card">
      <h2>Enqueue one</h2>
      {fields.length === 0 ? (
        <label>
          Args as JSON
          <textarea rows={6} value={text} onChange={(event) => setText(event.target.value)} spellCheck={false} />
        </label>
      ) : (
        <div className="fields">
          {fields.map(({ isNeeded, key, of }) => (
            <label key={key}>
              <span>
                {key} {isNeeded ? "" : <span className="dim">optional</span>}
              </span>
              {of.enum !== undefined || of.type === "boolean" ? (
                <select
                  value={values[key] ?? ""}
                  onChange={(event) => setValues({ ...values, [key]: event.target.value })}
                >
                  <option value="">–</option>
                  {(of.enum ?? [true, false]).map((one) => (
                    <option key={String(one)}>{String(one)}</option>
                  ))}
                </select>
              ) : (
                <input
                  type={of.type === "string" ? "text" : "number"}
                  step={of.type === "integer" ? 1 : "any"}
                  value={values[key] ?? ""}
                  onChange={(event) => setValues({ ...values, [key]: event.target.value })}
                  autoComplete="off"
                />
              )}
            </label>
          ))}
        </div>
      )}
      <label>
        Delay in seconds{" "}
        <input type="number" min={0} value={delay} onChange={(event) => setDelay(event.target.value)} />
      </label>
      <p className="row">
        {"problem" in got ? (
          <span className="dim">{got.problem}</span>
        ) : (
          <Action
            label="Enqueue"
            about={name}
            path={`workers/${encodeURIComponent(name)}/enqueue`}
            body={{ args: got.args, ...(delay !== "" && { delayMillis: Math.round(Number(delay) * 1000) }) }}
          />
        )}
      </p>
    </section>
  )
}

export const Limits = () => {
  const limits = useGet("limits", "limits")
  const breakers = useGet("breakers", "breakers")
  const can = useCan()
  const rows = limits.data ?? []
  const circuits = breakers.data ?? []
  return (
    <Page title="Limits and circuits" query={limits}>
      {rows.length === 0 ? (
        <Empty code={`Job.toLayer(handler, { globalConcurrency: 3, rateLimit: { limit: 100, window: "10 seconds" } })`}>
          Nothing limits workers over all nodes.
        </Empty>
      ) : (
        <Table label="Limits" heads={["Worker", "Running", "Limit", "Rate", "Room", "Held until"]}>
          {rows.map((row) => (
            <tr key={row.worker}>
              <th scope="row">{row.worker}</th>
              <td>{number(row.running)}</td>
              <td>{row.concurrency ?? "–"}</td>
              <td>
                {row.rate === null
                  ? "–"
                  : `${number(row.rate.limit)} in ${duration(row.rate.windowMillis)} (${row.rate.algorithm}, as ${row.rate.name})`}
              </td>
              <td>{row.rate === null ? "–" : number(Math.floor(row.rate.room))}</td>
              <td>
                <Time at={row.rate?.heldUntil ?? null} />
              </td>
            </tr>
          ))}
        </Table>
      )}
      <h2>Circuits</h2>
      {circuits.length === 0 ? (
        <p className="dim">None: neither a shared one nor one of the process that serves this page.</p>
      ) : (
        <Table label="Circuits" heads={["Worker", "State", "Since", "Kept", "Control"]}>
          {circuits.map((row) => (
            <tr key={row.worker}>
              <th scope="row">{row.worker}</th>
              <td className={row.state === "closed" ? "good" : "bad"}>{row.state}</td>
              <td>
                <Time at={row.since} />
              </td>
              <td>{row.shared ? "for all nodes" : "for this process"}</td>
              <td>
                {can("breakers:close") && row.state !== "closed" && (
                  <Action label="Close" about={row.worker} path={`breakers/${encodeURIComponent(row.worker)}/close`} />
                )}
              </td>
            </tr>
          ))}
        </Table>
      )}
    </Page>
  )
}

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
          <dl>
            {(
              [
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
              ] as const
            ).map(([name, value]) => (
              <div key={name}>
                <dt>{name}</dt>
                <dd>{value}</dd>
              </div>
            ))}
          </dl>
          <p>
            <a href="api/openapi.json">The API of this dashboard as OpenAPI</a>
          </p>
        </>
      )}
    </Page>
  )
}

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
