/** Jobs by a filter that is in the address, and what is done to those that are ticked or to all that match. */
import { useEffect, useRef, useState } from "react"
import { Commands, word } from "./action.tsx"
import { type JobSummary, query } from "./api.ts"
import { Bulk, type BulkAction, Operations, verbs } from "./Bulk.tsx"
import { FilterBar } from "./FilterBar.tsx"
import { Empty, navigate, number, Page, queueLink, State, states, Table, useCan, useGet, workerLink } from "./kit.tsx"
import { preference } from "./preferences.ts"
import { between, Time } from "./time.tsx"

const orders = [
  ["newest", "Newest first"],
  ["due", "Next to run first"],
  ["finished", "Last finished first"]
] as const

const snippet = `const SendEmail = Job.make("send-email", { args: { to: Schema.String } })

yield* SendEmail.enqueue({ to: "ada@example.com" })`

/** The filter without what it says of states, and those states; all, if it says nothing. */
const split = (q: string): readonly [rest: string, asked: ReadonlyArray<string>] => {
  const words = q.split(/\s+/).filter((one) => one !== "")
  const said = words.find((one) => /^state:[a-z,]+$/.test(one))
  return [words.filter((one) => one !== said).join(" "), said?.slice("state:".length).split(",") ?? states]
}

/**
 * The rows that are shown: while somebody points at them or has ticked some, none moves and none comes or goes; what is
 * told of them is new.
 */
const useSteady = (fresh: ReadonlyArray<JobSummary>, isHeld: boolean) => {
  const [kept, keep] = useState<ReadonlyArray<JobSummary>>(fresh)
  const shown = isHeld ? kept.map((job) => fresh.find(({ id }) => id === job.id) ?? job) : fresh
  const known = new Set(shown.map(({ id }) => id))
  useEffect(() => {
    if (!isHeld || kept.length === 0) keep(fresh)
  }, [fresh, isHeld])
  return { shown, news: fresh.filter(({ id }) => !known.has(id)).length, release: () => keep(fresh) }
}

/** Which jobs are ticked; with shift, all between this one and the one before. */
const useTicks = (jobs: ReadonlyArray<JobSummary>) => {
  const [ticked, setTicked] = useState<ReadonlySet<number>>(new Set())
  const last = useRef<number>(undefined)
  const toggle = (id: number, isRange: boolean) => {
    const [from, to] = [last.current, id].map((one) => jobs.findIndex((job) => job.id === one))
    last.current = id
    setTicked((before) => {
      const after = new Set(before)
      if (isRange && from !== undefined && to !== undefined && from >= 0) {
        for (const job of jobs.slice(Math.min(from, to), Math.max(from, to) + 1)) after.add(job.id)
      } else if (!after.delete(id)) after.add(id)
      return after
    })
  }
  return { ticked, toggle, set: setTicked }
}

export const Jobs = ({ search }: { readonly search: URLSearchParams }) => {
  const q = search.get("q") ?? ""
  const order = orders.find(([name]) => name === search.get("order"))?.[0] ?? "newest"
  const after = search.get("after")
  const [isAll, setAll] = useState(false)
  const [isPointed, setPointed] = useState(false)
  const [action, setAction] = useState<BulkAction>()
  const can = useCan()
  const [rest, asked] = split(q)
  const page = useGet("jobs", `jobs${query({ q, order, after })}`)
  const tabs = useGet("states", `states${query({ q: rest })}`)
  const [hasTicks, setHasTicks] = useState(false)
  const { news, release, shown: jobs } = useSteady(page.data?.jobs ?? [], hasTicks || isPointed)
  const ticks = useTicks(jobs)
  useEffect(() => setHasTicks(ticks.ticked.size > 0), [ticks.ticked])
  const next = page.data?.next ?? null
  const counts = (tabs.data?.counts ?? []).filter(({ state }) => asked.includes(state))
  const matching = tabs.data && counts.reduce((sum, one) => sum + (one.count ?? 0), 0)
  const more = counts.every((one) => one.isExact) ? "" : " or more"
  const acts = (["retry", "cancel", "delete"] as const).filter((one) => can(`jobs:${one}`))
  const go = (values: Readonly<Record<string, string | null>>) =>
    navigate("/jobs", { q, order: search.get("order"), ...values })
  const clear = () => {
    ticks.set(new Set())
    setAll(false)
  }
  const isWhole = jobs.length > 0 && jobs.every((job) => ticks.ticked.has(job.id))
  const selected = isAll ? q : `id:${[...ticks.ticked].join(",")}`
  return (
    <Page title="Jobs" query={page}>
      <div className="row">
        <FilterBar q={q} onFind={(text) => go({ q: text, after: null })} />
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
      </div>
      <nav className="tabs" aria-label="States">
        <a href={`#/jobs${query({ q: rest })}`} aria-current={asked.length === states.length ? "page" : undefined}>
          all
        </a>
        {states.map((one) => (
          <a
            key={one}
            href={`#/jobs${query({ q: `${rest} state:${one}`.trim() })}`}
            aria-current={asked.length < states.length && asked.includes(one) ? "page" : undefined}
          >
            <State state={one} /> <Counted of={tabs.data?.counts.find((counted) => counted.state === one)} />
          </a>
        ))}
      </nav>
      <Operations />
      <div className="row selection" aria-label="Selection" role="group">
        <span role="status">
          {isAll
            ? `All ${number(matching ?? 0)}${more} that match`
            : ticks.ticked.size > 0
              ? `${number(ticks.ticked.size)} selected`
              : matching === undefined
                ? "…"
                : `${number(matching)}${more} matching`}
        </span>
        {news > 0 && (
          <button type="button" className="pill" onClick={release}>
            {number(news)} new: show
          </button>
        )}
        {isWhole && !isAll && (
          <button type="button" onClick={() => setAll(true)}>
            Select all that match
          </button>
        )}
        {(ticks.ticked.size > 0 || isAll) && (
          <>
            {acts.map((one) => (
              <button key={one} type="button" onClick={() => setAction(one)}>
                {verbs[one]} selected
              </button>
            ))}
            <button type="button" onClick={clear}>
              Clear
            </button>
          </>
        )}
      </div>
      {action !== undefined && (
        <Bulk
          action={action}
          q={selected}
          onClose={() => {
            setAction(undefined)
            clear()
          }}
        />
      )}
      {jobs.length > 0 ? (
        <JobTable jobs={jobs} isAll={isAll} canTick={acts.length > 0} ticks={ticks} onPoint={setPointed} />
      ) : q === "" ? (
        <Empty code={snippet}>No job has been enqueued yet.</Empty>
      ) : (
        <Empty>
          No job matches. <a href="#/jobs">Clear the filter</a> to see all of them.
        </Empty>
      )}
      <p className="row">
        {after !== null && <button onClick={() => go({ after: null })}>← First page</button>}
        {next !== null && <button onClick={() => go({ after: next })}>Next page →</button>}
      </p>
      <Commands lines={[`shigoto jobs list ${word(q)}`.trim()]} />
    </Page>
  )
}

const Counted = ({ of }: { readonly of: { readonly count: number | null; readonly isExact: boolean } | undefined }) => (
  <span className="dim">
    {of === undefined ? "" : of.count === null ? "many" : `${number(of.count)}${of.isExact ? "" : "+"}`}
  </span>
)

const JobTable = (props: {
  readonly jobs: ReadonlyArray<JobSummary>
  readonly isAll: boolean
  readonly canTick: boolean
  readonly ticks: ReturnType<typeof useTicks>
  readonly onPoint: (isInside: boolean) => void
}) => {
  const { canTick, isAll, jobs, onPoint, ticks } = props
  const [cursor, setCursor] = useState(-1)
  const isWhole = jobs.every((job) => ticks.ticked.has(job.id))
  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      if (event.target instanceof HTMLElement && event.target.closest("input, select, textarea, dialog") !== null)
        return
      if (event.metaKey || event.ctrlKey || event.altKey || preference("keys") === "off") return
      const at = jobs[cursor]
      if (event.key === "j") setCursor(Math.min(cursor + 1, jobs.length - 1))
      else if (event.key === "k") setCursor(Math.max(cursor - 1, 0))
      else if (event.key === "x" && at !== undefined && canTick) ticks.toggle(at.id, false)
      else if (event.key === "o" && at !== undefined) location.hash = `/jobs/${at.id}`
    }
    addEventListener("keydown", pressed)
    return () => removeEventListener("keydown", pressed)
  }, [jobs, cursor, canTick])
  const box = (
    <input
      type="checkbox"
      aria-label="Select this page"
      checked={isWhole}
      onChange={() => ticks.set(isWhole ? new Set() : new Set(jobs.map((job) => job.id)))}
    />
  )
  return (
    <Table
      label="Jobs"
      onPoint={onPoint}
      heads={[
        ...(canTick ? [box] : []),
        "Job",
        "State",
        "Worker and args",
        "Queue",
        { count: "Attempt" },
        { count: "When" },
        { count: "Ran" }
      ]}
    >
      {jobs.map((job, i) => (
        <tr key={job.id} className={i === cursor ? "at" : undefined}>
          {canTick && (
            <td>
              <input
                type="checkbox"
                aria-label={`Select job ${job.id}`}
                checked={isAll || ticks.ticked.has(job.id)}
                onChange={() => undefined}
                onClick={(event) => ticks.toggle(job.id, event.shiftKey)}
              />
            </td>
          )}
          <th scope="row">
            <a href={`#/jobs/${job.id}`}>#{job.id}</a>
          </th>
          <td>
            <State state={job.state} />
            {job.progress !== null && job.state === "executing" && <small> {job.progress} %</small>}
          </td>
          <td className="args">
            <a href={workerLink(job.worker)}>{job.worker}</a>
            {job.tags.map((tag) => (
              <span key={tag} className="tag">
                {tag}
              </span>
            ))}
            <code>{job.preview}</code>
          </td>
          <td>
            <a href={queueLink(job.queue)}>{job.queue}</a>
          </td>
          <td className="number">
            {job.attempt}/{job.maxAttempts}
          </td>
          <td className="number">
            <Time at={job.finishedAt ?? job.runAt} />
          </td>
          <td className="number">{job.finishedAt === null ? "–" : (between(job.claimedAt, job.finishedAt) ?? "–")}</td>
        </tr>
      ))}
    </Table>
  )
}
