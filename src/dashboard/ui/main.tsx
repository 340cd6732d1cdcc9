/** The page: one hash in the address for each view, so that it works under any path and behind any proxy. */
import { QueryClient, QueryClientProvider } from "@tanstack/react-query"
import { Component, type ReactNode, useEffect, useState } from "react"
import { createRoot } from "react-dom/client"
import type { Answers } from "./api.ts"
import { forget, Refused } from "./api.ts"
import { useGet } from "./kit.tsx"
import { follow, type Status } from "./live.ts"
import { Notices } from "./notices.tsx"
import { Palette } from "./Palette.tsx"
import { choices, prefer, preference, usePreference } from "./preferences.ts"
import { Settings } from "./Settings.tsx"
import { find, type View, views } from "./views.tsx"
import "./style.css"

// What was asked stays until there is news of it; news come by the stream. What failed is asked again by itself.
const queries = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 60_000,
      retry: (failures, error) => !(error instanceof Refused && error.status < 500) && failures < 2,
      refetchInterval: ({ state: { error } }) =>
        error !== null && !(error instanceof Refused && error.status < 500) ? 5000 : false
    }
  }
})

const useHash = (): string => {
  const [hash, setHash] = useState(() => location.hash.slice(1) || "/")
  useEffect(() => {
    const changed = () => setHash(location.hash.slice(1) || "/")
    addEventListener("hashchange", changed)
    return () => removeEventListener("hashchange", changed)
  }, [])
  return hash
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

type Window = "palette" | "settings" | undefined

/** The keys that work wherever nobody types. */
const useKeys = (open: (window: Window) => void, togglePause: () => void): void =>
  useEffect(() => {
    let wasG = false
    const pressed = (event: KeyboardEvent) => {
      if (event.key === "k" && (event.metaKey || event.ctrlKey)) {
        event.preventDefault()
        return open("palette")
      }
      const isTyping =
        event.target instanceof HTMLElement && event.target.closest("input, select, textarea, dialog") !== null
      if (isTyping || event.metaKey || event.ctrlKey || event.altKey || preference("keys") === "off") return
      const to = wasG ? views.find(({ key }) => key === event.key)?.to : undefined
      wasG = event.key === "g"
      if (to !== undefined) location.hash = to
      else if (event.key === "?") open("settings")
      else if (event.key === "p") togglePause()
      else if (event.key === "r") void queries.invalidateQueries()
      else if (event.key === "t") nextTheme()
      else if (event.key === "/") {
        event.preventDefault()
        const filter = document.getElementById("filter")
        if (filter === null) open("palette")
        else filter.focus()
      }
    }
    addEventListener("keydown", pressed)
    return () => removeEventListener("keydown", pressed)
  }, [])

const nextTheme = (): void => {
  const { theme } = choices
  prefer("theme", theme[(theme.indexOf(preference("theme")) + 1) % theme.length] ?? "system")
}

const statuses: Readonly<Record<Status, string>> = {
  connecting: "◌ connecting",
  live: "● live",
  polling: "◐ polling",
  paused: "‖ paused",
  lost: "✕ connection lost"
}

const Header = (props: {
  readonly me: Answers["me"] | undefined
  readonly status: Status
  readonly isPaused: boolean
  readonly onPause: () => void
  readonly onOpen: (window: Window) => void
}) => {
  const { isPaused, me, onOpen, onPause, status } = props
  const theme = usePreference("theme")
  const environment = me?.environment
  return (
    <header>
      <a className="brand" href="#/">
        Shigoto
      </a>
      {environment != null && <span className={`environment ${environment.tone}`}>{environment.name}</span>}
      {me !== undefined && me.instances.length > 1 && (
        <select
          aria-label="Instance"
          value={me.instance ?? ""}
          // Beside this one, whatever is above them.
          onChange={(event) => location.assign(`../${event.target.value}/${location.hash}`)}
        >
          {me.instances.map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
      )}
      <button type="button" className="search" onClick={() => onOpen("palette")} aria-label="Go to…">
        <span aria-hidden="true">⌕</span> <span className="wide-only">Go to…</span> <kbd>/</kbd>
      </button>
      <span className="grow" />
      <span role="status" className={`live ${status}`}>
        {statuses[status]}
      </span>
      <button
        type="button"
        onClick={onPause}
        title={isPaused ? "Follow what happens" : "Keep what is shown"}
        aria-label={isPaused ? "Follow what happens" : "Keep what is shown"}
      >
        {isPaused ? "▶" : "‖"}
      </button>
      <span className="user wide-only">{me?.user}</span>
      <button type="button" onClick={nextTheme} aria-label={`Colours: ${theme}`} title={`Colours: ${theme}`}>
        {theme === "dark" ? "☾" : theme === "light" ? "☀" : "◑"}
      </button>
      <button type="button" onClick={() => onOpen("settings")} aria-label="Settings and keys" title="Settings and keys">
        ?
      </button>
    </header>
  )
}

const Rail = ({ current, shown }: { readonly current: View | undefined; readonly shown: ReadonlyArray<View> }) => (
  <nav aria-label="Pages">
    {(["Work", "Fleet", "Control"] as const).map((group) => (
      <div key={group}>
        <span aria-hidden="true">{group}</span>
        {shown
          .filter((view) => view.group === group)
          .map((view) => (
            <a key={view.to} href={`#${view.to}`} aria-current={current === view ? "page" : undefined}>
              {view.title}
            </a>
          ))}
      </div>
    ))}
  </nav>
)

/** What is wrong with the whole, on every page: nothing below it can be trusted to be new. */
const Outage = () => {
  const { data, error } = useGet("overview", "overview")
  const isAway = error instanceof Refused && error.status >= 500
  const reason = data?.reasons.find(({ tag }) => tag === "DatabaseUnavailable" || tag === "SchemaVersion")
  if (!isAway && reason === undefined) return null
  return (
    <p role="alert" className="outage">
      <b>{reason?.message ?? error?.message}</b> What is shown may be old; this page asks again by itself.
    </p>
  )
}

const App = () => {
  const [path = "/", text = ""] = useHash().split("?")
  const me = useGet("me", "me")
  const pace = usePreference("pace")
  const [status, setStatus] = useState<Status>("connecting")
  const [isPaused, setPaused] = useState(false)
  const [window, setWindow] = useState<Window>()
  const audits = me.data?.can.includes("audit:view") ?? false
  const shown = views.filter(({ needs }) => needs === undefined || me.data?.can.includes(needs) === true)
  const found = find(path)
  const title = found === undefined ? "Nothing here" : (found[1] ?? found[0].title)
  const close = () => setWindow(undefined)
  const togglePause = () => setPaused((before) => !before)
  useKeys(setWindow, togglePause)
  useEffect(forget, [])
  useEffect(() => void (document.title = `${title} · Shigoto`), [title])
  useEffect(() => follow(queries, setStatus, { isPaused, pace, audits }), [isPaused, pace, audits])
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
      <Header me={me.data} status={status} isPaused={isPaused} onPause={togglePause} onOpen={setWindow} />
      <div className="frame">
        <Rail current={found?.[0]} shown={shown} />
        <main tabIndex={-1}>
          {me.error !== null && <p role="alert">{me.error.message}</p>}
          <Outage />
          <Guard key={path}>
            {found === undefined ? (
              <>
                <h1>Nothing here</h1>
                <p>
                  There is no such page. <a href="#/">Go to the overview.</a>
                </p>
              </>
            ) : found[1] === undefined ? (
              found[0].page(new URLSearchParams(text))
            ) : (
              found[0].one?.(found[1])
            )}
          </Guard>
        </main>
      </div>
      <Notices />
      {window === "palette" && <Palette places={shown} onClose={close} />}
      {window === "settings" && <Settings pages={shown} onClose={close} />}
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
