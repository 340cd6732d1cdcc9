/** The filter as text, with what can stand next: fields, and values of those that have names. */
import { useState } from "react"
import { term } from "./api.ts"
import { states, useGet } from "./kit.tsx"

const fields: Readonly<Record<string, string>> = {
  worker: "a kind of job",
  queue: "a queue",
  state: "where it is in its life",
  tag: "a tag; twice for both",
  "args.": "a value in its args, such as args.user.id:42",
  "meta.": "a value in its meta",
  error: "part of its last failure's message, or its tag",
  node: "who runs it, or ran it",
  cron: "the entry that made it",
  batch: "its batch or flow",
  id: "10..20, or 10,12",
  priority: ">=3",
  attempt: ">=3",
  inserted: "<1h for younger than an hour, 7d..1d",
  due: "<1h",
  finished: "<1h, 2026-01-31T00:00:00Z..",
  partitionKey: "a key of a fair queue",
  fingerprint: "a group of failures"
}

interface Shape {
  readonly properties?: Readonly<Record<string, Shape>>
}

/** The paths to values in args, from the JSON Schema that a worker has told. */
const pathsOf = (schema: Shape, prefix = "args"): ReadonlyArray<string> =>
  Object.entries(schema.properties ?? {}).flatMap(([key, of]) => {
    const path = `${prefix}.${/^[\w-]+$/.test(key) ? key : JSON.stringify(key)}`
    return of.properties === undefined ? [path] : pathsOf(of, path)
  })

const useNames = (isWanted: boolean, worker: string | undefined) => {
  const workers = useGet("workers", "workers", isWanted)
  const queues = useGet("queues", "queues", isWanted)
  const nodes = useGet("nodes", "nodes", isWanted)
  const cron = useGet("cron", "cron", isWanted)
  const detail = useGet("worker", `workers/${encodeURIComponent(worker ?? "")}`, isWanted && worker !== undefined)
  const { schema } = (detail.data?.schema ?? {}) as { readonly schema?: Shape } // what the worker has told
  const named = (rows: ReadonlyArray<{ readonly name: string }> | undefined) => (rows ?? []).map(({ name }) => name)
  return {
    values: {
      state: states,
      worker: named(workers.data),
      queue: named(queues.data?.queues),
      node: named(nodes.data),
      cron: named(cron.data)
    } as Readonly<Record<string, ReadonlyArray<string>>>,
    paths: schema === undefined ? [] : pathsOf(schema)
  }
}

interface Option {
  readonly text: string
  readonly note?: string | undefined
}

const optionsFor = (token: string, { paths, values }: ReturnType<typeof useNames>): ReadonlyArray<Option> => {
  const colon = token.indexOf(":")
  if (colon === -1) {
    const wanted = token.toLowerCase()
    const known = Object.entries(fields).filter(([name]) => name.toLowerCase().startsWith(wanted))
    return [
      ...known.map(([name, note]) => ({ text: name.endsWith(".") ? name : `${name}:`, note })),
      ...(wanted === "" ? [] : paths.filter((path) => path.startsWith(token)).map((path) => ({ text: `${path}:` })))
    ]
  }
  const field = token.slice(0, colon)
  const begun = token.slice(colon + 1)
  const last = begun.slice(begun.lastIndexOf(",") + 1).replaceAll('"', "")
  const before = begun.slice(0, begun.lastIndexOf(",") + 1)
  return (values[field] ?? [])
    .filter((value) => value !== last && value.toLowerCase().includes(last.toLowerCase()))
    .map((value) => ({ text: `${field}:${before}${term("", value).slice(1)} ` }))
}

export const FilterBar = ({ onFind, q }: { readonly q: string; readonly onFind: (q: string) => void }) => {
  const [text, setText] = useState(q)
  const [isOpen, setOpen] = useState(false)
  const [at, setAt] = useState(-1)
  const [, worker] = /(?:^|\s)worker:([\w.-]+)(?:\s|$)/.exec(text) ?? []
  const names = useNames(isOpen, worker)
  const start = text.search(/(?:[^\s"]|"[^"]*"?)*$/)
  const options = isOpen ? optionsFor(text.slice(start), names).slice(0, 9) : []
  const take = (option: Option) => {
    setText(text.slice(0, start) + option.text)
    setAt(-1)
    document.getElementById("filter")?.focus()
  }
  return (
    <form
      role="search"
      className="filter"
      onSubmit={(event) => {
        event.preventDefault()
        setOpen(false)
        onFind(text.trim())
      }}
    >
      <label htmlFor="filter">Filter</label>
      <span className="grow">
        <input
          id="filter"
          role="combobox"
          aria-expanded={options.length > 0}
          aria-controls="filter-options"
          aria-autocomplete="list"
          aria-activedescendant={options[at] === undefined ? undefined : `filter-option-${at}`}
          value={text}
          onChange={(event) => {
            setText(event.target.value)
            setOpen(true)
            setAt(-1)
          }}
          onFocus={() => setOpen(true)}
          onBlur={() => setOpen(false)}
          onKeyDown={(event) => {
            const option = options[at]
            if (event.key === "ArrowDown" || event.key === "ArrowUp") {
              event.preventDefault()
              setOpen(true)
              setAt(Math.min(Math.max(at + (event.key === "ArrowDown" ? 1 : -1), -1), options.length - 1))
            } else if (event.key === "Enter" && option !== undefined) {
              event.preventDefault()
              take(option)
            } else if (event.key === "Escape") setOpen(false)
          }}
          placeholder="worker:send-email state:retryable args.user.id:42"
          spellCheck={false}
          autoComplete="off"
        />
        <ul
          id="filter-options"
          role="listbox"
          aria-label="What can stand here"
          className="options"
          hidden={options.length === 0}
        >
          {options.map((option, i) => (
            <li
              key={option.text}
              id={`filter-option-${i}`}
              role="option"
              aria-selected={i === at}
              // Before the field loses its focus.
              onPointerDown={(event) => {
                event.preventDefault()
                take(option)
              }}
            >
              <code>{option.text}</code> <small>{option.note}</small>
            </li>
          ))}
        </ul>
      </span>
      <button type="submit">Find</button>
    </form>
  )
}
