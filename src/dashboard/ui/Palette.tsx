/** Goes anywhere by typing: pages by name, and what the server finds. */
import { useEffect, useState } from "react"
import { Dialog } from "./action.tsx"
import { query } from "./api.ts"
import { useGet } from "./kit.tsx"

export interface Place {
  readonly title: string
  readonly to: string
}

const addresses: Readonly<Record<string, (id: string) => string>> = {
  job: (id) => `/jobs/${id}`,
  queue: (id) => `/queues/${encodeURIComponent(id)}`,
  worker: (id) => `/workers/${encodeURIComponent(id)}`,
  node: () => "/nodes",
  cron: (id) => `/cron/${encodeURIComponent(id)}`,
  batch: (id) => `/batches/${id}`
}

export const Palette = ({
  places,
  onClose
}: {
  readonly places: ReadonlyArray<Place>
  readonly onClose: () => void
}) => {
  const [text, setText] = useState("")
  const [asked, setAsked] = useState("")
  const [at, setAt] = useState(0)
  useEffect(() => {
    const timer = setTimeout(() => setAsked(text.trim()), 150)
    return () => clearTimeout(timer)
  }, [text])
  const found = useGet("search", `search${query({ text: asked })}`, asked !== "")
  const named = places.filter(({ title }) => title.toLowerCase().includes(text.trim().toLowerCase()))
  const options = [
    ...named.map(({ title, to }) => ({ label: title, kind: "page", to })),
    ...(asked === "" ? [] : (found.data ?? [])).map(({ id, kind, label }) => ({
      label,
      kind: kind as string,
      to: addresses[kind]?.(id) ?? "/"
    }))
  ].slice(0, 12)
  const go = (to: string | undefined) => {
    if (to === undefined) return
    location.hash = to
    onClose()
  }
  return (
    <Dialog title="Go to" onClose={onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault()
          go(options[at]?.to)
        }}
      >
        <input
          autoFocus
          role="combobox"
          aria-expanded="true"
          aria-controls="places"
          aria-activedescendant={options[at] === undefined ? undefined : `place-${at}`}
          aria-label="Page, job, queue, worker, node, cron entry or batch"
          placeholder="A page, #12, a queue, a worker…"
          className="grow"
          value={text}
          onChange={(event) => {
            setText(event.target.value)
            setAt(0)
          }}
          onKeyDown={(event) => {
            const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0
            if (step === 0) return
            event.preventDefault()
            setAt(Math.min(Math.max(at + step, 0), Math.max(options.length - 1, 0)))
          }}
          autoComplete="off"
        />
      </form>
      <ul id="places" role="listbox" aria-label="Places" className="plain">
        {options.map((option, i) => (
          <li
            key={`${option.kind} ${option.to}`}
            id={`place-${i}`}
            role="option"
            aria-selected={i === at}
            onClick={() => go(option.to)}
          >
            {option.label} <small className="dim">{option.kind}</small>
          </li>
        ))}
      </ul>
    </Dialog>
  )
}
