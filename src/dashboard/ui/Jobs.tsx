/** Jobs by a filter that is in the address, and what is done to those that are ticked or to all that match. */
import { useEffect, useState } from "react"
import { query } from "./api.ts"
import { Bulk, type BulkAction, Operations, verbs } from "./Bulk.tsx"
import { duration, Empty, navigate, number, Page, State, states, Table, Time, useCan, useGet } from "./kit.tsx"

const orders = [
  ["newest", "Newest first"],
  ["due", "Next to run first"],
  ["finished", "Last finished first"]
] as const

const snippet = `const SendEmail = Job.make("send-email", { args: { to: Schema.String } })

yield* SendEmail.enqueue({ to: "ada@example.com" })`

/** The filter without what it says of states, and those states. */
const split = (q: string): readonly [rest: string, state: string | undefined] => {
  const words = q.split(/\s+/).filter((word) => word !== "")
  const state = words.find((word) => /^state:[a-z]+$/.test(word))
  return [words.filter((word) => word !== state).join(" "), state?.slice("state:".length)]
}

export const Jobs = ({ search }: { readonly search: URLSearchParams }) => {
  const q = search.get("q") ?? ""
  const order = orders.find(([name]) => name === search.get("order"))?.[0] ?? "newest"
  const after = search.get("after")
  const [text, setText] = useState(q)
  const [ticked, setTicked] = useState<ReadonlySet<number>>(new Set())
  const [isAll, setAll] = useState(false)
  const [action, setAction] = useState<BulkAction>()
  const [cursor, setCursor] = useState(-1)
  const can = useCan()
  const [rest, state] = split(q)
  const page = useGet("jobs", `jobs${query({ q, order, after })}`)
  const tabs = useGet("states", `states${query({ q: rest })}`)
  const jobs = page.data?.jobs ?? []
  const next = page.data?.next ?? null
  const matching = tabs.data?.counts.reduce(
    (sum, one) => (state === undefined || one.state === state ? sum + (one.count ?? 0) : sum),
    0
  )
  const isExact = tabs.data?.counts.every((one) => (state !== undefined && one.state !== state) || one.isExact) ?? false
  const acts = (["retry", "cancel", "delete"] as const).filter((one) => can(`jobs:${one}`))
  const go = (values: Readonly<Record<string, string | null>>) =>
    navigate("/jobs", { q, order: search.get("order"), ...values })
  const tick = (id: number) => {
    setAll(false)
    setTicked((before) =>
      before.has(id) ? new Set([...before].filter((one) => one !== id)) : new Set([...before, id])
    )
  }
  const isWhole = jobs.length > 0 && jobs.every((job) => ticked.has(job.id))

  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      if (event.target instanceof HTMLElement && event.target.closest("input, select, textarea, dialog") !== null)
        return
      if (event.metaKey || event.ctrlKey || event.altKey) return
      const at = jobs[cursor]
      if (event.key === "j") setCursor(Math.min(cursor + 1, jobs.length - 1))
      else if (event.key === "k") setCursor(Math.max(cursor - 1, 0))
      else if (event.key === "x" && at !== undefined) tick(at.id)
      else if (event.key === "o" && at !== undefined) location.hash = `/jobs/${at.id}`
    }
    addEventListener("keydown", pressed)
    return () => removeEventListener("keydown", pressed)
  }, [jobs, cursor])

  return (
    <Page title="Jobs" query={page}>
      <form
        role="search"
        className="row"
        onSubmit={(event) => {
          event.preventDefault()
          go({ q: text, after: null })
        }}
      >
        <label htmlFor="filter">Filter</label>
        <input
          id="filter"
          className="grow"
          value={text}
          onChange={(event) => setText(event.target.value)}
          placeholder="worker:send queue:emails tag:vip args.user.id:42 created:>1h attempt:>=3"
          spellCheck={false}
          autoComplete="off"
        />
        <button type="submit">Find</button>
        <label htmlFor="order" className="dim">
          Order
        </label>
        <select id="order" value={order} onChange={(event) => go({ order: event.target.value, after: null })}>
          {orders.map(([name, title]) => (
            <option key={name} value={name}>
              {title}
            </option>
          ))}
        </select>
      </form>
      <nav className="tabs" aria-label="States">
        <a href={`#/jobs${query({ q: rest })}`} aria-current={state === undefined ? "page" : undefined}>
          all
        </a>
        {states.map((one) => {
          const count = tabs.data?.counts.find((counted) => counted.state === one)
          return (
            <a
              key={one}
              href={`#/jobs${query({ q: `${rest} state:${one}`.trim() })}`}
              aria-current={state === one ? "page" : undefined}
            >
              <State state={one} />{" "}
              <span className="dim">
                {count === undefined
                  ? ""
                  : count.count === null
                    ? "many"
                    : `${number(count.count)}${count.isExact ? "" : "+"}`}
              </span>
            </a>
          )
        })}
      </nav>
      <Operations />
      {acts.length > 0 && (
        <div className="row selection" aria-label="Selection" role="group">
          <span role="status">
            {isAll
              ? `All ${number(matching ?? 0)}${isExact ? "" : " or more"} that match`
              : ticked.size > 0
                ? `${number(ticked.size)} selected`
                : `${matching === undefined ? "…" : number(matching)}${isExact || matching === undefined ? "" : " or more"} matching`}
          </span>
          {isWhole && !isAll && (
            <button type="button" onClick={() => setAll(true)}>
              Select all that match
            </button>
          )}
          {(ticked.size > 0 || isAll) && (
            <>
              {acts.map((one) => (
                <button key={one} type="button" onClick={() => setAction(one)}>
                  {verbs[one]} selected
                </button>
              ))}
              <button
                type="button"
                onClick={() => {
                  setTicked(new Set())
                  setAll(false)
                }}
              >
                Clear
              </button>
            </>
          )}
        </div>
      )}
      {action !== undefined && (
        <Bulk
          action={action}
          q={isAll ? q : `id:${[...ticked].join(",")}`}
          onClose={() => {
            setAction(undefined)
            setTicked(new Set())
            setAll(false)
          }}
        />
      )}
      {jobs.length === 0 ? (
        q === "" ? (
          <Empty code={snippet}>No job has been enqueued yet.</Empty>
        ) : (
          <Empty>
            No job matches. <a href="#/jobs">Clear the filter</a> to see all of them.
          </Empty>
        )
      ) : (
        <Table
          label="Jobs"
          heads={[
            ...(acts.length > 0
              ? [
                  <input
                    type="checkbox"
                    aria-label="Select this page"
                    checked={isWhole}
                    onChange={() => setTicked(isWhole ? new Set() : new Set(jobs.map((job) => job.id)))}
                  />
                ]
              : []),
            "Job",
            "Worker",
            "Queue",
            "State",
            "Attempt",
            "Due",
            "Took",
            "Tags"
          ]}
        >
          {jobs.map((job, i) => (
            <tr key={job.id} className={i === cursor ? "at" : undefined}>
              {acts.length > 0 && (
                <td>
                  <input
                    type="checkbox"
                    aria-label={`Select job ${job.id}`}
                    checked={isAll || ticked.has(job.id)}
                    onChange={() => tick(job.id)}
                  />
                </td>
              )}
              <th scope="row">
                <a href={`#/jobs/${job.id}`}>#{job.id}</a>
              </th>
              <td>{job.worker}</td>
              <td>{job.queue}</td>
              <td>
                <State state={job.state} />
                {job.progress !== null && job.state === "executing" && <small className="dim"> {job.progress} %</small>}
              </td>
              <td>
                {job.attempt}/{job.maxAttempts}
              </td>
              <td>
                <Time at={job.finishedAt ?? job.runAt} />
              </td>
              <td>
                {job.claimedAt !== null && job.finishedAt !== null
                  ? duration(Math.max(Date.parse(job.finishedAt) - Date.parse(job.claimedAt), 0))
                  : "–"}
              </td>
              <td>
                {job.tags.map((tag) => (
                  <span key={tag} className="tag">
                    {tag}
                  </span>
                ))}
              </td>
            </tr>
          ))}
        </Table>
      )}
      <p className="row">
        {after !== null && <button onClick={() => go({ after: null })}>← First page</button>}
        {next !== null && <button onClick={() => go({ after: next })}>Next page →</button>}
      </p>
    </Page>
  )
}
