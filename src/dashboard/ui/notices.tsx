/** What became of what a viewer did, and, for five seconds, the way back. */
import { useSyncExternalStore } from "react"

interface Notice {
  readonly id: number
  readonly text: string
  readonly isBad: boolean
  readonly undo: (() => void) | undefined
}

/** How long something can be taken back, and is told of, in milliseconds. */
const noticeMillis = 5000

let notices: ReadonlyArray<Notice> = []
let last = 0
const listeners = new Set<() => void>()

const change = (next: ReadonlyArray<Notice>): void => {
  notices = next
  listeners.forEach((listener) => listener())
}

const dismiss = (id: number): void => change(notices.filter((notice) => notice.id !== id))

/** Tells something; what went wrong stays until it is put away. */
export const notify = (text: string, options: { readonly isBad?: boolean; readonly undo?: () => void } = {}): void => {
  const id = ++last
  const { isBad = false, undo } = options
  change([...notices, { id, text, isBad, undo }].slice(-4))
  if (!isBad) setTimeout(() => dismiss(id), noticeMillis)
}

const waiting = new Set<() => void>()
// Who leaves has not taken it back.
addEventListener("pagehide", () => waiting.forEach((act) => act()))

/** Does something in five seconds, unless it is taken back before. */
export const inAWhile = (text: string, act: () => void): void => {
  const once = (): void => {
    clearTimeout(timer)
    if (waiting.delete(once)) act()
  }
  const timer = setTimeout(once, noticeMillis)
  waiting.add(once)
  notify(text, {
    undo: () => {
      clearTimeout(timer)
      waiting.delete(once)
    }
  })
}

const subscribe = (listener: () => void) => {
  listeners.add(listener)
  return () => listeners.delete(listener)
}

export const Notices = () => (
  <div className="notices" role="status" aria-label="Notices">
    {useSyncExternalStore(subscribe, () => notices).map(({ id, isBad, text, undo }) => (
      <div key={id} className={isBad ? "bad" : undefined}>
        <span>{text}</span>
        {undo !== undefined && (
          <button
            type="button"
            onClick={() => {
              undo()
              dismiss(id)
            }}
          >
            Undo
          </button>
        )}
        <button type="button" aria-label="Dismiss" onClick={() => dismiss(id)}>
          ×
        </button>
      </div>
    ))}
  </div>
)
