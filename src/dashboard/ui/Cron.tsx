/** Cron entries: when they run next, and their last jobs. */
import { term } from "./api.ts"
import { Action, Empty, Json, jobsLink, Page, Table, Time, useCan, useGet } from "./kit.tsx"

const snippet = `CronJob.make({ name: "nightly", cron: "0 3 * * *", timezone: "Europe/Oslo", job: Report, args: {} })`

const pathOf = (name: string): string => `cron/${encodeURIComponent(name)}`

const Control = ({ name, paused }: { readonly name: string; readonly paused: boolean }) => {
  const can = useCan()
  return (
    <span className="row">
      {can("cron:run") && <Action label="Run now" about={name} path={`${pathOf(name)}/run`} />}
      {can("cron:pause") && (
        <Action
          key={String(paused)}
          label={paused ? "Resume" : "Pause"}
          about={name}
          path={`${pathOf(name)}/${paused ? "resume" : "pause"}`}
        />
      )}
    </span>
  )
}

export const Cron = () => {
  const entries = useGet("cron", "cron")
  const rows = entries.data ?? []
  return (
    <Page title="Cron" query={entries}>
      {rows.length === 0 ? (
        <Empty code={snippet}>No entry runs by the clock yet.</Empty>
      ) : (
        <Table label="Cron entries" heads={["Entry", "Expression", "Worker", "Next", "From", "Control"]}>
          {rows.map((row) => (
            <tr key={row.name}>
              <th scope="row">
                <a href={`#/cron/${encodeURIComponent(row.name)}`}>{row.name}</a>
              </th>
              <td>
                <code>{row.cron}</code> <small className="dim">{row.timezone}</small>
              </td>
              <td>
                {row.worker} <small className="dim">in {row.queue}</small>
                {!row.workerKnown && <small className="warn"> no live node runs it</small>}
              </td>
              <td className={row.problem === null ? "" : "bad"}>
                {row.problem ?? (row.paused ? "‖ paused" : <Time at={row.nextTick} />)}
              </td>
              <td>{row.source}</td>
              <td>
                <Control name={row.name} paused={row.paused} />
              </td>
            </tr>
          ))}
        </Table>
      )}
    </Page>
  )
}

export const CronPage = ({ name }: { readonly name: string }) => {
  const entry = useGet("entry", pathOf(name))
  const last = useGet("jobs", `jobs?q=${encodeURIComponent(term("cron", name))}&order=newest&limit=20`)
  const row = entry.data
  return (
    <Page
      title={`Cron ${name}`}
      query={entry}
      actions={row !== undefined && <Control name={name} paused={row.paused} />}
    >
      {row !== undefined && (
        <>
          <p className="lead">
            <code>{row.cron}</code> in {row.timezone}: {row.worker} in{" "}
            <a href={`#/queues/${encodeURIComponent(row.queue)}`}>{row.queue}</a>, overlap: {row.overlap}
          </p>
          {row.problem !== null && <p role="alert">{row.problem}</p>}
          <h2>Next</h2>
          {row.paused && <p className="warn">‖ Paused: none of these will run.</p>}
          <ol className="plain">
            {row.next.map((at) => (
              <li key={at}>
                {new Date(at).toLocaleString("en-GB", { timeZone: row.timezone, timeZoneName: "short" })}{" "}
                <span className="dim">
                  here {new Date(at).toLocaleString()}, <Time at={at} />
                </span>
              </li>
            ))}
          </ol>
          <h2>Last jobs</h2>
          {(last.data?.jobs.length ?? 0) === 0 && <p className="dim">None is kept.</p>}
          <p className="spark">
            {last.data?.jobs.toReversed().map((job) => (
              <a
                key={job.id}
                href={`#/jobs/${job.id}`}
                className={`dot ${job.state}`}
                title={`#${job.id} ${job.state}`}
              >
                <span className="hidden">
                  #{job.id} {job.state}
                </span>
              </a>
            ))}
          </p>
          <p>
            <a href={jobsLink(term("cron", name))}>All of its jobs</a>
          </p>
          <Json title="Args" value={row.args} />
        </>
      )}
    </Page>
  )
}
