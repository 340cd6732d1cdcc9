/** Moments and lengths of time, by the server's clock. */
import { useSyncExternalStore } from "react"
import { usePreference } from "./preferences.ts"

let skew = 0

/** Takes the server's clock for right. */
export const synchronize = (serverTime: string): void => {
  // oxlint-disable-next-line no-restricted-properties -- the viewer's own clock, which may be wrong
  skew = Date.parse(serverTime) - Date.now()
}

// oxlint-disable-next-line no-restricted-properties -- corrected by what the server says
export const now = (): number => Date.now() + skew

/** One clock for all moments on the page. */
const ticks = { count: 0, listeners: new Set<() => void>() }
setInterval(() => {
  ticks.count++
  ticks.listeners.forEach((listener) => listener())
}, 10_000)
const useTick = () =>
  useSyncExternalStore(
    (listener) => {
      ticks.listeners.add(listener)
      return () => ticks.listeners.delete(listener)
    },
    () => ticks.count
  )

/** A length of time in at most two units. */
export const duration = (millis: number): string => {
  if (millis < 1000) return `${Math.round(millis)} ms`
  const seconds = millis / 1000
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`
  const parts = (
    [
      ["d", 86_400],
      ["h", 3600],
      ["min", 60],
      ["s", 1]
    ] as const
  ).map(([unit, size], i, all) => {
    const within = i === 0 ? Infinity : (all[i - 1]?.[1] ?? Infinity)
    return [Math.floor((seconds % within) / size), unit] as const
  })
  const first = parts.findIndex(([count]) => count > 0)
  return parts
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count} ${unit}`)
    .join(" ")
}

/** The time from one moment to another; undefined where one of them is not known. */
export const between = (from: string | null, to: string | null): string | undefined =>
  from === null || to === null ? undefined : duration(Math.max(Date.parse(to) - Date.parse(from), 0))

/** A moment in a time zone, by default that of the viewer. */
export const inZone = (at: string, timeZone?: string): string =>
  new Date(at).toLocaleString("en-GB", { timeZone, dateStyle: "medium", timeStyle: "medium" })

const relative = (at: string): string => {
  const millis = Date.parse(at) - now()
  return Math.abs(millis) < 1000 ? "now" : millis < 0 ? `${duration(-millis)} ago` : `in ${duration(millis)}`
}

/** A moment as the viewer likes it; in all other ways on hover. */
export const Time = ({ at }: { readonly at: string | null }) => {
  useTick()
  const times = usePreference("times")
  if (at === null) return <span className="dim">–</span>
  const ways = { relative: relative(at), local: inZone(at), utc: at }
  return (
    <time dateTime={at} title={`${ways.relative} · ${ways.local} here · ${ways.utc}`}>
      {ways[times]}
    </time>
  )
}
