/**
 * Who may do what: closed by default, asked for each request, checked for each endpoint.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"

/**
 * Everything that can be allowed.
 *
 * @category models
 */
export type Permission = (typeof permissions)[number]

/**
 * All permissions.
 *
 * @category constants
 */
export const permissions = [
  "jobs:view",
  "jobs:retry",
  "jobs:cancel",
  "jobs:delete",
  "jobs:enqueue",
  "queues:pause",
  "queues:scale",
  "cron:run",
  "cron:pause",
  "batches:retry",
  "batches:cancel",
  "breakers:close",
  "limits:change",
  "audit:view",
  "args:reveal"
] as const

/**
 * What one viewer may see and do.
 *
 * @category models
 */
export interface Access {
  /** Shown to the viewer. */
  readonly user: string
  /** `all` is everything but `args:reveal`, `readOnly` only `jobs:view`. */
  readonly can: "all" | "readOnly" | ReadonlyArray<Permission>
  /**
   * The only queues that exist for this viewer, with their jobs and cron entries. What spans queues, such as batches,
   * limits and circuits, does not exist then. Defaults to all.
   */
  readonly queues?: ReadonlyArray<string> | undefined
}

/**
 * Which system this is.
 *
 * @category models
 */
export interface Environment {
  /** What it is called, such as `staging`. */
  readonly name: string
  /** How loudly it is shown. Defaults to `calm`. */
  readonly tone?: "calm" | "warn" | "danger" | undefined
}

/**
 * Says who asks, from the request that the host has authenticated; undefined turns the request away with 401.
 *
 * `instance` is the one of several that is asked for, where the dashboard has several.
 *
 * @category models
 */
export type Authorize = (request: HttpServerRequest, instance: string | undefined) => Effect.Effect<Access | undefined>

/**
 * Says whether a viewer may do something.
 *
 * @category guards
 */
export const allows = (access: Access, permission: Permission): boolean =>
  access.can === "all"
    ? permission !== "args:reveal"
    : access.can === "readOnly"
      ? permission === "jobs:view"
      : access.can.includes(permission)

/**
 * Says whether a queue exists for a viewer.
 *
 * @category guards
 */
export const seesQueue = (access: Access, queue: string): boolean => access.queues?.includes(queue) ?? true

/**
 * Who asks, outside of any endpoint; nobody unless `access` has said so.
 *
 * @category services
 */
export const Viewer = Context.Reference<Access | undefined>("effect-shigoto/dashboard/Viewer", {
  defaultValue: () => undefined
})

/**
 * Which instance of a dashboard of several is asked, and all that exist for who asks; undefined where there is one.
 *
 * @category services
 */
export const Instance = Context.Reference<
  { readonly current: string; readonly all: ReadonlyArray<string> } | undefined
>("effect-shigoto/dashboard/Instance", { defaultValue: () => undefined })

/**
 * Who asks, inside of an endpoint that they may use.
 *
 * @category services
 */
export class CurrentAccess extends Context.Service<CurrentAccess, Access>()("effect-shigoto/dashboard/CurrentAccess") {}

/**
 * The permission that an endpoint asks for; an endpoint without one is refused to everybody.
 *
 * @category services
 */
export class Requires extends Context.Service<Requires, Permission>()("effect-shigoto/dashboard/Requires") {}
