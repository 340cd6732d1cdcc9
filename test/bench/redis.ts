/** The Redis of a run, if the machine has one: a server without persistence on a free port of this machine. */
import { spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { connect, createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"

/** The Redis of a run. */
export interface Redis {
  readonly version: string
  readonly port: number
  /** Commands processed so far. */
  readonly commands: () => Promise<number>
  readonly flush: () => Promise<void>
  readonly stop: () => Promise<void>
}

/** Starts a Redis server without persistence on a free port; undefined where none is installed. */
export const redis = async (): Promise<Redis | undefined> => {
  const port = await freePort()
  const directory = mkdtempSync(join(tmpdir(), "shigoto-bench-redis-"))
  const child = spawn(
    "redis-server",
    ["--bind", "127.0.0.1", "--port", `${port}`, "--save", "", "--appendonly", "no"],
    {
      cwd: directory,
      stdio: "ignore"
    }
  )
  const kill = () => child.kill("SIGTERM")
  process.once("exit", kill)
  const failed = new Promise<"failed">((resolve) => {
    child.once("error", () => resolve("failed"))
    child.once("exit", () => resolve("failed"))
  })
  const remove = () => rmSync(directory, { recursive: true, force: true })
  const up = async () => {
    while (true) {
      const answer = await ask(port, "PING").catch(() => undefined)
      if (answer?.includes("PONG") === true) return "up" as const
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
  if ((await Promise.race([failed, up()])) === "failed") {
    remove()
    return undefined
  }
  const info = async (section: string, field: string) =>
    new RegExp(`${field}:(.*)\r`).exec(await ask(port, `INFO ${section}`))?.[1] ?? ""
  return {
    port,
    version: await info("server", "redis_version"),
    commands: async () => Number(await info("stats", "total_commands_processed")),
    flush: async () => {
      await ask(port, "FLUSHALL")
    },
    stop: async () => {
      process.off("exit", kill)
      kill()
      await failed
      remove()
    }
  }
}

// internal

const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const probe = createServer()
    probe.on("error", reject)
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address()
      probe.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0))
    })
  })

/** One inline command, one answer: no client library is worth a PING. */
const ask = (port: number, command: string): Promise<string> =>
  new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1")
    let answer = ""
    socket.on("error", reject)
    socket.on("data", (data) => {
      answer += data.toString()
      const size = /^\$(\d+)\r\n/.exec(answer)
      const complete = size === null ? answer.endsWith("\r\n") : answer.length >= size[0].length + Number(size[1]) + 2
      if (complete) {
        socket.end()
        resolve(answer)
      }
    })
    socket.write(`${command}\r\n`)
  })
