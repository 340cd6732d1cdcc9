/** The driver's side of an agent: a child process whose verbs are methods here. */
import { type ChildProcess, fork } from "node:child_process"
import type { Agent, Progress } from "./agent.ts"

/** A running agent. */
export interface Process extends Agent {
  readonly pid: number
  progress: Progress
  onProgress: ((progress: Progress) => void) | undefined
  /** Stops the system in it, then the process; a system that does not stop in five seconds is killed. */
  readonly end: () => Promise<void>
}

const verbs = [
  ..."open setup singles bulk paced ahead handled work drained usage latencies stop".split(" ")
] as ReadonlyArray<keyof Agent>

/** Starts an agent. `flags` go to Node, such as `--cpu-prof`. */
export const start = (flags: ReadonlyArray<string> = []): Process => {
  const child = fork(new URL("agent.ts", import.meta.url), [], {
    execArgv: [...flags],
    // Where an adapter warns, the reader of the bench should see it.
    stdio: ["ignore", "inherit", "inherit", "ipc"]
  })
  const calls = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>()
  let serial = 0
  const call =
    (verb: keyof Agent) =>
    (...args: ReadonlyArray<unknown>): Promise<never> =>
      new Promise((resolve, reject) => {
        const id = serial++
        calls.set(id, { resolve, reject })
        child.send({ id, verb, args }, (error) => {
          if (error !== null && calls.delete(id)) reject(error)
        })
      })
  const process: Process = {
    ...(Object.fromEntries(verbs.map((verb) => [verb, call(verb)])) as unknown as Agent),
    pid: child.pid ?? 0,
    progress: { handled: 0, first: 0, at: 0, memory: 0 },
    onProgress: undefined,
    end: async () => {
      if (child.exitCode !== null) return
      await Promise.race([process.stop().catch(() => undefined), new Promise((resolve) => setTimeout(resolve, 30_000))])
      await ended(child)
    }
  }
  child.on("message", (message: { id: number; value: never; error?: string } | { progress: Progress }) => {
    if ("progress" in message) {
      process.progress = message.progress
      process.onProgress?.(message.progress)
      return
    }
    const waiting = calls.get(message.id)
    calls.delete(message.id)
    if (message.error === undefined) waiting?.resolve(message.value)
    else waiting?.reject(new Error(message.error))
  })
  child.on("exit", (code, signal) => {
    for (const waiting of calls.values()) waiting.reject(new Error(`the process ended (${signal ?? code})`))
    calls.clear()
  })
  return process
}

// internal

const ended = (child: ChildProcess): Promise<void> =>
  new Promise((resolve) => {
    child.once("exit", () => resolve())
    // SIGINT would be a handler's business in some systems; without the channel the agent exits by itself.
    if (child.connected) child.disconnect()
    setTimeout(() => child.kill("SIGKILL"), 5000).unref()
  })
