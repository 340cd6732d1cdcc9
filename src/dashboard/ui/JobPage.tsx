/** One job: where it is in its life, why it waits, what it was given, what became of each attempt. */
import type { JobDetail, Related } from "./api.ts"
import { term } from "./api.ts"
import { useState } from "react"
import { Action, duration, Json, jobsLink, navigate, number, Page, State, Table, Time, useCan, useGet } from "./kit.tsx"

interface Step {
  readonly name: string
  readonly at: string | null
  readonly note?: string | undefined
  readonly isNow?: boolean
}

/** What happened, in order, and what is next. */
const stepsOf = (job: JobDetail): ReadonlyArray<Step> => {
  const between = (from: string | null, to: string | null): string | undefined =>
    from === null || to === null ? undefined : duration(Math.max(Date.parse(to) - Date.parse(from), 0))
  const first: Step = { name: "inserted", at: job.insertedAt }
  const wasDelayed = Date.parse(job.scheduledFor) > Date.parse(job.insertedAt)
  const due: ReadonlyArray<Step> = wasDelayed ? [{ name: "due", at: job.scheduledFor }] : []
  const failures = job.errors.map((error): Step => ({
    name: `attempt ${error.attempt} failed`,
    at: error.at,
    note: error.tag
  }))
  const ran = job.claimedAt
  const waited = between(wasDelayed ? job.scheduledFor : job.insertedAt, ran)
  const claimed: ReadonlyArray<Step> =
    ran === null
      ? []
      : [
          {
            name: `attempt ${Math.max(job.attempt, 1)} started`,
            at: ran,
            note: failures.length === 0 && waited !== undefined ? `waited ${waited}` : undefined
          }
        ]
  const last: Step =
    job.finishedAt !== null
      ? {
          name: job.state,
          at: job.finishedAt,
          note: ran === null ? undefined : `ran ${between(ran, job.finishedAt)}`,
          isNow: true
        }
      : { name: job.state, at: ["scheduled", "retryable"].includes(job.state) ? job.runAt : null, isNow: true }
  const past = [...due, ...failures, ...claimed].toSorted((a, b) => Date.parse(a.at ?? "") - Date.parse(b.at ?? ""))
  return [first, ...past, last]
}

const Family = ({ label, rows }: { readonly label: string; readonly rows: ReadonlyArray<Related> }) =>
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

export const JobPage = ({ id }: { readonly id: number }) => {
  const [isRevealed, setRevealed] = useState(false)
  const query = useGet("job", `jobs/${id}${isRevealed ? "?reveal=true" : ""}`)
  const explained = useGet("explain", `jobs/${id}/explain`)
  const related = useGet("related", `jobs/${id}/dependencies`)
  const logs = useGet("logs", `jobs/${id}/logs`)
  const can = useCan()
  const job = query.data
  const verb = (action: "retry" | "cancel" | "delete") => `shigoto jobs ${action} ${id}`
  return (
    <Page
      title={`Job #${id}`}
      query={query}
      actions={
        job !== undefined && (
          <span className="row">
            {job.can.retry && <Action label="Retry" about={`job ${id}`} path={`jobs/${id}/retry`} />}
            {job.can.cancel && <Action label="Cancel" about={`job ${id}`} path={`jobs/${id}/cancel`} />}
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
          </span>
        )
      }
    >
      {job !== undefined && (
        <>
          <p className="lead">
            <State state={job.state} /> <a href={jobsLink(term("worker", job.worker))}>{job.worker}</a> in{" "}
            <a href={`#/queues/${encodeURIComponent(job.queue)}`}>{job.queue}</a>, attempt {job.attempt} of{" "}
            {job.maxAttempts}
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
          {job.finishedAt === null && (explained.data?.reasons.length ?? 0) > 0 && (
            <ul className="problems" aria-label="Why it does not run">
              {explained.data?.reasons.map((reason) => (
                <li key={`${reason.tag} ${reason.message}`}>{reason.message}</li>
              ))}
            </ul>
          )}
          {explained.data?.position != null && (
            <p className="dim">Place {number(explained.data.position)} in its queue.</p>
          )}
          <ol className="timeline" aria-label="Life">
            {stepsOf(job).map((step, i) => (
              <li key={i} aria-current={step.isNow === true ? "step" : undefined}>
                <b>{step.name}</b>
                <span>{step.at === null ? "now" : <Time at={step.at} />}</span>
                <small className="dim">{step.note}</small>
              </li>
            ))}
          </ol>
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
              <dl>
                {(
                  [
                    ["Priority", String(job.priority)],
                    ["Claims", String(job.epoch)],
                    ["Snoozes", String(job.snoozes)],
                    ["Node", job.node === null ? "–" : `incarnation ${job.node}`],
                    ["Partition key", job.partitionKey ?? "–"],
                    ["Step", job.step ?? "–"],
                    ["Trace", job.trace ?? "–"]
                  ] as const
                ).map(([name, value]) => (
                  <div key={name}>
                    <dt>{name}</dt>
                    <dd>{value}</dd>
                  </div>
                ))}
                {job.batch !== null && (
                  <div>
                    <dt>Batch</dt>
                    <dd>
                      <a href={`#/batches/${job.batch}`}>#{job.batch}</a>
                    </dd>
                  </div>
                )}
              </dl>
              <details>
                <summary>On the command line</summary>
                <pre tabIndex={0}>{(["retry", "cancel", "delete"] as const).map(verb).join("\n")}</pre>
              </details>
            </section>
          </div>
          {(related.data?.parents.length ?? 0) + (related.data?.children.length ?? 0) > 0 && (
            <>
              <h2>Dependencies</h2>
              <Family label="Waits for" rows={related.data?.parents ?? []} />
              <Family label="Waited for by" rows={related.data?.children ?? []} />
              {related.data?.isComplete === false && <p className="dim">There are more of them.</p>}
            </>
          )}
          <h2>Failed attempts</h2>
          {job.errors.length === 0 && <p className="dim">None.</p>}
          {job.errors.toReversed().map((error) => (
            <article key={`${error.attempt} ${error.at}`} className="card">
              <p>
                Attempt {error.attempt} on {error.node}, <Time at={error.at} />: <b>{error.tag}</b> {error.message}
              </p>
              {error.cause !== null && <Cause text={error.cause} />}
            </article>
          ))}
          {job.fingerprint !== null && (
            <p>
              <a href={jobsLink(term("fingerprint", job.fingerprint))}>All jobs that failed like this</a>
            </p>
          )}
          <h2>Logs</h2>
          {logs.data === undefined || logs.data.lines.length === 0 ? (
            <p className="dim">None were kept: a worker with captureLogs keeps what its attempts log.</p>
          ) : (
            <Table label="Logs" heads={["Time", "Attempt", "Level", "Message"]}>
              {logs.data.lines.map((line) => (
                <tr key={`${line.epoch} ${line.line}`}>
                  <td>
                    <Time at={line.at} />
                  </td>
                  <td>{line.attempt}</td>
                  <td>{line.level}</td>
                  <td className="wide">{line.message}</td>
                </tr>
              ))}
            </Table>
          )}
        </>
      )}
    </Page>
  )
}

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
