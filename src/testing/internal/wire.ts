/** The socket of a client whose statements leave in the order and at the moments that {@link Activity} gives. */
import type * as PgClient from "@effect/sql-pg/PgClient"
import * as Redacted from "effect/Redacted"
import * as Net from "node:net"
import { Duplex } from "node:stream"
import type { Activity, Cycle } from "./activity.ts"

/** Where a server listens. */
export type Address = { readonly path: string } | { readonly host: string; readonly port: number }

/** The address in a client's settings, read as the driver reads it: explicit fields before those of the URL. */
export const addressOf = (config: PgClient.PgClientConfig): Address => {
  const url = config.url === undefined ? undefined : new URL(Redacted.value(config.url))
  const named = url?.searchParams.get("host") ?? decodeURIComponent(url?.hostname ?? "").replaceAll(/^\[|\]$/g, "")
  const host = config.host ?? (named === "" ? "localhost" : named)
  const port = config.port ?? Number(url?.port || url?.searchParams.get("port") || 5432)
  const path = config.path ?? (host.startsWith("/") ? `${host}/.s.PGSQL.${port}` : undefined)
  return path === undefined ? { host, port } : { path }
}

/** Opens a socket for the driver. */
export const connect = (address: Address, activity: Activity): Duplex =>
  new Wire("path" in address ? Net.connect(address) : Net.connect({ ...address, noDelay: true }), activity)

// internal

const startup = 196_608
const sync = 0x53
const query = 0x51
const readyForQuery = 0x5a

class Wire extends Duplex {
  private readonly socket: Net.Socket
  private readonly activity: Activity
  /** Written by the driver, not yet sent. */
  private readonly waiting = new Set<Cycle>()
  /** How many replies each write that was sent still lacks. */
  private readonly owed: Array<number> = []
  private first = true
  /** How much of the current message of the server is still to come, and the start of a header cut in two. */
  private rest = 0
  private head = Buffer.alloc(0)

  constructor(socket: Net.Socket, activity: Activity) {
    super()
    this.socket = socket
    this.activity = activity
    socket.on("data", (chunk: Buffer) => {
      const ready = this.readyIn(chunk)
      this.push(chunk)
      for (let i = 0; i < ready; i++) this.settleOne()
    })
    socket.on("error", (error) => this.destroy(error))
    socket.on("close", () => this.destroy())
  }

  override _read(): void {
    // The socket pushes.
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    done()
    const replies = this.repliesTo(chunk)
    // Passwords, a cancel request, the goodbye: part of a cycle under way, or of none.
    if (replies === 0) {
      this.socket.write(chunk)
      return
    }
    const cycle: Cycle = {
      send: () => {
        this.waiting.delete(cycle)
        this.owed.push(replies)
        this.socket.write(chunk)
      }
    }
    this.waiting.add(cycle)
    this.activity.enqueue(cycle)
  }

  override _final(done: () => void): void {
    this.socket.end(done)
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    for (const cycle of this.waiting) this.activity.withdraw(cycle)
    this.waiting.clear()
    this.socket.destroy()
    done(error)
    this.activity.ended(this.owed.splice(0).length)
  }

  private settleOne(): void {
    const left = (this.owed[0] ?? 0) - 1
    if (left > 0) this.owed[0] = left
    else if (this.owed.shift() !== undefined) this.activity.ended(1)
  }

  private repliesTo(chunk: Buffer): number {
    let at = 0
    let replies = 0
    if (this.first) {
      this.first = false
      at = chunk.readInt32BE(0)
      if (chunk.readInt32BE(4) === startup) replies++
    }
    while (at + 5 <= chunk.length) {
      if (chunk[at] === sync || chunk[at] === query) replies++
      at += 1 + chunk.readInt32BE(at + 1)
    }
    return replies
  }

  private readyIn(chunk: Buffer): number {
    let at = 0
    let ready = 0
    while (at < chunk.length) {
      if (this.rest > 0) {
        const skipped = Math.min(this.rest, chunk.length - at)
        this.rest -= skipped
        at += skipped
        continue
      }
      const part = chunk.subarray(at, at + 5 - this.head.length)
      this.head = Buffer.concat([this.head, part])
      at += part.length
      if (this.head.length < 5) break
      if (this.head[0] === readyForQuery) ready++
      this.rest = this.head.readInt32BE(1) - 4
      this.head = Buffer.alloc(0)
    }
    return ready
  }
}
