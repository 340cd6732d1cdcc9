/** JSON as people read it: whole numbers of any size as they were written, and no more at once than a page can bear. */
import { useMemo, useState } from "react"
import { Copy } from "./action.tsx"
import { Exact } from "./api.ts"
import { number } from "./kit.tsx"

/** JSON as text. */
const textOf = (value: unknown, indent = ""): string => {
  const inner = `${indent}  `
  if (value instanceof Exact) return value.digits
  if (Array.isArray(value)) {
    if (value.length === 0) return "[]"
    return `[\n${value.map((item) => inner + textOf(item, inner)).join(",\n")}\n${indent}]`
  }
  if (typeof value === "object" && value !== null) {
    const entries = Object.entries(value)
    if (entries.length === 0) return "{}"
    return `{\n${entries.map(([key, item]) => `${inner}${JSON.stringify(key)}: ${textOf(item, inner)}`).join(",\n")}\n${indent}}`
  }
  return JSON.stringify(value) ?? "null"
}

/** The most characters of a value that are shown unasked, and that each wish for more adds. */
const portion = 32_768

/** The most characters of one line: browsers lay out longer ones for seconds. */
const lineLength = 4000

const fold = (text: string): string =>
  text
    .split("\n")
    .map((line) =>
      line.length > lineLength ? `${line.slice(0, lineLength)}… (${number(line.length)} characters)` : line
    )
    .join("\n")

export const Json = ({ title, value }: { readonly title: string; readonly value: unknown }) => {
  const [length, setLength] = useState(portion)
  const text = useMemo(() => textOf(value), [value])
  const shown = useMemo(() => fold(text.slice(0, length)), [text, length])
  const rest = text.length - length
  const name = title.toLowerCase()
  return (
    <details open={value !== null}>
      <summary>
        {title} {rest > 0 && <span className="dim">{number(text.length)} characters</span>}
      </summary>
      <div className="json">
        <span className="row">
          {text.length > portion && <Download name={name} text={text} />}
          <Copy text={text} what={name} />
        </span>
        <pre tabIndex={0} aria-label={title}>
          {shown}
          {rest > 0 && "…"}
        </pre>
        {rest > 0 && (
          <button type="button" onClick={() => setLength(length + 8 * portion)}>
            Show more of it
          </button>
        )}
      </div>
    </details>
  )
}

const Download = ({ name, text }: { readonly name: string; readonly text: string }) => (
  <button
    type="button"
    aria-label={`Download ${name}`}
    onClick={() => {
      const link = document.createElement("a")
      link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }))
      link.download = `${name}.json`
      link.click()
      URL.revokeObjectURL(link.href)
    }}
  >
    Download
  </button>
)
