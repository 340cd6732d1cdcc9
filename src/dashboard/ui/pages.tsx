/** The views. Text from the database is only ever text: React escapes it, and nothing here makes HTML of it. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query"
import { type ReactNode, useState } from "react"
import type { Permission } from "../Access.ts"
import { type Answers, get, post } from "./api.ts"

const glyphs: Readonly<Record<string, string>> = {
  scheduled: "◷",
  blocked: "⧖",
  available: "○",
  executing: "▶",
  retryable: "↻",
  completed: "✓",
  discarded: "✕",
  cancelled: "⊘"
}
const states = Object.keys(glyphs)

const useGet = <K extends keyof Answers>(kind: K, path: string) =>
  useQuery({ queryKey: [kind, path], queryFn: () => get(kind, path) })

const useCan = () => {
  const me = useGet("me", "me")
  return (permission: Permission) => me.data?.can.includes(permission) ?? false
}

const jobsLink = (filter: string) => `#/jobs?q=${encodeURIComponent(filter)}`
const quoted = (text: string) => (/^[\w.-]+$/.test(text) ? text : JSON.stringify(text))

const State = ({ state }: { readonly state: string }) => (
  <span className={`state ${state}`}>
    <span aria-hidden="true">{glyphs[state]}</span> {state}
  </span>
)

const Time = ({ at }: { readonly at: string | null }) => {
  if (at === null) return <>–</>
  // oxlint-disable-next-line no-restricted-properties -- the viewer's own clock
  const seconds = Math.round((Date.parse(at) - Date.now()) / 1000)
  const [unit, size] =
    (
      [
        ["day", 86400],
        ["hour", 3600],
        ["minute", 60]
      ] as const
    ).find(([, each]) => Math.abs(seconds) >= each) ?? (["second", 1] as const)
  const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" }).format(Math.trunc(seconds / size), unit)
  return (
    <time dateTime={at} title={at}>
      {relative}
    </time>
  )
}

const Page = (props: {
  readonly title: string
  readonly query: { readonly error: Error | null; readonly isPending: boolean }
  readonly children: ReactNode
}) => (
  <>
    <h1>{props.title}</h1>
    {props.query.error !== null && <p role="alert">{props.query.error.message}</p>}
    {props.query.isPending ? <p>Loading…</p> : props.children}
  </>
)

const Action = (props: { readonly label: string; readonly about: string; readonly path: string }) => {
  const client = useQueryClient()
  const action = useMutation({ mutationFn: () => post(props.path), onSettled: () => client.invalidateQueries() })
  const told = action.error?.message ?? action.data?.detail ?? action.data?.outcome
  return (
    <>
      <button
        type="button"
        disabled={action.isPending}
        onClick={() => action.mutate()}
        aria-label={`${props.label} ${props.about}`}
      >
        {props.label}
      </button>{" "}
      <span role="status">{told}</span>
    </>
  )
}

const Table = (props: {
  readonly label: string
  readonly heads: ReadonlyArray<string>
  readonly children: ReactNode
}) => (
  <div className="scroll" role="region" aria-label={props.label} tabIndex={0}>
    <table>
      <thead>
        <tr>
          {props.heads.map((head) => (
            <th key={head} scope="col">
              {head}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>{props.children}</tbody>
    </table>
  </div>
)

export const Overview = () => {
  const query = useGet("queues", "queues")
  const failures = useGet("failures", "failures")
  const rows = query.data?.queues ?? []
  const total = (state: string) => rows.reduce((sum, row) => sum + (row.counts[state] ?? 0), 0)
  const paused = rows.filter((row) => row.here?.paused)
  return (
    <Page title="Overview" query={query}>
      <ul className="tiles">
        {["available", "executing", "scheduled", "retryable", "blocked"].map((state) => (
          <li key={state}>
            <a href={jobsLink(`state:${state}`)}>
              <State state={state} />
              <b>{total(state).toLocaleString("en")}</b>
            </a>
          </li>
        ))}
      </ul>
      {paused.length > 0 && <p role="alert">Paused: {paused.map((row) => row.name).join(", ")}</p>}
      <QueueTable rows={rows} />
      <h2>Failing</h2>
      <FailureTable rows={(failures.data ?? []).slice(0, 5)} />
    </Page>
  )
}

const QueueTable = ({ rows }: { readonly rows: Answers["queues"]["queues"] }) => {
  const can = useCan()
  const shown = ["available", "executing", "scheduled", "retryable"]
  if (rows.length === 0)
    return <p className="empty">No queue has a job yet. Enqueue one, and its queue appears here.</p>
  return (
    <Table label="Queues" heads={["Queue", ...shown, "Slots here", "Control"]}>
      {rows.map((row) => (
        <tr key={row.name}>
          <th scope="row">
            <a href={jobsLink(`queue:${quoted(row.name)}`)}>{row.name}</a>
          </th>
          {shown.map((state) => (
            <td key={state}>{(row.counts[state] ?? 0).toLocaleString("en")}</td>
          ))}
          <td>{row.here === null ? "–" : `${row.here.concurrency}${row.here.paused ? " ‖ paused" : ""}`}</td>
          <td>
            {can("queues:pause") && (
              <>
                {row.here?.paused !== true && (
                  <Action label="Pause" about={row.name} path={`queues/${encodeURIComponent(row.name)}/pause`} />
                )}
                {row.here?.paused !== false && (
                  <Action label="Resume" about={row.name} path={`queues/${encodeURIComponent(row.name)}/resume`} />
                )}
              </>
            )}
          </td>
        </tr>
      ))}
    </Table>
  )
}

export const Queues = () => {
  const query = useGet("queues", "queues")
  return (
    <Page title="Queues" query={query}>
      <QueueTable rows={query.data?.queues ?? []} />
    </Page>
  )
}

export const Jobs = ({ query: search }: { readonly query: URLSearchParams }) => {
  const q = search.get("q") ?? ""
  const after = search.get("after")
  const [text, setText] = useState(q)
  const filter = `q=${encodeURIComponent(q)}`
  const query = useGet("jobs", `jobs?${filter}${after === null ? "" : `&after=${encodeURIComponent(after)}`}`)
  const count = useGet("count", `count?${filter}`)
  const jobs = query.data?.jobs ?? []
  return (
    <Page title="Jobs" query={query}>
      <form
        role="search"
        onSubmit={(event) => {
          event.preventDefault()
          location.hash = jobsLink(text)
        }}
      >
        <label htmlFor="filter">Filter</label>{" "}
        <input
          id="filter"
          value={text}
          onChange={(event) => setText(event.target.value)}
          placeholder="worker:send state:retryable"
        />{" "}
        <button type="submit">Find</button>
      </form>
      <p className="chips">
        {states.map((state) => (
          <a key={state} href={jobsLink(`state:${state}`)}>
            <State state={state} />
          </a>
        ))}
      </p>
      <p role="status">
        {count.data === undefined
          ? "…"
          : `${count.data.count.toLocaleString("en")}${count.data.isExact ? "" : " or more"} matching`}
      </p>
      {jobs.length === 0 && <p className="empty">No job matches. Clear the filter to see all of them.</p>}
      <Table label="Jobs" heads={["Job", "Worker", "Queue", "State", "Attempt", "Inserted", "Finished"]}>
        {jobs.map((job) => (
          <tr key={job.id}>
            <th scope="row">
              <a href={`#/jobs/${job.id}`}>#{job.id}</a>
            </th>
            <td>{job.worker}</td>
            <td>{job.queue}</td>
            <td>
              <State state={job.state} />
            </td>
            <td>
              {job.attempt}/{job.maxAttempts}
            </td>
            <td>
              <Time at={job.insertedAt} />
            </td>
            <td>
              <Time at={job.finishedAt} />
            </td>
          </tr>
        ))}
      </Table>
      {query.data?.next != null && <a href={`${jobsLink(q)}&after=${query.data.next}`}>Older jobs →</a>}
    </Page>
  )
}

const Json = ({ title, value }: { readonly title: string; readonly value: unknown }) => (
  <details open>
    <summary>{title}</summary>
    <pre tabIndex={0}>{JSON.stringify(value, null, 2)}</pre>
  </details>
)

export const JobPage = ({ id }: { readonly id: number }) => {
  const query = useGet("job", `jobs/${id}`)
  const can = useCan()
  const job = query.data
  return (
    <Page title={`Job #${id}`} query={query}>
      {job !== undefined && (
        <>
          <p>
            <State state={job.state} /> {job.worker} in <a href={jobsLink(`queue:${quoted(job.queue)}`)}>{job.queue}</a>
            , attempt {job.attempt} of {job.maxAttempts}
            {job.progress !== null && `, ${job.progress} %`}
          </p>
          <p>
            {can("jobs:retry") && !["available", "executing"].includes(job.state) && (
              <Action label="Retry" about={`job ${id}`} path={`jobs/${id}/retry`} />
            )}
            {can("jobs:cancel") && job.finishedAt === null && (
              <Action label="Cancel" about={`job ${id}`} path={`jobs/${id}/cancel`} />
            )}
          </p>
          <dl>
            {(["insertedAt", "scheduledFor", "runAt", "claimedAt", "finishedAt"] as const).map((moment) => (
              <div key={moment}>
                <dt>{moment.replace(/[A-Z]/, (letter) => ` ${letter.toLowerCase()}`)}</dt>
                <dd>
                  <Time at={job[moment]} />
                </dd>
              </div>
            ))}
          </dl>
          {job.cancelReason !== null && <p>Cancelled: {job.cancelReason}</p>}
          <h2>Failed attempts</h2>
          {job.errors.length === 0 && <p className="empty">None.</p>}
          {job.errors.toReversed().map((error) => (
            <article key={`${error.attempt} ${error.at}`}>
              <p>
                Attempt {error.attempt} on {error.node}, <Time at={error.at} />: <b>{error.tag}</b> {error.message}
              </p>
              {error.cause !== null && <pre tabIndex={0}>{error.cause}</pre>}
            </article>
          ))}
          <h2>Data</h2>
          <Json title="Args" value={job.args} />
          <Json title="Result" value={job.result} />
          <Json title="Meta" value={job.meta} />
        </>
      )}
    </Page>
  )
}

export const Cron = () => {
  const query = useGet("cron", "cron")
  const can = useCan()
  const rows = query.data ?? []
  return (
    <Page title="Cron" query={query}>
      {rows.length === 0 && <p className="empty">No cron entries. CronJob.make or CronJobs.upsert makes one.</p>}
      <Table label="Cron entries" heads={["Entry", "Expression", "Worker", "Next", "Control"]}>
        {rows.map((row) => (
          <tr key={row.name}>
            <th scope="row">{row.name}</th>
            <td>
              <code>{row.cron}</code> {row.timezone}
            </td>
            <td>
              {row.worker} in {row.queue}
            </td>
            <td>{row.problem ?? (row.paused ? "‖ paused" : <Time at={row.nextTick} />)}</td>
            <td>
              {can("cron:run") && (
                <Action label="Run now" about={row.name} path={`cron/${encodeURIComponent(row.name)}/run`} />
              )}
              {can("cron:pause") && (
                <Action
                  key={String(row.paused)}
                  label={row.paused ? "Resume" : "Pause"}
                  about={row.name}
                  path={`cron/${encodeURIComponent(row.name)}/${row.paused ? "resume" : "pause"}`}
                />
              )}
            </td>
          </tr>
        ))}
      </Table>
    </Page>
  )
}

const FailureTable = ({ rows }: { readonly rows: Answers["failures"] }) => {
  if (rows.length === 0) return <p className="empty">Nothing fails.</p>
  return (
    <Table label="Failures" heads={["Jobs", "Worker", "Failure", "Last seen", "Example"]}>
      {rows.map((row) => (
        <tr key={row.fingerprint}>
          <th scope="row">
            <a href={jobsLink(`fingerprint:${quoted(row.fingerprint)}`)}>
              {row.count}
              {row.isExact ? "" : "+"}
            </a>
          </th>
          <td>{row.worker}</td>
          <td>
            <b>{row.tag}</b> {row.message.slice(0, 200)}
          </td>
          <td>
            <Time at={row.lastSeen} />
          </td>
          <td>
            <a href={`#/jobs/${row.sample}`}>#{row.sample}</a>
          </td>
        </tr>
      ))}
    </Table>
  )
}

export const Failures = () => {
  const query = useGet("failures", "failures")
  return (
    <Page title="Failures" query={query}>
      <FailureTable rows={query.data ?? []} />
    </Page>
  )
}
