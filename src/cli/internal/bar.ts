/** Progress of long work, for people only. */
import * as Effect from "effect/Effect"
import type { Screen } from "./screen.ts"
import { count, cut, duration, pad, width } from "./text.ts"

/** Begins a bar on standard error, drawn at most ten times a second and gone at the end; without a total it counts. */
export const makeBar = (screen: Screen["Service"], label: string, total: number | undefined) => {
  const started = performance.now()
  let drawn = 0
  const draw = (done: number): Effect.Effect<void> => {
    const now = performance.now()
    if (!screen.isAnimated || now - drawn < 100) return Effect.void
    drawn = now
    const share = total === undefined || total === 0 ? undefined : Math.min(1, done / total)
    const left = share === undefined || share === 0 ? undefined : ((now - started) / share) * (1 - share)
    const figures = `${count(done)}${total === undefined ? "" : `/${count(total)} ${pad(`${Math.floor((share ?? 0) * 100)}%`, 4)}`}${left === undefined ? "" : ` eta ${duration(left)}`}`
    // A line that is broken cannot be written over; the terminal itself adds the ^C of who stops it.
    const columns = (process.stderr.columns || 80) - 3
    const room = Math.min(30, columns - width(label) - width(figures) - 2)
    const filled = Math.round((share ?? 0) * room)
    const bar = share === undefined || room < 5 ? "" : `${"━".repeat(filled)}${"─".repeat(room - filled)} `
    return screen.draw(`\r${cut(`${label} ${bar}${figures}`, columns)}\u001b[K`)
  }
  return { draw, end: Effect.suspend(() => (drawn === 0 ? Effect.void : screen.draw("\r\u001b[K"))) }
}
