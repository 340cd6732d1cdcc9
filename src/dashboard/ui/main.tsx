/** The page: one hash in the address for each view, so that it works under any path and behind any proxy. */
import { QueryClient, QueryClientProvider } from "@tanstack/react-query"
import { Component, type ReactNode, useEffect, useState } from "react"
import { createRoot } from "react-dom/client"
import type { Permission } from "../Access.ts"
import { Refused } from "./api.ts"
import { BatchPage, Batches } from "./Batches.tsx"
import { Cron, CronPage } from "./Cron.tsx"
import { Failures } from "./Failures.tsx"
import { Audit, Limits, Nodes, System, WorkerPage, Workers } from "./Fleet.tsx"
import { JobPage } from "./JobPage.tsx"
import { Jobs } from "./Jobs.tsx"
import { Dialog, useGet } from "./kit.tsx"
import { follow, type Status } from "./live.ts"
import { Overview } from "./Overview.tsx"
import { Palette } from "./Palette.tsx"
import { QueuePage, Queues } from "./Queues.tsx"
import { choose, restore, type Theme, useChoice } from "./theme.ts"
import "./style.css"

// What was asked stays until there is news of it; news come by the stream.
const queries = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 60_000,
      retry: (failures, error) => !(error instanceof Refused && error.status < 500) && failures < 2
    }
  }
})

interface View {
  readonly title: string
  readonly to: string
  /** Pressed after `g`. */
  readonly key?: string
  readonly needs?: Permission
  readonly page: (search: URLSearchParams) => ReactNode
  /** What is below it, by its name or number. */
  readonly one?: (name: string) => ReactNode
}

const views: ReadonlyArray<View> = [
  { title: "Overview", to: "/", key: "o", page: (search) => <Overview search={search} /> },
  {
    title: "Jobs",
    to: "/jobs",
    key: "j",
    page: (search) => <Jobs key={search.get("q") ?? ""} search={search} />,
    one: (id) => <JobPage key={id} id={Number(id)} />
  },
  {
    title: "Queues",
    to: "/queues",
    key: "q",
    page: () => <Queues />,
    one: (name) => <QueuePage key={name} name={name} />
  },
  { title: "Failures", to: "/failures", key: "f", page: () => <Failures /> },
  { title: "Cron", to: "/cron", key: "c", page: () => <Cron />, one: (name) => <CronPage key={name} name={name} /> },
  {
    title: "Batches",
    to: "/batches",
    key: "b",
    page: (search) => <Batches search={search} />,
    one: (id) => <BatchPage key={id} id={Number(id)} />
  },
  {
    title: "Workers",
    to: "/workers",
    key: "w",
    page: () => <Workers />,
    one: (name) => <WorkerPage key={name} name={name} />
  },
  { title: "Nodes", to: "/nodes", key: "n", page: () => <Nodes /> },
  { title: "Limits", to: "/limits", key: "l", page: () => <Limits /> },
  { title: "Audit", to: "/audit", key: "a", needs: "audit:view", page: (search) => <Audit search={search} /> },
  { title: "System", to: "/system", key: "s", page: () => <System /> }
]

const useHash = (): string => {
  const [hash, setHash] = useState(() => location.hash.slice(1) || "/")
  useEffect(() => {
    const changed = () => setHash(location.hash.slice(1) || "/")
    addEventListener("hashchange", changed)
    return () => removeEventListener("hashchange", changed)
  }, [])
  return hash
}

const statuses: Readonly<Record<Status, string>> = {
  connecting: "◌ connecting",
  live: "● live",
  polling: "◐ polling",
  paused: "‖ paused",
  lost: "✕ connection lost"
}

/** One view that fails takes no other along. */
class Guard extends Component<{ readonly children: ReactNode }, { readonly error: Error | undefined }> {
  override state: { readonly error: Error | undefined } = { error: undefined }
  static getDerivedStateFromError(error: Error) {
    return { error }
  }
  override render() {
    const { error } = this.state
    return error === undefined ? this.props.children : <p role="alert">This view has failed: {error.message}</p>
  }
}

const find = (path: string): readonly [view: View, name: string | undefined] | undefined => {
  const [, first = "", name] = path.split("/")
  const view = views.find(({ to }) => to === `/${first}`)
  if (view === undefined || (name !== undefined && view.one === undefined)) return undefined
  try {
    return [view, name === undefined ? undefined : decodeURIComponent(name)]
  } catch {
    return undefined
  }
}

const App = () => {
  const [path = "/", text = ""] = useHash().split("?")
  const me = useGet("me", "me")
  const theme = useChoice()
  const [status, setStatus] = useState<Status>("connecting")
  const [paused, setPaused] = useState(false)
  const [open, setOpen] = useState<"palette" | "help">()
  const audits = me.data?.can.includes("audit:view") ?? false
  const shown = views.filter(({ needs }) => needs === undefined || me.data?.can.includes(needs) === true)
  const found = find(path)
  const title = found === undefined ? "Nothing here" : (found[1] ?? found[0].title)
  useEffect(() => void (document.title = `${title} · Shigoto`), [title])
  useEffect(() => follow(queries, setStatus, { paused, audits }), [paused, audits])
  useEffect(() => {
    let wasG = false
    const pressed = (event: KeyboardEvent) => {
      if (event.key === "k" && (event.metaKey || event.ctrlKey)) {
        event.preventDefault()
        return setOpen("palette")
      }
      const isTyping =
        event.target instanceof HTMLElement && event.target.closest("input, select, textarea, dialog") !== null
      if (isTyping || event.metaKey || event.ctrlKey || event.altKey) return
      const to = wasG ? views.find(({ key }) => key === event.key)?.to : undefined
      wasG = event.key === "g"
      if (to !== undefined) location.hash = to
      else if (event.key === "?") setOpen("help")
      else if (event.key === "p") setPaused((before) => !before)
      else if (event.key === "r") void queries.invalidateQueries()
      else if (event.key === "t") choose(nextTheme(document.documentElement.dataset["theme"]))
      else if (event.key === "/") {
        event.preventDefault()
        const filter = document.getElementById("filter")
        if (filter === null) setOpen("palette")
        else filter.focus()
      }
    }
    addEventListener("keydown", pressed)
    return () => removeEventListener("keydown", pressed)
  }, [])
  return (
    <>
      <a
        className="skip"
        href="#main"
        onClick={(event) => {
          event.preventDefault()
          document.querySelector("main")?.focus()
        }}
      >
        Skip to the content
      </a>
      <header>
        <strong>Shigoto</strong>
        <button type="button" className="search" onClick={() => setOpen("palette")} aria-label="Go to…">
          <span aria-hidden="true">⌕</span> Go to… <kbd>/</kbd>
        </button>
        <span className="grow" />
        <span role="status" className={`live ${status}`}>
          {statuses[status]}
        </span>
        <button
          type="button"
          onClick={() => setPaused(!paused)}
          title={paused ? "Follow what happens" : "Keep what is shown"}
          aria-label={paused ? "Follow what happens" : "Keep what is shown"}
        >
          {paused ? "▶" : "‖"}
        </button>
        <span className="dim user">{me.data?.user}</span>
        <button
          type="button"
          onClick={() => choose(nextTheme(theme))}
          aria-label={`Colours: ${theme}`}
          title={`Colours: ${theme}`}
        >
          {theme === "dark" ? "☾" : theme === "light" ? "☀" : "◑"}
        </button>
        <button type="button" onClick={() => setOpen("help")} aria-label="Keys" title="Keys">
          ?
        </button>
      </header>
      <div className="frame">
        <nav aria-label="Pages">
          {shown.map((view) => (
            <a key={view.to} href={`#${view.to}`} aria-current={found?.[0] === view ? "page" : undefined}>
              {view.title}
            </a>
          ))}
        </nav>
        <main tabIndex={-1}>
          {me.error !== null && <p role="alert">{me.error.message}</p>}
          <Guard key={path}>
            {found === undefined ? (
              <p>There is no such page.</p>
            ) : found[1] === undefined ? (
              found[0].page(new URLSearchParams(text))
            ) : (
              found[0].one?.(found[1])
            )}
          </Guard>
        </main>
      </div>
      {open === "palette" && <Palette places={shown} onClose={() => setOpen(undefined)} />}
      {open === "help" && (
        <Dialog title="Keys" onClose={() => setOpen(undefined)}>
          <dl className="keys">
            {[
              ["/", "Filter, or go to"],
              ["Ctrl K", "Go to"],
              ["j k x o", "Next, previous, select, open a job"],
              ["r", "Ask again"],
              ["p", "Follow, or keep what is shown"],
              ["t", "Colours"],
              ...shown.flatMap(({ key, title: name }) => (key === undefined ? [] : [[`g ${key}`, name]]))
            ].map(([key, what]) => (
              <div key={key}>
                <dt>
                  <kbd>{key}</kbd>
                </dt>
                <dd>{what}</dd>
              </div>
            ))}
          </dl>
        </Dialog>
      )}
    </>
  )
}

const nextTheme = (theme: string | undefined): Theme =>
  theme === "light" ? "dark" : theme === "dark" ? "system" : "light"

restore()
const root = document.getElementById("root")
if (root !== null) {
  createRoot(root).render(
    <QueryClientProvider client={queries}>
      <App />
    </QueryClientProvider>
  )
}
