/** What a viewer does: buttons that ask the server, windows that ask back, commands to copy. */
import { useMutation, useQueryClient } from "@tanstack/react-query"
import { type ReactNode, useEffect, useRef, useState } from "react"
import { post } from "./api.ts"
import { inAWhile, notify } from "./notices.tsx"

/** A modal window; Escape and a click beside it close it. */
export const Dialog = (props: {
  readonly title: string
  readonly onClose: () => void
  readonly children: ReactNode
}) => {
  const dialog = useRef<HTMLDialogElement>(null)
  useEffect(() => dialog.current?.showModal(), [])
  return (
    <dialog
      ref={dialog}
      aria-label={props.title}
      onClose={props.onClose}
      onClick={(event) => event.target === dialog.current && dialog.current?.close()}
    >
      <div>
        <h2>{props.title}</h2>
        {props.children}
      </div>
    </dialog>
  )
}

/** A button that asks the server for something; what it answers is a notice. */
export const Action = (props: {
  readonly label: string
  readonly about: string
  readonly path: string
  readonly body?: object
  /** What is asked before, where nothing can be taken back. */
  readonly confirm?: string
  /** `wait` does it in five seconds; a path is what takes it back. */
  readonly undo?: "wait" | { readonly path: string }
  readonly onDone?: () => void
}) => {
  const { about, body, confirm, label, path, undo } = props
  const client = useQueryClient()
  const [asks, setAsks] = useState(false)
  const name = `${label} ${about}`
  // Once whoever leads elsewhere has done so: what is gone is not asked for again.
  const refresh = () => void setTimeout(() => void client.invalidateQueries())
  const failed = ({ message }: Error) => notify(`${name}: ${message}`, { isBad: true })
  const action = useMutation({
    mutationFn: () => post(path, body),
    onSuccess: ({ detail, outcome }) => {
      const told = `${name}: ${detail ?? outcome}`
      if (typeof undo !== "object") notify(told)
      else notify(told, { undo: () => void post(undo.path).catch(failed).finally(refresh) })
      props.onDone?.()
    },
    onError: failed,
    onSettled: refresh
  })
  const act = () => action.mutate()
  const pressed = () => {
    if (confirm !== undefined) setAsks(true)
    else if (undo === "wait") inAWhile(`${name} in 5 s`, act)
    else act()
  }
  return (
    <>
      <button type="button" disabled={action.isPending} onClick={pressed} aria-label={name}>
        {label}
      </button>
      {asks && (
        <Dialog title={`${name}?`} onClose={() => setAsks(false)}>
          <p>{confirm}</p>
          <p className="row">
            <button
              type="button"
              className="danger"
              onClick={() => {
                setAsks(false)
                act()
              }}
            >
              {label}
            </button>
            <button type="button" onClick={() => setAsks(false)}>
              Leave it
            </button>
          </p>
        </Dialog>
      )}
    </>
  )
}

/** Copies a text; on plain http, where the clipboard is closed, by way of a selection. */
const copy = async (text: string): Promise<void> => {
  if (navigator.clipboard !== undefined) return navigator.clipboard.writeText(text)
  const field = document.createElement("textarea")
  field.value = text
  // Within the window that is open, outside of which nothing can be selected.
  const around = document.querySelector("dialog[open]") ?? document.body
  around.append(field)
  field.select()
  document.execCommand("copy")
  field.remove()
}

export const Copy = ({ text, what }: { readonly text: string; readonly what: string }) => {
  const [isCopied, setCopied] = useState(false)
  return (
    <button
      type="button"
      aria-label={`Copy ${what}`}
      onClick={() =>
        void copy(text).then(
          () => setCopied(true),
          () => notify(`The browser did not let ${what} be copied.`, { isBad: true })
        )
      }
    >
      {isCopied ? "Copied" : "Copy"}
    </button>
  )
}

/** The same on the command line. */
export const Commands = ({ lines }: { readonly lines: ReadonlyArray<string> }) => (
  <details className="commands">
    <summary>On the command line</summary>
    {lines.map((line) => (
      <p key={line} className="row">
        <code>{line}</code>
        <Copy text={line} what={line} />
      </p>
    ))}
  </details>
)

/** A text as one word of a shell. */
export const word = (text: string): string =>
  /^[\w.:/@=,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
