/** Light or dark: what the system says, or what the viewer chose and this browser remembers. */
import { useSyncExternalStore } from "react"

export type Theme = "system" | "light" | "dark"

const key = "shigoto.theme"
const listeners = new Set<() => void>()
const dark = matchMedia("(prefers-color-scheme: dark)")
dark.addEventListener("change", () => listeners.forEach((listener) => listener()))

const chosen = (): Theme => {
  const { theme } = document.documentElement.dataset
  return theme === "light" || theme === "dark" ? theme : "system"
}

export const choose = (theme: Theme): void => {
  if (theme === "system") delete document.documentElement.dataset["theme"]
  else document.documentElement.dataset["theme"] = theme
  try {
    localStorage.setItem(key, theme)
  } catch {
    // A browser that keeps nothing keeps no theme.
  }
  listeners.forEach((listener) => listener())
}

/** Takes up what was chosen before. */
export const restore = (): void => {
  try {
    const stored = localStorage.getItem(key)
    if (stored === "light" || stored === "dark") choose(stored)
  } catch {
    // As above.
  }
}

const subscribe = (listener: () => void) => {
  listeners.add(listener)
  return () => listeners.delete(listener)
}

export const useChoice = (): Theme => useSyncExternalStore(subscribe, chosen)

/** What is seen: a picture that is drawn once has to be drawn again where it changes. */
export const useTheme = (): "light" | "dark" =>
  useSyncExternalStore(subscribe, () => {
    const theme = chosen()
    return theme === "system" ? (dark.matches ? "dark" : "light") : theme
  })
