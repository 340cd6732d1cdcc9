/** What a viewer prefers; this browser remembers it. */
import { useSyncExternalStore } from "react"

/** What there is to choose from; the first is what holds until somebody chooses. */
export const choices = {
  theme: ["system", "light", "dark"],
  /** How moments are written; the others are a hover away. */
  times: ["relative", "local", "utc"],
  /** How often the page follows what happens. */
  pace: ["live", "5 s", "15 s", "60 s"],
  keys: ["on", "off"]
} as const

export type Preferences = { readonly [K in keyof typeof choices]: (typeof choices)[K][number] }

const key = "shigoto"
const listeners = new Set<() => void>()
const dark = matchMedia("(prefers-color-scheme: dark)")

const tell = (): void => listeners.forEach((listener) => listener())

const pick = <A extends string>(known: readonly [A, ...ReadonlyArray<A>], value: unknown): A =>
  known.find((one) => one === value) ?? known[0]

const restored = (): Preferences => {
  let stored: Partial<Record<keyof Preferences, unknown>> = {}
  try {
    stored = Object(JSON.parse(localStorage.getItem(key) ?? "{}")) as typeof stored // each value is checked
  } catch {
    // A browser that keeps nothing, or what is no JSON.
  }
  return {
    theme: pick(choices.theme, stored.theme),
    times: pick(choices.times, stored.times),
    pace: pick(choices.pace, stored.pace),
    keys: pick(choices.keys, stored.keys)
  }
}

let current = restored()

const show = (): void => {
  const root = document.documentElement
  if (current.theme === "system") delete root.dataset["theme"]
  else root.dataset["theme"] = current.theme
}

show()
dark.addEventListener("change", tell)

const subscribe = (listener: () => void) => {
  listeners.add(listener)
  return () => listeners.delete(listener)
}

export const preference = <K extends keyof Preferences>(name: K): Preferences[K] => current[name]

export const prefer = (name: keyof Preferences, value: string): void => {
  current = { ...current, [name]: pick<string>(choices[name], value) }
  try {
    localStorage.setItem(key, JSON.stringify(current))
  } catch {
    // It holds until the page is left.
  }
  show()
  tell()
}

export const usePreference = <K extends keyof Preferences>(name: K): Preferences[K] =>
  useSyncExternalStore(subscribe, () => current[name])

/** What is seen: a picture that is drawn once has to be drawn again where it changes. */
export const useTheme = (): "light" | "dark" =>
  useSyncExternalStore(subscribe, () =>
    current.theme === "system" ? (dark.matches ? "dark" : "light") : current.theme
  )
