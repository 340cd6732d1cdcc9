/** The processes that run jobs, the kinds of jobs that they run, and what holds these back. */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as Option from "effect/Option"
import { Jobs } from "../../Jobs.ts"
import { Limits } from "../../Limits.ts"
import type { NodeRow } from "../../Nodes.ts"
import { Resilience } from "../../Resilience.ts"
import { type Access, CurrentAccess, seesQueue } from "../Access.ts"
import { DashboardApi, NotFound } from "../DashboardApi.ts"
import { answer, looked, moment, seesAll } from "./viewing.ts"

/** Implements the endpoints. */
export const FleetLive = HttpApiBuilder.group(
  DashboardApi,
  "fleet",
  Effect.fnUntraced(function* (endpoints) {
    const jobs = yield* Jobs
    const limits = yield* Limits
    // Only a process that runs jobs has circuits.
    const resilience = Option.getOrUndefined(yield* Effect.serviceOption(Resilience))

    /** The kinds of jobs that live nodes run; which queues these go to is not known. */
    const workers = Effect.gen(function* () {
      if (!seesAll(yield* CurrentAccess)) return []
      const live = (yield* looked(jobs.nodes)).filter((node) => node.live)
      const names = [...new Set(live.flatMap((node) => node.workers))].toSorted()
      return names.map((name) => ({
        name,
        nodes: [...new Set(live.filter((node) => node.workers.includes(name)).map((node) => node.name))]
      }))
    })
    return endpoints.handleAll({
      nodes: Effect.fnUntraced(function* () {
        const access = yield* CurrentAccess
        return (yield* looked(jobs.nodes)).map((node) => nodeOf(access, node))
      }),
      workers: () => workers,
      worker: Effect.fnUntraced(function* ({ params }) {
        const access = yield* CurrentAccess
        const known = (yield* workers).find((worker) => worker.name === params.name)
        const schema = seesAll(access) ? yield* looked(jobs.argsSchema(params.name)) : undefined
        if (known === undefined && schema === undefined) return yield* noWorker(params.name)
        return { name: params.name, nodes: known?.nodes ?? [], schema: schema ?? null }
      }),
      limits: Effect.fnUntraced(function* () {
        if (!seesAll(yield* CurrentAccess)) return []
        const standings = yield* looked(limits.list)
        return standings.map(({ concurrency, rate, running, worker }) => ({
          worker,
          running,
          concurrency: concurrency ?? null,
          rate:
            rate === undefined
              ? null
              : {
                  name: rate.name,
                  limit: rate.limit,
                  windowMillis: rate.windowMillis,
                  algorithm: rate.algorithm,
                  cost: rate.cost,
                  room: rate.room,
                  heldUntil: rate.heldUntil === undefined ? null : rate.heldUntil.toISOString()
                }
        }))
      }),
      breakers: Effect.fnUntraced(function* () {
        if (!seesAll(yield* CurrentAccess) || resilience === undefined) return []
        const circuits = yield* looked(resilience.circuits)
        return circuits.map(({ shared, since, state, worker }) => ({ worker, shared, state, since: moment(since) }))
      }),
      closeBreaker: Effect.fnUntraced(function* ({ params }) {
        if (!seesAll(yield* CurrentAccess) || resilience === undefined) return yield* noBreaker(params.name)
        if (!(yield* looked(resilience.close(params.name)))) return yield* noBreaker(params.name)
        return answer("Closed")
      })
    })
  })
)

// internal

const noWorker = (name: string) => new NotFound({ message: `There is no worker ${name}.` })

const noBreaker = (name: string) => new NotFound({ message: `This process knows no circuit of ${name}.` })

const nodeOf = (access: Access, node: NodeRow) => ({
  id: node.id,
  name: node.name,
  startedAt: DateTime.formatIso(node.startedAt),
  beatAt: DateTime.formatIso(node.beatAt),
  live: node.live,
  silentMillis: node.silentMillis,
  lagMillis: node.lagMillis,
  listening: node.listening,
  executing: seesAll(access) ? node.executing : null,
  workers: seesAll(access) ? node.workers : [],
  queues: node.queues.filter(({ name }) => seesQueue(access, name))
})
