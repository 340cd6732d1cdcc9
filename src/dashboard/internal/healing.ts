/** A handler whose services are built anew until that succeeds. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HttpRouter from "effect/http/HttpRouter"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { headers } from "./guard.ts"

/** Builds a handler on services; while these cannot be built, it says so and tries again. */
export const healing = <Services, E>(
  services: Layer.Layer<Services, E>,
  mounted: (services: Layer.Layer<Services>) => Layer.Layer<never, never, HttpRouter.HttpRouter>
) => {
  const scope = Scope.makeUnsafe()
  const open = Effect.gen(function* () {
    const attempt = yield* Scope.fork(scope)
    const context = yield* Layer.buildWithScope(services, attempt).pipe(
      Effect.onError((cause) => Scope.close(attempt, Exit.failCause(cause)))
    )
    const web = HttpRouter.toWebHandler(mounted(Layer.succeedContext(context)), { disableLogger: true })
    yield* Scope.addFinalizer(attempt, Effect.promise(web.dispose))
    return web.handler
  }).pipe(
    Effect.tapCause((cause) => Effect.logWarning("The dashboard cannot be built, and is tried again", cause)),
    Effect.orElseSucceed(() => undefined)
  )
  let opening: Promise<((request: Request) => Promise<Response>) | undefined> | undefined
  const opened = () => {
    if (opening !== undefined) return opening
    const current = Effect.runPromise(open)
    opening = current
    void current.then((handle) => {
      // Not with each request: an outage is no time for more connections.
      if (handle === undefined) setTimeout(() => (opening = undefined), retryMillis).unref()
    })
    return current
  }
  void opened()
  return Object.assign(
    async (request: Request) => {
      const handle = await opened()
      return handle === undefined ? away(request) : handle(request)
    },
    { dispose: () => Effect.runPromise(Scope.close(scope, Exit.void)) }
  )
}

// internal

const retryMillis = 2000

const message = "The database of this dashboard does not answer. It is tried again every few seconds."

/** Says no more than anybody may know. */
const away = (request: Request): Response => {
  const isApi = new URL(request.url).pathname.includes("/api/")
  return new Response(isApi ? JSON.stringify({ message }) : page, {
    status: 503,
    headers: {
      ...headers,
      "content-type": isApi ? "application/json" : "text/html; charset=utf-8",
      "cache-control": "no-store",
      "retry-after": "5"
    }
  })
}

const page = `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <meta name="viewport" content="width=device-width, initial-scale=1" />
    <meta name="color-scheme" content="light dark" />
    <meta http-equiv="refresh" content="5" />
    <title>Waiting for the database · Shigoto</title>
  </head>
  <body>
    <h1>Waiting for the database</h1>
    <p>${message} This page follows.</p>
    <p>Whoever runs it: the log of this process tells what went wrong.</p>
  </body>
</html>
`
