/** What the first view asks for, brought along by the page itself, so that it is painted without asking for anything. */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { HttpServerResponse } from "effect/http/HttpServerResponse"
import type * as Scope from "effect/Scope"

/** What the overview asks of the API, as the page writes it. */
const asked = ["me", "overview", "queues", "failures", "nodes", "activity?by=queue", "history?span=1h"]

/** How long the page waits for that, in milliseconds. */
const patienceMillis = 300

/**
 * Asks the API what the page would ask, for its viewer; what is refused, or comes too late, is left out, and the page
 * asks for it.
 *
 * What is late goes on, for the page to find: most looks are shared.
 */
export const look = <E>(
  scope: Scope.Scope,
  ask: (path: string) => Effect.Effect<HttpServerResponse, E>
): Effect.Effect<Readonly<Record<string, string>>> =>
  Effect.gen(function* () {
    const answers: Record<string, string> = {}
    const fibers = yield* Effect.forEach(asked, (path) =>
      Effect.forkIn(
        Effect.exit(
          Effect.map(ask(path), ({ body, status }) => {
            if (status === 200 && body._tag === "Uint8Array") answers[path] = new TextDecoder().decode(body.body)
          })
        ),
        scope
      )
    )
    yield* Effect.timeoutOption(Fiber.awaitAll(fibers), patienceMillis)
    return { ...answers }
  })

/** Puts answers into the page: as a text that no browser takes for code, or for the end of one. */
export const embed = (html: string, answers: Readonly<Record<string, string>>): string =>
  html.replace(
    /<\/head>/i,
    (end) =>
      `<script type="application/json" id="first-screen">${JSON.stringify(answers).replaceAll("<", "\\u003c")}</script>${end}`
  )
