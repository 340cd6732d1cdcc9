/**
 * What the endpoints do: everything through the public services, each answer cut to what the viewer may see.
 */
import * as Effect from "effect/Effect"
import type { HttpBody } from "effect/http/HttpBody"
import { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { Audit } from "../../Audit.ts"
import { type Access, allows, CurrentAccess, type Environment, permissions, Requires, Viewer } from "../Access.ts"
import { Answer, Authorization, Forbidden } from "../DashboardApi.ts"
import { BatchesLive } from "./batchHandlers.ts"
import * as Board from "./board.ts"
import { CronLive } from "./cronHandlers.ts"
import { FleetLive } from "./fleetHandlers.ts"
import { JobsLive } from "./jobHandlers.ts"
import * as Live from "./live.ts"
import { LiveLive } from "./liveHandlers.ts"
import { OperationsLive } from "./operationHandlers.ts"
import * as Operations from "./operations.ts"
import { OverviewLive } from "./overviewHandlers.ts"
import { QueuesLive } from "./queueHandlers.ts"
import type { Redaction } from "./viewing.ts"

/** Checks each endpoint's permission, and notes each write that was done. */
const AuthorizationLive: Layer.Layer<Authorization, never, Audit | Live.Live> = Layer.effect(
  Authorization,
  Effect.gen(function* () {
    const audit = yield* Audit
    const live = yield* Live.Live
    return Authorization.of((respond, { endpoint }) =>
      Effect.gen(function* () {
        const access = yield* Viewer
        const required = endpoint.annotations.mapUnsafe.get(Requires.key) as Access["can"][number] | undefined // Requires has no other type
        const permission = permissions.find((known) => known === required)
        if (access === undefined || permission === undefined || !allows(access, permission)) {
          return yield* new Forbidden({ message: `This needs the permission ${permission ?? "that nobody has"}.` })
        }
        const responding = Effect.provideService(respond, CurrentAccess, access)
        // Operations tell of themselves.
        if (endpoint.method === "GET" || endpoint.path.startsWith("/api/operations/")) return yield* responding
        const { url } = yield* HttpServerRequest
        return yield* responding.pipe(
          Effect.tap(({ body }) =>
            audit
              .record({
                actor: access.user,
                action: endpoint.identifier,
                subject: decoded(url.slice("/api/".length)),
                ...whatBecame(body)
              })
              .pipe(
                Effect.andThen(live.changed(["audit"])),
                // It is done: an answer that says otherwise would have it done again.
                Effect.catch((error) => Effect.logWarning("The dashboard could not note what was done", error))
              )
          ),
          // Who asked may have left by now; what is done is noted.
          Effect.uninterruptible
        )
      })
    )
  })
)

/** Implements the endpoints; `options` are those of the host. */
export const handlers = (
  options: Redaction & { readonly bulkLimit: number | undefined; readonly environment: Environment | undefined }
) =>
  Layer.mergeAll(OverviewLive, JobsLive, QueuesLive, CronLive, BatchesLive, FleetLive, OperationsLive, LiveLive).pipe(
    Layer.provide([AuthorizationLive, Operations.layer(options.bulkLimit)]),
    Layer.provide(Live.layer),
    Layer.provide(Board.layer(options))
  )

// internal

const decoded = (url: string): string => {
  try {
    return decodeURIComponent(url)
  } catch {
    return url
  }
}

/** Reads back what a write was answered with. */
const whatBecame = (body: HttpBody) => {
  const answer =
    body._tag === "Uint8Array"
      ? Schema.decodeUnknownOption(Told)(body.text ?? new TextDecoder().decode(body.body))
      : Option.none()
  return Option.match(answer, {
    onNone: () => ({ outcome: "done", detail: undefined }),
    onSome: ({ detail, outcome }) => ({ outcome, detail: detail ?? undefined })
  })
}

const Told = Schema.fromJsonString(Answer)
