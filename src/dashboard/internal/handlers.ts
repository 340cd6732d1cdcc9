/**
 * What the endpoints do: everything through the public services, each answer cut to what the viewer may see.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { type Access, allows, CurrentAccess, permissions, Requires, Viewer } from "../Access.ts"
import { Authorization, Forbidden } from "../DashboardApi.ts"
import { BatchesLive } from "./batchHandlers.ts"
import * as Board from "./board.ts"
import { CronLive } from "./cronHandlers.ts"
import { FleetLive } from "./fleetHandlers.ts"
import { JobsLive } from "./jobHandlers.ts"
import { OverviewLive } from "./overviewHandlers.ts"
import { QueuesLive } from "./queueHandlers.ts"
import type { Redaction } from "./viewing.ts"

/** Checks each endpoint's permission. */
export const AuthorizationLive: Layer.Layer<Authorization> = Layer.succeed(
  Authorization,
  Authorization.of((respond, { endpoint }) =>
    Effect.gen(function* () {
      const access = yield* Viewer
      const required = endpoint.annotations.mapUnsafe.get(Requires.key) as Access["can"][number] | undefined
      const permission = permissions.find((known) => known === required)
      if (access === undefined || permission === undefined || !allows(access, permission)) {
        return yield* new Forbidden({ message: `This needs the permission ${permission ?? "that nobody has"}.` })
      }
      return yield* Effect.provideService(respond, CurrentAccess, access)
    })
  )
)

/** Implements the endpoints; `options` says what counts as a secret. */
export const handlers = (options: Redaction) =>
  Layer.mergeAll(OverviewLive, JobsLive, QueuesLive, CronLive, BatchesLive, FleetLive).pipe(
    Layer.provide(Board.layer(options))
  )
