/**
 * Who may see the dashboard: HTTP basic authentication against a password from the environment.
 *
 * Whatever signs people in to your application belongs here in its place: a session's cookie, a header of your proxy.
 */
import { Config, Effect, Redacted, Result } from "effect"
import { Base64 } from "effect/encoding"
import { HttpRouter, HttpServerResponse } from "effect/http"
import type { Dashboard } from "effect-shigoto/dashboard"
import { createHash, timingSafeEqual } from "node:crypto"

const digest = (text: string) => createHash("sha256").update(text).digest()

/** `ops` may do everything but see what is redacted, `viewer` only looks; both have the password. */
export const access = Effect.gen(function* () {
  const password = digest(Redacted.value(yield* Config.Redacted("ADMIN_PASSWORD")))
  const authorize: Dashboard.Options["access"] = ({ headers }) => {
    const [, credentials = ""] = /^Basic (.+)$/i.exec(headers["authorization"] ?? "") ?? []
    const decoded = Result.getOrElse(Base64.decodeString(credentials), () => "")
    const user = decoded.slice(0, Math.max(0, decoded.indexOf(":")))
    if (!timingSafeEqual(digest(decoded.slice(user.length + 1)), password)) return Effect.undefined
    if (user === "ops") return Effect.succeed({ user, can: "all" })
    return Effect.succeed(user === "viewer" ? { user, can: "readOnly" } : undefined)
  }
  return authorize
})

/** Makes browsers ask for the password. */
export const AskForPassword = HttpRouter.middleware(
  Effect.map((response: HttpServerResponse.HttpServerResponse) =>
    response.status === 401
      ? HttpServerResponse.setHeader(response, "www-authenticate", 'Basic realm="jobs"')
      : response
  ),
  { global: true }
)
