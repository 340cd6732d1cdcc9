/**
 * What is new: one stream of hints for each visible page, upon which it asks again for what it shows.
 *
 * A stream that does not greet within four seconds, or that nobody lets through, gives way to asking now and then. A
 * page that is hidden has none, since browsers allow a server six connections for all pages together.
 */
import type { QueryClient } from "@tanstack/react-query"
import { pulse } from "./api.ts"
import type { Preferences } from "./preferences.ts"
import { synchronize } from "./time.tsx"

export type Status = "connecting" | "live" | "polling" | "paused" | "lost"

/** What an answer's kind is called where news are told; itself, if it is not here. */
const topics: Readonly<Record<string, string>> = {
  history: "overview",
  historyBy: "overview",
  states: "jobs",
  explain: "jobs",
  logs: "jobs",
  related: "jobs",
  copies: "jobs",
  activity: "overview",
  partitions: "queues",
  runs: "cron",
  entry: "cron",
  batch: "batches",
  workers: "nodes",
  worker: "nodes",
  system: "overview"
}

/** The topics that some page shows something of. */
const known = ["overview", "queues", "jobs", "failures", "batches", "cron", "nodes", "limits", "breakers", "operations"]

const greetingMillis = 4000

/** Follows what is new until it is told to stop. */
export const follow = (
  queries: QueryClient,
  told: (status: Status) => void,
  options: { readonly isPaused: boolean; readonly pace: Preferences["pace"]; readonly audits: boolean }
): (() => void) => {
  const asked = [...known, ...(options.audits ? ["audit"] : [])].join(",")
  const paceMillis = options.pace === "live" ? 0 : Number.parseInt(options.pace) * 1000
  let stream: EventSource | undefined
  let timer: ReturnType<typeof setTimeout> | undefined
  let seen: Readonly<Record<string, string>> = {}
  let stopped = false

  const refresh = (changed: ReadonlyArray<string>): void =>
    void queries.invalidateQueries({
      predicate: ({ queryKey: [kind] }) => {
        const name = String(kind)
        return changed.includes(name === "job" ? "jobs" : (topics[name] ?? name))
      }
    })
  const close = (): void => {
    clearTimeout(timer)
    stream?.close()
    stream = undefined
  }
  const poll = (millis: number): void => {
    close()
    const again = (next: number): void => {
      if (!stopped && !document.hidden) timer = setTimeout(() => poll(next), next)
    }
    pulse(asked).then(
      ({ digests, pollMillis }) => {
        if (stopped) return
        told("polling")
        refresh(Object.keys(digests).filter((topic) => digests[topic] !== seen[topic]))
        seen = digests
        again(Math.max(pollMillis, paceMillis))
      },
      () => {
        if (stopped) return
        told("lost")
        again(Math.min(millis * 2, 30_000))
      }
    )
  }
  const open = (): void => {
    close()
    const source = new EventSource(`api/events?topics=${asked}`)
    stream = source
    timer = setTimeout(() => poll(2000), greetingMillis)
    source.addEventListener("hello", ({ data }: MessageEvent<string>) => {
      synchronize((JSON.parse(data) as { readonly serverTime: string }).serverTime) // the server's schema
      clearTimeout(timer)
      told("live")
    })
    source.addEventListener(
      "changed",
      ({ data }: MessageEvent<string>) =>
        refresh((JSON.parse(data) as { readonly topics: ReadonlyArray<string> }).topics) // as the server sends it
    ) // the server's schema
    source.addEventListener("bye", () => open())
    source.addEventListener("error", () => {
      // The browser tries again by itself, unless it was told not to.
      told("lost")
      if (source.readyState === EventSource.CLOSED) poll(2000)
    })
  }
  const look = (): void => {
    if (document.hidden) close()
    else if (options.isPaused) told("paused")
    else if (paceMillis > 0) poll(2000)
    else open()
  }
  document.addEventListener("visibilitychange", look)
  look()
  return () => {
    stopped = true
    document.removeEventListener("visibilitychange", look)
    close()
  }
}
