/**
 * Liveness, readiness and health over HTTP, for probes and load balancers, as routes of the application's own router.
 *
 * | path | answers 200 | else |
 * |---|---|---|
 * | `/health/live` | while the process serves requests at all | |
 * | `/health/ready` | while the database answers and has tables that this code can use | 503 |
 * | `/health` | `ok` or `degraded` | 503 while `down` |
 *
 * Liveness never asks the database: an outage must not restart every process that waits for its end. The other two are
 * read at most once a second, however many ask.
 */
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import { tell } from "./Health.ts"
import { Jobs } from "./Jobs.ts"

/**
 * Where and what to answer.
 *
 * @category models
 */
export interface HealthOptions {
  /** The path below which the routes are. Defaults to `/health`. */
  readonly path?: `/${string}` | undefined
  /** Whether `/health` tells names and numbers, and not only the status: anybody may read them. Defaults to false. */
  readonly details?: boolean | undefined
}

/**
 * Adds the routes to the router.
 *
 * @category layers
 */
export const layer = (options: HealthOptions = {}): Layer.Layer<never, never, HttpRouter.HttpRouter | Jobs> =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      const { details = false, path = "/health" } = options
      const router = yield* HttpRouter.HttpRouter
      const jobs = yield* Jobs
      const read = yield* Effect.cachedWithTTL(jobs.health, "1 second")
      const health = Effect.flatMap(read, (found) =>
        answer(found.status === "down" ? 503 : 200, {
          status: found.status,
          ...(details && { ...found, messages: found.reasons.map(tell) })
        })
      )
      const ready = Effect.flatMap(yield* Effect.cachedWithTTL(jobs.isReady, "1 second"), (is) =>
        answer(is ? 200 : 503, { status: is ? "ready" : "unavailable" })
      )
      yield* router.add("GET", `${path}/live`, answer(200, { status: "live" }))
      yield* router.add("GET", `${path}/ready`, ready)
      yield* router.add("GET", path, health)
    })
  )

// internal

const answer = (status: number, body: unknown): Effect.Effect<HttpServerResponse.HttpServerResponse> =>
  Effect.succeed(HttpServerResponse.jsonUnsafe(body, { status, headers: { "cache-control": "no-store" } }))
