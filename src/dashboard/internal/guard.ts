/** What is refused before anything looks at a request, and the headers of every answer. */
import * as Headers from "effect/http/Headers"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as Option from "effect/Option"

/** No inline code, nothing from elsewhere, no frames. */
export const headers: Readonly<Record<string, string>> = {
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "x-robots-tag": "noindex",
  "cross-origin-resource-policy": "same-origin"
}

/** Says why a request cannot come from the dashboard's own page, or undefined where it can. */
export const crossSite = (
  request: Pick<HttpServerRequest, "method" | "headers">,
  allowedOrigins: ReadonlyArray<string>
): string | undefined => {
  if (request.method === "GET" || request.method === "HEAD") return undefined
  const header = (name: string) => Option.getOrUndefined(Headers.get(request.headers, name))
  // A form cannot send it, and a script of another site only after a preflight, which nobody answers.
  if (header("x-shigoto") !== "1") return "A write needs the header x-shigoto: 1."
  const origin = header("origin")
  if (origin !== undefined && allowedOrigins.includes(origin)) return undefined
  const site = header("sec-fetch-site")
  if (site !== undefined)
    return site === "same-origin" || site === "none" ? undefined : "A write came from another site."
  // Browsers leave sec-fetch-site out on plain http; what is no browser sends neither.
  if (origin === undefined) return undefined
  return URL.canParse(origin) && new URL(origin).host === header("host")
    ? undefined
    : "A write came from another origin."
}
