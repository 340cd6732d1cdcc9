/**
 * A network that fails on demand: a TCP proxy in front of the server, whose connections can go silent or lose a reply.
 */
import * as Effect from "effect/Effect"
import * as Net from "node:net"

export interface Proxy {
  /** The database's URL through this proxy. */
  readonly url: string
  /** From now on no byte passes on the connections there are; new ones work. The sockets stay open. */
  readonly freeze: () => void
  /** From now on no byte passes on any connection, new ones included, until `heal`. */
  readonly blackhole: () => void
  /** New connections work again. Frozen ones stay as they are, as after a router's restart. */
  readonly heal: () => void
  /** Cuts all connections. */
  readonly cut: () => void
  /** Ends what `freeze` and `blackhole` left half open, as keep-alives do in the end. */
  readonly bury: () => void
  /** From now on new connections lead to the server of another URL; those there are stay. */
  readonly leadTo: (url: string) => void
  /** From now on every byte is late by about so many milliseconds, half of them more or less; 0 ends it. */
  readonly delay: (millis: number) => void
  /**
   * Forwards the next statement whose text holds the marker, waits for the server's whole reply, and cuts the connection
   * instead of delivering it. Connect with `prepare: false`, else the text travels only once per connection. No
   * marker calls off what has not happened yet.
   */
  readonly dropReplyOf: (marker: string | undefined) => void
  /** How many replies were dropped. */
  readonly dropped: () => number
}

/** Starts a proxy to the server of a URL; it ends with the scope. What clients send passes through `rewrite`. */
export const makeProxy = (target: string, rewrite: (chunk: Buffer) => Buffer = (chunk) => chunk) =>
  Effect.acquireRelease(
    Effect.callback<Proxy & { readonly close: () => void }>((resume) => {
      const links = new Set<Link>()
      let silent = false
      let marker: string | undefined
      let dropped = 0
      let late = 0
      let destination = target
      // Bytes of one direction never overtake each other, also when the network becomes faster.
      const makeSend = (link: Link, to: Net.Socket) => {
        let last = 0
        return (chunk: Buffer): void => {
          const now = performance.now()
          const at = Math.max(last, late === 0 ? 0 : now + late * (0.5 + Math.random()))
          if (at <= now) return void to.write(chunk)
          last = at
          setTimeout(() => (link.dead || to.destroyed ? undefined : to.write(chunk)), at - now)
        }
      }
      const server = Net.createServer((client) => {
        const upstream = Net.connect(addressOf(destination))
        const link: Link = { client, upstream, dead: silent, dropping: false, reply: Buffer.alloc(0) }
        links.add(link)
        const toServer = makeSend(link, upstream)
        const toClient = makeSend(link, client)
        const end = (): void => {
          links.delete(link)
          client.destroy()
          upstream.destroy()
        }
        client.on("data", (chunk) => {
          if (link.dead) return
          if (marker !== undefined && chunk.includes(marker)) {
            marker = undefined
            link.dropping = true
          }
          toServer(rewrite(chunk))
        })
        upstream.on("data", (chunk) => {
          if (link.dead) return
          if (!link.dropping) {
            toClient(chunk)
            return
          }
          link.reply = Buffer.concat([link.reply, chunk])
          if (isReady(link.reply)) {
            dropped++
            end()
          }
        })
        for (const socket of [client, upstream]) {
          // An end or an error passes on, unless the network is silent: then the other side never hears of it.
          socket.on("close", () => (link.dead ? undefined : end()))
          socket.on("error", () => undefined)
        }
      })
      const close = (): void => {
        for (const { client, upstream } of links) {
          client.destroy()
          upstream.destroy()
        }
        server.close()
      }
      server.listen(0, "127.0.0.1", () => {
        const url = new URL(target)
        url.hostname = "127.0.0.1"
        url.port = String((server.address() as Net.AddressInfo).port)
        url.searchParams.delete("host")
        const freeze = (): void => {
          for (const link of links) link.dead = true
        }
        resume(
          Effect.succeed({
            url: url.toString(),
            freeze,
            blackhole: () => {
              silent = true
              freeze()
            },
            heal: () => {
              silent = false
            },
            cut: () => {
              for (const { client, upstream } of links) {
                client.destroy()
                upstream.destroy()
              }
            },
            bury: () => {
              for (const link of links) {
                if (!link.dead) continue
                links.delete(link)
                link.client.destroy()
                link.upstream.destroy()
              }
            },
            leadTo: (to) => {
              destination = to
            },
            delay: (millis) => {
              late = millis
            },
            dropReplyOf: (text) => {
              marker = text
            },
            dropped: () => dropped,
            close
          })
        )
      })
    }),
    (proxy) => Effect.sync(proxy.close)
  )

// internal

interface Link {
  readonly client: Net.Socket
  readonly upstream: Net.Socket
  dead: boolean
  dropping: boolean
  reply: Buffer
}

/** Where a PostgreSQL URL leads: a host and port, or the socket in the directory that travels as `?host=`. */
export const addressOf = (target: string): Net.NetConnectOpts => {
  const url = new URL(target)
  const directory = url.searchParams.get("host")
  const port = Number(url.port === "" ? 5432 : url.port)
  return directory === null ? { host: url.hostname, port } : { path: `${directory}/.s.PGSQL.${port}` }
}

/** Whether a reply ends with ReadyForQuery outside of a transaction: whatever was sent has been committed. */
const isReady = (reply: Buffer): boolean => reply.subarray(-6).equals(Buffer.from([0x5a, 0, 0, 0, 5, 0x49]))
