/** The page: one hash in the address for each view, so that it works under any path and behind any proxy. */
import { QueryClient, QueryClientProvider, useQuery } from "@tanstack/react-query"
import { type ReactNode, useEffect, useState } from "react"
import { createRoot } from "react-dom/client"
import { get } from "./api.ts"
import { Cron, Failures, JobPage, Jobs, Overview, Queues } from "./pages.tsx"
import "./style.css"

const queries = new QueryClient({ defaultOptions: { queries: { refetchInterval: 2000, retry: false } } })

const useHash = (): string => {
  const [hash, setHash] = useState(() => location.hash.slice(1) || "/")
  useEffect(() => {
    const changed = () => setHash(location.hash.slice(1) || "/")
    addEventListener("hashchange", changed)
    return () => removeEventListener("hashchange", changed)
  }, [])
  return hash
}

const pages: ReadonlyArray<readonly [path: string, title: string]> = [
  ["/", "Overview"],
  ["/jobs", "Jobs"],
  ["/queues", "Queues"],
  ["/cron", "Cron"],
  ["/failures", "Failures"]
]

const pageFor = (path: string, query: URLSearchParams): ReactNode => {
  const id = /^\/jobs\/(\d+)$/.exec(path)?.[1]
  if (id !== undefined) return <JobPage key={id} id={Number(id)} />
  switch (path) {
    case "/":
      return <Overview />
    case "/jobs":
      return <Jobs key={query.toString()} query={query} />
    case "/queues":
      return <Queues />
    case "/cron":
      return <Cron />
    case "/failures":
      return <Failures />
    default:
      return <p>There is no such page.</p>
  }
}

const App = () => {
  const [path = "/", search = ""] = useHash().split("?")
  const me = useQuery({ queryKey: ["me"], queryFn: () => get("me", "me") })
  const title = pages.findLast(([known]) => path.startsWith(known))?.[1] ?? "Shigoto"
  useEffect(() => void (document.title = `${title} · Shigoto`), [title])
  return (
    <>
      <a
        className="skip"
        href="#main"
        onClick={(event) => (event.preventDefault(), document.querySelector("main")?.focus())}
      >
        Skip to the content
      </a>
      <header>
        <strong>Shigoto</strong>
        <nav aria-label="Pages">
          {pages.map(([to, name]) => (
            <a key={to} href={`#${to}`} aria-current={name === title ? "page" : undefined}>
              {name}
            </a>
          ))}
        </nav>
        <span className="live" role="status">
          {me.isError ? "✕ connection lost" : me.data === undefined ? "◌ connecting" : `● live · ${me.data.user}`}
        </span>
      </header>
      <main tabIndex={-1}>{pageFor(path, new URLSearchParams(search))}</main>
    </>
  )
}

const root = document.getElementById("root")
if (root !== null) {
  createRoot(root).render(
    <QueryClientProvider client={queries}>
      <App />
    </QueryClientProvider>
  )
}
