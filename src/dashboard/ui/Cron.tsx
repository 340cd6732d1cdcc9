/** Cron entries: when they run next, and their last jobs. */
import { term } from "./api.ts"
import { Action, Commands, word } from "./action.tsx"
import { Json } from "./json.tsx"
import { Empty, jobsLink, Page, queueLink, Table, useCan, useGet, workerLink } from "./kit.tsx"
import { Runs } from "./spark.tsx"
import { inZone, Time } from "./time.tsx"

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
          undo={{ path: `${pathOf(name)}/${paused ? "pause" : "resume"}` }}
        />
      )}
    </span>
  )
}

export const Cron = () => {
  const entries = useGet("cron", "cron")
  const runs = useGet("runs", "cron-runs")
  const rows = entries.data ?? []
  return (
    <Page title="Cron" query={entries}>
      {rows.length === 0 ? (
        <Empty code={snippet}>No entry runs by the clock yet.</Empty>
      ) : (
        <Table label="Cron entries" heads={["Entry", "Expression", "Worker", "Next", "Last jobs", "From", "Control"]}>
          {rows.map((row) => (
            <tr key={row.name}>
              <th scope="row">
                <a href={`#/cron/${encodeURIComponent(row.name)}`}>{row.name}</a>
              </th>
              <td className="nowrap">
                <code>{row.cron}</code> <small className="dim">{row.timezone}</small>
              </td>
              <td className="nowrap">
                <a href={workerLink(row.worker)}>{row.worker}</a> <small>in {row.queue}</small>
                {!row.workerKnown && <small className="warn"> no live node runs it</small>}
              </td>
              <td className={row.problem === null ? "" : "bad"}>
                {row.problem ?? (row.paused ? "‖ paused" : <Time at={row.nextTick} />)}
              </td>
              <td>
                <Runs q={term("cron", row.name)} jobs={runs.data?.find(({ name }) => name === row.name)?.jobs ?? []} />
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
  const last = useGet("jobs", `jobs?q=${encodeURIComponent(term("cron", name))}&order=newest&limit=60`)
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
            <code>{row.cron}</code> in {row.timezone}: <a href={workerLink(row.worker)}>{row.worker}</a> in{" "}
            <a href={queueLink(row.queue)}>{row.queue}</a>, overlap: {row.overlap}
          </p>
          {row.problem !== null && <p role="alert">{row.problem}</p>}
          <h2>Next</h2>
          {row.paused && <p className="warn">‖ Paused: none of these will run.</p>}
          <Table label="Next ticks" heads={[`In ${row.timezone}`, "Here", "When"]}>
            {row.next.map((at) => (
              <tr key={at}>
                <td>{inZone(at, row.timezone)}</td>
                <td>{inZone(at)}</td>
                <td>
                  <Time at={at} />
                </td>
              </tr>
            ))}
          </Table>
          <h2>Last jobs</h2>
          <p>
            <Runs q={term("cron", name)} jobs={last.data?.jobs ?? []} />{" "}
            <a href={jobsLink(term("cron", name))}>All of its jobs</a>
          </p>
          <Json title="Args" value={row.args} />
          <Commands lines={["run", "pause", "resume"].map((verb) => `shigoto cron ${verb} ${word(name)}`)} />
        </>
      )}
    </Page>
  )
}
