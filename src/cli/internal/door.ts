/**
 * Who may use the dashboard that the command line serves: who has the password or, without one, who opens an address that
 * the terminal shows.
 *
 * Every user of a machine reaches its loopback interface, so to reach it proves nothing. An address works once, so that
 * the history of a browser and the scrollback of a terminal are no keys; the browser that opened it has a cookie, which
 * holds until the command ends.
 */
import { createHash, randomBytes, timingSafeEqual } from "node:crypto"
import type { IncomingMessage, ServerResponse } from "node:http"

/** Says whether a request may pass; one that may not is answered. */
export type Door = (incoming: IncomingMessage, outgoing: ServerResponse) => boolean

/** Asks for a password. */
export const withPassword =
  (password: string): Door =>
  (incoming, outgoing) => {
    const [, encoded = ""] = /^Basic (.+)$/i.exec(incoming.headers.authorization ?? "") ?? []
    const given = Buffer.from(encoded, "base64")
      .toString("utf8")
      .replace(/^[^:]*:/, "")
    if (isSame(given, password)) return true
    outgoing
      .writeHead(401, { "www-authenticate": `Basic realm="shigoto", charset="UTF-8"` })
      .end("A password, please.\n")
    return false
  }

/** Lets in through addresses that work once: the first, and whenever one was used, `onUsed` gets the next. */
export const withTokens = (onUsed: (next: string) => void): { readonly door: Door; readonly first: string } => {
  const session = secret()
  let token = secret()
  const door: Door = (incoming, outgoing) => {
    // A cookie is of a host, whatever the port, and the next command has a key of its own.
    const name = `shigoto-${incoming.socket.localPort}`
    const isKnown = isSame(cookie(incoming, name) ?? "", session)
    const url = new URL(incoming.url ?? "/", "http://localhost")
    const given = url.searchParams.get("token")
    if (given === null && isKnown) return true
    const isNew = given !== null && incoming.method === "GET" && isSame(given, token)
    const headers = { "cache-control": "no-store", "referrer-policy": "no-referrer" }
    if (given === null || (!isNew && !isKnown)) {
      outgoing
        .writeHead(401, { ...headers, "content-type": "text/plain" })
        .end(
          given === null
            ? "Open the address that shigoto dashboard printed.\n"
            : "This address has been used: the terminal shows the next one.\n"
        )
      return false
    }
    url.searchParams.delete("token")
    outgoing
      .writeHead(302, {
        ...headers,
        location: `${url.pathname}${url.search}`,
        // Lax: the address may be clicked in a terminal that is a page itself.
        ...(isNew && { "set-cookie": `${name}=${session}; HttpOnly; SameSite=Lax; Path=/` })
      })
      .end()
    if (isNew) onUsed((token = secret()))
    return false
  }
  return { door, first: token }
}

// internal

const secret = (): string => randomBytes(32).toString("base64url")

/** Compares in a time that tells nothing of where they differ. */
const isSame = (one: string, other: string): boolean => {
  const hash = (text: string) => createHash("sha256").update(text).digest()
  return timingSafeEqual(hash(one), hash(other))
}

const cookie = ({ headers }: IncomingMessage, name: string): string | undefined =>
  headers.cookie
    ?.split(/;\s*/)
    .find((one) => one.startsWith(`${name}=`))
    ?.slice(name.length + 1)
