/** From node:http to a fetch-style handler and back. */
import type { IncomingMessage, ServerResponse } from "node:http"
import { Readable } from "node:stream"
import { pipeline } from "node:stream/promises"

/** Answers a request of node:http, or of Express, which tells the whole path beside the one below its mount. */
export const respondTo = async (
  handle: (request: Request) => Promise<Response>,
  incoming: IncomingMessage & { readonly originalUrl?: string; readonly body?: unknown },
  outgoing: ServerResponse
): Promise<void> => {
  const original = (incoming.originalUrl ?? incoming.url ?? "/").split("?")[0] ?? "/"
  if (incoming.originalUrl !== undefined && incoming.url === "/" && !original.endsWith("/")) {
    outgoing.writeHead(302, { location: `${original.split("/").at(-1) ?? ""}/` }).end()
    return
  }
  const entries = Object.entries(incoming.headers).flatMap(([name, value]) =>
    value === undefined ? [] : [value].flat().map((one): [string, string] => [name, one])
  )
  const method = incoming.method ?? "GET"
  const hasBody = method !== "GET" && method !== "HEAD"
  // What is asked for nobody is given up: else it holds a connection that the next page waits for.
  const left = new AbortController()
  outgoing.on("close", () => left.abort())
  const request = new Request(new URL(incoming.url ?? "/", `http://${incoming.headers.host ?? "localhost"}`), {
    method,
    headers: entries,
    signal: left.signal,
    ...(hasBody ? { body: bodyOf(incoming), duplex: "half" } : {})
  })
  const response = await handle(request)
  outgoing.writeHead(response.status, Object.fromEntries(response.headers))
  if (response.body === null) {
    outgoing.end()
    return
  }
  // Waits for a slow reader, and ends the stream where the reader has left.
  await pipeline(Readable.fromWeb(response.body), outgoing)
}

// internal

/** What was sent; what a parser of JSON before this has read is written again. */
const bodyOf = (incoming: IncomingMessage & { readonly body?: unknown }): ReadableStream | string =>
  incoming.readableDidRead && incoming.body !== undefined
    ? JSON.stringify(incoming.body)
    : (Readable.toWeb(incoming) as ReadableStream) // Node's own type of the same
