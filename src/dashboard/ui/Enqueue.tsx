/** One job, its args asked for by what their schema says. */
import { useState } from "react"
import { Action } from "./action.tsx"

interface Shape {
  readonly type?: unknown
  readonly properties?: Readonly<Record<string, { readonly type?: unknown; readonly enum?: ReadonlyArray<unknown> }>>
  readonly required?: ReadonlyArray<string>
}

/** The properties that have a field of their own; none for args that are written as JSON. */
const fieldsOf = (document: unknown) => {
  const { schema = {} } = (document ?? {}) as { readonly schema?: Shape } // what the worker has published
  const properties = Object.entries(schema.properties ?? {})
  const isPlain = properties.every(
    ([, { enum: values, type }]) =>
      values !== undefined || type === "string" || type === "number" || type === "integer" || type === "boolean"
  )
  return properties.length > 0 && isPlain
    ? properties.map(([key, of]) => ({ key, of, isNeeded: schema.required?.includes(key) ?? false }))
    : []
}

export const Enqueue = ({ name, schema }: { readonly name: string; readonly schema: unknown }) => {
  const fields = fieldsOf(schema)
  const [values, setValues] = useState<Readonly<Record<string, string>>>({})
  const [text, setText] = useState("{}")
  const [delay, setDelay] = useState("")
  const read = (): { readonly args: unknown } | { readonly problem: string } => {
    if (fields.length === 0) {
      try {
        return { args: JSON.parse(text) as unknown } // nothing is known of it
      } catch (error) {
        return { problem: error instanceof Error ? error.message : String(error) }
      }
    }
    const args: Record<string, unknown> = {}
    for (const { isNeeded, key, of } of fields) {
      const value = values[key] ?? ""
      if (value === "" && (!isNeeded || of.type !== "string")) {
        if (isNeeded) return { problem: `${key} is missing.` }
        continue
      }
      if (of.type === "number" || of.type === "integer") args[key] = Number(value)
      else if (of.type === "boolean") args[key] = value === "true"
      else args[key] = value
    }
    return { args }
  }
  const got = read()
  return (
    <section aria-label="Enqueue" className="card">
      <h2>Enqueue one</h2>
      {fields.length === 0 ? (
        <label>
          Args as JSON
          <textarea rows={6} value={text} onChange={(event) => setText(event.target.value)} spellCheck={false} />
        </label>
      ) : (
        <div className="fields">
          {fields.map(({ isNeeded, key, of }) => (
            <label key={key}>
              <span>
                {key} {isNeeded ? "" : <span className="dim">optional</span>}
              </span>
              {of.enum !== undefined || of.type === "boolean" ? (
                <select
                  value={values[key] ?? ""}
                  onChange={(event) => setValues({ ...values, [key]: event.target.value })}
                >
                  <option value="">–</option>
                  {(of.enum ?? [true, false]).map((one) => (
                    <option key={String(one)}>{String(one)}</option>
                  ))}
                </select>
              ) : (
                <input
                  type={of.type === "string" ? "text" : "number"}
                  step={of.type === "integer" ? 1 : "any"}
                  value={values[key] ?? ""}
                  onChange={(event) => setValues({ ...values, [key]: event.target.value })}
                  autoComplete="off"
                />
              )}
            </label>
          ))}
        </div>
      )}
      <label>
        Delay in seconds{" "}
        <input type="number" min={0} value={delay} onChange={(event) => setDelay(event.target.value)} />
      </label>
      <p className="row">
        {"problem" in got ? (
          <span className="dim">{got.problem}</span>
        ) : (
          <Action
            label="Enqueue"
            about={name}
            path={`workers/${encodeURIComponent(name)}/enqueue`}
            body={{ args: got.args, ...(delay !== "" && { delayMillis: Math.round(Number(delay) * 1000) }) }}
          />
        )}
      </p>
    </section>
  )
}
