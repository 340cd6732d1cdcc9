/** One job: where it is in its life, why it waits, what it was given, what became of each attempt. */
import { useState } from "react"
import { Action, Commands } from "./action.tsx"
import { type Answers, type JobDetail, type Related, term } from "./api.ts"
import { Json } from "./json.tsx"
import { Facts, jobsLink, navigate, number, Page, queueLink, State, Table, useCan, useGet, workerLink } from "./kit.tsx"
import { Life } from "./Life.tsx"
import { Runs } from "./spark.tsx"
import { Time } from "./time.tsx"

export const JobPage = ({ id }: { readonly id: number }) => {
  const [isRevealed, setRevealed] = useState(false)
  const query = useGet("job", `jobs/${id}${isRevealed ? "?reveal=true" : ""}`)
  const can = useCan()
  const job = query.data
  return (
    <Page
      title={`Job #${id}`}
      query={query}
      actions={
        job !== undefined && (
          <>
            {job.can.retry && <Action label="Retry" about={`job ${id}`} path={`jobs/${id}/retry`} />}
            {job.can.cancel && <Action label="Cancel" about={`job ${id}`} path={`jobs/${id}/cancel`} undo="wait" />}
            {job.can.delete && (
              <Action
                label="Delete"
                about={`job ${id}`}
                path={`jobs/${id}/delete`}
                confirm="Nothing of it is kept. This cannot be taken back."
                onDone={() => navigate("/jobs")}
              />
            )}
            {can("args:reveal") && !isRevealed && (
              <button type="button" onClick={() => setRevealed(true)}>
                Reveal hidden values
              </button>
            )}
          </>
        )
      }
    >
      {job !== undefined && <Detail job={job} />}
    </Page>
  )
}

const Detail = ({ job }: { readonly job: JobDetail }) => (
  <>
    <p className="lead">
      <State state={job.state} /> <a href={workerLink(job.worker)}>{job.worker}</a> in{" "}
      <a href={queueLink(job.queue)}>{job.queue}</a>, attempt {job.attempt} of {job.maxAttempts}
      {job.tags.map((tag) => (
        <a key={tag} className="tag" href={jobsLink(term("tag", tag))}>
          {tag}
        </a>
      ))}
    </p>
    {job.progress !== null && (
      <p>
        <progress max={100} value={job.progress} aria-label="Progress" /> {job.progress} %
      </p>
    )}
    {job.finishedAt === null && <Waiting id={job.id} />}
    <Life job={job} />
    {job.cancelReason !== null && <p>Cancelled: {job.cancelReason}</p>}
    {job.cancelRequestedAt !== null && job.finishedAt === null && (
      <p className="warn">
        To be cancelled since <Time at={job.cancelRequestedAt} />; its handler is interrupted.
      </p>
    )}
    <div className="columns">
      <section aria-label="Data">
        <h2>Data</h2>
        <Json title="Args" value={job.args} />
        <Json title="Result" value={job.result} />
        <Json title="Meta" value={job.meta} />
      </section>
      <section aria-label="Facts">
        <h2>Facts</h2>
        <Facts
          facts={[
            ["Priority", job.priority],
            ["Claims", job.epoch],
            ["Snoozes", job.snoozes],
            ["Node", job.node === null ? "–" : `incarnation ${job.node}`],
            ["Partition key", job.partitionKey ?? "–"],
            ["Step", job.step ?? "–"],
            ["Batch", job.batch === null ? "–" : <a href={`#/batches/${job.batch}`}>#{job.batch}</a>],
            ["Trace", job.trace ?? "–"]
          ]}
        />
        <Siblings worker={job.worker} />
        <Commands lines={["show", "retry", "cancel", "delete"].map((verb) => `shigoto jobs ${verb} ${job.id}`)} />
      </section>
    </div>
    <Family id={job.id} />
    <Copies id={job.id} />
    <Attempts job={job} />
  </>
)

/** Why it does not run. */
const Waiting = ({ id }: { readonly id: number }) => {
  const { data } = useGet("explain", `jobs/${id}/explain`)
  if (data === undefined) return null
  return (
    <>
      {data.reasons.length > 0 && (
        <ul className="problems" aria-label="Why it does not run">
          {data.reasons.map((reason) => (
            <li key={`${reason.tag} ${reason.message}`}>{reason.message}</li>
          ))}
        </ul>
      )}
      {data.position !== null && <p className="dim">Place {number(data.position)} in its queue.</p>}
    </>
  )
}

/** How the last jobs of its worker ended. */
const Siblings = ({ worker }: { readonly worker: string }) => {
  const q = term("worker", worker)
  const { data } = useGet("jobs", `jobs?q=${encodeURIComponent(q)}&order=finished&limit=60`)
  return (
    <p>
      Last ends of {worker}: <Runs q={q} jobs={data?.jobs ?? []} />
    </p>
  )
}

const Family = ({ id }: { readonly id: number }) => {
  const { data } = useGet("related", `jobs/${id}/dependencies`)
  if (data === undefined || data.parents.length + data.children.length === 0) return null
  return (
    <>
      <h2>Dependencies</h2>
      <Relatives label="Waits for" rows={data.parents} />
      <Relatives label="Waited for by" rows={data.children} />
      {!data.isComplete && <p className="dim">There are more of them.</p>}
    </>
  )
}

const Relatives = ({ label, rows }: { readonly label: string; readonly rows: ReadonlyArray<Related> }) =>
  rows.length === 0 ? null : (
    <Table label={label} heads={[label, "Worker", "State", "Called", "If it fails"]}>
      {rows.map((row) => (
        <tr key={row.id}>
          <th scope="row">
            <a href={`#/jobs/${row.id}`}>#{row.id}</a>
          </th>
          <td>{row.worker ?? "–"}</td>
          <td>{row.state === null ? "no longer kept" : <State state={row.state} />}</td>
          <td>{row.name ?? "–"}</td>
          <td>{row.onFailure}</td>
        </tr>
      ))}
    </Table>
  )

const Copies = ({ id }: { readonly id: number }) => {
  const { data = [] } = useGet("copies", `jobs/${id}/copies`)
  if (data.length === 0) return null
  return (
    <>
      <h2>Copies</h2>
      <Table label="Copies" heads={["Job", "Node", "State", { count: "Attempt" }]}>
        {data.map((copy: Answers["copies"][number]) => (
          <tr key={copy.id}>
            <th scope="row">
              <a href={`#/jobs/${copy.id}`}>#{copy.id}</a>
            </th>
            <td>
              {copy.nodeName} <small>#{copy.node}</small> {!copy.live && <small className="warn">gone</small>}
            </td>
            <td>{copy.state === null ? "no longer kept" : <State state={copy.state} />}</td>
            <td className="number">{copy.attempt ?? "–"}</td>
          </tr>
        ))}
      </Table>
    </>
  )
}

/** Each attempt with its failure and what it logged, the newest first. */
const Attempts = ({ job }: { readonly job: JobDetail }) => {
  const logs = useGet("logs", `jobs/${job.id}/logs`)
  const lines = logs.data?.lines ?? []
  const numbers = [...new Set([...job.errors.map(({ attempt }) => attempt), ...lines.map(({ attempt }) => attempt)])]
  return (
    <>
      <h2>Attempts</h2>
      {numbers.length === 0 && (
        <p className="dim">
          None has failed, and no log is kept: a worker with captureLogs keeps what its attempts log.
        </p>
      )}
      {numbers
        .toSorted((a, b) => b - a)
        .map((attempt) => (
          <article key={attempt} className="card" aria-label={`Attempt ${attempt}`}>
            {job.errors
              .filter((error) => error.attempt === attempt)
              .map((error) => (
                <div key={error.at}>
                  <p>
                    Attempt {attempt} failed on <a href={jobsLink(term("node", error.node))}>{error.node}</a>,{" "}
                    <Time at={error.at} />: <b>{error.tag}</b> {error.message}
                  </p>
                  {error.cause !== null && <Cause text={error.cause} />}
                </div>
              ))}
            <Logs attempt={attempt} lines={lines.filter((line) => line.attempt === attempt)} />
          </article>
        ))}
      {logs.data?.next != null && <p className="dim">More was logged: shigoto jobs logs {job.id} tells all of it.</p>}
      {job.fingerprint !== null && (
        <p>
          <a href={jobsLink(term("fingerprint", job.fingerprint))}>All jobs that failed like this</a>
        </p>
      )}
    </>
  )
}

const Logs = (props: { readonly attempt: number; readonly lines: Answers["logs"]["lines"] }) =>
  props.lines.length === 0 ? null : (
    <Table label={`Log of attempt ${props.attempt}`} heads={["Logged", "Level", "Message"]}>
      {props.lines.map((line) => (
        <tr key={`${line.epoch} ${line.line}`}>
          <td>
            <Time at={line.at} />
          </td>
          <td>{line.level}</td>
          <td className="wide">{line.message}</td>
        </tr>
      ))}
    </Table>
  )

/** A cause's lines, without those of libraries unless they are asked for. */
const Cause = ({ text }: { readonly text: string }) => {
  const [isWhole, setWhole] = useState(false)
  const lines = text.split("\n")
  const own = lines.filter((line) => !/^\s*at .*(node_modules|node:internal)/.test(line))
  return (
    <>
      <pre tabIndex={0}>{(isWhole ? lines : own).join("\n")}</pre>
      {own.length < lines.length && (
        <button type="button" onClick={() => setWhole(!isWhole)}>
          {isWhole ? "Your frames" : `All frames (${lines.length - own.length} more)`}
        </button>
      )}
    </>
  )
}
